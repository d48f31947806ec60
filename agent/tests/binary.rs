//! Files inside ciphertexts and signatures: what was decrypted and verified arrives octet by octet, whatever its line ends.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

mod support;

use agent::{
    Agent, ArchiveError, AsOf, Entitled, Envelope, Identities, Opening, Received, ReceivingAgent, Settings,
};
use smime::{
    MailAddress,
    cipher::ContentCipher,
    cms::{self, RecipientKey},
    message::{AuthResult, sign},
    mime::{Canonical, Message, SenderRule, encode_base64},
    testing::fixtures::{certificate, key, now, trust},
};

use support::{TOKEN, folder, identity};

/// A file with each kind of line end, and octets of all kinds.
const FILE: &[u8] = b"PK\x03\x04\n\x00one\r\ntwo\nthree\rfour\r\n\xff\xfe\n\n\r\n\r\r\n--b\xf3\n";

/// A file that mail transport would let through.
const LINES: &[u8] = b"one\r\ntwo\r\n\r\nthree\r\n";

const BINARY: &str = "Content-Type: application/zip\nContent-Transfer-Encoding: binary\n\n";

fn entity(header: &str, file: &[u8]) -> Vec<u8> {
    [header.as_bytes(), file].concat()
}

fn in_crlf(header: &str) -> String {
    header.replace('\n', "\r\n")
}

fn mail(object: &[u8]) -> Message {
    let body = String::from_utf8(encode_base64(object)).unwrap();
    let text = format!(
        "From: alice@example.org\nTo: bob@example.org\nMIME-Version: 1.0\n\
         Content-Type: application/pkcs7-mime; name=smime.p7m\nContent-Transfer-Encoding: base64\n\n{body}"
    );
    Message::from_stored(text.as_bytes())
}

fn sealed(content: &[u8]) -> Message {
    let bob = [RecipientKey::new(certificate("bob")).unwrap()];
    mail(&cms::seal(&[content], ContentCipher::Aes256Gcm, &bob).unwrap())
}

fn opaque(content: &[u8]) -> Vec<u8> {
    cms::sign_opaque(content, &key("alice"), &[certificate("ca")], now()).unwrap()
}

fn receive(message: &Message, entitled: Entitled<'_>) -> Received {
    let identities = Identities::from_parts(["alice", "bob"].map(identity), "");
    let trust = trust();
    let agent = ReceivingAgent { identities: &identities, trust: &trust, sender_rule: SenderRule::From };
    agent.receive(message, entitled, now()).unwrap()
}

/// The octets of the one file in a message, after it was in a mailbox with LF line ends.
fn file_in(message: &Message) -> (String, Vec<u8>) {
    let stored =
        Message::from_stored(&String::from_utf8_lossy(message.octets()).replace("\r\n", "\n").into_bytes());
    let entity = stored.entity();
    let parts = entity.parts().unwrap_or_default();
    let leaf = parts.last().unwrap_or(&entity);
    let media = leaf.content_type().unwrap().media().to_owned();
    (media, leaf.decoded_body().unwrap().into_owned())
}

#[test]
fn what_was_encrypted_arrives_octet_by_octet() {
    let unlabelled = "Content-Type: application/zip\n\n";
    let multipart = |encoding: &str, file: &[u8]| {
        let header =
            format!("Content-Type: multipart/mixed; boundary=x\n{encoding}\n--x\n\ntext\n--x\n{BINARY}");
        [header.as_bytes(), file, b"\n--x--\n"].concat()
    };
    let recipients = [MailAddress::parse("bob@example.org").ok()];
    for file in [FILE, LINES, b"\n", b"\r\n"] {
        for (what, content) in [
            ("header in LF", entity(BINARY, file)),
            ("header in CRLF", entity(&in_crlf(BINARY), file)),
            ("no label, header in LF", entity(unlabelled, file)),
            ("a part, all in LF", multipart("", file)),
            ("a part that is announced", multipart("Content-Transfer-Encoding: binary\n", file)),
        ] {
            let message = sealed(&content);
            for entitled in [Entitled::Owner, Entitled::Recipients(&recipients)] {
                let received = receive(&message, entitled);
                assert!(matches!(received.opening, Opening::Opened { .. }), "{what}: {:?}", received.opening);
                let found = file_in(&received.edits.apply(&message));
                assert_eq!(found, ("application/zip".to_owned(), file.to_vec()), "{what}");
            }
        }
    }
}

