//! What is encrypted here opens again, in every combination, and in no other way than it should.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

mod outcomes;

use const_oid::db::rfc5911;
use der::{Decode, Encode};
use smime::{
    Certificate, Fault,
    algorithm::DigestAlgorithm,
    ber::{Tag, Tree},
    cipher::ContentCipher,
    cms::{
        EncryptedKey, MAX_RECIPIENTS, OpenError, Recipient, RecipientKey, RecipientKeyError, RsaTransport,
        SealError, seal,
    },
    key::ContentEncryptionKey,
    message::{self, AuthResult, Ciphertext, SealedMessage, Wrapped, sign, verify},
    mime::{Canonical, Message, MimeEntity, single_originator},
    profile::SealPlan,
    testing::{
        enveloped_data,
        fixtures::{certificate, data, key, now, trust},
        hostile::{self, wrap},
    },
};

const AGREEING: [&str; 4] = ["p256", "p384", "p521", "x25519"];

fn open(octets: &[u8], name: &str) -> Result<Vec<u8>, OpenError> {
    let enveloped = enveloped_data(octets);
    let recipient = enveloped.recipient_for(&certificate(name)).unwrap();
    enveloped.open(recipient, &key(name))
}

fn recipient(name: &str) -> RecipientKey {
    RecipientKey::new(certificate(name)).unwrap()
}

/// Every way to encrypt to a key here, with the name of its owner.
fn all_recipients() -> Vec<(&'static str, RecipientKey)> {
    use DigestAlgorithm::{Sha1, Sha256, Sha384, Sha512};
    let bob = recipient("bob");
    let mut all = vec![("bob", bob.clone())];
    for hash in [Sha1, Sha256, Sha384, Sha512] {
        all.push(("bob", bob.clone().with_rsa_transport(RsaTransport::Oaep(hash))));
    }
    all.extend(AGREEING.map(|name| (name, recipient(name))));
    let by_key = all.clone().into_iter().map(|(name, key)| (name, key.by_key_identifier().unwrap()));
    all.extend(by_key.collect::<Vec<_>>());
    all
}

#[test]
fn what_is_sealed_opens_with_every_cipher_and_every_kind_of_key() {
    for cipher in ContentCipher::ALL {
        for (name, recipient) in all_recipients() {
            let octets = seal(&[b"content"], cipher, &[recipient]).unwrap();
            assert_eq!(enveloped_data(&octets).algorithm().unwrap().name(), cipher.name());
            assert_eq!(open(&octets, name).unwrap(), b"content", "{cipher:?} for {name}");
        }
    }
}

#[test]
fn content_of_any_length_in_any_segments_is_the_same_content() {
    let bob = [recipient("bob")];
    let long: Vec<u8> = (0..=255_u8).cycle().take(3 << 20).collect();
    for cipher in ContentCipher::ALL {
        for len in [0, 1, 15, 16, 17, 31, 32, 33, 1000, long.len() - 1] {
            let content = &long[..len];
            let third = len / 3;
            let (first, rest) = content.split_at(third);
            let (second, last) = rest.split_at(third);
            for segments in [&[content][..], &[first, second, b"", last], &[b"", first, rest]] {
                let octets = seal(segments, cipher, &bob).unwrap();
                assert!(open(&octets, "bob").unwrap() == content, "{cipher:?}: {len} octets");
            }
        }
        assert_eq!(open(&seal(&[], cipher, &bob).unwrap(), "bob").unwrap(), b"", "no segment");
    }
}

/// The content of a ContentInfo.
fn inner(octets: &[u8]) -> Vec<u8> {
    let tree = Tree::parse(octets).unwrap();
    let explicit = tree.root().children().nth(1).unwrap();
    explicit.children().next().unwrap().octets().to_vec()
}

