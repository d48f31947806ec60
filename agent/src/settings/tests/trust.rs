//! `[trust]`: what its keys become, what is complained of, and what is shown.

use std::time::Duration;

use smime::{
    mime::SenderRule,
    path::{LegacySignatures, RevocationMode},
};

use super::*;

fn settings(keys: &str) -> Settings {
    parse(&folder(), &format!("{TOKEN}[trust]\n{keys}")).unwrap()
}

#[test]
fn encryption_is_stricter_about_revocation_than_verification_unless_said_otherwise() {
    use RevocationMode::{HardFail, Off, SoftFail};
    for (keys, verify, encrypt, hours) in [
        ("", SoftFail, HardFail, 24),
        ("revocation = \"hard-fail\"\n", HardFail, HardFail, 24),
        ("revocation = \"off\"\n", Off, Off, 24),
        ("revocation = \"off\"\nencrypt-revocation = \"hard-fail\"\n", Off, HardFail, 24),
        ("encrypt-revocation = \"soft-fail\"\n", SoftFail, SoftFail, 24),
        ("encrypt-revocation = \"off\"\n", SoftFail, Off, 24),
        ("encrypt-grace-hours = 0\n", SoftFail, HardFail, 0),
        ("encrypt-grace-hours = 168\n", SoftFail, HardFail, 168),
    ] {
        let settings = settings(keys);
        assert_eq!((settings.trust().revocation, settings.trust().grace), (verify, Duration::ZERO), "{keys}");
        let trust = settings.for_encryption().of(settings.trust());
        assert_eq!((trust.revocation, trust.grace), (encrypt, Duration::from_hours(hours)), "{keys}");
        assert_eq!(settings.fetching_trust().revocation_source.is_some(), (verify, encrypt) != (Off, Off));
    }
    let without = parse(&folder(), TOKEN).unwrap();
    assert_eq!(without.for_encryption().revocation, HardFail);
}

#[test]
fn intermediates_senders_policies_and_old_signatures_are_as_the_file_says() {
    let plain = settings("");
    assert!(plain.trust().intermediates.is_empty() && !plain.trust().policies.explicit_policy);
    assert_eq!((plain.sender_rule(), plain.trust().legacy), (SenderRule::From, LegacySignatures::Refused));
    let given = settings(
        "intermediates = [\"root.pem\"]\nsender-header = true\nlegacy = \"marked\"\n\
         policies = [\"2.23.140.1.5.3.3\", \"1.3.6.1.4.1.99\"]\n",
    );
    assert_eq!(given.trust().intermediates, [certificate("root")]);
    assert_eq!(
        (given.sender_rule(), given.trust().legacy),
        (SenderRule::FromOrSender, LegacySignatures::Marked)
    );
    let policies = &given.trust().policies;
    let wanted: Vec<String> = policies.initial_policy_set.iter().flatten().map(ToString::to_string).collect();
    assert!(policies.explicit_policy);
    assert_eq!(wanted, ["1.3.6.1.4.1.99", "2.23.140.1.5.3.3"]);
    let shown = given.to_string();
    for line in [
        "           for encryption: revocation hard-fail, also by what ended within 24 hours\n",
        "           1 CA certificates on the way to anchors\n",
        "           paths must be for a policy of 1.3.6.1.4.1.99, 2.23.140.1.5.3.3\n",
        "           paths with signatures too weak today are marked, and never pass\n",
        "           signers may also be those in Sender\n",
    ] {
        assert!(shown.contains(line), "{line}{shown}");
    }
}

#[test]
fn a_bad_entry_is_named_with_what_to_do() {
    let folder = folder();
    let file = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let (root, bob) = (file("root.pem"), file("bob.pem"));
    let broken = root.replace("\nMII", "\n!II");
    for (name, text) in [
        ("two.pem", format!("{root}{bob}")),
        ("torn.pem", format!("# the first\n{root}# the second\n{broken}")),
        ("cut.pem", format!("{}{root}", root.replace("-----END CERTIFICATE-----\n", ""))),
        ("one.pem", broken.clone()),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let lines = root.lines().count();
    let ca = "not a CA's (basicConstraints), so that nothing leads through it; take it out, or put it into the cache with \
              `hsmime cert import` if mail is to be encrypted to it";
    let base64 = "between BEGIN CERTIFICATE and END CERTIFICATE is no base64: invalid symbol at 0";
    let bob = certificate("bob");
    for (keys, expected) in [
        ("intermediates = [\"bob.pem\"]", format!("`intermediates` in [trust]: bob.pem: {bob} is {ca}")),
        ("intermediates = [\"two.pem\"]", format!("`intermediates` in [trust]: two.pem: entry 2: {bob} is {ca}")),
        (
            "intermediates = [\"torn.pem\"]",
            format!(
                "`intermediates` in [trust]: torn.pem: entry 2 (line {}): {base64}; take it out or write it anew",
                lines + 3
            ),
        ),
        (
            "anchors = [\"cut.pem\"]",
            "`anchors` in [trust]: cut.pem: entry 1 (line 1): a BEGIN CERTIFICATE line without its END CERTIFICATE; take it \
             out or write it anew"
                .to_owned(),
        ),
        ("anchors = [\"one.pem\"]", format!("`anchors` in [trust]: one.pem: {base64}")),
        (
            "policies = [\n\"2.23.140.1.5.3.3\",\n\"strict\"]",
            "`policies` in [trust] cannot be \"strict\": it is an object identifier of digits and dots, like \
             2.23.140.1.5.3.3; `openssl x509 -text` shows those of a certificate"
                .to_owned(),
        ),
        (
            "encrypt-grace-hours = 169",
            "`encrypt-grace-hours` in [trust] cannot be 169: it must be from 0 to 168".to_owned(),
        ),
        (
            "legacy = \"refuse\"",
            "`legacy` in [trust] cannot be \"refuse\"; did you mean `refused`?".to_owned(),
        ),
    ] {
        let error = parse(&folder, &format!("[trust]\n{keys}\n")).unwrap_err();
        let ConfigError::Invalid { complaints, .. } = error else { panic!("{error}") };
        let prefix = format!("{}/", folder.path().display());
        let shown: Vec<String> = complaints.iter().map(|it| it.to_string().replace(&prefix, "")).collect();
        let line = 1 + keys.lines().count().min(4);
        let line = if keys.starts_with("policies") { line } else { 2 };
        assert_eq!(shown, [format!("line {line}: {expected}")], "{keys}");
    }
}