#[test]
fn a_file_without_a_mime_header_is_no_text() {
    for (content, media) in [
        (FILE, "application/octet-stream"),
        (b"\n\x00\x01\n\n\r\n", "application/octet-stream"),
        (b"Gr\xfc\xdfe\n", "application/octet-stream"),
        (b"Content: \n\n\x01\n", "application/octet-stream"),
    ] {
        let message = sealed(content);
        let received = receive(&message, Entitled::Owner);
        let found = file_in(&received.edits.apply(&message));
        assert_eq!(found, (media.to_owned(), content.to_vec()));
    }
    let text = sealed("Gr\u{fc}\u{df}e\n".as_bytes());
    let (media, found) = file_in(&receive(&text, Entitled::Owner).edits.apply(&text));
    assert_eq!((media.as_str(), found.as_slice()), ("text/plain", "Gr\u{fc}\u{df}e\r\n".as_bytes()));
}

#[test]
fn what_was_signed_is_left_octet_by_octet_when_the_signature_is_removed() {
    for header in [BINARY.to_owned(), in_crlf(BINARY)] {
        for file in [FILE, LINES] {
            let object = opaque(&entity(&header, file));
            let inside = [
                in_crlf(
                    "Content-Type: application/pkcs7-mime; name=smime.p7m\n\
                Content-Transfer-Encoding: base64\n\n",
                )
                .as_bytes(),
                &encode_base64(&object),
            ]
            .concat();
            let message = sealed(&inside);
            let received = receive(&message, Entitled::Owner);
            assert_eq!(received.verdict.result(), AuthResult::Pass, "{}", received.verdict.reason());
            let opened = received.edits.apply(&message);
            for signed in [opened, mail(&object)] {
                let bare = Agent::without_signatures(&signed).unwrap();
                assert_eq!(file_in(&bare), ("application/zip".to_owned(), file.to_vec()), "{header:?}");
            }
        }
    }
}

fn site(rules: &str) -> Agent {
    let folder = folder(&["root", "alice", "bob"]);
    let text = format!(
        "{TOKEN}[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n\
         [milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n\
         [[identity]]\ncertificate = \"alice.pem\"\n[[identity]]\ncertificate = \"bob.pem\"\n{rules}"
    );
    let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
    Agent::with_identities(&settings, Identities::from_parts(["alice", "bob"].map(identity), ""))
}

#[test]
fn so_it_is_where_a_rule_takes_the_signature_off_and_what_has_no_header_keeps_it() {
    let agent = site("[[incoming]]\nstrip-signature = true\n");
    let envelope = Envelope {
        sender: "alice@example.org".to_owned(),
        recipients: vec!["bob@example.org".to_owned()],
        client: "192.0.2.7".parse().ok(),
        ..Envelope::default()
    };
    let treat = |message: &Message| agent.treat(&envelope, message, now()).unwrap().edits.apply(message);
    for header in [BINARY.to_owned(), in_crlf(BINARY)] {
        for file in [FILE, LINES] {
            let stripped = treat(&mail(&opaque(&entity(&header, file))));
            assert_eq!(file_in(&stripped), ("application/zip".to_owned(), file.to_vec()), "{header:?}");
        }
    }
    for content in [FILE, b"Dear Bob,\r\nthe price is 5.\r\n\r\nRegards\r\n"] {
        let message = mail(&opaque(content));
        assert_eq!(treat(&message).body(), message.body());
    }
}

#[test]
fn a_signed_file_that_would_change_outside_stays_inside() {
    for file in [FILE, LINES] {
        // Beside its signature it cannot be encoded.
        let part = Canonical::from_signed_part(&entity(&in_crlf(BINARY), LINES));
        let signed = sign(&part, &key("alice"), &[certificate("ca")], now()).unwrap();
        let body = String::from_utf8(signed.body).unwrap();
        let clear = format!("Content-Type: {}\r\n\r\n{body}", signed.content_type);
        let at = clear.find("one\r\n").unwrap();
        let clear = [&clear.as_bytes()[..at], file, &clear.as_bytes()[at + LINES.len()..]].concat();
        let message = sealed(&clear);
        let received = receive(&message, Entitled::Owner);
        if file == LINES {
            assert_eq!(received.verdict.result(), AuthResult::Pass, "{}", received.verdict.reason());
        } else {
            assert!(matches!(received.opening, Opening::Failed(_)), "{:?}", received.opening);
            assert_eq!(received.edits.apply(&message), message);
        }
        // Nor does it get a new signature there.
        let stored = mail(&opaque(&entity(&in_crlf(BINARY), file)));
        let agent = site("");
        let resigned = agent.resign_stored(&stored, AsOf::Time(now()), now()).wait(&stored);
        assert!(matches!(resigned, Err(ArchiveError::NotTransportSafe)), "{resigned:?}");
    }
}