#[test]
fn objects_are_der_as_another_decoder_reads_it_with_the_versions_of_the_rfcs() {
    let by_key = |name| recipient(name).by_key_identifier().unwrap();
    for (recipients, version) in [
        (vec![recipient("bob")], 0),
        (vec![recipient("bob"), recipient("alice")], 0),
        (vec![recipient("bob"), by_key("alice")], 2),
        (vec![by_key("bob")], 2),
        (vec![recipient("p384")], 2),
        (all_recipients().into_iter().map(|(_, recipient)| recipient).collect(), 2),
    ] {
        for cipher in ContentCipher::ALL {
            // The other decoder keeps a SET OF in an order of its own, so several infos are only read.
            let octets = seal(&[&[7; 300]], cipher, &recipients).unwrap();
            let content = inner(&octets);
            let read_version = if cipher.is_authenticated() {
                let object = cms::authenveloped_data::AuthEnvelopedData::from_der(&content).unwrap();
                assert!(recipients.len() > 1 || object.to_der().unwrap() == content);
                assert_eq!(object.auth_encrypted_content_info.content_type, rfc5911::ID_DATA);
                assert!(object.auth_attrs.is_none() && object.mac.as_bytes().len() == 16);
                object.version
            } else {
                let object = cms::enveloped_data::EnvelopedData::from_der(&content).unwrap();
                assert!(recipients.len() > 1 || object.to_der().unwrap() == content);
                object.version
            };
            // Of an AuthEnvelopedData it is always 0.
            let expected = if cipher.is_authenticated() { 0 } else { version };
            assert_eq!(read_version as u8, expected, "{cipher:?}, {} recipients", recipients.len());
        }
    }
}

/// The RecipientInfos in their octets.
fn infos(octets: &[u8]) -> Vec<Vec<u8>> {
    let content = inner(octets);
    let tree = Tree::parse(&content).unwrap();
    let set = tree.root().children().find(|field| field.tag() == Tag::SET).unwrap();
    set.children().map(|info| info.octets().to_vec()).collect()
}

#[test]
fn the_order_of_recipient_infos_says_nothing_of_the_order_of_recipients() {
    let names = ["bob", "p256", "alice", "x25519", "p521", "mallory", "p384"];
    let order = |names: &[&str]| -> Vec<String> {
        let recipients: Vec<_> = names.iter().map(|name| recipient(name)).collect();
        let octets = seal(&[b"x"], ContentCipher::Aes256Gcm, &recipients).unwrap();
        assert!(infos(&octets).is_sorted());
        let enveloped = enveloped_data(&octets);
        let find = |info: &Recipient| {
            let is = |name: &&&str| match (info, enveloped.recipient_for(&certificate(name)).unwrap()) {
                (Recipient::KeyTransport(a), EncryptedKey::Transported(b)) => std::ptr::eq(a, b),
                (Recipient::KeyAgreement(a), EncryptedKey::Agreed(b, _)) => std::ptr::eq(a, b),
                _ => false,
            };
            (*names.iter().find(is).unwrap()).to_owned()
        };
        enveloped.recipients().iter().map(find).collect()
    };
    let sorted = order(&names);
    for turn in 1..names.len() {
        let mut turned = names;
        turned.rotate_left(turn);
        assert_eq!(order(&turned), sorted);
        turned.reverse();
        assert_eq!(order(&turned), sorted);
    }
}

#[test]
fn a_recipient_given_twice_is_written_once() {
    let twice = [recipient("bob"), recipient("alice"), recipient("bob")];
    let octets = seal(&[b"x"], ContentCipher::Aes256Cbc, &twice).unwrap();
    assert_eq!(enveloped_data(&octets).recipients().len(), 2);
}

#[test]
fn keys_nonces_and_ephemeral_keys_are_fresh() {
    for cipher in ContentCipher::ALL {
        let octets = [(); 2].map(|()| seal(&[&[0; 64]], cipher, &[recipient("p256")]).unwrap());
        let [one, two] = &octets;
        // Every run of 12 octets of what is drawn: nonce, ephemeral key, wrapped key, ciphertext.
        let tail = |octets: &[u8]| octets[octets.len() - 64 - 16..].to_vec();
        assert!(tail(one).iter().zip(&tail(two)).filter(|(a, b)| a == b).count() < 16, "{cipher:?}");
        let point = |octets: &[u8]| infos(octets)[0].clone();
        let same = point(one).windows(12).filter(|run| point(two).windows(12).any(|w| w == *run)).count();
        let rid = point(one).len() - 65 - cipher.key_len();
        assert!(same < rid, "{cipher:?}: {same} runs are the same");
        assert_ne!(enveloped_data(one).algorithm().unwrap(), enveloped_data(two).algorithm().unwrap());
    }
}

