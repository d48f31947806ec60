//! Who is said to have written it, and whose certificate it is: From, and addresses in certificates.

use smime::{
    Certificate,
    message::AuthResult,
    mime::{Message, single_originator},
    path::{RevocationMode, Trust},
    testing::{
        Node,
        fixtures::{certificate, trust},
        hostile,
    },
};

use crate::support::{
    ALICE, FORGED, Signed, clear, openssl_verifies, openssl_verifies_with, refused, signature, verdict,
    verdict_with,
};

/// A mail that bob, who is in good standing, signed, and these fields.
fn signed_by_bob(fields: &str) -> String {
    let entity = clear(FORGED, &signature("bob", FORGED));
    format!("{fields}To: carol@example.org\r\nMIME-Version: 1.0\r\n{entity}")
}

/// "Johnny, you are fired" (USENIX Security 2019), I1 to I3: what a mail program shows of From is not who signed.
#[test]
fn whatever_from_shows_only_its_one_address_is_compared_with_the_certificate() {
    let own = signed_by_bob("From: bob@example.org\r\n");
    assert_eq!(verdict(&own).result(), AuthResult::Pass);
    for (fields, reason) in [
        ("From: alice@example.org\r\n", "not of the sender"),
        ("From: alice@example.org <alice@example.net>\r\n", "not clear"),
        ("From: \"bob@example.org\" <alice@example.org>\r\n", "not of the sender"),
        ("From: bob@example.org <alice@example.org>\r\n", "not clear"),
        ("From: \"Bob <bob@example.org>\" <alice@example.org>\r\n", "not of the sender"),
        ("From: Bob (bob@example.org) <alice@example.org>\r\n", "not of the sender"),
        ("From: Alice <(alice@example.org) bob@example.org>\r\n", "not clear"),
        ("From: Alice <bob@example.org (alice@example.org)>\r\n", "not clear"),
        ("From: Alice < (alice@example.org)\r\n bob@example.org>\r\n", "not clear"),
        ("From: alice@example.org (bob@example.org)\r\n", "not of the sender"),
        ("From: =?utf-8?q?bob=40example=2Eorg?= <alice@example.org>\r\n", "not of the sender"),
        ("From: =?utf-8?q?=3Cbob=40example=2Eorg=3E?= <alice@example.org>\r\n", "not of the sender"),
        ("From: <bob@example.org> <alice@example.org>\r\n", "not clear"),
        ("From: <alice@example.org> <bob@example.org>\r\n", "not clear"),
        ("From: alice@example.org, bob@example.org\r\n", "not clear"),
        ("From: bob@example.org, alice@example.org\r\n", "not clear"),
        ("From: Team: bob@example.org, alice@example.org;\r\n", "not clear"),
        ("From: alice@example.org\r\nFrom: bob@example.org\r\n", "not clear"),
        ("From: bob@example.org\r\nFrom: alice@example.org\r\n", "not clear"),
        ("From: bob@example.org\r\nfrom : alice@example.org\r\n", "not clear"),
        ("From: bob@example.org\nFrom: alice@example.org\r\n", "not clear"),
        ("From: alice@example.org\r\nSender: bob@example.org\r\n", "not of the sender"),
        ("From: alice@example.org\r\nReply-To: bob@example.org\r\n", "not of the sender"),
        ("From:\r\nSender: bob@example.org\r\n", "not clear"),
        ("From: \r\n", "not clear"),
        ("From: Bob\r\n", "not clear"),
        ("From: bob\r\n", "not clear"),
        ("From: <>\r\n", "not clear"),
        ("From: bob@example.org@example.net\r\n", "not clear"),
        ("From: @example.net:bob@example.org\r\n", "not clear"),
        ("From: bob@example.org\0@example.net\r\n", "not clear"),
        ("From: bob@example.org.\r\n", "not clear"),
        ("From: b\u{43e}b@example.org\r\n", "not of the sender"),
        ("From: bob@ex\u{200b}ample.org\r\n", "not clear"),
        ("From: bob@example.org.example.net\r\n", "not of the sender"),
        ("Sender: bob@example.org\r\n", "not clear"),
        ("Resent-From: bob@example.org\r\nFrom: alice@example.org\r\n", "not of the sender"),
    ] {
        refused(fields, &verdict(&signed_by_bob(fields)), AuthResult::Policy, reason);
    }
    // OpenSSL does not look at From unless it is told the address.
    let other = signed_by_bob("From: alice@example.org\r\n");
    openssl_verifies("from", &other, &[]).accepts("a signature of somebody else than From", "Pay Mallory");
}

