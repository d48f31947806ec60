//! What must never be seen, and who must never be asked.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use testkit::der::Node;
use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::peers::{OpenSsl, Recipient};
use testkit::pki::{Key, Pki, Profile};
use testkit::softhsm::SoftHsm;
use testkit::{Lab, archive, command, mime};

use crate::common::{assert_untouched, verdict};

const SUBJECT: &str = "Quetzalcoatl";
const TEXT: &str = "Popocatepetl";

/// A laboratory whose programs say all that they can be told to say.
fn talkative(name: &str) -> Lab {
    let mut lab = Lab::new(name).unwrap();
    lab.config.first_rules = "\n[log]\nfilter = \"trace\"\n\n".to_owned();
    lab
}

/// A mail of erin's to bob with the text, encrypted. Its Message-ID, which is logged, must not tell the subject.
fn encrypted(lab: &Lab) -> Vec<u8> {
    let content = format!("Content-Type: text/plain\r\n\r\n{TEXT}\r\n");
    let entity =
        lab.openssl().unwrap().encrypt(content.as_bytes(), &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: SUBJECT };
    let sent = String::from_utf8(letter.carrying(&entity)).unwrap();
    sent.replace(&format!("<{SUBJECT}@"), "<2@").into_bytes()
}

/// The content-encryption key of such a mail, in the ways in which a program may show octets.
fn sealing_key(lab: &Lab, mail: &[u8]) -> Vec<String> {
    let mut object = Node::parse(&mime::leaves(mail).unwrap().remove(0).octets).unwrap();
    let wrapped = object.at(&[1, 0, 1, 0, 3]).unwrap().octets().unwrap();
    let mut open = Command::new("openssl");
    open.args(["pkeyutl", "-decrypt", "-inkey"]).arg(&lab.bob.key);
    open.arg("-in").arg(lab.workdir.file("wrapped", wrapped).unwrap()).arg("-out");
    command::succeed("openssl", open.arg(lab.workdir.join("unwrapped"))).unwrap();
    let key = fs::read(lab.workdir.join("unwrapped")).unwrap();
    assert_eq!(key.len(), 32, "AES-256");
    let numbers: Vec<String> = key.iter().map(u8::to_string).collect();
    vec![HEXLOWER.encode(&key), HEXUPPER.encode(&key), BASE64.encode(&key), numbers.join(", ")]
}

/// Has a mail signed, and another one opened. Gives the key of that.
fn exchange(running: &Running) -> Vec<String> {
    let lab = &running.lab;
    let letter = Letter { from: &lab.alice.address, to: "friend@partner.example", subject: SUBJECT };
    let out = String::from_utf8(letter.text(TEXT)).unwrap().replace(&format!("<{SUBJECT}@"), "<1@");
    running.outgoing(&lab.alice, "friend@partner.example", out.as_bytes()).unwrap();
    let sent = encrypted(lab);
    let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
    assert!(mime::find(&mail.octets, TEXT.as_bytes()).is_some(), "opened: {mail:?}");
    let log = running.milter.log();
    assert!(log.matches(" done action=").count() == 2, "{log}");
    sealing_key(lab, &sent)
}

/// Arguments and environment of a process, and of those that it started.
fn given_to(process: u32) -> String {
    let of = PathBuf::from(format!("/proc/{process}"));
    let own = ["cmdline", "environ"].map(|file| fs::read(of.join(file)).unwrap()).concat();
    let mut given = String::from_utf8_lossy(&own).into_owned();
    // Each thread has those that it started itself. It may have ended meanwhile.
    for thread in fs::read_dir(of.join("task")).unwrap() {
        let started = fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default();
        given.extend(started.split_whitespace().map(|child| given_to(child.parse().unwrap())));
    }
    given
}

fn assert_tells_nothing(place: &str, seen: &str, sealing: &[String]) {
    assert!(!seen.is_empty(), "{place} is empty");
    let sealing = sealing.iter().map(String::as_str);
    for secret in [SoftHsm::PIN, SUBJECT, TEXT, "PRIVATE KEY"].into_iter().chain(sealing) {
        assert!(!seen.contains(secret), "{secret} is in {place}: {seen}");
    }
}

#[test]
fn neither_pin_nor_text_nor_subject_reaches_log_arguments_or_environment() {
    let running = talkative("secrets").start().unwrap();
    let sealing = exchange(&running);
    assert_tells_nothing("the log", &running.milter.log(), &sealing);
    assert_tells_nothing("arguments and environment", &given_to(running.milter.id().unwrap()), &sealing);
}