#[test]
fn certificates_that_are_not_for_encryption_are_named() {
    let with_public_key = |name: &str, change: fn(&mut [u8])| {
        let mut der = certificate(name).der().to_vec();
        let public = certificate(name).public_key().to_vec();
        let at = der.windows(public.len()).position(|window| window == public).unwrap();
        change(&mut der[at..at + public.len()]);
        Certificate::from_der(&der).unwrap()
    };
    let off_curve = with_public_key("p256", |point| point[64] ^= 1);
    // With a point of small order everybody knows the shared secret (RFC 7748 6.1).
    let small_order = with_public_key("x25519", |point| point.fill(0));
    let sealed_for = |certificate: &Certificate| {
        let recipient = RecipientKey::new(certificate.clone())?;
        seal(&[b"x"], ContentCipher::Aes256Cbc, &[recipient]).map(drop)
    };
    for (certificate, reason) in [
        (certificate("carol"), "\"CN=Carol\" (serial"),
        (certificate("carol"), "is not for encryption: keyUsage has no keyAgreement"),
        (certificate("server"), "keyUsage has no keyEncipherment"),
        (certificate("ca"), "keyUsage has no keyEncipherment"),
        (certificate("ed25519"), "a key that nothing is encrypted to"),
        (hostile::of_key_len(128), "has 1024 bits, fewer than 2048"),
        (off_curve, "is bad"),
        (small_order, "is bad"),
    ] {
        let error = sealed_for(&certificate).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.fault(), Fault::Policy);
    }
    assert!(sealed_for(&certificate("encrypt-only")).is_ok());
    let no_identifier = RecipientKey::new(hostile::of_mailbox("alice@example.org")).unwrap();
    let error = no_identifier.by_key_identifier().unwrap_err();
    assert!(matches!(error, RecipientKeyError::NoKeyIdentifier { .. }), "{error}");
}

#[test]
fn nobody_and_too_many_are_refused() {
    let cipher = ContentCipher::Aes128Gcm;
    assert!(matches!(seal(&[b"x"], cipher, &[]), Err(SealError::NoRecipients)));
    let many: Vec<_> = (0..=MAX_RECIPIENTS)
        .map(|serial| {
            let mut der = certificate("p256").der().to_vec();
            let serial_at = der.windows(2).position(|window| window == [0x02, 0x14]).unwrap() + 10;
            der[serial_at..serial_at + 2].copy_from_slice(&u16::try_from(serial).unwrap().to_be_bytes());
            RecipientKey::new(Certificate::from_der(&der).unwrap()).unwrap()
        })
        .collect();
    let error = seal(&[b"x"], cipher, &many).unwrap_err();
    assert!(matches!(error, SealError::TooManyRecipients(501)), "{error}");
    let octets = seal(&[b"x"], cipher, &many[1..]).unwrap();
    assert_eq!(enveloped_data(&octets).recipients().len(), MAX_RECIPIENTS);
    // So many are found also around a text that is much shorter.
    let mail = [
        "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary\r\n\r\n".as_bytes(),
        &octets,
    ];
    assert!(Ciphertext::find(&MimeEntity::parse(&mail.concat())).is_some());
    assert_eq!(open_first_p256(&octets, &many[7]).unwrap(), b"x");
}

fn open_first_p256(octets: &[u8], recipient: &RecipientKey) -> Result<Vec<u8>, OpenError> {
    let enveloped = enveloped_data(octets);
    let info = enveloped.recipient_for(recipient.certificate()).unwrap();
    enveloped.open(info, &key("p256"))
}

#[test]
fn keys_agreed_on_with_openssl_open_its_messages() {
    for (file, names) in [
        ("agree-p256.p7m", &["p256"][..]),
        ("agree-p384.p7m", &["p384"]),
        ("agree-p521.p7m", &["p521"]),
        ("agree-three.p7m", &["bob", "p256", "p384"]),
    ] {
        for name in names {
            assert_eq!(open(&data(file), name).expect(file), data("entity.txt"), "{file} for {name}");
        }
    }
    let octets = data("agree-p256.p7m");
    assert!(enveloped_data(&octets).recipient_for(&certificate("p384")).is_none());
}

