//! What a scan finds without any private key.

use std::{fs, io::Write, path::Path, process::Command, sync::Arc};

use agent::{Identities, Identity, settings::Logins};
use batch::{
    inspect::KeyName,
    run::{Options, Output},
    scan::{Effort, Measured, Scan, Summary},
};
use flate2::{Compression, write::GzEncoder};
use smime::{
    message::seal,
    mime::{Canonical, Message, encode_base64},
    profile::{Correspondent, Profile, plan},
    testing::fixtures::{certificate, data, key},
};

use crate::support::{Ran, options, run_with};

fn identities(people: &[&str]) -> Identities {
    let identity = |name: &&str| {
        let key = || Arc::new(key(name));
        Identity::new(certificate(name), Vec::new(), Logins::Address, key(), key())
    };
    Identities::from_parts(people.iter().map(identity), "")
}

/// A message of 2014 encrypted to these people.
pub(crate) fn sealed_to(people: &[&str]) -> String {
    sealed(b"Content-Type: text/plain\n\nsecret\n", people)
}

/// A message of 2014 with this encrypted to these people.
pub(crate) fn sealed(content: &[u8], people: &[&str]) -> String {
    let certificates: Vec<_> = people.iter().map(|name| certificate(name)).collect();
    let to: Vec<_> = certificates
        .iter()
        .map(|certificate| Correspondent { certificate, capabilities: None, profile: &Profile::STANDARD })
        .collect();
    let message = Message::from_stored(content);
    let canonical = Canonical::from_entity(&message.entity()).unwrap();
    let sealed = seal(&canonical, &plan(&to).unwrap()).unwrap();
    let body = String::from_utf8(sealed.body).unwrap().replace("\r\n", "\n");
    let content_type = sealed.content_type.replace("\r\n", "\n");
    format!(
        "MIME-Version: 1.0\nContent-Type: {content_type}\nContent-Transfer-Encoding: base64\n\
         Date: Fri, 31 May 2014 12:34:56 +0000\n\n{}\n",
        body.trim_end()
    )
}

fn scan(folder: &Path, messages: &[String], scan: &Scan) -> Ran {
    let input = folder.join("in");
    let mbox: Vec<String> = messages.iter().map(|message| format!("From - \n{message}\n")).collect();
    fs::write(&input, mbox.concat()).unwrap();
    run_with(&Options { output: Output::None, ..options(&[&input], Path::new("")) }, scan).unwrap()
}

