//! The examples of RFC 4134, as old as mail gets: opened, or told why not.
//!
//! The samples are not part of this project: `HSMIME_CORPORA` names their folder.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what is skipped is said; the functions beside the tests are part of them"
)]

use std::{fs, path::PathBuf, time::SystemTime};

use num_bigint::BigUint;
use smime::{
    Certificate,
    algorithm::KeyEncryptionAlgorithm,
    ber::Tree,
    cms::{CmsError, Object},
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
    message::{AuthResult, Reason, verify},
    mime::{Message, encode_base64, single_originator},
    path::{RevocationMode, Trust},
};

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("HSMIME_CORPORA").map(|corpora| PathBuf::from(corpora).join("rfc4134"));
    let folder = folder.filter(|folder| folder.is_dir());
    if folder.is_none() {
        println!("skipped: HSMIME_CORPORA names no folder with rfc4134 in it");
    }
    folder
}

/// Bob's key of 1024 bits, which the engine does not take any more: RSADP by the book (RFC 8017 5.1.2).
#[derive(Debug)]
struct Bob {
    certificate: Certificate,
    modulus: BigUint,
    exponent: BigUint,
}

impl Bob {
    fn read(folder: &std::path::Path) -> Self {
        let info = fs::read(folder.join("BobPrivRSAEncrypt.pri")).unwrap();
        let tree = Tree::parse(&info).unwrap();
        let key = tree.root().children().nth(2).unwrap().content();
        let tree = Tree::parse(key).unwrap();
        let numbers: Vec<_> = tree.root().children().map(|n| BigUint::from_bytes_be(n.content())).collect();
        Self {
            certificate: Certificate::from_der(&fs::read(folder.join("BobRSASignByCarl.cer")).unwrap())
                .unwrap(),
            modulus: numbers.get(1).unwrap().clone(),
            exponent: numbers.get(3).unwrap().clone(),
        }
    }
}

impl Decryptor for Bob {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn decrypt_key(&self, encrypted: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        let message = BigUint::from_bytes_be(encrypted).modpow(&self.exponent, &self.modulus).to_bytes_be();
        // 02, padding, 00, the key: the zero before is not there any more.
        let end = message.iter().position(|octet| *octet == 0).unwrap();
        Ok(Unwrapped::Key(ContentEncryptionKey::new(message.get(end + 1..).unwrap().to_vec())))
    }
}

#[test]
fn content_in_triple_des_and_rc2_is_opened() {
    let Some(folder) = folder() else { return };
    let bob = Bob::read(&folder);
    let content = fs::read(folder.join("ExContent.bin")).unwrap();
    let mail = Message::from_stored(&fs::read(folder.join("5.3.eml")).unwrap());
    for (name, object, cipher) in [
        ("5.1", fs::read(folder.join("5.1.bin")).unwrap(), "DES-EDE3-CBC"),
        // With a recipient by a shared key beside ours.
        ("5.2", fs::read(folder.join("5.2.bin")).unwrap(), "RC2-40-CBC"),
        ("5.3", mail.entity().decoded_body().unwrap().into_owned(), "DES-EDE3-CBC"),
    ] {
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&object).map_err(drop) else {
            unreachable!("{name}")
        };
        assert_eq!(enveloped.algorithm().unwrap().name(), cipher, "{name}");
        let recipient = enveloped.recipient_for(&bob.certificate).expect(name);
        let opened = enveloped.open(recipient, &bob).expect(name);
        assert_eq!(opened, content, "{name}");
    }
}

#[test]
fn signatures_of_the_last_century_are_read_and_none_passes() {
    let Some(folder) = folder() else { return };
    let anchors = ["CarlRSASelf.cer", "CarlDSSSelf.cer"]
        .map(|name| Certificate::from_der(&fs::read(folder.join(name)).unwrap()).unwrap());
    let trust = Trust { anchors: anchors.to_vec(), revocation: RevocationMode::Off, ..Trust::default() };
    // 2002: within the validity of all of them.
    let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(24 * 365 * 32);
    // One of its signers' keys has the parameters of its issuer's.
    let inherited = || Reason::UnknownAlgorithm("Dsa(Sha1) is not taken with this public key".to_owned());
    for (name, expected) in [
        ("4.1.bin", Reason::NoSignedAttributes),
        // RSA with SHA-1, by a key of 1024 bits, right as far as it goes.
        ("4.2.bin", Reason::NoSignedAttributes),
        ("4.3.bin", Reason::NoContent),
        // DSA, right as far as it goes.
        ("4.4.bin", Reason::Weak),
        ("4.5.bin", Reason::NoSignedAttributes),
        ("4.6.bin", inherited()),
        ("4.7.bin", Reason::NoSignedAttributes),
        ("4.10.bin", Reason::Weak),
        ("4.11.bin", Reason::CertificatesOnly),
    ] {
        let object = fs::read(folder.join(name)).unwrap();
        let mail = format!(
            "From: alice@example.com\r\nContent-Type: application/pkcs7-mime\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
            String::from_utf8(encode_base64(&object)).unwrap()
        );
        let mail = Message::from_stored(mail.as_bytes());
        let entity = mail.entity();
        let (verdict, _) = verify(&entity, single_originator(&entity), &trust, at);
        assert_ne!(verdict.result(), AuthResult::Pass, "{name}");
        assert_eq!(verdict.reason(), &expected, "{name}");
        let countersigners: usize = verdict.signers().iter().map(|s| s.countersigners.len()).sum();
        assert_eq!(countersigners, usize::from(name == "4.4.bin"), "{name}");
    }
}

#[test]
fn objects_of_other_types_are_named() {
    let Some(folder) = folder() else { return };
    for (name, oid) in [
        ("3.1.bin", "1.2.840.113549.1.7.1"),
        ("6.0.bin", "1.2.840.113549.1.7.5"),
        ("7.1.bin", "1.2.840.113549.1.7.6"),
        ("7.2.bin", "1.2.840.113549.1.7.6"),
    ] {
        match Object::parse(&fs::read(folder.join(name)).unwrap()) {
            Err(CmsError::ContentType(found)) => assert_eq!(found.to_string(), oid, "{name}"),
            other => unreachable!("{name}: {other:?}"),
        }
    }
}
