//! What old senders wrote: opened, and told apart by what it is worth.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the functions beside the tests are part of them"
)]

use smime::{
    algorithm::KeyEncryptionAlgorithm,
    cms::{EncryptedKey, OpenError},
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
    message::{AuthResult, Reason, Verdict, verify},
    mime::{Message, encode_base64, single_originator},
    testing::{
        enveloped_data,
        fixtures::{certificate, data, key, now, trust},
    },
};

fn open_with(octets: &[u8], decryptor: &dyn Decryptor) -> Result<Vec<u8>, OpenError> {
    let enveloped = enveloped_data(octets);
    let recipient = enveloped.recipient_for(&certificate("bob")).unwrap();
    enveloped.open(recipient, decryptor)
}

/// A token that gives this key, whatever it is asked.
#[derive(Debug)]
struct Gives(smime::Certificate, Vec<u8>);

impl Decryptor for Gives {
    fn certificate(&self) -> &smime::Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Ok(Unwrapped::Key(ContentEncryptionKey::new(self.1.clone())))
    }
}

/// The content-encryption key of an object for bob.
fn key_of(octets: &[u8]) -> Vec<u8> {
    let enveloped = enveloped_data(octets);
    let EncryptedKey::Transported(recipient) = enveloped.recipient_for(&certificate("bob")).unwrap() else {
        panic!("not key transport")
    };
    let unwrapped =
        key("bob").decrypt_key(recipient.encrypted_key(), recipient.algorithm().unwrap()).unwrap();
    match unwrapped {
        Unwrapped::Key(key) => key.expose().to_vec(),
        Unwrapped::Rejected => panic!("rejected"),
    }
}

const OLD_CIPHERS: [(&str, &str, usize); 6] = [
    ("des.p7m", "DES-CBC", 8),
    ("des3.p7m", "DES-EDE3-CBC", 24),
    ("des3-ber.p7m", "DES-EDE3-CBC", 24),
    ("rc2-40.p7m", "RC2-40-CBC", 5),
    ("rc2-64.p7m", "RC2-64-CBC", 8),
    ("rc2-128.p7m", "RC2-128-CBC", 16),
];

#[test]
fn content_in_old_ciphers_is_opened_and_said_to_be_weak_and_unauthenticated() {
    for (name, cipher, key_len) in OLD_CIPHERS {
        let octets = data(name);
        let algorithm = enveloped_data(&octets).algorithm().unwrap();
        assert_eq!((algorithm.name(), algorithm.key_len()), (cipher, key_len), "{name}");
        assert!(algorithm.is_weak() && !algorithm.is_authenticated(), "{name}");
        assert_eq!(open_with(&octets, &key("bob")).unwrap(), data("entity.txt"), "{name}");
    }
    for name in ["der.p7m", "gcm.p7m"] {
        assert!(!enveloped_data(&data(name)).algorithm().unwrap().is_weak(), "{name}");
    }
}

#[test]
fn the_parity_bits_of_a_des_key_do_not_matter_and_its_other_bits_do() {
    for name in ["des.p7m", "des3.p7m"] {
        let octets = data(name);
        let with = |mask: u8| {
            let key = key_of(&octets).into_iter().map(|octet| octet ^ mask).collect();
            open_with(&octets, &Gives(certificate("bob"), key))
        };
        assert_eq!(with(1).unwrap(), data("entity.txt"), "{name}");
        assert_ne!(with(2).unwrap_or_default(), data("entity.txt"), "{name}");
    }
}

#[test]
fn every_bad_old_ciphertext_has_the_outcome_of_a_wrong_key() {
    for (name, _, key_len) in OLD_CIPHERS {
        let octets = data(name);
        let key = key_of(&octets);
        let longer = [&key[..], &key[..]].concat();
        // One in about 250 wrong keys gives valid padding by chance, so the outcome of several is looked at.
        for (what, wrong) in [
            ("no key", Vec::new()),
            ("a shorter key", key[1..].to_vec()),
            ("a longer key", longer),
            ("another key", vec![0x76; key_len]),
        ] {
            let outcomes: Vec<_> =
                (0..8).map(|_| open_with(&octets, &Gives(certificate("bob"), wrong.clone()))).collect();
            for outcome in &outcomes {
                match outcome {
                    Err(error) => assert!(matches!(error, OpenError::Undecryptable), "{name}, {what}"),
                    Ok(content) => assert_ne!(*content, data("entity.txt"), "{name}, {what}"),
                }
            }
            if what != "another key" {
                assert!(outcomes.iter().any(Result::is_err), "{name}, {what}");
            }
        }
        // Ciphertext that is not whole blocks: the last element of the DER objects is the content.
        if !name.contains("ber") {
            let at = octets.len() - 49;
            assert_eq!(octets[at], 48, "{name}");
            for len in [0, 1, 7, 9, 47] {
                let mut cut = octets[..=at + len].to_vec();
                cut[at] = u8::try_from(len).unwrap();
                // The lengths around are wrong now; an indefinite form would need none, so they are put right.
                shorten(&mut cut, 48 - len);
                assert!(matches!(open_with(&cut, &self::key("bob")), Err(OpenError::Undecryptable)), "{len}");
            }
        }
    }
}

