//! RFC 9216's keys and certificates: read, fitting, and good for messages that others read too.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use const_oid::db::rfc5280::ID_CE_CERTIFICATE_POLICIES;
use smime::{
    Certificate,
    cipher::ContentCipher,
    cms::{self, RecipientKey, seal},
    key::{Digest, SignatureInput, Signer},
    message::{AuthResult, Reason, sign, verify},
    mime::{Canonical, Message, single_originator},
    path::{PathError, validate},
    public_key,
    testing::{
        enveloped_data,
        rfc9216::{PEOPLE, certificate, der, issuer_of, key, path, trust},
        signed_data,
    },
};
use testkit::Workdir;

const TEXT: &str = "Content-Type: text/plain; charset=\"utf-8\"\r\n\r\nThis is a sample.\r\n";

/// After the RSA certificates' start in 2019 and that of the others in 2020.
fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_613_833_742)
}

#[test]
fn each_certificate_says_who_it_is_and_what_for() {
    for person in PEOPLE {
        for (name, signs) in [(format!("{person}.sign"), true), (format!("{person}.encrypt"), false)] {
            let certificate = certificate(&name);
            let addresses: Vec<_> = certificate.addresses().iter().map(|a| a.as_str().to_owned()).collect();
            assert_eq!(addresses, [format!("{person}@smime.example")], "{name}");
            assert_eq!((certificate.may_sign(), certificate.may_encrypt()), (signs, !signs), "{name}");
            assert!(certificate.is_for_email() && certificate.is_valid_at(at()), "{name}");
            let extensions = certificate.decoded().tbs_certificate().extensions().unwrap();
            assert!(extensions.iter().any(|extension| extension.extn_id == ID_CE_CERTIFICATE_POLICIES));
        }
    }
    for (name, subject) in [
        ("ca.rsa", "Sample LAMPS RSA Certification Authority"),
        ("ca.rsa.cross", "Sample LAMPS RSA Certification Authority"),
        ("ca.25519", "Sample LAMPS Ed25519 Certification Authority"),
        ("ca.25519.cross", "Sample LAMPS Ed25519 Certification Authority"),
    ] {
        assert!(certificate(name).subject().to_string().contains(subject), "{name}");
    }
}

/// RFC 9216 2.5, figures 1 and 2.
#[test]
fn each_path_holds_under_its_own_ca_and_under_the_other_with_the_cross_certificate_only() {
    let validate = |certificate: &Certificate, others: &[Certificate], anchor| {
        validate(certificate, others, &trust(anchor), at()).map(|path| path.chain().len())
    };
    for person in PEOPLE {
        let own = issuer_of(person);
        let other = if own == "ca.rsa" { "ca.25519" } else { "ca.rsa" };
        let cross = certificate(&format!("{own}.cross"));
        for name in ["sign", "encrypt"] {
            let end = certificate(&format!("{person}.{name}"));
            assert_eq!(validate(&end, &[], own), Ok(2), "{person}.{name}");
            assert_eq!(validate(&end, std::slice::from_ref(&cross), other), Ok(3), "{person}.{name}");
            assert!(matches!(validate(&end, &[], other), Err(PathError::NoPath { .. })), "{person}.{name}");
        }
    }
}

#[test]
fn each_key_that_signs_fits_its_certificate() {
    let people = PEOPLE.map(|person| format!("{person}.sign"));
    for name in people.iter().map(String::as_str).chain(["ca.rsa", "ca.25519"]) {
        let key = key(name);
        for algorithm in key.algorithms() {
            let input = SignatureInput::of(*algorithm, TEXT.as_bytes());
            let signature = key.sign(&input, *algorithm).unwrap().0;
            assert_eq!(
                public_key::verify(&certificate(name), *algorithm, &input, &signature),
                Ok(()),
                "{name}"
            );
        }
    }
}

/// A mail that a person signed, with the cross certificate of its CA in it.
fn signed(person: &str) -> String {
    let chain = [certificate(&format!("{}.cross", issuer_of(person)))];
    let canonical = Canonical::from_signed_part(TEXT.as_bytes());
    let signed = sign(&canonical, &key(&format!("{person}.sign")), &chain, at()).unwrap();
    let body = String::from_utf8(signed.body).unwrap();
    format!(
        "From: {person}@smime.example\r\nMIME-Version: 1.0\r\nContent-Type: {}\r\n\r\n{body}",
        signed.content_type
    )
}

#[test]
fn what_each_signs_passes_under_either_ca() {
    for person in PEOPLE {
        let mail = signed(person);
        for anchor in ["ca.rsa", "ca.25519"] {
            let message = Message::from_stored(mail.as_bytes());
            let entity = message.entity();
            let (verdict, _) = verify(&entity, single_originator(&entity), &trust(anchor), at());
            assert_eq!(verdict.reason(), &Reason::RevocationNotChecked, "{person} under {anchor}");
            let changed = mail.replace("a sample", "no sample");
            let message = Message::from_stored(changed.as_bytes());
            let entity = message.entity();
            let (verdict, _) = verify(&entity, single_originator(&entity), &trust(anchor), at());
            assert_eq!(verdict.result(), AuthResult::Fail, "{person} under {anchor}");
        }
    }
}

