//! Every bad key and every changed octet has the outcome of a wrong key, and no key is asked what it cannot do.

use const_oid::db::rfc5911;
use der::Encode;
use smime::{
    Certificate,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::KeyEncryptionAlgorithm,
    ber::{Tag, Tree},
    cipher::ContentCipher,
    cms::{Object, OpenError, Recipient, seal},
    key::{Decryptor, KeyError, Unwrapped},
    testing::{
        enveloped_data,
        fixtures::{certificate, data, key},
        hostile::wrap,
    },
};

use super::{infos, inner, open, recipient};

/// A token that answers an agreement as the test wants.
#[derive(Debug)]
struct Rejects(Certificate);

impl Decryptor for Rejects {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Ok(Unwrapped::Rejected)
    }

    fn agree(&self, _: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        Ok(Agreed::Rejected)
    }
}

#[test]
fn every_bad_agreement_has_the_outcome_of_a_wrong_key() {
    let octets = seal(&[b"content"], ContentCipher::Aes256Gcm, &[recipient("p256")]).unwrap();
    let info = &infos(&octets)[0];
    let info_at = octets.windows(info.len()).position(|window| window == info).unwrap();
    let point_at = info.windows(3).position(|window| window == [0x42, 0x00, 0x04]).unwrap() + 2;
    let changed = |at: usize| {
        let mut changed = octets.clone();
        changed[info_at + at] ^= 1;
        changed
    };
    for (what, octets) in [
        ("the form of the point", changed(point_at)),
        ("x", changed(point_at + 1)),
        ("y", changed(point_at + 64)),
        ("the first octet of the wrapped key", changed(info.len() - 40)),
        ("the last octet of the wrapped key", changed(info.len() - 1)),
    ] {
        assert!(matches!(open(&octets, "p256"), Err(OpenError::Undecryptable)), "{what}");
    }
    // A point of another key, on the curve: then the unwrapping fails.
    let mut other = octets.clone();
    let other_point = certificate("p256").public_key().to_vec();
    other[info_at + point_at..info_at + point_at + 65].copy_from_slice(&other_point);
    assert!(matches!(open(&other, "p256"), Err(OpenError::Undecryptable)));
    // The token finds fault with it.
    let parsed = enveloped_data(&octets);
    let info = parsed.recipient_for(&certificate("p256")).unwrap();
    assert!(matches!(parsed.open(info, &Rejects(certificate("p256"))), Err(OpenError::Undecryptable)));
}

/// A key that must not be asked.
#[derive(Debug)]
struct Unasked(Certificate);

impl Decryptor for Unasked {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        unreachable!("asked to decrypt")
    }

    fn agree(&self, _: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        unreachable!("asked to agree")
    }
}

#[test]
fn no_key_is_asked_for_what_its_kind_cannot_do() {
    // The infos of one for the name of the other: identifiers of the same length.
    for (from, to) in
        [("bob", "p256"), ("bob", "x25519"), ("p256", "bob"), ("x25519", "p256"), ("p256", "x25519")]
    {
        let recipient = recipient(from).by_key_identifier().unwrap();
        let mut octets = seal(&[b"content"], ContentCipher::Aes256Gcm, &[recipient]).unwrap();
        let [old, new] = [from, to].map(|name| certificate(name).subject_key_identifier().unwrap());
        let at = octets.windows(old.len()).position(|window| window == old).unwrap();
        octets[at..at + old.len()].copy_from_slice(&new);
        let object = enveloped_data(&octets);
        let info = object.recipient_for(&certificate(to)).unwrap();
        let opened = object.open(info, &Unasked(certificate(to)));
        assert!(matches!(opened, Err(OpenError::Undecryptable)), "{from} as {to}: {opened:?}");
    }
}