#[test]
fn neither_pin_nor_text_reaches_what_keyd_and_its_modules_say_and_record() {
    let mut lab = talkative("keydsecrets");
    lab.config.keyd_socket = Some(lab.workdir.join("keyd.sock"));
    let keyd = lab.start_keyd().unwrap();
    let running = lab.start().unwrap();
    let sealing = exchange(&running);
    assert_tells_nothing("the milter's log", &running.milter.log(), &sealing);
    assert_tells_nothing("the key server's log", &keyd.log(), &sealing);
    let given = given_to(keyd.id().unwrap());
    assert!(given.contains("module-host"), "its modules are looked at: {given}");
    assert_tells_nothing("arguments and environment", &given, &sealing);
    let audit = fs::read_to_string(running.lab.workdir.join("keyd-audit.jsonl")).unwrap();
    assert!(audit.lines().count() >= 2, "{audit}");
    assert_tells_nothing("the audit", &audit, &sealing);
}

#[test]
fn neither_pin_nor_text_reaches_what_a_run_over_an_archive_says_and_reports() {
    let lab = talkative("batchsecrets");
    let mail = encrypted(&lab);
    let sealing = sealing_key(&lab, &mail);
    let input = lab.workdir.file("in.mbox", archive::mbox(&[mail])).unwrap();
    let output = lab.workdir.join("out.mbox");
    let (finished, report) = lab.batch("decrypt", &input, &output).unwrap();
    assert!(mime::find(&fs::read(&output).unwrap(), TEXT.as_bytes()).is_some(), "opened: {finished:?}");
    assert_tells_nothing("what it says", &(finished.text() + &finished.stderr), &sealing);
    assert_eq!(report.first().unwrap()["action"], "opened", "{report:?}");
    assert_tells_nothing("the report", &format!("{report:?}"), &sealing);
}

#[test]
fn changed_ciphertext_with_a_tag_shows_nobody_its_text() {
    let running = Lab::new("tag").unwrap().start().unwrap();
    let lab = &running.lab;
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Tag" };
    let content = format!("Content-Type: text/plain\r\n\r\n{}\r\n", "Popocatepetl ".repeat(300));
    let to = [Recipient::pkcs1(&lab.bob)];
    let entity = lab.openssl().unwrap().encrypt(content.as_bytes(), &to, &["-aes-256-gcm"]).unwrap();
    let good = letter.carrying(&entity);
    let opened = running.incoming(&[&lab.bob.address], &good).unwrap();
    assert!(mime::find(&opened.octets, b"Popocatepetl").is_some(), "{opened:?}");
    let object = mime::leaves(&good).unwrap().remove(0).octets;
    // In the last octet of the tag, and in the middle of the text.
    for at in [object.len() - 1, object.len() - 2_000] {
        let mut changed = object.clone();
        changed[at] ^= 1;
        let sent = letter.carrying(&testkit::peers::pkcs7_mime("authEnveloped-data", &changed));
        let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
        assert_untouched(&mail, &sent);
    }
}

/// Counts who asks, and answers nothing of use.
fn counting_server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (port, count)
}

#[test]
fn no_url_of_a_stranger_is_asked_and_those_of_trusted_certificates_are() {
    let mut lab = Lab::new("urls").unwrap();
    let (port, asked) = counting_server();
    lab.config.revocation = "soft-fail".to_owned();
    lab.config.first_rules = "\n[revocation]\nallow-networks = [\"127.0.0.0/8\"]\n\n".to_owned();
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let further = format!("crlDistributionPoints = URI:http://127.0.0.1:{port}/x.crl\n");
    let profile = |name: &str| Profile {
        name: name.to_owned(),
        further: further.clone(),
        ..Profile::new("x", &lab.erin.address, Key::P256)
    };
    let stranger = Pki::new(&lab.workdir.directory("stranger").unwrap()).unwrap();
    let content = b"Content-Type: text/plain\r\n\r\nhello\r\n";
    for (pki, name, is_asked, word) in
        [(&stranger, "eve", false, "policy"), (&lab.pki, "erin-with-url", true, "pass")]
    {
        let person = pki.issue(&profile(name)).unwrap();
        let entity = OpenSsl::new(&lab.workdir, pki).unwrap().sign(content, &person).unwrap();
        let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: name };
        let mail = running.incoming(&[&lab.bob.address], &letter.carrying(&entity)).unwrap();
        assert_eq!(verdict(&mail), word, "{name}: {mail:?}");
        assert_eq!(asked.load(Ordering::SeqCst) > 0, is_asked, "{name}: {}", running.milter.log());
    }
}
