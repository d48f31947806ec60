//! Certificates that no CA would make, put together octet by octet.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a fixture that cannot be made ends the test, as it should"
)]

use der::{Encode, asn1::ObjectIdentifier};

use super::fixtures::{certificate, key};
use crate::{
    Certificate,
    ber::{Tag, Tree, write_header},
    key::{SignatureInput, Signer},
};

/// An element around its parts.
pub fn wrap(tag: Tag, parts: &[Vec<u8>]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = Vec::new();
    write_header(tag, content.len(), &mut out);
    out.extend(content);
    out
}

/// version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo, extensions of
/// alice's certificate.
fn alice() -> Vec<Vec<u8>> {
    let alice = certificate("alice");
    let tree = Tree::parse(alice.der()).unwrap();
    let signed = tree.root().children().next().unwrap();
    signed.children().map(|field| field.to_der().unwrap()).collect()
}

/// Signs the fields with alice's key.
fn sign(fields: &[Vec<u8>]) -> Certificate {
    let signed = wrap(Tag::SEQUENCE, fields);
    let alice = key("alice");
    let algorithm = alice.algorithms()[0];
    let mut signature = vec![0];
    signature.extend(alice.sign(&SignatureInput::of(algorithm, &signed), algorithm).unwrap().0);
    let der = wrap(Tag::SEQUENCE, &[signed, fields[2].clone(), wrap(Tag::BIT_STRING, &[signature])]);
    Certificate::from_der(&der).unwrap()
}

/// One of many certificates of alice's key that have the same name as subject and issuer, the same key
/// identifier, and all signed each other.
pub fn of_one_key(serial: u8) -> Certificate {
    let mut fields = alice();
    fields[1] = wrap(Tag::INTEGER, &[vec![1, serial]]);
    let subject = fields[5].clone();
    fields[3] = subject;
    // subjectKeyIdentifier alone: alice's authorityKeyIdentifier names the CA.
    let identifier = certificate("alice").subject_key_identifier().unwrap();
    let value = wrap(Tag::OCTET_STRING, &[wrap(Tag::OCTET_STRING, &[identifier])]);
    let oid = const_oid::db::rfc5280::ID_CE_SUBJECT_KEY_IDENTIFIER.to_der().unwrap();
    let extensions = wrap(Tag::SEQUENCE, &[wrap(Tag::SEQUENCE, &[oid, value])]);
    fields[7] = wrap(Tag::context(3), &[extensions]);
    sign(&fields)
}

/// A certificate with alice's name that says it is of the root, and an RSA key of so many octets that
/// nobody has the private half of.
pub fn of_key_len(octets: usize) -> Certificate {
    let mut fields = alice();
    fields[3] = certificate("root").subject().to_der().unwrap();
    fields.truncate(7);
    let mut modulus = vec![0];
    modulus.resize(octets + 1, 0xA5);
    let exponent = wrap(Tag::INTEGER, &[vec![1, 0, 1]]);
    let mut key = vec![0];
    key.extend(wrap(Tag::SEQUENCE, &[wrap(Tag::INTEGER, &[modulus]), exponent]));
    let algorithm = {
        let info = certificate("alice").public_key_info();
        Tree::parse(&info).unwrap().root().children().next().unwrap().to_der().unwrap()
    };
    fields[6] = wrap(Tag::SEQUENCE, &[algorithm, wrap(Tag::BIT_STRING, &[key])]);
    fields.push(ca_extensions());
    sign(&fields)
}

/// A self-issued CA with the name and the public key of a key in memory.
pub fn of_public_key_ca(key: &impl Signer) -> Certificate {
    let mut fields = alice();
    fields[5] = key.certificate().subject().to_der().unwrap();
    let subject = fields[5].clone();
    fields[3] = subject;
    fields[6] = key.certificate().public_key_info();
    fields[7] = ca_extensions();
    sign(&fields)
}

/// basicConstraints that make a CA, as the only extension.
fn ca_extensions() -> Vec<u8> {
    let value = wrap(Tag::SEQUENCE, &[wrap(Tag(0x01), &[vec![0xFF]])]);
    let oid = const_oid::db::rfc5280::ID_CE_BASIC_CONSTRAINTS.to_der().unwrap();
    let extension = wrap(Tag::SEQUENCE, &[oid, wrap(Tag::OCTET_STRING, &[value])]);
    wrap(Tag::context(3), &[wrap(Tag::SEQUENCE, &[extension])])
}

/// One of many CAs with alice's name and a key each, of which none signed anything. They say that the root issued them.
pub fn namesake(number: u8) -> Certificate {
    let mut fields = alice();
    fields[1] = wrap(Tag::INTEGER, &[vec![2, number]]);
    fields[3] = certificate("root").subject().to_der().unwrap();
    // id-Ed25519 and 32 octets.
    let mut info = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    info.resize(44, number);
    fields[6] = info;
    fields[7] = ca_extensions();
    sign(&fields)
}

/// Alice's certificate with another subject, given as the content of a commonName in a `UTF8String`,
/// or without a subject.
pub fn of_name(common_name: Option<&str>) -> Certificate {
    let mut fields = alice();
    let name = common_name.map(|text| {
        let oid = const_oid::db::rfc4519::CN.to_der().unwrap();
        let value = wrap(Tag(0x0C), &[text.into()]);
        wrap(Tag::SET, &[wrap(Tag::SEQUENCE, &[oid, value])])
    });
    fields[5] = wrap(Tag::SEQUENCE, &[name.unwrap_or_default()]);
    sign(&fields)
}

/// Alice's certificate with this rfc822Name as its only extension.
pub fn of_mailbox(text: &str) -> Certificate {
    let mut fields = alice();
    let names = wrap(Tag::SEQUENCE, &[wrap(Tag(0x81), &[text.into()])]);
    let oid = const_oid::db::rfc5280::ID_CE_SUBJECT_ALT_NAME.to_der().unwrap();
    let extension = wrap(Tag::SEQUENCE, &[oid, wrap(Tag::OCTET_STRING, &[names])]);
    fields[7] = wrap(Tag::context(3), &[wrap(Tag::SEQUENCE, &[extension])]);
    sign(&fields)
}

/// Alice's certificate with this as its only extension.
pub fn of_extension(oid: ObjectIdentifier, value: &[u8]) -> Certificate {
    let mut fields = alice();
    let extension = wrap(Tag::SEQUENCE, &[oid.to_der().unwrap(), wrap(Tag::OCTET_STRING, &[value.to_vec()])]);
    fields[7] = wrap(Tag::context(3), &[wrap(Tag::SEQUENCE, &[extension])]);
    sign(&fields)
}

/// Alice's certificate with her name also as issuer, another public key, and no extension but the mailbox: who
/// makes it an anchor trusts whoever has the private half.
pub fn of_public_key(public_key_info: &[u8], mailbox: &str) -> Certificate {
    let mut fields = alice();
    let subject = fields[5].clone();
    fields[3] = subject;
    fields[6] = public_key_info.to_vec();
    let names = wrap(Tag::SEQUENCE, &[wrap(Tag(0x81), &[mailbox.into()])]);
    let oid = const_oid::db::rfc5280::ID_CE_SUBJECT_ALT_NAME.to_der().unwrap();
    let extension = wrap(Tag::SEQUENCE, &[oid, wrap(Tag::OCTET_STRING, &[names])]);
    fields[7] = wrap(Tag::context(3), &[wrap(Tag::SEQUENCE, &[extension])]);
    sign(&fields)
}