#[test]
fn keys_operations_and_what_would_be_lost_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let both = sealed_to(&["bob", "encrypt-only"]);
    let attached = format!(
        "Content-Type: multipart/mixed; boundary=b\nDate: 1 Jan 2015 00:00:00 +0000\n\n--b\n\nhello\n--b\n\
         Content-Type: message/rfc822\n\n{}\n--b--\n",
        sealed_to(&["bob"])
    );
    let agreed = String::from_utf8(encode_base64(&data("agree-p256.p7m"))).unwrap().replace("\r\n", "\n");
    let agreed = format!(
        "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\n\
         Content-Transfer-Encoding: base64\n\n{agreed}\n"
    );
    let plain = "Subject: nothing\n\nin it\n".to_owned();
    let messages = [sealed_to(&["bob"]), both, attached, agreed, plain];
    let serial = certificate("bob").serial_hex();
    let task = Scan::new(&identities(&["bob", "encrypt-only", "alice"]), &[serial.parse().unwrap()]).unwrap();
    let ran = scan(folder.path(), &messages, &task);
    let found = task.found();
    assert_eq!((found.messages, found.encrypted, found.closed), (5, 4, 1));

    let of = |name: &str| &found.keys[&KeyName::of_certificate(&certificate(name))[0]];
    assert_eq!((of("bob").messages, of("bob").alone, of("bob").ours), (3, 2, Some(0)));
    assert_eq!((of("encrypt-only").messages, of("encrypt-only").alone), (1, 0));
    assert_eq!(of("bob").operations.get("RSA-PKCS1"), Some(&3));
    // Of what both open, one is asked.
    assert_eq!(found.asked, [((0, "RSA-PKCS1"), 3)].into());
    let foreign = found.keys.values().find(|key| key.ours.is_none()).unwrap();
    assert_eq!((foreign.operations.get("ECDH"), foreign.alone), (Some(&1), 1));
    let years: Vec<u64> = found.algorithms.keys().map(|(year, _)| *year).collect();
    assert_eq!(years, [0, 2014, 2015]);

    let actions: Vec<&str> = ran.report.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["lost", "scanned", "lost", "scanned", "scanned"]);
    assert_eq!(ran.report[2]["layers"][0]["attached"], true);
    assert_eq!(ran.report[0]["layers"][0]["recipients"][0]["operation"], "RSA-PKCS1");

    let (ours, lost) = (task.ours(), task.lost());
    let on_tokens = Some(&[true, false, true][..]);
    let measured = |kind: &str, operations, rate| Measured { kind: kind.into(), operations, rate };
    let measured = vec![measured("RSA 2048", 360, 0.5), measured("ECDH P256", 5000, 250.0)];
    let effort = Effort { measured, unknown: 7 };
    let summary = Summary { found: &found, ours, on_tokens, effort: Some(&effort), unseen: 2, lost: &lost };
    let text = summary.to_string();
    for expected in [
        "5 messages, 4 encrypted, 1 not to any",
        "on a token",
        "MISSING on every token",
        "\nabout 12 min to open all that can be: 360 x RSA 2048 at 0.5/s, 5000 x ECDH P256 at 250/s,",
        "\n7 x a key that did not work",
        "\n2 could not be looked into, or not into all",
        "not configured here",
        &format!("2 of 5 messages would be lost without {serial} of "),
        "2014",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_scan_says_how_many_messages_it_could_not_look_into() {
    let folder = tempfile::tempdir().unwrap();
    let (small, bob) = (sealed_to(&["bob"]), certificate("bob").serial_hex());
    let large = small.replacen("MIME-Version", &format!("X-Large: {}\nMIME-Version", "x".repeat(9_000)), 1);
    let damaged = "MIME-Version: 1.0\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\n\
                   Content-Transfer-Encoding: base64\n\nMIID8QYJKoZIhvcNAQcDoIID4g==\n";
    let multipart = "Content-Type: multipart/mixed; boundary=b\n\n";
    let attached = format!("{multipart}--b\n\nhello\n--b\n{damaged}\n--b--\n");
    let many = format!("{multipart}{}--b\n{small}\n--b--\n", "--b\n\n".repeat(1_001));
    assert!(many.len() < 8_000);
    let twice = format!("Content-Type: text/plain\n{multipart}--b\n{small}\n--b--\n");
    let signed = "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=b\n\n\
                  --b\n\nhello\n--b\nContent-Type: application/pkcs7-signature\n\nno signature\n--b--\n";
    let (damaged, signed) = (damaged.to_owned(), signed.to_owned());
    let plain = "Content-Type: text\n\nhello\n".to_owned();
    for (messages, code, unseen) in [
        ([&small, &small, &small], 0, None),
        ([&small, &large, &large], 1, Some("2 could not be looked into, or not into all")),
        ([&small, &small, &damaged], 1, Some("1 could not be looked into, or not into all")),
        ([&small, &attached, &damaged], 1, Some("2 could not be looked into, or not into all")),
        ([&small, &many, &twice], 1, Some("2 could not be looked into, or not into all")),
        ([&small, &signed, &plain], 0, None),
    ] {
        let mbox = messages.map(|message| format!("From - \n{message}\n"));
        fs::write(folder.path().join("in"), mbox.concat()).unwrap();
        let arguments = format!("scan in --max-message 8000 --lost {bob} --report -");
        let (ended, said) = program(folder.path(), &arguments);
        assert_eq!(ended, Some(code), "{said}");
        assert_eq!(said.contains("could not be looked into"), unseen.is_some(), "{said}");
        assert!(unseen.is_none_or(|unseen| said.contains(unseen)), "{said}");
    }
}

#[test]
fn a_scan_that_has_to_stop_says_what_it_has_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let message = format!("From - \n{}\n", sealed_to(&["bob"]));
    fs::write(path("in"), message.repeat(3)).unwrap();
    // The next input begins well, and ends in the middle.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(message.repeat(500).as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    fs::write(path("cut.gz"), &gzip[..gzip.len() / 2]).unwrap();
    fs::write(path("root.pem"), data("root.pem")).unwrap();
    fs::write(path("toml"), "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n").unwrap();
    for (quiet, is_told) in [(None, true), (Some("--quiet"), false)] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hsmime-batch"));
        program.arg("--config").arg(path("toml")).args(["scan", "--report"]).arg(path("report"));
        let ran = program.args(quiet).arg(path("in")).arg(path("cut.gz")).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(2), "{said}");
        assert!(said.contains("cut.gz"), "{said}");
        assert!(said.contains("3 messages, 3 encrypted"), "{said}");
        assert_eq!(said.contains("scanned  "), is_told, "{said}");
        fs::remove_file(path("report")).unwrap();
    }
}

/// Runs the program with a configuration that has no identity; gives how it ended and what it said.
fn program(folder: &Path, arguments: &str) -> (Option<i32>, String) {
    fs::write(folder.join("root.pem"), data("root.pem")).unwrap();
    fs::write(folder.join("toml"), "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n").unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_hsmime-batch"));
    program.current_dir(folder).args(["--config", "toml"]).args(arguments.split(' '));
    let ran = program.output().unwrap();
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn a_key_that_nobody_has_does_not_read_as_one_without_which_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("in"), format!("From - \n{}\n", sealed_to(&["bob"])).repeat(3)).unwrap();
    let bob = certificate("bob").serial_hex();
    let beginning = bob.get(..8).unwrap_or(&bob);
    for (arguments, code, said) in [
        ("scan in --lost zz".to_owned(), 2, "in hexadecimal is needed"),
        (
            "scan in --lost DEADBEEF".to_owned(),
            1,
            "--lost DEADBEEF: no message here is encrypted to such a key",
        ),
        ("scan in --lost DEADBEEF".to_owned(), 1, &*format!("Keys seen: {bob} of ")),
        (format!("scan in --lost {bob}"), 0, "3 of 3 messages would be lost without"),
        (format!("scan in --lost {beginning}"), 0, "3 of 3 messages would be lost without"),
        ("verify in --key deadbeef".to_owned(), 1, "--key DEADBEEF: no message here"),
        (format!("verify in --key {bob}"), 0, "total"),
        (
            format!("verify in --key {bob} --since 2020-01-01"),
            0,
            "no message was selected by --since and --key",
        ),
        ("verify in --quiet --since 2020-01-01".to_owned(), 0, "no message was selected by --since"),
        ("verify in --since 2000-01-01".to_owned(), 0, "total"),
    ] {
        let (ended, words) = program(folder.path(), &arguments);
        assert_eq!(ended, Some(code), "{arguments}: {words}");
        assert!(words.contains(said), "{arguments}: {words}");
        assert_eq!(words.contains("selected by"), said.contains("selected by"), "{arguments}: {words}");
    }
}
