//! Algorithms by name, and their `AlgorithmIdentifier`s.
//!
//! RFC 5754 (SHA-2 in CMS), RFC 4055 and 4056 (RSA with OAEP and PSS), RFC 5758 (ECDSA), RFC 8410 and 8419 (Ed25519);
//! content ciphers are in `content.rs`.

mod content;
mod legacy;
mod pss;

use std::fmt;

use const_oid::db::{rfc5912, rfc8410::ID_ED_25519};
use der::asn1::{Any, Null, ObjectIdentifier, OctetString};
use spki::AlgorithmIdentifierOwned;

pub use content::ContentEncryptionAlgorithm;
pub use legacy::LegacyCipher;
pub use pss::PssParameters;

/// A message digest. MD5, SHA-1 and SHA-224 are here to recognise what is old, and SHA-1 for OAEP; they
/// never sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl DigestAlgorithm {
    const ALL: [Self; 6] = [Self::Md5, Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The digest that an identifier names. Parameters may be absent or NULL (RFC 5754 2).
    pub fn from_identifier(identifier: &AlgorithmIdentifierOwned) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.oid() == identifier.oid)
    }

    /// The object identifier.
    pub fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Md5 => ID_MD5,
            Self::Sha1 => rfc5912::ID_SHA_1,
            Self::Sha224 => rfc5912::ID_SHA_224,
            Self::Sha256 => rfc5912::ID_SHA_256,
            Self::Sha384 => rfc5912::ID_SHA_384,
            Self::Sha512 => rfc5912::ID_SHA_512,
        }
    }

    /// The identifier as CMS wants it: parameters absent (RFC 5754 2).
    pub fn identifier(self) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned { oid: self.oid(), parameters: None }
    }

    /// The name in `micalg` (RFC 8551 3.5.3.2).
    pub fn micalg(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha-1",
            Self::Sha224 => "sha-224",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// The length in octets.
    pub fn output_len(self) -> u16 {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Whether signatures over it are acceptable today. Of the others, SHA-224 is not broken, but no version
    /// of S/MIME ever had it (RFC 8551 2.1).
    pub fn is_strong(self) -> bool {
        matches!(self, Self::Sha256 | Self::Sha384 | Self::Sha512)
    }

    /// The engine's algorithm; `None` for MD5, which it does not have.
    pub fn engine(self) -> Option<&'static aws_lc_rs::digest::Algorithm> {
        use aws_lc_rs::digest;
        Some(match self {
            Self::Md5 => return None,
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => &digest::SHA224,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        })
    }
}

/// A signature scheme together with its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(DigestAlgorithm),
    /// RSASSA-PSS with MGF1 of the same digest and a salt of its length (RFC 4056, RFC 8551 2.2).
    RsaPss(DigestAlgorithm),
    /// RSASSA-PSS with another salt, mask or digest; verified, never made.
    RsaPssOf(PssParameters),
    /// ECDSA; the curve is the key's.
    Ecdsa(DigestAlgorithm),
    /// DSA, in old certificates; verified, never made.
    Dsa(DigestAlgorithm),
    /// PureEdDSA on edwards25519 (RFC 8032 5.1.6). It signs the octets themselves, not a digest.
    Ed25519,
}

impl SignatureAlgorithm {
    /// The digest that is signed. With Ed25519 the one that the messageDigest attribute holds: SHA-512
    /// (RFC 8419 2.3).
    pub fn digest(self) -> DigestAlgorithm {
        match self {
            Self::RsaPkcs1(digest) | Self::RsaPss(digest) | Self::Ecdsa(digest) | Self::Dsa(digest) => digest,
            Self::RsaPssOf(parameters) => parameters.hash,
            Self::Ed25519 => DigestAlgorithm::Sha512,
        }
    }

    /// Whether the octets themselves are signed, and not a digest of them.
    pub fn signs_octets(self) -> bool {
        self == Self::Ed25519
    }

