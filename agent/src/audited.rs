//! A private key whose uses for one message are written to the audit: each before its result is used.
//!
//! What a line says is for people who ask who used which key for what; it holds nothing of the message but what its key
//! was applied to, as a digest. A ciphertext that the token found ill-formed is `done` like any other (RFC 3218).

use std::time::Instant;

use audit::{AuditLog, Owe};
use data_encoding::HEXLOWER;
use serde::Serialize;
use smime::{
    Certificate,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::{DigestAlgorithm::Sha256, KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{Decryptor, Digest, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped},
};

use crate::{Envelope, settings::key_of};

/// A key, and for whom it is used. Where the audit cannot be written, the key is not used, or the result withheld: the
/// error is [`KeyError::Unavailable`], which passes.
#[derive(Clone, Copy, Debug)]
pub struct AuditedKey<'a> {
    signer: &'a dyn Signer,
    decryptor: &'a dyn Decryptor,
    audit: Option<&'a AuditLog>,
    envelope: &'a Envelope,
}

/// A line's facts.
#[derive(Serialize)]
struct Use<'a> {
    /// What the MTA calls the message.
    queue_id: Option<&'a str>,
    /// The client's address.
    client: Option<String>,
    login: Option<&'a str>,
    sender: &'a str,
    operation: &'static str,
    algorithm: String,
    /// SHA-256 of the `SubjectPublicKeyInfo`: the same key has the same in the audit of `hsmime-keyd`.
    key: String,
    /// The certificate's subject and serial number.
    description: String,
    /// SHA-256 of what the key is applied to; the same there, too.
    input: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    elapsed_us: u64,
}

impl<'a> AuditedKey<'a> {
    /// A key in both of its roles, used for a message of this envelope. Without an audit nothing is written.
    pub fn new(
        signer: &'a dyn Signer,
        decryptor: &'a dyn Decryptor,
        audit: Option<&'a AuditLog>,
        envelope: &'a Envelope,
    ) -> Self {
        Self { signer, decryptor, audit, envelope }
    }

    fn used<T>(
        &self,
        certificate: &Certificate,
        (operation, algorithm): (&'static str, &dyn Fn() -> String),
        input: &[u8],
        ask: impl FnOnce() -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        let Some(audit) = self.audit else { return ask() };
        audit.is_writable().map_err(|error| unrecorded(&error))?;
        let begun = Instant::now();
        let result = ask();
        let (outcome, error) = match &result {
            Ok(_) => ("done", None),
            Err(KeyError::Deadline { .. }) => ("deadline", None),
            Err(error) => ("failed", Some(error.to_string())),
        };
        let envelope = self.envelope;
        let line = Use {
            queue_id: envelope.queue_id.as_deref(),
            client: envelope.client.map(|client| client.to_string()),
            login: envelope.login(),
            sender: &envelope.sender,
            operation,
            algorithm: algorithm(),
            key: HEXLOWER.encode(&key_of(certificate)),
            description: certificate.to_string(),
            input: &HEXLOWER.encode(Digest::of(Sha256, input).as_bytes()),
            outcome,
            error,
            elapsed_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        audit.record(&line, Owe::Always).map_err(|error| unrecorded(&error))?;
        result
    }
}

fn unrecorded(error: &std::io::Error) -> KeyError {
    KeyError::Unavailable {
        token: "(audit)".to_owned(),
        reason: format!("its use cannot be recorded: {error}"),
    }
}

impl Signer for AuditedKey<'_> {
    fn certificate(&self) -> &Certificate {
        self.signer.certificate()
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        self.signer.algorithms()
    }

    fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        let octets = match input {
            SignatureInput::Digest(digest) => digest.as_bytes(),
            SignatureInput::Octets(octets) => octets,
        };
        let named: &dyn Fn() -> String = &|| format!("{algorithm:?}");
        self.used(self.signer.certificate(), ("sign", named), octets, || self.signer.sign(input, algorithm))
    }

    fn must_be_checked(&self) -> bool {
        self.signer.must_be_checked()
    }
}

impl Decryptor for AuditedKey<'_> {
    fn certificate(&self) -> &Certificate {
        self.decryptor.certificate()
    }

    fn decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError> {
        let named: &dyn Fn() -> String = &|| algorithm.to_string();
        self.used(self.decryptor.certificate(), ("decrypt", named), encrypted_key, || {
            self.decryptor.decrypt_key(encrypted_key, algorithm)
        })
    }

    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        let named: &dyn Fn() -> String = &|| format!("Ecdh({:?})", originator.curve());
        self.used(self.decryptor.certificate(), ("agree", named), originator.octets(), || {
            self.decryptor.agree(originator)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use audit::AuditFile;
    use smime::testing::fixtures::key;

    use super::*;

    /// Whoever sends a message chooses what is in a label.
    #[test]
    fn a_key_under_a_long_label_leaves_a_line_and_the_next_use_is_not_held_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = AuditLog::open(&AuditFile::at(&path), Duration::ZERO).unwrap();
        let (bob, envelope) = (key("bob"), Envelope::default());
        let audited = AuditedKey::new(&bob, &bob, Some(&audit), &envelope);
        let label = vec![255; 10 << 10];
        let long = KeyEncryptionAlgorithm::RsaOaep { hash: Sha256, mask_hash: Sha256, label };
        let rejected = audited.decrypt_key(&[1; 256], &long).unwrap();
        assert!(matches!(rejected, Unwrapped::Rejected));
        let digest = Digest::of(Sha256, b"the next");
        audited.sign(&SignatureInput::Digest(digest), SignatureAlgorithm::RsaPkcs1(Sha256)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> =
            lines.iter().map(|line| (line["operation"].as_str(), line["algorithm"].as_str())).collect();
        let words = "RsaOaep { hash: Sha256, mask_hash: Sha256, label: 10240 octets }";
        assert_eq!(
            told,
            [(None, None), (Some("decrypt"), Some(words)), (Some("sign"), Some("RsaPkcs1(Sha256)"))]
        );
    }
}
