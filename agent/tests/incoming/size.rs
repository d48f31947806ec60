//! How large mail may become by being opened: an MTA that refuses it then, and takes it closed, would tell what opened.

use std::sync::{Arc, atomic::Ordering};

use agent::{Agent, Disposition, Envelope, Identities, Identity, Outcome, Returned, settings::Logins};
use smime::{
    cipher::ContentCipher,
    cms::{self, RecipientKey},
    message,
    mime::{Canonical, Message, encode_base64},
    testing::fixtures::{certificate, key, now},
};

use super::{AtomicUsize, Counted, HEADER, TEXT, settings, treat_octets};

/// An agent for bob, who counts.
fn agent(milter: &str, rules: &str) -> (Agent, Arc<Counted>) {
    let bob = Arc::new(Counted(key("bob"), AtomicUsize::new(0)));
    let identity = Identity::new(
        certificate("bob"),
        vec![certificate("ca")],
        Logins::Address,
        Arc::new(key("bob")),
        Arc::clone(&bob) as _,
    );
    (Agent::with_identities(&settings(milter, rules), Identities::from_parts([identity], "")), bob)
}

/// An entity encrypted to bob, in lines as long as they may be, right or with its last octet changed.
fn mail(entity: &[u8], is_right: bool) -> Message {
    let to = RecipientKey::new(certificate("bob")).unwrap();
    let mut object = cms::seal(&[entity], ContentCipher::Aes256Gcm, &[to]).unwrap();
    *object.last_mut().unwrap() ^= u8::from(!is_right);
    let base64: Vec<u8> = encode_base64(&object).into_iter().filter(u8::is_ascii_graphic).collect();
    let mut mail = format!(
        "{HEADER}Content-Type: application/pkcs7-mime; smime-type=authEnveloped-data\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n"
    )
    .into_bytes();
    for line in base64.chunks(996) {
        mail.extend([line, b"\r\n"].concat());
    }
    Message::from_owned(mail)
}

/// Content that mail transport would damage, and that is larger once it is encoded.
fn binary() -> Vec<u8> {
    let octets = (0..100_000_u64).map(|at| u8::try_from(at * at / 7 % 256).unwrap());
    let header = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n";
    header.iter().copied().chain(octets).collect()
}

fn compressed(entity: &str) -> Vec<u8> {
    let message = message::compress(&Canonical::from_signed_part(entity.as_bytes())).unwrap();
    let body = String::from_utf8(message.body).unwrap();
    let field = format!("Content-Type: {}\r\nContent-Transfer-Encoding: base64", message.content_type);
    format!("{field}\r\n\r\n{body}").into_bytes()
}

fn content_type(outcome: &Outcome) -> &str {
    let is_type = |(name, _): &&(String, String)| name == "Content-Type";
    outcome.edits.append.iter().find(is_type).map_or("closed", |(_, value)| value.split(';').next().unwrap())
}

#[test]
fn mail_stays_closed_that_would_be_larger_than_what_came_or_than_the_mta_is_known_to_take() {
    let text = format!("{TEXT}{}", "The same once more.\r\n".repeat(5_000));
    let (plain, pressed, opaque) = ("text/plain", "application/pkcs7-mime", "application/octet-stream");
    for (what, entity, milter, expected, uses) in [
        ("short text", TEXT.as_bytes().to_vec(), "", plain, 1),
        ("text", text.clone().into_bytes(), "", plain, 1),
        ("binary", binary(), "", "closed", 1),
        ("binary, and there is room", binary(), "mta-message-bytes = 300_000\n", opaque, 1),
        ("binary, and there is less", binary(), "mta-message-bytes = 203_200\n", "closed", 1),
        ("too near to the limit for any key", binary(), "mta-message-bytes = 200_000\n", "closed", 0),
        ("compressed", compressed(&text), "", pressed, 1),
        ("compressed, and there is room", compressed(&text), "mta-message-bytes = 300_000\n", plain, 1),
    ] {
        let (agent, bob) = agent(milter, "");
        let [right, wrong] = [true, false].map(|is_right| {
            bob.1.store(0, Ordering::SeqCst);
            let mail = mail(&entity, is_right);
            let outcome = treat_octets(&agent, &["bob"], &mail).unwrap();
            assert_eq!(bob.1.load(Ordering::SeqCst), uses, "{what}");
            assert_eq!(
                (outcome.disposition, outcome.edits.returned),
                (Disposition::Deliver, Returned::HeadersOnly)
            );
            if milter.is_empty() {
                let octets = outcome.edits.apply(&mail).octets().len();
                assert!(octets < mail.octets().len() + 200, "{what}: {octets}");
            }
            content_type(&outcome).to_owned()
        });
        assert_eq!((right.as_str(), wrong.as_str()), (expected, "closed"), "{what}");
    }
}