#[test]
fn a_key_of_another_length_than_the_ciphers_is_a_wrong_key() {
    // A key agreement for AES-128-GCM, under the name of AES-256-GCM.
    let octets = seal(&[b"content"], ContentCipher::Aes128Gcm, &[recipient("p384")]).unwrap();
    let (aes_128_gcm, aes_256_gcm) = ([3, 4, 1, 6, 0x30], [3, 4, 1, 46, 0x30]);
    let at = octets.windows(5).position(|window| window == aes_128_gcm).unwrap();
    let mut longer = octets.clone();
    longer[at..at + 5].copy_from_slice(&aes_256_gcm);
    assert!(matches!(open(&longer, "p384"), Err(OpenError::Undecryptable)));
}

#[test]
fn no_change_of_an_octet_makes_an_authenticated_message_release_other_content() {
    for (cipher, name) in [
        (ContentCipher::Aes128Gcm, "p256"),
        (ContentCipher::Aes256Gcm, "x25519"),
        (ContentCipher::ChaCha20Poly1305, "p256"),
    ] {
        let octets = seal(&[b"secret"], cipher, &[recipient(name)]).unwrap();
        let (certificate, key) = (certificate(name), key(name));
        // The versions, which say nothing: the object's stands first, the info's in its head.
        let version_at = |version: u8| octets.windows(3).position(|w| w == [0x02, 0x01, version]).unwrap();
        let originator_end = version_at(3) + 3 + 2 + usize::from(octets[version_at(3) + 4]);
        let versions = [version_at(0), version_at(3)].map(|at| at..at + 3);
        for at in 0..octets.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut changed = octets.clone();
                changed[at] ^= flip;
                let Ok(Object::EnvelopedData(object)) = Object::parse(&changed) else { continue };
                let Some(recipient) = object.recipient_for(&certificate) else { continue };
                if let Ok(content) = object.open(recipient, &key) {
                    assert_eq!(content, b"secret", "{cipher:?}: octet {at}");
                    // Of an X25519 point the highest bit is masked (RFC 7748 5).
                    let masked = name == "x25519" && flip == 0x80 && at == originator_end - 1;
                    let free = masked || versions.iter().any(|version| version.contains(&at));
                    assert!(free, "{cipher:?}: octet {at} may change");
                }
            }
        }
    }
}

#[test]
fn no_damage_to_key_agreement_makes_a_panic() {
    let octets = data("agree-three.p7m");
    let (certificate, key) = (certificate("p256"), key("p256"));
    for at in 0..octets.len() {
        for value in [0, 0x30, 0xFF] {
            let mut damaged = octets.clone();
            damaged[at] = value;
            if let Ok(Object::EnvelopedData(object)) = Object::parse(&damaged)
                && let Some(recipient) = object.recipient_for(&certificate)
                && let Ok(content) = object.open(recipient, &key)
            {
                assert_eq!(content, data("entity.txt"), "octet {at} is {value}");
            }
        }
    }
    for len in 0..octets.len() {
        assert!(Object::parse(&octets[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn key_agreement_for_somebody_else_that_cannot_be_read_spoils_nothing() {
    let octets = seal(&[b"x"], ContentCipher::Aes256Cbc, &[recipient("bob")]).unwrap();
    let content = inner(&octets);
    let tree = Tree::parse(&content).unwrap();
    let mut fields: Vec<_> = tree.root().children().map(|field| field.octets().to_vec()).collect();
    let odd = wrap(Tag::context(1), &[wrap(Tag::INTEGER, &[vec![3]])]);
    let mine = infos(&octets).remove(0);
    fields[1] = wrap(Tag::SET, &[odd, mine]);
    let content = wrap(Tag::SEQUENCE, &fields);
    let oid = rfc5911::ID_ENVELOPED_DATA.to_der().unwrap();
    let octets = wrap(Tag::SEQUENCE, &[oid, wrap(Tag::context(0), &[content])]);
    assert_eq!(open(&octets, "bob").unwrap(), b"x");
    assert!(matches!(enveloped_data(&octets).recipients()[0], Recipient::Other(_)));
}