/// A field that hides behind what some readers take for the header's end.
#[test]
fn a_second_from_behind_a_broken_line_does_not_pass() {
    for fields in [
        "From: alice@example.org\r\nthis is no field\r\nFrom: bob@example.org\r\n",
        "this is no field\r\nFrom: bob@example.org\r\n",
        " From: alice@example.org\r\nFrom: bob@example.org\r\n",
        "From: bob@example.org\rFrom: alice@example.org\r\n",
        "From: bob@example.org\r\nX: y\r\n \r\n From: alice@example.org\r\n",
        "From: bob@example.org\r\n\t\r\n",
    ] {
        let mail = signed_by_bob(fields);
        refused(fields, &verdict(&mail), AuthResult::Neutral, "in more ways than one");
        // From is not clear for whoever asks for it alone, either.
        assert!(single_originator(&Message::from_stored(mail.as_bytes()).entity()).is_err(), "{fields}");
    }
}

/// A trust in one certificate that says it is this mailbox, and a mail from alice that its key signed.
fn signed_with_address(mailbox: &str) -> (Trust, String) {
    let anchor = hostile::of_public_key(&certificate("mallory").public_key_info(), mailbox);
    let mut signed = Signed::of(&signature("mallory", FORGED));
    let node = Node::parse(anchor.der());
    let (issuer, serial) = (node.get(&[0, 3]).clone(), node.get(&[0, 1]).clone());
    signed.signer()[1] = Node::sequence([issuer, serial]);
    *signed.certificates() = vec![node];
    signed.attributes().retain(|attribute| {
        attribute.get(&[0]) != &Node::oid(const_oid::db::rfc5911::ID_AA_SIGNING_CERTIFICATE_V_2)
    });
    let entity = clear(FORGED, &signed.sign_again("mallory").to_der());
    let trust = Trust { anchors: vec![anchor], revocation: RevocationMode::Off, ..Trust::default() };
    (trust, format!("From: {ALICE}\r\n{entity}"))
}

/// CVE-2026-2748 (SEPPmail): white space in the address of a certificate was taken away before it was compared.
#[test]
fn an_address_in_a_certificate_is_what_it_is_to_the_octet() {
    let (trust, mail) = signed_with_address(ALICE);
    assert_eq!(verdict_with(&mail, &trust).result(), AuthResult::Pass);
    for mailbox in [
        "alice@example.org ",
        " alice@example.org",
        "alice @example.org",
        "alice@ example.org",
        "alice@exam ple.org",
        "alice@example.org\t",
        "alice@example.org\n",
        "alice@example.org\r\n",
        "alice@example.org\0",
        "alice@example.org\0.evil.example",
        "alice@example.org.",
        "<alice@example.org>",
        "\"alice\"@example.org",
        "Alice <alice@example.org>",
        "alice@example.org,mallory@evil.example",
        "alice@example.org;",
        "alice@evil.example@example.org",
        "alice(comment)@example.org",
        "alice\\@example.org",
        "mailto:alice@example.org",
        "*@example.org",
        "example.org",
        "@example.org",
        "",
        "alice@example.org\u{7f}",
    ] {
        let (trust, mail) = signed_with_address(mailbox);
        refused(&format!("{mailbox:?}"), &verdict_with(&mail, &trust), AuthResult::Policy, "");
    }
    // Nobody's certificate is taken for one with the address.
    assert!(
        Certificate::from_der(hostile::of_mailbox("alice@example.org ").der())
            .unwrap()
            .addresses()
            .is_empty()
    );
    let anchors = [hostile::of_public_key(&certificate("mallory").public_key_info(), "alice@example.org ")];
    let (_, mail) = signed_with_address("alice@example.org ");
    openssl_verifies_with("white-space", &mail, &anchors, &["-partial_chain"])
        .is_told("white space in an address");
}

/// RFC 9598 section 5: letters of other scripts that look alike, or become the same in lower case, are other people.
#[test]
fn addresses_that_only_look_alike_are_not_the_same() {
    let own = crate::support::mail(ALICE, &clear(FORGED, &signature("alice", FORGED)));
    assert_eq!(verdict_with(&own, &trust()).result(), AuthResult::Pass);
    for from in [
        "\u{430}lice@example.org",
        "alice@ex\u{430}mple.org",
        "al\u{131}ce@example.org",
        "alice@example.o\u{16f}rg",
        "\u{ff41}lice@example.org",
    ] {
        let mail = crate::support::mail(from, &clear(FORGED, &signature("alice", FORGED)));
        assert_ne!(verdict(&mail).result(), AuthResult::Pass, "{from}");
    }
}
