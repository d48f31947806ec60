//! Each identity's private key, tried on every token against its certificate: sign and verify, encrypt and
//! decrypt.

use agent::settings::IdentitySettings;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey,
};
use hsmpool::TokenKey;
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm},
    key::{ContentEncryptionKey, Decryptor, KeyError, SignatureInput, Signer, Unwrapped},
    public_key,
};

use super::{Findings, Health, name, tokens::Up};

/// What came of trying a key on a token.
#[derive(Debug, PartialEq, Eq)]
enum Trial {
    /// It does all this.
    Works(Vec<String>),
    /// The token has no such key.
    Absent,
    /// It has one that fails.
    Fails(String),
}

/// Tries the key of an identity on all tokens that work.
pub(super) fn examine(identity: &IdentitySettings, up: &[Up], findings: &mut Findings) {
    let certificate = &identity.certificate;
    let what = format!("key of {}", name(identity));
    if up.is_empty() {
        findings.add(Health::Fail, what, "not tried, because no token works");
        return;
    }
    let trials: Vec<(&str, Trial)> = up
        .iter()
        .map(|token| (token.label.as_str(), try_key(certificate, &token.pool.key(certificate))))
        .collect();
    if trials.iter().all(|(_, trial)| *trial == Trial::Absent) {
        let found =
            "no token has the private key; is this the certificate of a key that hsmime key list shows?";
        findings.add(Health::Fail, what, found);
        return;
    }
    for (label, trial) in trials {
        match trial {
            Trial::Works(abilities) => {
                let found = format!("on token {label:?}: {}", abilities.join(", "));
                findings.add(Health::Ok, what.clone(), found);
            }
            Trial::Absent => {}
            Trial::Fails(reason) => {
                findings.add(Health::Fail, what.clone(), format!("on token {label:?}: {reason}"));
            }
        }
    }
}

fn try_key(certificate: &Certificate, key: &TokenKey) -> Trial {
    let mut abilities = Vec::new();
    let tried =
        signs(certificate, key, &mut abilities).and_then(|()| decrypts(certificate, key, &mut abilities));
    match tried {
        Ok(()) if abilities.is_empty() => {
            Trial::Fails("keyUsage and the kind of key leave nothing it could do here".to_owned())
        }
        Ok(()) => Trial::Works(abilities),
        Err(Failure::Key(KeyError::NoSuchKey { .. })) => Trial::Absent,
        Err(Failure::Key(error)) => Trial::Fails(error.to_string()),
        Err(Failure::Wrong(reason)) => Trial::Fails(reason),
    }
}

/// Why a trial ended.
enum Failure {
    /// The key could not be used.
    Key(KeyError),
    /// It gave something wrong.
    Wrong(String),
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

fn signs(certificate: &Certificate, key: &TokenKey, abilities: &mut Vec<String>) -> Result<(), Failure> {
    if !certificate.may_sign() {
        return Ok(());
    }
    let Some(algorithm) = key.algorithms().first().copied() else {
        return Err(Failure::Wrong("a key of this kind does not sign here".to_owned()));
    };
    let challenge = ContentEncryptionKey::random(32)?;
    let input = SignatureInput::of(algorithm, challenge.expose());
    let signature = key.sign(&input, algorithm)?;
    public_key::verify(certificate, algorithm, &input, &signature.0).map_err(|error| {
        Failure::Wrong(format!(
            "it signs, but the certificate does not fit: {error}; the key and the certificate are mixed up"
        ))
    })?;
    abilities.push("signs".to_owned());
    Ok(())
}

fn decrypts(certificate: &Certificate, key: &TokenKey, abilities: &mut Vec<String>) -> Result<(), Failure> {
    if !certificate.may_encrypt() || certificate.rsa_modulus_bits().is_none() {
        return Ok(());
    }
    let sha256 = DigestAlgorithm::Sha256;
    let oaep = KeyEncryptionAlgorithm::RsaOaep { hash: sha256, mask_hash: sha256, label: Vec::new() };
    let ways = [(KeyEncryptionAlgorithm::RsaPkcs1, "decrypts PKCS#1 v1.5"), (oaep, "decrypts OAEP")];
    for (algorithm, ability) in ways {
        let secret = ContentEncryptionKey::random(32)?;
        let Some(encrypted) = encrypt(certificate, &algorithm, secret.expose()) else {
            return Err(Failure::Wrong(
                "nothing can be encrypted to the certificate's public key".to_owned(),
            ));
        };
        match key.decrypt_key(&encrypted, &algorithm)? {
            Unwrapped::Key(found) if found.expose() == secret.expose() => abilities.push(ability.to_owned()),
            _ => return Err(Failure::Wrong(format!("what it {ability} is not what was encrypted"))),
        }
    }
    Ok(())
}

fn encrypt(certificate: &Certificate, algorithm: &KeyEncryptionAlgorithm, secret: &[u8]) -> Option<Vec<u8>> {
    let public = PublicEncryptingKey::from_der(&certificate.public_key_info()).ok()?;
    let mut room = vec![0; public.key_size_bytes()];
    let written = if *algorithm == KeyEncryptionAlgorithm::RsaPkcs1 {
        Pkcs1PublicEncryptingKey::new(public).ok()?.encrypt(secret, &mut room).ok()?.len()
    } else {
        let key = OaepPublicEncryptingKey::new(public).ok()?;
        key.encrypt(&OAEP_SHA256_MGF1SHA256, secret, &mut room, None).ok()?.len()
    };
    room.truncate(written);
    Some(room)
}
