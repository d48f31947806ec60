//! Tests of the checks, the warnings and the printed form, on files in a folder of their own.

mod trust;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use super::*;
use crate::identity::tests::{certificate, year};

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");

const TOKEN: &str = "[[token]]\nmodule = \"module.so\"\nlabel = \"mail\"\npin-file = \"pin\"\n";

/// A folder with a PIN, something like a module, and copies of `testdata`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(TESTDATA).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    fs::write(folder.path().join("module.so"), "").unwrap();
    fs::write(folder.path().join("pin"), "1234\n").unwrap();
    fs::set_permissions(folder.path().join("pin"), fs::Permissions::from_mode(0o600)).unwrap();
    folder
}

fn parse(folder: &TempDir, text: &str) -> Result<Settings, ConfigError> {
    Settings::parse(text, &folder.path().join("hsmime.toml"))
}

/// The complaints with the folder's name left out.
fn complaints(text: &str) -> Vec<String> {
    let folder = folder();
    let Err(ConfigError::Invalid { complaints, .. }) = parse(&folder, text) else {
        panic!("no complaint about {text}");
    };
    let prefix = format!("{}/", folder.path().display());
    complaints.iter().map(|c| c.to_string().replace(&prefix, "")).collect()
}

fn milter(keys: &str) -> String {
    let base = "[milter]\n";
    let listen = if keys.contains("listen") { "" } else { "listen = \"inet:127.0.0.1:8890\"\n" };
    let id = if keys.contains("authserv-id") { "" } else { "authserv-id = \"mx.example.org\"\n" };
    format!("{base}{keys}{listen}{id}")
}

