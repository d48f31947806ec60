//! Tests of the checks, the warnings and the printed form, on files in a folder of their own.

mod checks;
mod incoming;
mod keyd;
mod tables;
mod trust;
mod warnings;

use std::{fs, os::unix::fs::PermissionsExt};

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
        "cannot read the configuration /nowhere/hsmime.toml: No such file or directory (os error 2); to begin with one, \
         copy contrib/hsmime.toml, which hsmime.toml(5) shows, or name another with --config"
    );
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
fn tokens_are_read_whatever_is_wrong_elsewhere_and_their_own_mistakes_are_none_the_less() {
    let folder = folder();
    let tokens = |text: &str| Tokens::parse(text, &folder.path().join("hsmime.toml"));
    let before = format!(
        "{TOKEN}[trust]\nanchors = [\"not-yet.pem\"]\n[[identity]]\ncertificate = \"not-yet.pem\"\n\
         [[identity]]\ncertificate = \"alice-2025.pem\"\n[milter]\nlisen = 1\n[[rulle]]\n"
    );
    let found = tokens(&before).unwrap();
    assert_eq!((found.tokens().len(), found.identities().len()), (1, 1));
    let lines: Vec<usize> = found.elsewhere().iter().map(|complaint| complaint.line).collect();
    assert_eq!(lines, [6, 8, 11, 11, 12, 13], "{:#?}", found.elsewhere());
    for (from, to, expected) in [
        ("label = \"mail\"", "lable = \"mail\"", &[3, 1][..]),
        ("module.so", "no-module.so", &[2]),
        ("[[token]]", "[[tokens]]", &[1]),
        ("[[token]]", "[token]", &[1]),
        ("[trust]", "[trust", &[5, 9]),
    ] {
        let Err(ConfigError::Invalid { complaints, .. }) = tokens(&before.replace(from, to)) else {
            panic!("{to}");
        };
        let mut lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
        let mut expected = expected.to_vec();
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{to}: {complaints:#?}");
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
