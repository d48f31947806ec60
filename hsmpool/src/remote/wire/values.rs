//! The pool's operations, answers and algorithms in the words of [`wire`](super), and back.

use std::time::Duration;

use smime::{
    agreement::{Agreed, AgreementCurve, OriginatorPublicKey, SharedSecret},
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{ContentEncryptionKey, Digest, SignatureInput, SignatureValue, Unwrapped},
};

use super::{WireAnswer, WireCurve, WireDigest, WireEncryption, WireLane, WireOperation, WireSignature};
use crate::{
    remote::inquiries::LONGEST_INFO,
    request::{Answer, Lane, Operation},
};

impl<'a> WireOperation<'a> {
    /// `None`: an operation that this version has no words for. Of an encrypted key that is longer than any modulus the
    /// beginning is enough to be ill-formed.
    pub(in crate::remote) fn of(operation: &'a Operation) -> Option<Self> {
        Some(match operation {
            Operation::Sign { input: SignatureInput::Digest(digest), algorithm } => Self::SignDigest {
                digest: digest.algorithm().into(),
                value: digest.as_bytes(),
                algorithm: WireSignature::of(*algorithm)?,
            },
            Operation::Sign { input: SignatureInput::Octets(octets), algorithm } => {
                Self::SignOctets { octets, algorithm: WireSignature::of(*algorithm)? }
            }
            Operation::Decrypt { encrypted_key, algorithm } => Self::Decrypt {
                encrypted_key: beginning(encrypted_key),
                algorithm: WireEncryption::of(algorithm)?,
            },
            Operation::Agree { originator } => {
                Self::Agree { curve: originator.curve().into(), originator: originator.octets() }
            }
        })
    }

    /// `None`: a value that cannot be, such as a digest of the wrong length, or one that is longer than any is. What a request
    /// takes while it waits is bounded by that.
    pub(in crate::remote) fn to_operation(&self) -> Option<Operation> {
        Some(match self {
            Self::SignDigest { digest, value, algorithm } => Operation::Sign {
                input: SignatureInput::Digest(Digest::from_value((*digest).into(), value)?),
                algorithm: (*algorithm).into(),
            },
            Self::SignOctets { octets, .. } if octets.len() > LONGEST_SIGNED => return None,
            Self::SignOctets { octets, algorithm } => Operation::Sign {
                input: SignatureInput::Octets(octets.to_vec().into()),
                algorithm: (*algorithm).into(),
            },
            Self::Decrypt { algorithm: WireEncryption::RsaOaep { label, .. }, .. }
                if label.len() > LONGEST_LABEL =>
            {
                return None;
            }
            Self::Decrypt { encrypted_key, algorithm } => Operation::Decrypt {
                encrypted_key: beginning(encrypted_key).to_vec(),
                algorithm: algorithm.into(),
            },
            Self::Agree { curve, originator } => {
                Operation::Agree { originator: OriginatorPublicKey::new((*curve).into(), originator)? }
            }
        })
    }
}

fn beginning(encrypted_key: &[u8]) -> &[u8] {
    encrypted_key.get(..LONGEST_ENCRYPTED_KEY).unwrap_or(encrypted_key)
}

impl<'a> WireAnswer<'a> {
    pub(in crate::remote) fn of(answer: &'a Answer) -> Self {
        match answer {
            Answer::Agreed(Agreed::Secret(secret)) => Self::Secret(secret.expose()),
            Answer::Agreed(Agreed::Rejected) => Self::NoSecret,
            Answer::Signature(SignatureValue(value)) => Self::Signature(value),
            Answer::Unwrapped(Unwrapped::Key(key)) => Self::Key(key.expose()),
            Answer::Unwrapped(Unwrapped::Rejected) => Self::Rejected,
        }
    }

    /// `None`: a shared secret that cannot be, or what is longer than any modulus.
    pub(in crate::remote) fn to_answer(&self) -> Option<Answer> {
        Some(match self {
            Self::Signature(octets) | Self::Key(octets) if octets.len() > LONGEST_ENCRYPTED_KEY => {
                return None;
            }
            Self::Signature(value) => Answer::Signature(SignatureValue(value.to_vec())),
            Self::Key(octets) => {
                Answer::Unwrapped(Unwrapped::Key(ContentEncryptionKey::new(octets.to_vec())))
            }
            Self::Rejected => Answer::Unwrapped(Unwrapped::Rejected),
            Self::Secret(octets) => {
                // The length tells what a shared secret must be like; who asked knows the curve.
                let curves = [AgreementCurve::P256, AgreementCurve::P384, AgreementCurve::P521];
                let curve = curves.into_iter().find(|curve| curve.field_len() == octets.len())?;
                Answer::Agreed(Agreed::Secret(SharedSecret::new(curve, octets.to_vec())?))
            }
            Self::NoSecret => Answer::Agreed(Agreed::Rejected),
        })
    }
}

