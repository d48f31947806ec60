//! Whether a signer is who the message says it is from (RFC 8550 section 3, RFC 9598 section 5), over the whole verifier.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use smime::ber::Tag;
use smime::{
    Certificate,
    message::{AuthResult, Reason, Verdict, sign, verify},
    mime::{Canonical, Claimed, Message, SenderRule},
    path::{RevocationMode, Trust},
    testing::{
        draft::{Draft, alternative_names, at, memory_key, name, rfc822_name, smtp_utf8_name},
        hostile::wrap,
    },
};

const TEXT: &[u8] = b"Content-Type: text/plain\r\n\r\nHello.\r\n";

fn leaf(subject: Vec<u8>, names: Option<Vec<u8>>) -> Certificate {
    let mut draft = Draft::new("Alice", 2, "CA");
    draft.subject = subject;
    draft.extensions.extend(names);
    draft.sign(1)
}

/// The verdict on a mail with these fields that this certificate's key signed.
fn verdict(fields: &str, certificate: Certificate, rule: SenderRule) -> Verdict {
    let signed = sign(&Canonical::from_signed_part(TEXT), &memory_key(2, certificate), &[], at()).unwrap();
    let body = String::from_utf8(signed.body).unwrap();
    let mail =
        format!("{fields}\r\nMIME-Version: 1.0\r\nContent-Type: {}\r\n\r\n{body}", signed.content_type);
    let trust = Trust {
        anchors: vec![Draft::ca("CA", 1, "CA").sign(1)],
        revocation: RevocationMode::Off,
        ..Trust::default()
    };
    let message = Message::from_stored(mail.as_bytes());
    let entity = message.entity();
    verify(&entity, Claimed::of(&entity, rule), &trust, at()).0
}

/// A subject with a commonName, and an emailAddress in this type of string.
fn subject_with_address(tag: Tag, address: &str) -> Vec<u8> {
    let oid = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01".to_vec();
    let attribute = wrap(Tag::SEQUENCE, &[oid, wrap(tag, &[address.into()])]);
    let common_name = name("Alice");
    // Its RDNSequence has a header of two octets.
    let relative = [common_name.get(2..).unwrap().to_vec(), wrap(Tag::SET, &[attribute])];
    wrap(Tag::SEQUENCE, &relative)
}

const IA5: Tag = Tag(0x16);
const UTF8: Tag = Tag(0x0C);

