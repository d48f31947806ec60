//! Whether mail is encrypted to a certificate, as each command tells it.

use std::fs;

use testkit::{
    Result, ensure,
    pki::{Key, Profile},
};

use super::{Desk, bob, fingerprint};

/// As tables show a fingerprint.
fn beginning(fingerprint: &str) -> &str {
    fingerprint.get(..16).unwrap_or(fingerprint)
}

#[test]
fn explain_says_of_each_certificate_why_it_is_taken_or_not() -> Result<()> {
    let desk = Desk::new("explain", "")?;
    let named = |mut profile: Profile, name: &str| {
        profile.name = name.to_owned();
        profile
    };
    desk.issue(&named(bob(), "good"))?;
    desk.issue(&named(bob().expired(), "old"))?;
    desk.issue(&named(bob().for_purpose("serverAuth"), "server"))?;
    let mut signs = named(bob(), "signs");
    signs.key = Key::Ed25519;
    desk.issue(&signs)?;
    // Of another CA: it names the address, and leads to no anchor.
    let other = Desk::new("explain-other", "")?;
    let stranger = other.pki.issue(&named(bob(), "stranger"))?.certificate.display().to_string();
    let line = format!("cert import good.pem old.pem server.pem signs.pem {stranger}");
    ensure!(desk.run(&line)?.success(), "no import");
    let shown = desk.run("explain Bob@partner.example")?;
    ensure!(shown.success(), "{shown:?}");
    let text = shown.text();
    for expected in [
        "expired",
        "extKeyUsage",
        "not trusted: ",
        "a key that nothing is encrypted to",
        "revocation not checked",
    ] {
        ensure!(text.contains(expected), "{expected:?} is not in {text}");
    }
    ensure!(text.lines().filter(|line| line.contains("  yes  ")).count() == 1, "{text}");
    ensure!(text.ends_with("mail to Bob@partner.example is encrypted to 1 certificate\n"), "{text}");
    let value = desk.json("explain bob@partner.example --anew --json")?;
    let candidates = value["candidates"].as_array().cloned().unwrap_or_default();
    ensure!(candidates.len() == 5 && candidates[0]["taken"] == true, "{value}");
    ensure!(candidates[1..].iter().all(|c| c["taken"] == false && c["refusal"].is_string()), "{value}");
    let taken = candidates[0]["fingerprint"].as_str().unwrap_or_default().to_owned();
    ensure!(desk.run(&format!("cert distrust {taken} --reason lost"))?.success(), "no distrust");
    let shown = desk.run("explain bob@partner.example")?.text();
    ensure!(shown.contains("distrusted by an administrator"), "{shown}");
    ensure!(shown.contains("cannot be encrypted: none of its certificates is taken\nto use "), "{shown}");
    let again = beginning(&taken);
    ensure!(shown.contains(&format!("to use {again}: hsmime cert trust {again}\n")), "{shown}");
    let nobody = desk.run("explain nobody@partner.example")?;
    ensure!(
        nobody.success() && nobody.text().contains("import one with `hsmime cert import FILE`"),
        "{nobody:?}"
    );
    Ok(())
}

/// A certificate of a CA that nobody knows here.
fn stranger(name: &str) -> Result<String> {
    let other = Desk::new(name, "")?;
    let file = other.pki.issue(&bob())?.certificate;
    // The other folder goes.
    Ok(fs::read_to_string(file)?)
}

#[test]
fn what_is_accepted_and_has_no_effect_is_told_at_once_with_what_to_do() -> Result<()> {
    let desk = Desk::new("no-effect", "")?;
    desk.workdir.file("bob.pem", stranger("no-effect-other")?)?;
    let imported = desk.run("cert import bob.pem")?;
    let bob = fingerprint(&desk.json("cert list --json")?, "bob@partner.example")?;
    let short = beginning(&bob);
    let remedy = format!(
        "to use {short}: add its CA to `anchors` in [trust], or vouch for it: hsmime cert trust --pin {short}\n"
    );
    let words = "new, but not used: no path to a trust anchor\n";
    ensure!(imported.success() && imported.text().contains(words), "{imported:?}");
    ensure!(imported.text().ends_with(&remedy), "{imported:?}");
    let trusted = desk.run(&format!("cert trust {short}"))?;
    let expected = format!(
        "{short} of bob@partner.example is accepted, but mail to bob@partner.example is still not encrypted to it: no path \
         to a trust anchor. To use it: add its CA"
    );
    ensure!(trusted.code() == Some(1) && trusted.text().starts_with(&expected), "{trusted:?}");
    let listed = desk.run("cert list --state accepted")?;
    ensure!(listed.text().ends_with("accepted\n"), "{listed:?}");
    let shown = desk.run(&format!("cert show {short}"))?.text();
    ensure!(shown.contains("encrypting     no, no path to a trust anchor\n"), "{shown}");
    let explained = desk.run("explain bob@partner.example")?.text();
    ensure!(explained.contains("accepted  no     no path to a trust anchor\n"), "{explained}");
    ensure!(explained.ends_with(&remedy), "{explained}");
    // What is said helps.
    let pinned = desk.run(&format!("cert trust --pin {short}"))?;
    ensure!(pinned.success() && pinned.text().ends_with("is pinned (was accepted)\n"), "{pinned:?}");
    let explained = desk.run("explain bob@partner.example")?.text();
    ensure!(explained.ends_with("is encrypted to 1 certificate\n"), "{explained}");
    let shown = desk.run(&format!("cert show {short}"))?.text();
    ensure!(shown.contains("encrypting     yes, pinned, no path: "), "{shown}");
    Ok(())
}

#[test]
fn a_certificate_of_which_nobody_says_that_it_is_not_revoked_is_told_of_alike_everywhere() -> Result<()> {
    let more = "encrypt-revocation = \"hard-fail\"\n[revocation]\nfetch = false\n";
    let rule = "[[rule]]\nfrom = \"*@example.org\"\nsign = \"never\"\nencrypt = \"required\"\n";
    let desk = Desk::new("unknown-revocation", &format!("{more}{rule}"))?;
    desk.issue(&bob())?;
    let imported = desk.run("cert import bob.pem")?;
    ensure!(imported.text().contains("new, but not used yet: revocation not known: "), "{imported:?}");
    let bob = fingerprint(&desk.json("cert list --json")?, "bob@partner.example")?;
    let remedy = format!(
        "to use {0}: give its CA's list in `crls` in [trust], or vouch for it: hsmime cert trust --pin {0}",
        beginning(&bob)
    );
    ensure!(imported.text().ends_with(&format!("{remedy}\n")), "{imported:?}");
    let explained = desk.run("explain bob@partner.example")?;
    ensure!(explained.text().ends_with(&format!("{remedy}\n")), "{explained:?}");
    let line = "explain --from alice@example.org --to bob@partner.example";
    let mail = desk.run(line)?;
    let waits =
        "outgoing mail waits (451): not encrypted: no certificate of bob@partner.example is known to be good";
    ensure!(mail.code() == Some(1) && mail.text().starts_with(waits), "{mail:?}");
    ensure!(mail.text().contains(&format!("\nwhat to do: {remedy}\n")), "{mail:?}");
    let advice = desk.json(&format!("{line} --json"))?["outcome"]["advice"].clone();
    ensure!(advice == remedy, "{advice}");
    ensure!(desk.run(&format!("cert trust {bob}"))?.code() == Some(1), "trusting it changes nothing");
    ensure!(desk.run(&format!("cert trust --pin {bob}"))?.success(), "no pin");
    ensure!(desk.run(line)?.success(), "what was said does not help");
    Ok(())
}
