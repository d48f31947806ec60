//! What holds of any text: what is signed verifies, what is sealed opens, canonical stays canonical, headers come apart
//! and together again.

use proptest::{collection::vec, prelude::*, sample::select};
use smime::{
    algorithm::DigestAlgorithm,
    cipher::ContentCipher,
    cms::{Object, RecipientKey, RsaTransport, compress, seal},
    message::{AuthResult, Reason, sign, sign_opaque, verify},
    mime::{Canonical, Header, Message, MimeEntity, single_originator},
    profile::Profile,
    testing::{
        enveloped_data,
        fixtures::{certificate, key, now, trust},
    },
};

/// Pieces that mail is made of, and that break it.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        &b"\r\n"[..],
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b"\r\n\r\n",
        b"From ",
        b"\r\nFrom x",
        b".\r\n",
        b"--b",
        b"\r\n--b\r\n",
        b"\r\n--b--\r\n",
        b"=",
        b"=3D",
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Transfer-Encoding: 8bit\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"Subject: x\r\n y\r\n",
        b"no field\r\n",
        "\u{fc}".as_bytes(),
        b"\xff",
    ]);
    prop_oneof![
        4 => known.prop_map(<[u8]>::to_vec),
        3 => "[a-zA-Z .]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..20),
        1 => (900_usize..1100).prop_map(|len| vec![b'x'; len]),
    ]
}

/// A message of such pieces.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let header = select(vec![
        "",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n",
        "Content-Type: application/octet-stream\r\n",
    ]);
    (header, vec(piece(), 0..20))
        .prop_map(|(header, pieces)| [header.as_bytes(), b"\r\n", &pieces.concat()].concat())
}

fn verdict(mail: &[u8]) -> (AuthResult, String) {
    let message = Message::from_stored(mail);
    let entity = message.entity();
    let (verdict, _) = verify(&entity, single_originator(&entity), &trust(), now());
    (verdict.result(), verdict.reason().to_string())
}

/// Who signs, and how.
const SIGNERS: [(&str, &Profile); 3] =
    [("alice", &Profile::STANDARD), ("alice", &Profile::EDI_ENERGY), ("carol", &Profile::STANDARD)];

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_signed_verifies_and_a_changed_octet_does_not(
        text in text(),
        (name, profile) in select(SIGNERS.to_vec()),
        at in any::<prop::sample::Index>(),
        mask in 1_u8..=255,
    ) {
        let message = Message::from_stored(&text);
        // What cannot be signed is refused by name; that is not the property here.
        let Ok(canonical) = Canonical::from_entity(&message.entity()) else { return Ok(()) };
        let (signer, chain) = (key(name), [certificate("ca")]);
        let signer = profile.signer(&signer);
        let signed = sign(&canonical, &signer, &chain, now()).unwrap();
        let head = format!("From: {name}@example.org\r\nContent-Type: ");
        let mail = [head.as_bytes(), signed.content_type.as_bytes(), b"\r\n\r\n", &signed.body].concat();
        prop_assert_eq!(verdict(&mail), (AuthResult::Pass, Reason::RevocationNotChecked.to_string()));

        let start = mail.len() - signed.body.len();
        let content = start + memchr::memmem::find(&signed.body, canonical.octets()).unwrap();
        let mut changed = mail.clone();
        let octet = content + at.index(canonical.octets().len().max(1));
        if let Some(octet) = changed.get_mut(octet) {
            *octet ^= mask;
        }
        // A LF alone is taken for a line end before anything else.
        if Message::from_stored(&changed) != Message::from_stored(&mail) {
            prop_assert_ne!(verdict(&changed).0, AuthResult::Pass);
        }

        let opaque = sign_opaque(&canonical, &signer, &chain, now()).unwrap();
        let head = format!("From: {name}@example.org\r\nContent-Type: {}\r\n", opaque.content_type);
        let mail = [head.as_bytes(), b"Content-Transfer-Encoding: base64\r\n\r\n", &opaque.body].concat();
        prop_assert_eq!(verdict(&mail).0, AuthResult::Pass);
    }

    #[test]
    fn what_is_sealed_opens_for_each_recipient_and_for_nobody_else(
        content in vec(any::<u8>(), 0..600),
        cut in any::<prop::sample::Index>(),
        cipher in select(ContentCipher::ALL.to_vec()),
        names in prop::sample::subsequence(vec!["alice", "bob", "p256", "p384", "p521", "x25519"], 1..=6),
        oaep in any::<bool>(),
    ) {
        let recipients: Vec<_> = names
            .iter()
            .map(|name| {
                let recipient = RecipientKey::new(certificate(name)).unwrap();
                let oaep = oaep && recipient.rsa_transport().is_some();
                let transport = RsaTransport::Oaep(DigestAlgorithm::Sha256);
                if oaep { recipient.with_rsa_transport(transport) } else { recipient }
            })
            .collect();
        // In whatever pieces it comes.
        let (first, second) = content.split_at(cut.index(content.len() + 1));
        let object = seal(&[first, second], cipher, &recipients).unwrap();
        let enveloped = enveloped_data(&object);
        prop_assert_eq!(enveloped.recipients().len(), names.len());
        for name in ["alice", "bob", "p256", "p384", "p521", "x25519"] {
            let recipient = enveloped.recipient_for(&certificate(name));
            prop_assert_eq!(recipient.is_some(), names.contains(&name));
            if let Some(recipient) = recipient {
                prop_assert_eq!(&enveloped.open(recipient, &key(name)).unwrap(), &content);
            }
        }
    }

    #[test]
    fn what_is_compressed_comes_out_again(content in vec(any::<u8>(), 0..2000)) {
        let object = compress(&content).unwrap();
        let Ok(Object::CompressedData(compressed)) = Object::parse(&object) else { unreachable!() };
        prop_assert_eq!(compressed.decompress().unwrap(), content);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_canonical_stays_as_it_is(text in text()) {
        let message = Message::from_stored(&text);
        let Ok(canonical) = Canonical::from_entity(&message.entity()) else { return Ok(()) };
        let again = Canonical::from_entity(&MimeEntity::parse(canonical.octets())).unwrap();
        prop_assert_eq!(String::from_utf8_lossy(again.octets()), String::from_utf8_lossy(canonical.octets()));
        let received = Canonical::from_signed_part(canonical.octets());
        prop_assert!(received == canonical);
    }

    #[test]
    fn a_field_that_is_taken_out_and_put_back_leaves_the_message_as_it_was(
        pieces in vec(piece(), 0..20),
        at in any::<prop::sample::Index>(),
    ) {
        let message = Message::from_stored(&pieces.concat());
        let entity = message.entity();
        let header = entity.header();
        let fields: Vec<_> = header.fields().map(|field| field.octets().to_vec()).collect();
        prop_assert_eq!(&fields.concat()[..], message.octets().get(..fields.concat().len()).unwrap());
        if fields.is_empty() {
            return Ok(());
        }
        let chosen = at.index(fields.len());
        let mut without = fields.clone();
        let taken = without.remove(chosen);
        let rest = message.octets().get(fields.concat().len()..).unwrap();
        // The other fields are the same without it: none grows, none is lost.
        let edited = without.concat();
        let left: Vec<_> =
            Header::parse(&edited).fields().map(|field| field.octets().to_vec()).collect();
        let is_fold = |field: &[u8]| field.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
        if !left.iter().chain(&without).chain([&taken]).any(|field| is_fold(field)) {
            prop_assert_eq!(&left, &without);
        }
        without.insert(chosen, taken);
        prop_assert_eq!([&without.concat()[..], rest].concat(), message.octets());
    }
}
