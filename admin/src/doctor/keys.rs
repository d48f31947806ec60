//! Each identity's private key, tried on every token against its certificate: sign and verify, encrypt and
//! decrypt, agree with a key of our own.

use std::time::Duration;

use agent::settings::IdentitySettings;
use aws_lc_rs::{
    agreement::{self, PrivateKey, UnparsedPublicKey},
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey},
};
use hsmpool::TokenKey;
use smime::{
    Certificate,
    agreement::{Agreed, AgreementCurve, OriginatorPublicKey},
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm},
    key::{ContentEncryptionKey, Decryptor, KeyError, SignatureInput, Signer, Unwrapped},
    public_key,
};

use super::{Findings, Health, name, tokens::Up};

/// What came of trying a key on a token.
#[derive(Debug, PartialEq, Eq)]
enum Trial {
    /// It does all this; and this it cannot.
    Works { abilities: Vec<String>, lacks: Option<String> },
    /// The token has no such key.
    Absent,
    /// It has one that fails.
    Fails(String),
}

/// Tries the key of an identity on all tokens that work.
pub(super) fn examine(identity: &IdentitySettings, up: &[Up], asks_keyd: bool, findings: &mut Findings) {
    let certificate = &identity.certificate;
    let what = format!("key of {}", name(identity));
    if up.is_empty() {
        findings.add(Health::Fail, what, "not tried, because no token works");
        return;
    }
    let trials: Vec<(&str, Trial)> = up
        .iter()
        .map(|token| (token.place.as_str(), try_key(certificate, &token.pool.key(certificate))))
        .collect();
    if trials.iter().all(|(_, trial)| *trial == Trial::Absent) {
        let found = if asks_keyd {
            "hsmime-keyd has no private key of it for this user: has it read this [[identity]] (systemctl reload \
             hsmime-keyd), do `certificates` in this user's [[keyd.client]] name it, and has the token the key \
             (runuser -u hsmime-keyd -- hsmime key list)?"
        } else {
            "no token has the private key; is this the certificate of a key that hsmime key list shows? \
             SoftHSM shows a key only to the user who made it"
        };
        findings.add(Health::Fail, what, found);
        return;
    }
    for ((place, trial), token) in trials.into_iter().zip(up) {
        match trial {
            Trial::Works { abilities, lacks } => {
                let found = format!("{place}: {}", abilities.join(", "));
                findings.add(Health::Ok, what.clone(), found);
                let known = token.pool.shortcomings([certificate], PATIENCE).unwrap_or_default();
                let known: Vec<String> = known.iter().map(ToString::to_string).collect();
                // What was found out at the start is said better than the error of the trial.
                let warnings = if known.is_empty() { lacks.into_iter().collect() } else { known };
                for warning in warnings {
                    findings.add(Health::Warn, what.clone(), warning);
                }
            }
            Trial::Absent => {}
            Trial::Fails(reason) => {
                findings.add(Health::Fail, what.clone(), format!("{place}: {reason}"));
            }
        }
    }
}

/// A token that works has told long ago what it can do.
const PATIENCE: Duration = Duration::from_secs(2);

fn try_key(certificate: &Certificate, key: &TokenKey) -> Trial {
    let mut abilities = Vec::new();
    let tried = signs(certificate, key, &mut abilities)
        .and_then(|()| decrypts(certificate, key, &mut abilities))
        .and_then(|()| agrees(certificate, key, &mut abilities));
    match tried {
        Ok(lacks) if abilities.is_empty() => Trial::Fails(
            lacks.unwrap_or_else(|| "keyUsage and the kind of key leave nothing it could do here".to_owned()),
        ),
        Ok(lacks) => Trial::Works { abilities, lacks },
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

/// Agrees with a key made here. Gives what the token says if it cannot: such a key may sign all the same.
fn agrees(
    certificate: &Certificate,
    key: &TokenKey,
    abilities: &mut Vec<String>,
) -> Result<Option<String>, Failure> {
    let Some(curve) = AgreementCurve::of(certificate).filter(|_| certificate.may_encrypt()) else {
        return Ok(None);
    };
    let wrong = |_| Failure::Wrong("nothing can be agreed with the certificate's public key".to_owned());
    let own = PrivateKey::generate(curve.engine()).map_err(|_| KeyError::NoRandomness)?;
    let public = own.compute_public_key().map_err(wrong)?;
    let originator = OriginatorPublicKey::new(curve, public.as_ref())
        .ok_or(aws_lc_rs::error::Unspecified)
        .map_err(wrong)?;
    let theirs = UnparsedPublicKey::new(curve.engine(), certificate.public_key());
    let expected =
        agreement::agree(&own, theirs, aws_lc_rs::error::Unspecified, |octets| Ok(octets.to_vec()));
    let expected = expected.map_err(wrong)?;
    match key.agree(&originator) {
        Ok(Agreed::Secret(secret)) if secret.expose() == expected => {
            abilities.push("agrees on keys".to_owned());
            Ok(None)
        }
        Ok(_) => Err(Failure::Wrong("what it agrees on is not what the certificate's key would".to_owned())),
        Err(error @ KeyError::Unsupported { .. }) => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
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