#[test]
fn what_is_sealed_for_each_opens_with_its_key_alone() {
    let recipients: Vec<_> = PEOPLE
        .iter()
        .map(|person| RecipientKey::new(certificate(&format!("{person}.encrypt"))).unwrap())
        .collect();
    for cipher in ContentCipher::ALL {
        let object = seal(&[TEXT.as_bytes()], cipher, &recipients).unwrap();
        let enveloped = enveloped_data(&object);
        for person in PEOPLE {
            let key = key(&format!("{person}.encrypt"));
            let recipient = enveloped.recipient_for(&certificate(&format!("{person}.encrypt"))).unwrap();
            assert_eq!(enveloped.open(recipient, &key).unwrap(), TEXT.as_bytes(), "{person}");
            assert!(enveloped.recipient_for(&certificate(&format!("{person}.sign"))).is_none());
        }
    }
    // Keys that sign are no keys to encrypt to.
    assert!(PEOPLE.iter().all(|person| RecipientKey::new(certificate(&format!("{person}.sign"))).is_err()));
}

/// Runs `openssl`, without the machine's configuration.
fn openssl(arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new("openssl").env("OPENSSL_CONF", "/dev/null").args(arguments).output().unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into())
    }
}

#[test]
fn openssl_verifies_and_opens_what_is_made_with_the_rsa_keys() {
    let workdir = Workdir::new("rfc9216").unwrap();
    let seconds = at().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
    let anchor = path("ca.rsa.crt");
    for person in ["alice", "bob"] {
        let mail = workdir.file("mail.eml", signed(person)).unwrap();
        let options = ["cms", "-verify", "-attime", &seconds, "-CAfile", anchor.to_str().unwrap(), "-in"];
        let content = openssl(&[&options[..], &[mail.to_str().unwrap()]].concat()).unwrap();
        assert_eq!(content, TEXT.as_bytes(), "{person}");

        let recipient = RecipientKey::new(certificate(&format!("{person}.encrypt"))).unwrap();
        let object = seal(&[TEXT.as_bytes()], ContentCipher::Aes256Gcm, &[recipient]).unwrap();
        let object = workdir.file("object.der", object).unwrap();
        let (crt, key) = (path(&format!("{person}.encrypt.crt")), path(&format!("{person}.encrypt.key")));
        let options = ["cms", "-decrypt", "-binary", "-inform", "DER", "-in", object.to_str().unwrap()];
        let with = ["-recip", crt.to_str().unwrap(), "-inkey", key.to_str().unwrap()];
        assert_eq!(openssl(&[options.as_slice(), &with].concat()).unwrap(), TEXT.as_bytes(), "{person}");
    }
}

#[test]
fn openssl_signs_and_seals_with_the_rsa_keys_what_passes_and_opens_here() {
    let workdir = Workdir::new("rfc9216-theirs").unwrap();
    let content = workdir.file("content", TEXT).unwrap();
    for person in ["alice", "bob"] {
        let (crt, key_file) = (path(&format!("{person}.sign.crt")), path(&format!("{person}.sign.key")));
        let options =
            ["cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-in", content.to_str().unwrap()];
        let with = ["-signer", crt.to_str().unwrap(), "-inkey", key_file.to_str().unwrap()];
        let object = openssl(&[options.as_slice(), &with].concat()).unwrap();
        let signed = signed_data(&object);
        assert!(signed.signer_infos().iter().all(|info| info.names(&certificate(&format!("{person}.sign")))));

        let crt = path(&format!("{person}.encrypt.crt"));
        let options = ["cms", "-encrypt", "-binary", "-aes-256-cbc", "-outform", "DER"];
        let object =
            openssl(&[&options[..], &["-in", content.to_str().unwrap(), crt.to_str().unwrap()]].concat())
                .unwrap();
        let enveloped = enveloped_data(&object);
        let recipient = enveloped.recipient_for(&certificate(&format!("{person}.encrypt"))).unwrap();
        assert_eq!(enveloped.open(recipient, &key(&format!("{person}.encrypt"))).unwrap(), TEXT.as_bytes());
    }
}

#[test]
fn each_pkcs_12_object_holds_the_persons_keys_and_certificates() {
    let workdir = Workdir::new("rfc9216-p12").unwrap();
    for person in PEOPLE {
        let file = workdir.file("p12", der(&format!("{person}.p12.pem"))).unwrap();
        let password = format!("pass:{person}");
        let options = ["pkcs12", "-nodes", "-passin", &password, "-in", file.to_str().unwrap()];
        let pem = String::from_utf8(openssl(&options).unwrap()).unwrap();
        let found = Certificate::from_pem(&pem).unwrap();
        for name in ["sign", "encrypt"] {
            assert!(found.contains(&certificate(&format!("{person}.{name}"))), "{person}.{name}");
        }
        assert_eq!(pem.matches("BEGIN PRIVATE KEY").count(), 2, "{person}");
    }
}

#[test]
fn a_signature_of_ed25519_has_the_digest_of_rfc_8419() {
    let key = key("carlos.sign");
    let object = cms::sign(|algorithm| Digest::of(algorithm, TEXT.as_bytes()), &key, &[], at()).unwrap();
    let signed = signed_data(&object);
    let oid = signed.signer_infos().first().unwrap().digest_algorithm.oid;
    assert_eq!(oid, const_oid::db::rfc5912::ID_SHA_512);
}