    /// The identifier in a `SignerInfo`: rsaEncryption with NULL (RFC 5754 3.2), RSASSA-PSS with all its
    /// parameters (RFC 4056 3), ecdsa-with-SHA2 (RFC 5754 3.3) and Ed25519 (RFC 8419 2.3) without any.
    pub fn identifier(self) -> AlgorithmIdentifierOwned {
        match self {
            Self::RsaPkcs1(_) => {
                AlgorithmIdentifierOwned { oid: rfc5912::RSA_ENCRYPTION, parameters: Some(Any::from(Null)) }
            }
            Self::RsaPss(digest) => Self::RsaPssOf(PssParameters::usual(digest)).identifier(),
            Self::RsaPssOf(parameters) => {
                AlgorithmIdentifierOwned { oid: rfc5912::ID_RSASSA_PSS, parameters: parameters.write() }
            }
            Self::Ecdsa(digest) => AlgorithmIdentifierOwned { oid: ecdsa_oid(digest), parameters: None },
            Self::Dsa(digest) => AlgorithmIdentifierOwned { oid: dsa_oid(digest), parameters: None },
            Self::Ed25519 => AlgorithmIdentifierOwned { oid: ID_ED_25519, parameters: None },
        }
    }

    /// The scheme that a `signatureAlgorithm` names, with the `digestAlgorithm` beside it where the
    /// identifier does not name a digest itself. The two must agree.
    pub fn from_identifier(identifier: &AlgorithmIdentifierOwned, digest: DigestAlgorithm) -> Option<Self> {
        match identifier.oid {
            rfc5912::RSA_ENCRYPTION => Some(Self::RsaPkcs1(digest)),
            // Old signers write the key's OID here and leave the digest to digestAlgorithm.
            rfc5912::ID_EC_PUBLIC_KEY => Some(Self::Ecdsa(digest)),
            ID_DSA => Some(Self::Dsa(digest)),
            _ => Self::from_complete(identifier).filter(|named| named.digest() == digest),
        }
    }

    /// The scheme and digest of an identifier that names both, as in certificates and CRLs.
    pub(crate) fn from_complete(identifier: &AlgorithmIdentifierOwned) -> Option<Self> {
        Some(match identifier.oid {
            rfc5912::ID_RSASSA_PSS => return PssParameters::read(identifier.parameters.as_ref()),
            MD5_WITH_RSA_ENCRYPTION => Self::RsaPkcs1(DigestAlgorithm::Md5),
            rfc5912::SHA_224_WITH_RSA_ENCRYPTION => Self::RsaPkcs1(DigestAlgorithm::Sha224),
            rfc5912::SHA_1_WITH_RSA_ENCRYPTION | OIW_SHA_1_WITH_RSA => Self::RsaPkcs1(DigestAlgorithm::Sha1),
            rfc5912::SHA_256_WITH_RSA_ENCRYPTION => Self::RsaPkcs1(DigestAlgorithm::Sha256),
            rfc5912::SHA_384_WITH_RSA_ENCRYPTION => Self::RsaPkcs1(DigestAlgorithm::Sha384),
            rfc5912::SHA_512_WITH_RSA_ENCRYPTION => Self::RsaPkcs1(DigestAlgorithm::Sha512),
            ECDSA_WITH_SHA_1 => Self::Ecdsa(DigestAlgorithm::Sha1),
            rfc5912::ECDSA_WITH_SHA_224 => Self::Ecdsa(DigestAlgorithm::Sha224),
            rfc5912::ECDSA_WITH_SHA_256 => Self::Ecdsa(DigestAlgorithm::Sha256),
            rfc5912::ECDSA_WITH_SHA_384 => Self::Ecdsa(DigestAlgorithm::Sha384),
            rfc5912::ECDSA_WITH_SHA_512 => Self::Ecdsa(DigestAlgorithm::Sha512),
            DSA_WITH_SHA_1 => Self::Dsa(DigestAlgorithm::Sha1),
            DSA_WITH_SHA_224 => Self::Dsa(DigestAlgorithm::Sha224),
            DSA_WITH_SHA_256 => Self::Dsa(DigestAlgorithm::Sha256),
            // "The parameters MUST be absent" (RFC 8410 3).
            ID_ED_25519 if identifier.parameters.is_none() => Self::Ed25519,
            _ => return None,
        })
    }
}

