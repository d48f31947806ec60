//! The people of RFC 9216: Alice and Bob with RSA, Carlos and Dana with Ed25519 and X25519, and their two CAs.
//!
//! Each person has one key to sign and one to decrypt. The files are in `tests/data/rfc9216`, with their licence.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a missing fixture ends the test, as it should"
)]

use std::path::PathBuf;

use data_encoding::BASE64;

use super::{MemoryKey, Node, enveloped_data};
use crate::{
    Certificate,
    message::Ciphertext,
    mime::{Message, MimeEntity},
    path::{RevocationMode, Trust},
};

/// Who may sign and decrypt.
pub const PEOPLE: [&str; 4] = ["alice", "bob", "carlos", "dana"];

/// The path of a file.
pub fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/rfc9216").join(file)
}

/// What is in a PEM file.
pub fn der(file: &str) -> Vec<u8> {
    let path = path(file);
    let pem = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(base64.as_bytes()).unwrap()
}

/// The certificate `NAME.crt`, such as `alice.sign` or `ca.rsa.cross`.
pub fn certificate(name: &str) -> Certificate {
    Certificate::from_der(&der(&format!("{name}.crt"))).unwrap()
}

/// The private key `NAME.key` with its certificate.
pub fn key(name: &str) -> MemoryKey {
    let mut pkcs8 = Node::parse(&der(&format!("{name}.key")));
    // Attributes tell how the RSA keys were drawn (RFC 8479); what reads keys here knows none.
    pkcs8.nodes().truncate(3);
    MemoryKey::from_pkcs8(&pkcs8.to_der(), certificate(name)).unwrap()
}

/// One of the two CAs, `ca.rsa` or `ca.25519`, as the only anchor.
pub fn trust(anchor: &str) -> Trust {
    Trust { anchors: vec![certificate(anchor)], revocation: RevocationMode::Off, ..Trust::default() }
}

/// The CA that issued a person's certificates.
pub fn issuer_of(person: &str) -> &'static str {
    if matches!(person, "alice" | "bob") { "ca.rsa" } else { "ca.25519" }
}

/// What bob finds in a ciphertext that is the root of a message.
pub fn opened(entity: &MimeEntity<'_>) -> Message {
    let object = Ciphertext::find(entity).unwrap().object;
    let enveloped = enveloped_data(&object);
    let recipient = enveloped.recipient_for(&certificate("bob.encrypt")).unwrap();
    Message::from_stored(&enveloped.open(recipient, &key("bob.encrypt")).unwrap())
}