#[test]
fn a_signer_is_the_sender_whose_address_is_in_the_certificate() {
    let mail = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| rfc822_name(name)).collect();
        (name("Alice"), Some(alternative_names(false, &names)))
    };
    let utf8 = |text: &str| (name("Alice"), Some(alternative_names(false, &[smtp_utf8_name(text)])));
    let subject = |tag, text: &str| (subject_with_address(tag, text), None);
    let long = format!("{}@example.org", "a".repeat(250));
    for (from, (subject, names), is_bound) in [
        // Case (C4), and nothing else, makes no difference.
        ("alice@example.org", mail(&["alice@example.org"]), true),
        ("Alice@Example.ORG", mail(&["aLICE@eXAMPLE.org"]), true),
        ("alice@example.org", mail(&["bob@example.org", "alice@example.org"]), true),
        ("\"Bob\" <alice@example.org>", mail(&["alice@example.org"]), true),
        ("\"alice@example.org\" <bob@example.org>", mail(&["alice@example.org"]), false),
        ("bob@example.org", mail(&["alice@example.org"]), false),
        ("alice@example.net", mail(&["alice@example.org"]), false),
        ("alice@mail.example.org", mail(&["alice@example.org"]), false),
        ("alice+tag@example.org", mail(&["alice@example.org"]), false),
        ("a.lice@example.org", mail(&["alice@example.org"]), false),
        // Hygiene: what is not just an address is none.
        ("alice@example.org", mail(&["alice@example.org "]), false),
        ("alice@example.org", mail(&["alice@example.org\0"]), false),
        ("alice@example.org", mail(&["alice@example.org\0.example.net"]), false),
        ("alice@example.org", mail(&["alice@example.org."]), false),
        ("alice@example.org", mail(&["\"alice\"@example.org"]), false),
        ("\"alice\"@example.org", mail(&["\"alice\"@example.org"]), false),
        ("alice@example.org", mail(&["bob@example.net@example.org"]), false),
        ("alice@example.org", mail(&["<alice@example.org>"]), false),
        ("alice@example.org", mail(&["*@example.org"]), false),
        // The emailAddress of the subject (C3), where there is no name for mail.
        ("alice@example.org", subject(IA5, "Alice@example.org"), true),
        ("alice@example.org", subject(UTF8, "alice@example.org"), true),
        ("alice@example.org", subject(IA5, "alice@example.org "), false),
        ("alice@example.org", subject(IA5, "alice@example.org, bob@example.org"), false),
        ("J\u{f6}rg@example.org", subject(UTF8, "J\u{f6}rg@example.org"), false),
        (&long, subject(IA5, &long), false),
        (
            "alice@example.org",
            (subject_with_address(IA5, "alice@example.org"), mail(&["bob@example.org"]).1),
            false,
        ),
        ("alice@example.org", (subject_with_address(IA5, "alice@example.org"), mail(&["bob@"]).1), false),
        // No address at all: nobody knows whose it is.
        ("alice@example.org", (name("alice@example.org"), None), false),
        // Domains in A-labels; letters that look alike are others.
        ("alice@m\u{fc}nchen.example", mail(&["alice@xn--mnchen-3ya.example"]), true),
        ("alice@M\u{dc}NCHEN.example", mail(&["alice@XN--mnchen-3ya.example"]), true),
        ("alice@xn--mnchen-3ya.example", mail(&["alice@xn--mnchen-3ya.example"]), true),
        ("alice@munchen.example", mail(&["alice@xn--mnchen-3ya.example"]), false),
        ("alice@\u{435}xample.org", mail(&["alice@example.org"]), false),
        ("\u{430}lice@example.org", mail(&["alice@example.org"]), false),
        // SmtpUTF8Mailbox (C9): for local parts beyond ASCII, to the letter.
        ("J\u{f6}rg@example.org", utf8("J\u{f6}rg@example.org"), true),
        ("J\u{f6}rg@EXAMPLE.org", utf8("J\u{f6}rg@example.org"), true),
        ("J\u{f6}rg@m\u{fc}nchen.example", utf8("J\u{f6}rg@xn--mnchen-3ya.example"), true),
        // With a U-label, as RFC 8398 had it.
        ("J\u{f6}rg@xn--mnchen-3ya.example", utf8("J\u{f6}rg@m\u{fc}nchen.example"), true),
        ("j\u{f6}rg@example.org", utf8("J\u{f6}rg@example.org"), false),
        ("Jo\u{308}rg@example.org", utf8("J\u{f6}rg@example.org"), false),
        ("\u{212a}arl@example.org", utf8("karl\u{fc}@example.org"), false),
        ("J\u{f6}rg@example.org", utf8("\u{feff}J\u{f6}rg@example.org"), false),
        // Neither form stands for the other.
        ("alice@example.org", utf8("alice@example.org"), false),
        ("\u{212a}arl@example.org", mail(&["karl@example.org"]), false),
    ] {
        let verdict = verdict(&format!("From: {from}"), leaf(subject, names.clone()), SenderRule::From);
        let what = format!("{from:?} {names:x?}: {}", verdict.reason());
        assert_eq!(verdict.result() == AuthResult::Pass, is_bound, "{what}");
        assert_eq!(verdict.result() == AuthResult::Policy, !is_bound, "{what}");
        if is_bound {
            let from = from.rsplit('<').next().unwrap().trim_end_matches('>');
            assert_eq!(verdict.identifier().unwrap().as_str(), from);
        }
    }
}

#[test]
fn an_address_beyond_ascii_in_an_rfc822_name_spoils_the_certificate() {
    let names = alternative_names(false, &[rfc822_name("J\u{f6}rg@example.org")]);
    let verdict = verdict("From: J\u{f6}rg@example.org", leaf(name("J"), Some(names)), SenderRule::From);
    assert!(matches!(verdict.reason(), Reason::Path(_)), "{}", verdict.reason());
    assert_eq!(verdict.result(), AuthResult::Policy);
}

#[test]
fn the_sender_field_counts_only_where_it_is_asked_for_and_beside_one_clear_from() {
    let certificate = || {
        let names = alternative_names(false, &[rfc822_name("secretary@example.org")]);
        leaf(name("Secretary"), Some(names))
    };
    for (fields, by_default, if_asked_for) in [
        ("From: secretary@example.org", true, true),
        ("From: boss@example.org\r\nSender: secretary@example.org", false, true),
        ("From: boss@example.org\r\nSender: S <Secretary@example.org>", false, true),
        ("From: boss@example.org\r\nSender: mallory@example.org", false, false),
        ("From: boss@example.org", false, false),
        ("From: boss@example.org\r\nSender: secretary@example.org\r\nSender: x@example.org", false, false),
        ("From: boss@example.org\r\nSender: secretary@example.org, x@example.org", false, false),
        ("From: boss@example.org, x@example.org\r\nSender: secretary@example.org", false, false),
        ("Sender: secretary@example.org", false, false),
        ("From: boss@example.org\r\nResent-Sender: secretary@example.org", false, false),
    ] {
        for (rule, passes) in [(SenderRule::From, by_default), (SenderRule::FromOrSender, if_asked_for)] {
            let verdict = verdict(fields, certificate(), rule);
            assert_eq!(
                verdict.result() == AuthResult::Pass,
                passes,
                "{fields:?} {rule:?}: {}",
                verdict.reason()
            );
            if passes {
                assert!(verdict.identifier().unwrap().as_str().to_ascii_lowercase().starts_with("secretary"));
            }
        }
    }
}