/// md5 (RFC 3370 2.2).
const ID_MD5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.5");
/// md5WithRSAEncryption (RFC 3370 3.2).
const MD5_WITH_RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4");
/// sha-1WithRSAEncryption as OIW registered it; old Windows wrote it.
const OIW_SHA_1_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.29");
/// ecdsa-with-SHA1 (RFC 3279 2.2.3).
const ECDSA_WITH_SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");

/// id-dsa and id-dsa-with-sha1 (RFC 3279 2.2.2, 2.3.2).
const ID_DSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10040.4.1");
const DSA_WITH_SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10040.4.3");
/// id-dsa-with-sha224 and id-dsa-with-sha256 (RFC 5758 3.1).
const DSA_WITH_SHA_224: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.1");
const DSA_WITH_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.2");

fn dsa_oid(digest: DigestAlgorithm) -> ObjectIdentifier {
    match digest {
        DigestAlgorithm::Sha224 => DSA_WITH_SHA_224,
        DigestAlgorithm::Sha256 => DSA_WITH_SHA_256,
        // There is none with MD5, and nothing is ever written with these.
        DigestAlgorithm::Md5 | DigestAlgorithm::Sha1 | DigestAlgorithm::Sha384 | DigestAlgorithm::Sha512 => {
            DSA_WITH_SHA_1
        }
    }
}

fn ecdsa_oid(digest: DigestAlgorithm) -> ObjectIdentifier {
    match digest {
        // There is none with MD5, and nothing is ever written with these.
        DigestAlgorithm::Md5 | DigestAlgorithm::Sha1 => ECDSA_WITH_SHA_1,
        DigestAlgorithm::Sha224 => rfc5912::ECDSA_WITH_SHA_224,
        DigestAlgorithm::Sha256 => rfc5912::ECDSA_WITH_SHA_256,
        DigestAlgorithm::Sha384 => rfc5912::ECDSA_WITH_SHA_384,
        DigestAlgorithm::Sha512 => rfc5912::ECDSA_WITH_SHA_512,
    }
}

/// How a content-encryption key was wrapped for a recipient: RSA key transport.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyEncryptionAlgorithm {
    /// RSAES-PKCS1-v1_5 (RFC 8017 7.2).
    RsaPkcs1,
    /// RSAES-OAEP (RFC 4055 4.1). Hash and mask hash may differ, and a label may be given.
    RsaOaep {
        /// The hash over the label.
        hash: DigestAlgorithm,
        /// The hash inside MGF1.
        mask_hash: DigestAlgorithm,
        /// pSourceAlgorithm's octets; empty by default.
        label: Vec<u8>,
    },
}

/// As in the code, but with the length of a label only: whoever sends a message chooses its octets.
impl fmt::Display for KeyEncryptionAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaPkcs1 => f.write_str("RsaPkcs1"),
            Self::RsaOaep { hash, mask_hash, label } => {
                let octets = label.len();
                write!(f, "RsaOaep {{ hash: {hash:?}, mask_hash: {mask_hash:?}, label: {octets} octets }}")
            }
        }
    }
}

/// RSAES-OAEP-params (RFC 4055 4.1); everything absent means SHA-1, MGF1 with SHA-1, empty label.
#[derive(Clone, Debug, der::Sequence)]
struct OaepParameters {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    source: Option<AlgorithmIdentifierOwned>,
}

