//! The agents on archives, with keys in memory: what is signed verifies, what is encrypted opens.

use std::{fs, path::Path, sync::Arc};

use agent::{Agent, Identities, Identity, Settings, settings::Logins};
use batch::{
    agents::{Decrypt, Sign, Verify},
    task::{Task, Work},
};
use smime::{
    mime::{Message, encode_base64},
    testing::fixtures::{certificate, data, key, now},
};

use crate::support::{Ran, run_on};

/// An agent with the keys of these people.
fn agent(people: &[&str]) -> Agent {
    let folder = tempfile::tempdir().unwrap();
    let text = "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n";
    fs::write(folder.path().join("root.pem"), data("root.pem")).unwrap();
    let settings = Settings::parse(text, &folder.path().join("hsmime.toml")).unwrap();
    let identity = |name: &&str| {
        let key = || Arc::new(key(name));
        Identity::new(certificate(name), vec![certificate("ca")], Logins::Address, key(), key())
    };
    Agent::with_identities(&settings, Identities::from_parts(people.iter().map(identity), ""))
}

fn run_mbox(folder: &Path, name: &str, mbox: &str, task: &dyn Task) -> (Ran, String) {
    let (input, output) = (folder.join(format!("{name}.in")), folder.join(format!("{name}.out")));
    fs::write(&input, mbox).unwrap();
    let ran = run_on(&input, &output, task);
    (ran, fs::read_to_string(output).unwrap())
}

fn column<'a>(ran: &'a Ran, pointer: &str) -> Vec<Option<&'a str>> {
    ran.report.iter().map(|line| line.pointer(pointer).and_then(|value| value.as_str())).collect()
}

fn in_mbox(header: &str, body: &str) -> String {
    format!("From - \n{header}\n\n{body}\n\n")
}

fn encrypted(object: &str) -> String {
    let body = String::from_utf8(encode_base64(&data(object))).unwrap().replace("\r\n", "\n");
    let header = "From: friend@example.net\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\
                  Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m";
    in_mbox(header, body.trim_end())
}

#[test]
fn our_senders_mail_is_signed_once_and_verifies_as_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(&["alice"]);
    let (sign, verify) = (Sign { agent: &agent, clock: now }, Verify { agent: &agent, clock: now });
    let ours = in_mbox("From: alice@example.org\nContent-Length: 999", ">From here\nto \u{e4}\n>>From there");
    let foreign = in_mbox("From: stranger@example.net", "hello");
    let (ran, signed) = run_mbox(folder.path(), "first", &format!("{ours}{foreign}"), &sign);
    assert_eq!(column(&ran, "/action"), [Some("signed"), Some("kept")]);
    assert!(signed.ends_with(&foreign) && signed.contains("=46rom here"), "{signed}");

    let (ran, again) = run_mbox(folder.path(), "again", &signed, &sign);
    assert_eq!(column(&ran, "/action"), [Some("kept"), Some("kept")]);
    assert_eq!(again, signed);

    let (ran, copied) = run_mbox(folder.path(), "verified", &signed, &verify);
    assert_eq!(column(&ran, "/verdict"), [Some("pass"), Some("none")]);
    assert_eq!((copied, ran.totals.failed()), (signed.clone(), 0));

    let (ran, _) = run_mbox(folder.path(), "forged", &signed.replace("to =C3=A4", "to nobody"), &verify);
    assert_eq!(column(&ran, "/verdict"), [Some("fail"), Some("none")]);
    assert_eq!(ran.totals.failed(), 1);
}

#[test]
fn a_signature_over_a_genuine_quoted_line_passes_in_the_reading_in_which_it_holds() {
    let agent = agent(&["alice"]);
    let (sign, verify) = (Sign { agent: &agent, clock: now }, Verify { agent: &agent, clock: now });
    let genuine = Message::from_stored(b"From: alice@example.org\n\n>From me\n");
    let signed =
        sign.run(&Work { index: 1, message: &genuine, other_reading: None }).unwrap().message.unwrap();
    let text = String::from_utf8(signed.octets().to_vec()).unwrap();
    assert!(
        text.contains("\r\n>From me"),
        "nothing keeps that line from being taken for a quoted one: {text}"
    );
    // An mbox in which nothing is quoted, read as if it were.
    let folder = tempfile::tempdir().unwrap();
    let mbox = format!("From - \n{}\n", text.replace("\r\n", "\n"));
    let (ran, _) = run_mbox(folder.path(), "mboxo", &mbox, &verify);
    assert_eq!(column(&ran, "/verdict"), [Some("pass")]);
}

#[test]
fn what_is_encrypted_to_us_is_opened_and_what_is_not_is_copied_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let broken = encrypted("der.p7m").replace("MII", "AAA");
    let plain = in_mbox("From: friend@example.net", "hello");
    let mbox = [encrypted("der.p7m"), plain.clone(), broken.clone(), encrypted("ber.p7m")].concat();
    let owner = agent(&["bob"]);
    let (ran, opened) = run_mbox(folder.path(), "owner", &mbox, &Decrypt { agent: &owner, clock: now });
    assert_eq!(column(&ran, "/action"), [Some("opened"), Some("kept"), Some("failed"), Some("opened")]);
    assert_eq!(column(&ran, "/error/fault"), [None, None, Some("message"), None]);
    assert!(opened.contains(&format!("{plain}{broken}")), "{opened}");
    assert!(!opened.contains(&encrypted("der.p7m")) && !opened.contains(&encrypted("ber.p7m")));

    let stranger = agent(&["carol"]);
    let (ran, kept) = run_mbox(folder.path(), "stranger", &mbox, &Decrypt { agent: &stranger, clock: now });
    assert_eq!(column(&ran, "/action"), [Some("failed"), Some("kept"), Some("failed"), Some("failed")]);
    assert_eq!(column(&ran, "/error/fault"), [Some("operator"), None, Some("message"), Some("operator")]);
    assert_eq!(kept, mbox);
}