#[test]
fn what_was_compressed_keeps_its_signature_where_it_does_not_fit_without() {
    let text = format!("{TEXT}{}", "The same once more.\r\n".repeat(5_000));
    let payload = Message::from_stored(text.as_bytes());
    let payload = Canonical::from_entity(&payload.entity()).unwrap();
    let signed = message::sign(&payload, &key("alice"), &[certificate("ca")], now()).unwrap();
    let signed =
        format!("Content-Type: {}\r\n\r\n{}", signed.content_type, String::from_utf8(signed.body).unwrap());
    let rules = "[[incoming]]\nstrip-signature = true\n";
    for (milter, expected) in
        [("", "application/pkcs7-mime"), ("mta-message-bytes = 1_000_000\n", "text/plain")]
    {
        let (agent, _) = agent(milter, rules);
        let outcome = treat_octets(&agent, &["bob"], &mail(&compressed(&signed), true)).unwrap();
        assert_eq!(content_type(&outcome), expected);
        assert!(outcome.reason.contains("decrypted (AES-256-GCM)"), "{}", outcome.reason);
    }
}

#[test]
fn near_the_limit_nothing_is_said_of_mail_that_would_be_put_to_no_key_in_any_case() {
    let mail = mail(&binary(), true);
    let (headers, full) = (Returned::HeadersOnly, Returned::Full);
    let decrypt = "[[incoming]]\ndecrypt = false\n";
    for (rules, to, expected) in [
        ("", &["bob@example.org"][..], headers),
        (decrypt, &["bob@example.org"], full),
        ("", &["zoe@partner.example"], full),
        ("", &["bob@example.org", "zoe@partner.example"], full),
        ("", &["\"bob\"@example.org"], full),
        ("", &["bob@example.org", "o..x@partner.example"], full),
        ("", &["postmaster"], full),
    ] {
        for (milter, uses) in [("mta-message-bytes = 200_000\n", 0), ("", usize::from(expected == headers))] {
            let (agent, bob) = agent(milter, rules);
            let envelope = Envelope {
                sender: "friend@example.net".to_owned(),
                recipients: to.iter().map(|&one| one.to_owned()).collect(),
                ..Envelope::default()
            };
            let outcome = agent.treat(&envelope, &mail, now()).unwrap();
            assert_eq!((outcome.edits.returned, content_type(&outcome)), (expected, "closed"), "{to:?}");
            assert_eq!(bob.1.load(Ordering::SeqCst), uses, "{to:?} {milter}");
            assert_eq!((&outcome.edits.sender, outcome.copies.len()), (&None, 0), "{to:?}");
        }
    }
    // Where copies can be sent, it is said of those alone whose keys would be asked.
    let (agent, _) = agent("mta-message-bytes = 200_000\n", "");
    let outcome = treat_octets(&agent.with_copies(), &["bob", "zoe"], &mail).unwrap();
    assert_eq!((outcome.edits.returned, outcome.copies.len()), (headers, 1));
    assert_eq!(
        (outcome.copies[0].returned, &outcome.copies[0].recipients[..]),
        (full, &["zoe@example.org".to_owned()][..])
    );
}