#[test]
fn revocation_is_fetched_as_the_file_says() {
    let folder = folder();
    let fetch = |text: &str| parse(&folder, &format!("{TOKEN}{text}")).unwrap().fetch().cloned();
    let default = fetch("").unwrap();
    assert_eq!((default.budget.as_millis(), default.max_len, default.nonce), (3_000, 20 << 20, false));
    assert!(default.allowed.is_empty() && default.proxy.is_none());
    assert!(fetch("[revocation]\nfetch = false\n").is_none());
    let all = "[revocation]\nbudget-ms = 500\nmax-bytes = 100000\nallow-networks = [\"10.1.0.0/16\"]\n\
               proxy = \"http://proxy:3128\"\nrest-seconds = 5\nnonce = true\n";
    let given = fetch(all).unwrap();
    assert_eq!((given.budget.as_millis(), given.max_len, given.nonce), (500, 100_000, true));
    assert_eq!((given.rest.as_secs(), given.allowed.len()), (5, 1));
    assert_eq!(given.proxy.as_deref(), Some("http://proxy:3128"));
    for (text, complaint) in [
        (
            "allow-networks = [\"10.0.0.1/8\"]",
            "`allow-networks` in [revocation] cannot be \"10.0.0.1/8\": there are bits beyond the prefix; did you mean \
             10.0.0.0/8?",
        ),
        (
            "proxy = \"proxy:3128\"",
            "`proxy` in [revocation] cannot be \"proxy:3128\": it is a URL like http://proxy.example.org:3128",
        ),
    ] {
        let error = parse(&folder, &format!("{TOKEN}[revocation]\n{text}\n")).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn a_whole_file_becomes_settings() {
    let folder = folder();
    let text = format!(
        "{TOKEN}sessions = 8\n[cache]\npath = \"certcache\"\n\
         [trust]\nanchors = [\"root.pem\"]\ncrls = [\"root.crl\", \"root.crl.der\"]\nrevocation = \"hard-fail\"\n\
         [milter]\nlisten = \"unix:/run/m.sock\"\nsocket-mode = \"660\"\nauthserv-id = \"mx.example.org\"\n\
         trusted-networks = [\"10.0.0.0/8\", \"::1\"]\nrecipient-delimiter = \"+\"\n\
         opened-mail-sender = \"postmaster@example.org\"\n\
         [[identity]]\ncertificate = \"alice-2025.pem\"\nchain = \"root.pem\"\n\
         [[identity]]\ncertificate = \"bob.pem\"\nlogins = [\"bob\", \"erp\"]\n\
         [[rule]]\nfrom = \"*@example.org\"\nsign = \"required\"\n[log]\nformat = \"json\"\nfilter = \"debug\"\n"
    );
    let settings = parse(&folder, &text).unwrap();
    assert_eq!(settings.tokens()[0].module, folder.path().join("module.so"));
    assert_eq!(settings.tokens()[0].sessions, Some(8));
    assert_eq!(settings.cache(), Some(folder.path().join("certcache").as_path()));
    assert_eq!(settings.trust().anchors, [certificate("root")]);
    assert_eq!(settings.trust().crls.len(), 2);
    assert_eq!(settings.trust().revocation, smime::path::RevocationMode::HardFail);
    let milter = settings.milter().unwrap();
    assert_eq!(milter.listen, Listen::Unix { path: "/run/m.sock".into(), mode: Some(0o660) });
    assert_eq!(milter.opened_mail_sender.as_ref().unwrap().as_str(), "postmaster@example.org");
    let networks: Vec<String> = milter.trusted_networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
    let [alice, bob] = settings.identities() else { panic!("two identities") };
    assert_eq!((&alice.certificate, &alice.chain), (&certificate("alice-2025"), &vec![certificate("root")]));
    assert_eq!(alice.logins, Logins::Address);
    assert_eq!(bob.addresses.len(), 2);
    assert_eq!(bob.logins, Logins::Listed(vec!["bob".to_owned(), "erp".to_owned()]));
    assert_eq!(settings.warnings(year(2026)), []);
}

#[test]
fn check_config_shows_what_came_out() {
    let folder = folder();
    let text = format!(
        "{TOKEN}{}[[identity]]\ncertificate = \"alice-2025.pem\"\n[[rule]]\nfrom = \"*@example.org\"\nsign = \"required\"\n",
        milter("workers = 4\n"),
    );
    let prefix = format!("{}/", folder.path().display());
    let serial = certificate("alice-2025").serial_hex();
    let expected = format!(
        "file       hsmime.toml
token      \"mail\" of module.so, PIN in pin, sessions as it allows, 1024 may wait in each lane, deadline 20s
pool       in each program
cache      none
trust      0 anchors, 0 revocation lists, revocation soft-fail
           for encryption: revocation hard-fail, also by what ended within 24 hours
           CRLs and OCSP responses are fetched within 3000 ms
milter     listens at inet:127.0.0.1:8890 as mx.example.org
           trusted networks: none
           recipient delimiter: none
           sender of opened mail: unchanged
           at most 1024 connections, 104857600 octets, 4 messages at once
           at most 1024 messages under way
           at most 1024 MiB of them in memory, 8192 MiB of bodies in /var/tmp
identity   alice@example.org
           \"CN=alice-2025\" (serial {serial}) in alice-2025.pem
           valid from 2025-01-01 to 2120-01-01, 0 further in its chain
           for the login that is the address or its local part
rule       *@example.org: sign required
rule       all others: sign never
log        text, info
"
    );
    assert_eq!(parse(&folder, &text).unwrap().to_string().replace(&prefix, ""), expected);
}

#[test]
fn certificates_may_be_der_and_the_chain_may_follow_in_the_same_file() {
    let folder = folder();
    fs::write(folder.path().join("alice.der"), certificate("alice-2025").der()).unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    fs::write(folder.path().join("bob-chain.pem"), read("bob.pem") + &read("root.pem")).unwrap();
    let text = format!(
        "{TOKEN}[[identity]]\ncertificate = \"alice.der\"\n[[identity]]\ncertificate = \"bob-chain.pem\"\n"
    );
    let settings = parse(&folder, &text).unwrap();
    let [alice, bob] = settings.identities() else { panic!("two identities") };
    assert_eq!((&alice.certificate, alice.chain.len()), (&certificate("alice-2025"), 0));
    assert_eq!((&bob.certificate, &bob.chain), (&certificate("bob"), &vec![certificate("root")]));
}

#[test]
fn every_check_tells_its_line_its_key_and_its_reason() {
    let missing = "No such file or directory (os error 2)";
    let file = "[[identity]]\ncertificate = ";
    for (text, expected) in [
        (
            format!("{TOKEN}{file}\"gone.pem\"\n"),
            format!("line 6: `certificate` in [[identity]]: gone.pem: {missing}"),
        ),
        (
            format!("{TOKEN}{file}\"pin\"\n"),
            "line 6: `certificate` in [[identity]]: pin: no BEGIN CERTIFICATE line: this is not a PEM file of \
             certificates"
                .to_owned(),
        ),
        (
            format!("{TOKEN}{file}\"nobody.pem\"\n"),
            format!(
                "line 6: `certificate` in [[identity]]: nobody.pem: \"CN=nobody\" (serial {}) names no mail \
                 address in its subjectAltName or subject",
                certificate("nobody").serial_hex()
            ),
        ),
        (
            format!("{TOKEN}{file}\"bob.pem\"\n\n{file}\"bob.pem\"\n"),
            "line 9: `certificate` in [[identity]]: bob.pem: it is the certificate of line 6 again".to_owned(),
        ),
        (
            format!("{file}\"bob.pem\"\n"),
            "there is an [[identity]] but no usable [[token]] that could hold its key".to_owned(),
        ),
        (
            TOKEN.replace("module.so", "gone.so"),
            format!("line 2: `module` in [[token]]: gone.so: {missing}"),
        ),
        (
            TOKEN.replace("\"mail\"", "\"\""),
            "line 3: `label` in [[token]] cannot be \"\": a token's label has 1 to 32 octets".to_owned(),
        ),
        (
            format!("{TOKEN}{TOKEN}"),
            "line 7: `label` in [[token]] cannot be \"mail\": another [[token]] is the same token".to_owned(),
        ),
        (
            "[trust]\nanchors = [\n\"root.pem\",\n\"gone.pem\"]\n".to_owned(),
            format!("line 4: `anchors` in [trust]: gone.pem: {missing}"),
        ),
        (
            "[trust]\ncrls = [\"root.pem\"]\n".to_owned(),
            "line 2: `crls` in [trust]: root.pem: no BEGIN X509 CRL line: this is not a PEM file of revocation \
             lists"
                .to_owned(),
        ),
        (
            "[cache]\npath = \"no/where\"\n".to_owned(),
            "line 2: `path` in [cache]: no/where: the folder it would be made in is not there".to_owned(),
        ),
        (
            milter("listen = \"127.0.0.1:8890\"\n"),
            "line 2: `listen` in [milter] cannot be \"127.0.0.1:8890\": did you mean inet:127.0.0.1:8890?"
                .to_owned(),
        ),
        (
            milter("socket-mode = \"660\"\n"),
            "line 2: `socket-mode` in [milter] cannot be \"660\": only a unix: socket has permissions"
                .to_owned(),
        ),
        (
            milter("authserv-id = \"mx example\"\n"),
            "line 2: `authserv-id` in [milter] cannot be \"mx example\": it is a name like mx.example.org: \
             letters, digits, dots and hyphens (RFC 8601 2.5)"
                .to_owned(),
        ),
        (
            milter("trusted-networks = [\"10.1.0.0/8\"]\n"),
            "line 2: `trusted-networks` in [milter] cannot be \"10.1.0.0/8\": there are bits beyond the prefix; \
             did you mean 10.0.0.0/8?"
                .to_owned(),
        ),
        (
            milter("trusted-networks = [\"localnet\"]\n"),
            "line 2: `trusted-networks` in [milter] cannot be \"localnet\": a network is written 10.0.0.0/8 or \
             2001:db8::/32"
                .to_owned(),
        ),
        (
            milter("recipient-delimiter = \"x\"\n"),
            "line 2: `recipient-delimiter` in [milter] cannot be \"x\": it holds characters like + or -, as \
             Postfix's recipient_delimiter does"
                .to_owned(),
        ),
        (
            "[[rule]]\nfrom = \"example.org\"\nsign = \"never\"\n".to_owned(),
            "line 2: `from` in [[rule]] cannot be \"example.org\": did you mean \"*@example.org\"?".to_owned(),
        ),
    ] {
        assert_eq!(complaints(&text), [expected], "{text}");
    }
}

#[test]
fn every_check_of_rules_and_copies_tells_its_line_its_key_and_its_reason() {
    for (text, expected) in [
        (
            milter("reinject = \"inet:127.0.0.1:10025\"\n"),
            "line 2: `reinject` needs `state`: the folder where copies are kept until they are taken".to_owned(),
        ),
        (
            milter("reinject = \"unix:/s\"\nstate = \"s\"\n"),
            "line 2: `reinject` in [milter] cannot be \"unix:/s\": it is an SMTP server, like inet:127.0.0.1:10025"
                .to_owned(),
        ),
        (
            "[[rule]]\nto = [\"*@a.example\", \"file:root.crl\"]\nsign = \"never\"\n".to_owned(),
            "line 2: `to` in [[rule]]: root.crl: line 1: did you mean \"*@-----BEGIN X509 CRL-----\"?".to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nheader = \"Subject\"\n".to_owned(),
            "line 3: `header` in [[rule]] cannot be \"Subject\": it is written \"Name: value\", with * for any \
             text in the value"
                .to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nencrypt = \"required\"\nunknown = \"plain\"\n".to_owned(),
            "line 4: `unknown = \"plain\"` would send what `encrypt = \"required\"` forbids".to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nencrypt = \"required\"\nmixed = \"plain\"\n".to_owned(),
            "line 4: `mixed = \"plain\"` would send what `encrypt = \"required\"` forbids".to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nheader-protection = \"hcp-baseline\"\n".to_owned(),
            "line 3: `header-protection` is for mail that is signed or encrypted".to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nencrypt-to = [\"alice-signs.pem\"]\n".to_owned(),
            format!(
                "line 3: `encrypt-to` in [[rule]]: alice-signs.pem: {} is not for encryption (keyUsage)",
                certificate("alice-signs")
            ),
        ),
        (
            "[[rule]]\nsign = \"required\"\nidentity = \"bob.pem\"\n".to_owned(),
            format!(
                "line 3: `identity` in [[rule]]: bob.pem: {} is the certificate of no [[identity]]",
                certificate("bob")
            ),
        ),
    ] {
        assert_eq!(complaints(&text), [expected], "{text}");
    }
}

#[test]
fn the_sender_of_opened_mail_must_be_an_address() {
    for (sender, reason) in [
        ("postmaster", "there is no @"),
        ("", "there is no @"),
        ("<>", "there is no @"),
        ("a@example.org RET=FULL", "it holds white space or a control character"),
    ] {
        let expected = format!("line 2: `opened-mail-sender` in [milter] cannot be {sender:?}: {reason}");
        assert_eq!(complaints(&milter(&format!("opened-mail-sender = {sender:?}\n"))), [expected]);
    }
}

#[test]
fn mistakes_in_form_and_in_content_are_told_together_with_the_file() {
    let folder = folder();
    let text = "[[token]]\nmodul = \"gone.so\"\nlabel = \"mail\"\npin-file = \"gone\"\n[trust]\nanchors = [\"gone.pem\"]\n";
    let error = parse(&folder, text).unwrap_err().to_string();
    let name = folder.path().join("hsmime.toml").display().to_string();
    let places: Vec<&str> = error.lines().filter_map(|line| line.strip_prefix(&name)?.get(..9)).collect();
    assert_eq!(places, [": line 1:", ": line 2:", ": line 6:"], "{error}");
}

#[test]
fn paths_in_a_file_given_by_its_bare_name_begin_in_the_current_folder() {
    let settings = Settings::parse("[cache]\npath = \"cache\"\n", Path::new("hsmime.toml")).unwrap();
    assert!(!settings.harvest(), "only who says so has certificates of senders kept");
    assert_eq!(settings.cache(), Some(std::env::current_dir().unwrap().join("cache").as_path()));
}

#[test]
fn an_unreadable_file_is_named() {
    let error = Settings::load(Path::new("/nowhere/hsmime.toml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the configuration /nowhere/hsmime.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn certificates_that_end_and_that_are_many_are_warned_of() {
    let identity = |names: &[&str]| -> String {
        let one = |name: &&str| format!("[[identity]]\ncertificate = \"{name}.pem\"\n");
        TOKEN.to_owned() + &names.iter().map(one).collect::<String>()
    };
    let now = year(2026);
    let eve = certificate("alice-2024").not_after() - Duration::from_hours(5 * 24 + 1);
    let shown = |name: &str| certificate(name).to_string();
    for (text, at, expected) in [
        (identity(&["alice-2025"]), now, vec![]),
        (identity(&["alice-2015", "alice-2025", "alice-2110", "alice-encrypts"]), now, vec![]),
        (
            identity(&["alice-2015"]),
            now,
            vec![format!(
                "nothing can be signed for alice@example.org: its certificate {} is expired",
                shown("alice-2015")
            )],
        ),
        (
            identity(&["alice-2015", "alice-2110"]),
            now,
            vec![format!(
                "nothing can be signed for alice@example.org: its certificate {} is not valid yet",
                shown("alice-2110")
            )],
        ),
        (
            identity(&["alice-2024"]),
            eve,
            vec![format!(
                "{}, the last that can sign for alice@example.org, expires in 5 days",
                shown("alice-2024")
            )],
        ),
        (
            identity(&["alice-2024"]),
            certificate("alice-2024").not_after() - Duration::from_hours(25),
            vec![format!(
                "{}, the last that can sign for alice@example.org, expires in a day",
                shown("alice-2024")
            )],
        ),
        (
            identity(&["alice-2024"]),
            certificate("alice-2024").not_after() - Duration::from_hours(23),
            vec![format!(
                "{}, the last that can sign for alice@example.org, expires in less than a day",
                shown("alice-2024")
            )],
        ),
        (identity(&["alice-2025", "alice-2024"]), now, Vec::new()),
    ] {
        assert_eq!(warned(&text, at), expected, "{text}");
    }
}

#[test]
fn of_certificates_that_could_sign_the_newest_does_whatever_their_order() {
    let at = year(2026);
    for (names, others) in [
        (&["alice-2025"][..], 0),
        (&["alice-2025", "alice-2024"], 1),
        (&["alice-2024", "alice-2025"], 1),
        (&["alice-2015", "alice-2024", "alice-2025", "alice-2110", "alice-encrypts"], 1),
    ] {
        let one = |name: &&str| format!("[[identity]]\ncertificate = \"{name}.pem\"\n");
        let text = TOKEN.to_owned() + &names.iter().map(one).collect::<String>();
        let settings = parse(&folder(), &text).unwrap();
        let [alice] = settings.signers(at).try_into().unwrap();
        assert_eq!((alice.address.as_str(), alice.others), ("alice@example.org", others), "{names:?}");
        assert_eq!(*alice.used, certificate("alice-2025"), "{names:?}");
    }
    let settings =
        parse(&folder(), &format!("{TOKEN}[[identity]]\ncertificate = \"alice-2015.pem\"\n")).unwrap();
    assert_eq!(settings.signers(at), []);
}

/// What a configuration is warned of at a time.
fn warned(text: &str, at: SystemTime) -> Vec<String> {
    let settings = parse(&folder(), &with_anchors(text)).unwrap();
    settings.warnings(at).iter().map(ToString::to_string).collect()
}

#[test]
fn what_looks_odd_is_a_warning_and_not_an_error() {
    let rule = |from: &str, sign: &str| format!("[[rule]]\nfrom = \"{from}\"\nsign = \"{sign}\"\n");
    for (text, expected) in [
        (
            rule("*@example.net", "required") + &rule("*", "never") + &rule("bob@example.org", "when-possible"),
            vec![
                "the [[rule]] of line 1 requires signatures for *@example.net, but no [[identity]] has such an address"
                    .to_owned(),
                "the [[rule]] of line 7 is never reached: the one of line 4 takes all its mail".to_owned(),
            ],
        ),
        (
            "[[rule]]\nto = \"*@a.example\"\nsign = \"never\"\nencrypt = \"required\"\n\
             [[rule]]\nlogin = \"x\"\nto = \"*@a.example\"\nsign = \"never\"\n\
             [[rule]]\nfrom = \"*@b.example\"\nsign = \"never\"\n"
                .to_owned(),
            vec![
                "the [[rule]] of line 1 encrypts, but without a [cache] to our own people only".to_owned(),
                "the [[rule]] of line 5 is never reached: the one of line 1 takes all its mail".to_owned(),
            ],
        ),
        (
            "[[incoming]]\nfrom = \"*@a.example\"\n[[incoming]]\nfrom = \"x@a.example\"\non-unsigned = \"tag\"\n\
             [[incoming]]\nsender = \"y@c.example\"\n[[incoming]]\n[[incoming]]\nfrom = \"z@z.example\"\n"
                .to_owned(),
            vec![
                "the [[incoming]] of line 3 is reached only by mail without one clear From: the one of line 1 takes \
                 all its other mail"
                    .to_owned(),
                "the [[incoming]] of line 9 is never reached: the one of line 8 takes all its mail".to_owned(),
            ],
        ),
        (
            "[cache]\npath = \"cache\"\nharvest = true\n[trust]\nrevocation = \"off\"\n".to_owned(),
            vec![
                "[cache] harvests, but `revocation` in [trust] is off: what is harvested is never used".to_owned(),
            ],
        ),
        (
            milter("") + "[cache]\npath = \"cache\"\n[[rule]]\nsign = \"never\"\nencrypt = \"required\"\n",
            vec![
                "the [[rule]] of line 6 splits mail, but [milter] has no `reinject`: what needs copies is deferred"
                    .to_owned(),
            ],
        ),
        (
            milter("trusted-networks = [\"0.0.0.0/0\"]\nlisten = \"inet:0.0.0.0:8890\"\n"),
            vec![
                "inet:0.0.0.0:8890 can be reached from other machines, and whoever reaches it can have mail signed \
                 and decrypted"
                    .to_owned(),
                "trusted-networks holds 0.0.0.0/0: everybody may have mail signed".to_owned(),
            ],
        ),
    ] {
        assert_eq!(warned(&text, year(2026)), expected, "{text}");
    }
}

fn with_anchors(text: &str) -> String {
    let anchors = "[trust]\nanchors = [\"root.pem\"]\n";
    if text.contains("[trust]\n") { text.replace("[trust]\n", anchors) } else { format!("{text}{anchors}") }
}

#[test]
fn missing_anchors_are_warned_of() {
    let folder = folder();
    let settings = parse(&folder, TOKEN).unwrap();
    assert_eq!(settings.warnings(SystemTime::now()), [Warning::NoAnchors]);
}

#[test]
fn a_pin_that_everybody_can_read_is_refused_by_whoever_reads_it() {
    let folder = folder();
    let pin = folder.path().join("pin");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    let error = parse(&folder, TOKEN).unwrap_err().to_string();
    assert!(error.contains("line 4: `pin-file`") && error.contains("chmod o="), "{error}");
    // Elsewhere `hsmime-keyd` reads it.
    let served = format!("{TOKEN}[pool]\nsocket = \"keyd.sock\"\n");
    parse(&folder, &served).unwrap();
}

#[test]
fn a_login_may_use_an_address_only_as_configured() {
    let alice = MailAddress::parse("Alice@example.org").unwrap();
    let listed = Logins::Listed(vec!["erp".to_owned()]);
    for (logins, login, expected) in [
        (&Logins::Address, "alice@example.org", true),
        (&Logins::Address, "ALICE", true),
        (&Logins::Address, "alice@example.net", false),
        (&Logins::Address, "bob", false),
        (&Logins::Address, "", false),
        // U+0131 and U+212A look like i and K.
        (&Logins::Address, "al\u{131}ce", false),
        (&Logins::Listed(vec!["kate".to_owned()]), "\u{212a}ate", false),
        (&listed, "ERP", true),
        (&listed, "alice", false),
        (&Logins::Any, "bob", true),
        (&Logins::Any, "", false),
    ] {
        assert_eq!(logins.allow(login, &alice), expected, "{logins:?} {login}");
    }
}

#[test]
fn the_sample_configuration_has_only_known_keys_also_where_they_are_commented_out() {
    let sample = include_str!("../../../contrib/hsmime.toml");
    let is_meant = |line: &&str| line.contains(" = ") || line.starts_with('[');
    let all = sample.lines().map(|line| line.strip_prefix('#').filter(is_meant).unwrap_or(line));
    let complaints = complaints(&all.collect::<Vec<_>>().join("\n"));
    // Its files are not on this machine, and a PIN is in one place only; everything else is right.
    assert!(
        complaints.iter().all(|complaint| ["No such file", "is not there", "give one of them"]
            .iter()
            .any(|c| complaint.contains(c))),
        "{complaints:#?}"
    );
}

const KEYD: &str = "[pool]\nsocket = \"keyd.sock\"\n[keyd]\naudit = \"audit.jsonl\"\n\
                    [[keyd.client]]\nuser = \"postfix\"\noperations = [\"sign\"]\nlanes = [\"interactive\"]\n\
                    [[keyd.client]]\ngroup = \"archive\"\ncertificates = [\"alice-2025.pem\"]\n";

#[test]
fn with_a_socket_modules_and_pins_are_not_looked_for_but_by_who_uses_them() {
    let folder = folder();
    let token = TOKEN.replace("module.so", "away.so").replace("\"pin\"", "\"away/pin\"");
    let text = format!("{token}{KEYD}");
    let settings = parse(&folder, &text).unwrap();
    assert_eq!(settings.pool_socket(), Some(folder.path().join("keyd.sock").as_path()));
    let path = folder.path().join("hsmime.toml");
    fs::write(&path, text).unwrap();
    let Err(ConfigError::Invalid { complaints, .. }) = Settings::load_with_tokens(&path) else {
        panic!("no complaint")
    };
    assert_eq!(complaints.len(), 2, "{complaints:?}");
}

#[test]
fn clients_of_keyd_get_what_they_are_given_and_else_all() {
    let folder = folder();
    let identity = "[[identity]]\ncertificate = \"alice-2025.pem\"\n";
    let settings = parse(&folder, &format!("{TOKEN}{KEYD}{identity}")).unwrap();
    let keyd = settings.keyd().unwrap();
    assert_eq!((keyd.socket_mode, keyd.max_connections), (0o660, 512));
    let [postfix, archive] = keyd.clients.as_slice() else { panic!("{keyd:?}") };
    assert_eq!(
        (&postfix.peer, &archive.peer),
        (&Peer::User("postfix".into()), &Peer::Group("archive".into()))
    );
    assert_eq!((postfix.operations.len(), archive.operations.len()), (1, 2));
    assert_eq!((postfix.lanes.len(), archive.lanes.len()), (1, 2));
    assert_eq!(postfix.keys, archive.keys, "all identities are alice");
    assert_eq!(postfix.keys.to_string(), "1 keys");
    assert!(!postfix.keys.contain(&[0; 32]));
    let all = parse(&folder, &format!("{TOKEN}{KEYD}").replace("alice-2025.pem", "*")).unwrap();
    assert_eq!(all.keyd().unwrap().clients[1].keys, Keys::All);
    let none = &all.keyd().unwrap().clients[0].keys;
    assert_eq!(
        *none,
        Keys::Listed(Vec::new()),
        "there is no identity, and not to list any is not to list all"
    );
}

#[test]
fn a_keyd_that_serves_nobody_or_nowhere_is_complained_of() {
    let client = "[[keyd.client]]\nuser = \"a\"\n";
    for (text, expected) in [
        (
            format!("{TOKEN}[keyd]\n{client}"),
            "line 5: [keyd] needs the `socket` in [pool]: that is where it listens",
        ),
        (
            format!("{TOKEN}[pool]\nsocket = \"s\"\n[keyd]\n"),
            "line 7: [keyd] has no [[keyd.client]]: it would serve nobody",
        ),
        (
            format!("{TOKEN}[pool]\nsocket = \"s\"\n[keyd]\n{client}group = \"b\"\n"),
            "line 8: [[keyd.client]] needs either `user` or `group`",
        ),
        (
            format!("{TOKEN}[pool]\nsocket = \"s\"\n[keyd]\nsocket-mode = \"888\"\n{client}"),
            "line 8: `socket-mode` in [keyd] cannot be \"888\": it is three octal digits, like \"660\"",
        ),
    ] {
        assert_eq!(complaints(&text), [expected], "{text}");
    }
}

#[test]
fn an_audit_has_limits_that_hold_where_nothing_is_said() {
    let folder = folder();
    let milter = "[milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n";
    let usual = AuditFile::at(folder.path().join("audit.jsonl"));
    let own = AuditFile { max_bytes: 65_536, files: 3, ..usual.clone() };
    for (text, expected) in [
        ("", None),
        ("audit = \"audit.jsonl\"\n", Some(usual)),
        ("audit = \"audit.jsonl\"\naudit-max-bytes = 65536\naudit-files = 3\n", Some(own)),
    ] {
        let settings = parse(&folder, &format!("{TOKEN}{milter}{text}")).unwrap();
        assert_eq!(settings.milter().unwrap().audit, expected, "{text}");
    }
    assert_eq!(complaints(&format!("{TOKEN}{milter}audit = \"a\"\naudit-max-bytes = 100\n")).len(), 1);
    let limits = "audit-max-bytes = 65536\naudit-files = 3\n";
    for text in [
        format!("{TOKEN}{milter}{limits}"),
        format!("{TOKEN}{}", KEYD.replace("audit = \"audit.jsonl\"\n", limits)),
    ] {
        let found = complaints(&text);
        let needs = |key| found.iter().filter(|it| it.contains(&format!("`{key}` needs `audit`"))).count();
        assert_eq!([needs("audit-max-bytes"), needs("audit-files"), found.len()], [1, 1, 2], "{found:?}");
    }
}