impl From<Lane> for WireLane {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Interactive => Self::Interactive,
            Lane::Bulk => Self::Bulk,
        }
    }
}

impl From<WireLane> for Lane {
    fn from(lane: WireLane) -> Self {
        match lane {
            WireLane::Interactive => Self::Interactive,
            WireLane::Bulk => Self::Bulk,
        }
    }
}

impl From<AgreementCurve> for WireCurve {
    fn from(curve: AgreementCurve) -> Self {
        match curve {
            AgreementCurve::P256 => Self::P256,
            AgreementCurve::P384 => Self::P384,
            AgreementCurve::P521 => Self::P521,
            AgreementCurve::X25519 => Self::X25519,
        }
    }
}

impl From<WireCurve> for AgreementCurve {
    fn from(curve: WireCurve) -> Self {
        match curve {
            WireCurve::P256 => Self::P256,
            WireCurve::P384 => Self::P384,
            WireCurve::P521 => Self::P521,
            WireCurve::X25519 => Self::X25519,
        }
    }
}

impl From<DigestAlgorithm> for WireDigest {
    fn from(digest: DigestAlgorithm) -> Self {
        match digest {
            DigestAlgorithm::Md5 => Self::Md5,
            DigestAlgorithm::Sha1 => Self::Sha1,
            DigestAlgorithm::Sha224 => Self::Sha224,
            DigestAlgorithm::Sha256 => Self::Sha256,
            DigestAlgorithm::Sha384 => Self::Sha384,
            DigestAlgorithm::Sha512 => Self::Sha512,
        }
    }
}

impl From<WireDigest> for DigestAlgorithm {
    fn from(digest: WireDigest) -> Self {
        match digest {
            WireDigest::Md5 => Self::Md5,
            WireDigest::Sha1 => Self::Sha1,
            WireDigest::Sha224 => Self::Sha224,
            WireDigest::Sha256 => Self::Sha256,
            WireDigest::Sha384 => Self::Sha384,
            WireDigest::Sha512 => Self::Sha512,
        }
    }
}

impl WireSignature {
    fn of(algorithm: SignatureAlgorithm) -> Option<Self> {
        Some(match algorithm {
            SignatureAlgorithm::RsaPkcs1(digest) => Self::RsaPkcs1(digest.into()),
            SignatureAlgorithm::RsaPss(digest) => Self::RsaPss(digest.into()),
            SignatureAlgorithm::Ecdsa(digest) => Self::Ecdsa(digest.into()),
            SignatureAlgorithm::Ed25519 => Self::Ed25519,
            _ => return None,
        })
    }
}

impl From<WireSignature> for SignatureAlgorithm {
    fn from(algorithm: WireSignature) -> Self {
        match algorithm {
            WireSignature::RsaPkcs1(digest) => Self::RsaPkcs1(digest.into()),
            WireSignature::RsaPss(digest) => Self::RsaPss(digest.into()),
            WireSignature::Ecdsa(digest) => Self::Ecdsa(digest.into()),
            WireSignature::Ed25519 => Self::Ed25519,
        }
    }
}

impl<'a> WireEncryption<'a> {
    fn of(algorithm: &'a KeyEncryptionAlgorithm) -> Option<Self> {
        Some(match algorithm {
            KeyEncryptionAlgorithm::RsaPkcs1 => Self::RsaPkcs1,
            KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label } => {
                Self::RsaOaep { hash: (*hash).into(), mask_hash: (*mask_hash).into(), label }
            }
            _ => return None,
        })
    }
}

impl From<&WireEncryption<'_>> for KeyEncryptionAlgorithm {
    fn from(algorithm: &WireEncryption<'_>) -> Self {
        match algorithm {
            WireEncryption::RsaPkcs1 => Self::RsaPkcs1,
            WireEncryption::RsaOaep { hash, mask_hash, label } => {
                Self::RsaOaep { hash: (*hash).into(), mask_hash: (*mask_hash).into(), label: label.to_vec() }
            }
        }
    }
}