#[test]
fn a_tag_of_chacha20_poly1305_has_16_octets() {
    let octets = seal(&[b"content"], ContentCipher::ChaCha20Poly1305, &[recipient("bob")]).unwrap();
    let content = inner(&octets);
    let tree = Tree::parse(&content).unwrap();
    let fields: Vec<_> = tree.root().children().map(|field| field.octets().to_vec()).collect();
    for (len, good) in [(16, true), (15, false), (12, false), (4, false), (0, false)] {
        let mut fields = fields.clone();
        let tag = fields[3][2..2 + len].to_vec();
        fields[3] = wrap(Tag::OCTET_STRING, &[tag]);
        let oid = rfc5911::ID_CT_AUTH_ENVELOPED_DATA.to_der().unwrap();
        let octets = wrap(Tag::SEQUENCE, &[oid, wrap(Tag::context(0), &[wrap(Tag::SEQUENCE, &fields)])]);
        assert_eq!(open(&octets, "bob").is_ok(), good, "{len} octets");
    }
}

#[test]
fn a_content_encryption_key_is_never_shown() {
    let key = ContentEncryptionKey::new(vec![0x41; 32]);
    assert_eq!(format!("{key:?}"), "ContentEncryptionKey([redacted])");
}

/// The entity that a sealed message's fields and body make.
fn sealed_entity(sealed: &SealedMessage) -> Vec<u8> {
    let fields = format!(
        "From: alice@example.org\r\nMIME-Version: 1.0\r\nContent-Type: {}\r\nContent-Transfer-Encoding: {}\r\n\
         Content-Disposition: {}\r\n\r\n",
        sealed.content_type,
        SealedMessage::TRANSFER_ENCODING,
        SealedMessage::DISPOSITION
    );
    [fields.as_bytes(), &sealed.body].concat()
}

fn open_entity(octets: &[u8], name: &str) -> Vec<u8> {
    let message = Message::from_stored(octets);
    match Wrapped::read(&message.entity()) {
        Ok(Some(Wrapped::Opaque(object))) => open(&object, name).unwrap(),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn a_message_is_sealed_with_its_type_and_nothing_of_it_shows() {
    let message = Message::from_stored(b"Subject: x\nContent-Type: text/plain\n\nThe canary sings.\n");
    let canonical = Canonical::from_entity(&message.entity()).unwrap();
    let signed = sign(&canonical, &key("alice"), &[certificate("ca")], now()).unwrap();
    for (cipher, smime_type) in
        [(ContentCipher::Aes256Cbc, "enveloped-data"), (ContentCipher::Aes256Gcm, "authEnveloped-data")]
    {
        let plan = SealPlan { cipher, recipients: vec![recipient("bob"), recipient("x25519")] };
        let sealed = message::seal(&canonical, &plan).unwrap();
        let parsed = sealed_entity(&sealed);
        let text = String::from_utf8(parsed.clone()).unwrap();
        assert!(text.contains(&format!("application/pkcs7-mime; smime-type={smime_type};")), "{text}");
        assert!(text.lines().all(|line| line.len() <= 78) && !text.contains("canary"), "{text}");
        for name in ["bob", "x25519"] {
            assert_eq!(open_entity(&parsed, name), canonical.octets());
        }

        let sealed = message::seal_signed(&signed, &plan).unwrap();
        let inside = open_entity(&sealed_entity(&sealed), "bob");
        let inside = [b"From: alice@example.org\r\n", &inside[..]].concat();
        let inside = Message::from_stored(&inside);
        let entity = inside.entity();
        let (verdict, signers) = verify(&entity, single_originator(&entity), &trust(), now());
        assert_eq!(verdict.result(), AuthResult::Pass, "{}", verdict.reason());
        // What the signer can open is for the next message to it.
        let capabilities = signers[0].capabilities().unwrap();
        let ciphers: Vec<_> = capabilities.ciphers().collect();
        assert_eq!(ciphers.first(), Some(&ContentCipher::Aes256Gcm));
        assert!(ContentCipher::ALL.iter().all(|cipher| ciphers.contains(cipher)), "{ciphers:?}");
    }
}