/// Takes `by` off each length around the last element of an object whose outer lengths have two octets.
fn shorten(octets: &mut [u8], by: usize) {
    let mut less = |at: usize| {
        let length = usize::from(octets[at]) * 256 + usize::from(octets[at + 1]) - by;
        octets[at] = u8::try_from(length / 256).unwrap();
        octets[at + 1] = u8::try_from(length % 256).unwrap();
    };
    // ContentInfo, [0], EnvelopedData: 30 82 xx xx 06 09 … A0 82 xx xx 30 82 xx xx
    less(2);
    less(17);
    less(21);
    let oid = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x01];
    let at = octets.windows(oid.len()).rposition(|window| window == oid).unwrap();
    octets[at - 1] -= u8::try_from(by).unwrap();
}

#[test]
fn recipients_by_password_or_shared_key_do_not_stand_in_the_way_of_ours() {
    for name in ["pwri.p7m", "kek.p7m"] {
        let octets = data(name);
        assert_eq!(enveloped_data(&octets).recipients().len(), 2, "{name}");
        assert_eq!(open_with(&octets, &key("bob")).unwrap(), data("entity.txt"), "{name}");
    }
}

fn verdict(content: &[u8], object: &[u8]) -> Verdict {
    let message = format!(
        "From: alice@example.org\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=md5; boundary=b\r\n\
         \r\n--b\r\n{}\r\n--b\r\n\
         Content-Type: application/x-pkcs7-signature; name=smime.p7s\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        String::from_utf8_lossy(content),
        String::from_utf8(encode_base64(object)).unwrap()
    );
    let message = Message::from_stored(message.as_bytes());
    let entity = message.entity();
    verify(&entity, single_originator(&entity), &trust(), now()).0
}

const OLD_SIGNATURES: [&str; 13] = [
    "md5.p7s",
    "sha1.p7s",
    "sha224.p7s",
    "pss-sha1.p7s",
    "pss-mask-sha1.p7s",
    "rsa512-md5.p7s",
    "rsa512-sha1.p7s",
    "rsa512-sha256.p7s",
    "rsa1024-md5.p7s",
    "rsa1024-sha1.p7s",
    "rsa1024-sha256.p7s",
    "rsa1024-sha384.p7s",
    "rsa1024-pss.p7s",
];

#[test]
fn an_old_signature_that_is_right_is_weak_and_one_that_is_wrong_fails() {
    let entity = data("entity.txt");
    let changed = String::from_utf8(entity.clone()).unwrap().replace("Bob", "Eve");
    for name in OLD_SIGNATURES {
        let object = data(name);
        let right = verdict(&entity, &object);
        assert_eq!((right.result(), right.reason()), (AuthResult::Policy, &Reason::Weak), "{name}");
        assert_eq!(verdict(changed.as_bytes(), &object).reason(), &Reason::ContentChanged, "{name}");
        // The signature is the last element of these objects.
        for back in [1, 20, 60] {
            let mut wrong = object.clone();
            let at = wrong.len() - back;
            wrong[at] ^= 1;
            assert_eq!(verdict(&entity, &wrong).reason(), &Reason::BadSignature, "{name}, {back}");
        }
    }
}

#[test]
fn a_signature_of_unusual_pss_holds_for_its_own_parameters_and_key_only() {
    let entity = data("entity.txt");
    for name in ["pss-short.p7s", "pss-zero.p7s", "pss-max.p7s", "pss-mask.p7s"] {
        let object = data(name);
        assert_eq!(verdict(&entity, &object).result(), AuthResult::Pass, "{name}");
        for back in [1, 100, 256] {
            let mut wrong = object.clone();
            let at = wrong.len() - back;
            wrong[at] ^= 1;
            assert_eq!(verdict(&entity, &wrong).reason(), &Reason::BadSignature, "{name}, {back}");
        }
    }
    // saltLength 0 becomes 1; it is the last octet of the parameters, before the signature's 04 82 01 00.
    let mut other_salt = data("pss-zero.p7s");
    let at = other_salt.len() - 256 - 5;
    assert_eq!(other_salt[at - 4..=at], [0xA2, 3, 2, 1, 0]);
    other_salt[at] = 1;
    assert_eq!(verdict(&entity, &other_salt).reason(), &Reason::BadSignature);
}