/// Microseconds, without overflow.
pub(in crate::remote) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Of what is longer than any modulus nothing more is kept, or sent: it is ill-formed by that. A public key is no longer.
const LONGEST_ENCRYPTED_KEY: usize = LONGEST_INFO;
/// No label of OAEP is longer: most are empty.
const LONGEST_LABEL: usize = 4096;
/// Nor is what Ed25519 signs for us: the attributes of a signature, some hundred octets.
const LONGEST_SIGNED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::frame::decode;

    const DIGESTS: [DigestAlgorithm; 6] = [
        DigestAlgorithm::Md5,
        DigestAlgorithm::Sha1,
        DigestAlgorithm::Sha224,
        DigestAlgorithm::Sha256,
        DigestAlgorithm::Sha384,
        DigestAlgorithm::Sha512,
    ];

    /// The octets of what can be told apart by nothing else: `Debug` shows no octets.
    fn octets(operation: &Operation) -> Vec<u8> {
        postcard::to_allocvec(&WireOperation::of(operation).unwrap()).unwrap()
    }

    #[test]
    fn every_operation_arrives_as_it_was() {
        let sign = |input, algorithm| Operation::Sign { input, algorithm };
        let mut operations =
            vec![sign(SignatureInput::Octets(vec![7; 300].into()), SignatureAlgorithm::Ed25519)];
        for digest in DIGESTS.into_iter().filter(|digest| digest.engine().is_some()) {
            let input = SignatureInput::Digest(Digest::of(digest, b"octets"));
            for algorithm in
                [SignatureAlgorithm::RsaPkcs1, SignatureAlgorithm::RsaPss, SignatureAlgorithm::Ecdsa]
            {
                operations.push(sign(input.clone(), algorithm(digest)));
            }
            for mask_hash in DIGESTS {
                let algorithm =
                    KeyEncryptionAlgorithm::RsaOaep { hash: digest, mask_hash, label: b"label".to_vec() };
                operations.push(Operation::Decrypt { encrypted_key: vec![1; 512], algorithm });
            }
        }
        let algorithm = KeyEncryptionAlgorithm::RsaPkcs1;
        operations.push(Operation::Decrypt { encrypted_key: vec![2; 256], algorithm });
        let originator = OriginatorPublicKey::new(AgreementCurve::X25519, &[9; 32]).unwrap();
        operations.push(Operation::Agree { originator });
        for operation in operations {
            let sent = octets(&operation);
            let arrived = decode::<WireOperation<'_>>(&sent).unwrap().to_operation().unwrap();
            assert_eq!(format!("{arrived:?}"), format!("{operation:?}"));
            assert_eq!(octets(&arrived), sent, "{operation:?}");
        }
    }

    #[test]
    fn values_that_cannot_be_are_no_operation() {
        let short = WireOperation::SignDigest {
            digest: WireDigest::Sha256,
            value: &[1; 31],
            algorithm: WireSignature::Ecdsa(WireDigest::Sha256),
        };
        assert!(short.to_operation().is_none());
        let octets = vec![7; LONGEST_SIGNED + 1];
        let long = WireOperation::SignOctets { octets: &octets, algorithm: WireSignature::Ed25519 };
        assert!(long.to_operation().is_none());
        let (hash, mask_hash) = (WireDigest::Sha1, WireDigest::Sha1);
        let oaep = WireEncryption::RsaOaep { hash, mask_hash, label: &octets };
        let labelled = WireOperation::Decrypt { encrypted_key: &[1; 256], algorithm: oaep };
        assert!(labelled.to_operation().is_none());
        let off_the_curve = WireOperation::Agree { curve: WireCurve::P256, originator: &[4; 65] };
        assert!(off_the_curve.to_operation().is_none());
    }

    #[test]
    fn of_an_encrypted_key_that_no_modulus_is_as_long_as_the_beginning_is_kept() {
        let long = vec![1; LONGEST_ENCRYPTED_KEY + 100_000];
        let kept = |operation: &Operation| match operation {
            Operation::Decrypt { encrypted_key, .. } => encrypted_key.len(),
            other => panic!("{other:?}"),
        };
        let said = WireOperation::Decrypt { encrypted_key: &long, algorithm: WireEncryption::RsaPkcs1 };
        assert_eq!(kept(&said.to_operation().unwrap()), LONGEST_ENCRYPTED_KEY);
        let asked = Operation::Decrypt { encrypted_key: long, algorithm: KeyEncryptionAlgorithm::RsaPkcs1 };
        let sent = WireOperation::of(&asked).unwrap();
        assert_eq!(kept(&sent.to_operation().unwrap()), LONGEST_ENCRYPTED_KEY);
    }

    #[test]
    fn every_answer_arrives_as_it_was() {
        let secret = |curve, len| Agreed::Secret(SharedSecret::new(curve, vec![5; len]).unwrap());
        for answer in [
            Answer::Signature(SignatureValue(vec![3; 71])),
            Answer::Unwrapped(Unwrapped::Key(ContentEncryptionKey::new(vec![4; 32]))),
            Answer::Unwrapped(Unwrapped::Rejected),
            Answer::Agreed(secret(AgreementCurve::P256, 32)),
            Answer::Agreed(secret(AgreementCurve::X25519, 32)),
            Answer::Agreed(secret(AgreementCurve::P521, 66)),
            Answer::Agreed(Agreed::Rejected),
        ] {
            let sent = postcard::to_allocvec(&WireAnswer::of(&answer)).unwrap();
            let arrived = decode::<WireAnswer<'_>>(&sent).unwrap().to_answer().unwrap();
            assert_eq!(format!("{arrived:?}"), format!("{answer:?}"));
            assert_eq!(postcard::to_allocvec(&WireAnswer::of(&arrived)).unwrap(), sent);
        }
        assert!(WireAnswer::Secret(&[0; 32]).to_answer().is_none());
    }
}