impl KeyEncryptionAlgorithm {
    /// The algorithm that a `keyEncryptionAlgorithm` names, or `None` for one that is not known here.
    pub fn from_identifier(identifier: &AlgorithmIdentifierOwned) -> Option<Self> {
        match identifier.oid {
            rfc5912::RSA_ENCRYPTION => Some(Self::RsaPkcs1),
            rfc5912::ID_RSAES_OAEP => Self::oaep(identifier.parameters.as_ref()),
            _ => None,
        }
    }

    fn oaep(parameters: Option<&Any>) -> Option<Self> {
        let parameters: OaepParameters = match parameters {
            Some(any) => any.decode_as().ok()?,
            None => OaepParameters { hash: None, mask: None, source: None },
        };
        let hash = match &parameters.hash {
            Some(identifier) => DigestAlgorithm::from_identifier(identifier)?,
            None => DigestAlgorithm::Sha1,
        };
        let mask_hash = match &parameters.mask {
            Some(mask) if mask.oid == rfc5912::ID_MGF_1 => {
                let inner: AlgorithmIdentifierOwned = mask.parameters.as_ref()?.decode_as().ok()?;
                DigestAlgorithm::from_identifier(&inner)?
            }
            Some(_) => return None,
            None => DigestAlgorithm::Sha1,
        };
        let label = match &parameters.source {
            Some(source) if source.oid == rfc5912::ID_P_SPECIFIED => {
                source.parameters.as_ref()?.decode_as::<OctetString>().ok()?.into_bytes().into()
            }
            Some(_) => return None,
            None => Vec::new(),
        };
        Some(Self::RsaOaep { hash, mask_hash, label })
    }
}

#[cfg(test)]
mod tests {
    use der::Encode;

    use super::*;

    #[test]
    fn a_signature_algorithm_is_recognised_by_the_identifier_it_writes() {
        use DigestAlgorithm::{Sha256, Sha384, Sha512};
        for digest in [Sha256, Sha384, Sha512] {
            for algorithm in [
                SignatureAlgorithm::RsaPkcs1(digest),
                SignatureAlgorithm::RsaPss(digest),
                SignatureAlgorithm::Ecdsa(digest),
            ] {
                let identifier = algorithm.identifier();
                assert_eq!(SignatureAlgorithm::from_identifier(&identifier, digest), Some(algorithm));
                if algorithm != SignatureAlgorithm::RsaPkcs1(digest) {
                    let other = if digest == Sha256 { Sha512 } else { Sha256 };
                    assert_eq!(SignatureAlgorithm::from_identifier(&identifier, other), None);
                }
            }
        }
    }

    #[test]
    fn a_key_encryption_is_named_in_few_words_whatever_its_label_is() {
        let hash = DigestAlgorithm::Sha256;
        let algorithm = KeyEncryptionAlgorithm::RsaOaep {
            hash,
            mask_hash: DigestAlgorithm::Sha1,
            label: vec![1; 10_000],
        };
        assert_eq!(algorithm.to_string(), "RsaOaep { hash: Sha256, mask_hash: Sha1, label: 10000 octets }");
        assert_eq!(KeyEncryptionAlgorithm::RsaPkcs1.to_string(), "RsaPkcs1");
    }

    #[test]
    fn ed25519_goes_with_sha_512_and_without_parameters_only() {
        let identifier = SignatureAlgorithm::Ed25519.identifier();
        assert_eq!(identifier.to_der().unwrap(), [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70]);
        let with = |digest| SignatureAlgorithm::from_identifier(&identifier, digest);
        assert_eq!(with(DigestAlgorithm::Sha512), Some(SignatureAlgorithm::Ed25519));
        assert_eq!(with(DigestAlgorithm::Sha256), None);
        let null = AlgorithmIdentifierOwned { parameters: Some(Any::from(Null)), ..identifier };
        assert_eq!(SignatureAlgorithm::from_complete(&null), None);
    }
}
