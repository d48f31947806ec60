//! Content-encryption algorithms as they stand in a message, with their parameters.
//!
//! RFC 3565 (AES-CBC), RFC 5084 (AES-GCM), RFC 8103 (ChaCha20-Poly1305); old ones are in `legacy.rs`.

use const_oid::db::rfc5911;
use der::{
    Decode, Encode,
    asn1::{AnyRef, OctetString},
};
use spki::AlgorithmIdentifierOwned;

use super::LegacyCipher;
use crate::cipher::CHACHA20_POLY1305;

/// How content is encrypted, with the parameters that stand in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentEncryptionAlgorithm {
    /// AES in CBC mode (RFC 3565): no integrity.
    AesCbc {
        /// 16, 24 or 32 octets.
        key_len: usize,
        /// The initialisation vector.
        iv: [u8; 16],
    },
    /// AES in Galois/Counter mode (RFC 5084).
    AesGcm {
        /// 16, 24 or 32 octets.
        key_len: usize,
        /// The nonce, of the recommended length.
        nonce: [u8; 12],
        /// aes-ICVlen: the length of the tag, 12 to 16 octets.
        tag_len: usize,
    },
    /// AES in Galois/Counter mode with a nonce of 16 octets, as PKI.js writes it, and a tag of 16. No other length
    /// is taken.
    AesGcmLongNonce {
        /// 16, 24 or 32 octets.
        key_len: usize,
        /// The nonce.
        nonce: [u8; 16],
    },
    /// ChaCha20-Poly1305 (RFC 8103).
    ChaCha20Poly1305 {
        /// The nonce.
        nonce: [u8; 12],
    },
    /// A cipher of old mail in CBC mode: no integrity, and too weak today.
    Legacy {
        /// Which.
        cipher: LegacyCipher,
        /// The initialisation vector.
        iv: [u8; 8],
    },
}

/// GCMParameters (RFC 5084 3.2).
#[derive(Clone, Debug, der::Sequence)]
struct GcmParameters {
    nonce: OctetString,
    #[asn1(default = "default_tag_len")]
    tag_len: u8,
}

fn default_tag_len() -> u8 {
    12
}

impl ContentEncryptionAlgorithm {
    /// The algorithm that a `contentEncryptionAlgorithm` names, or `None` for one that is not known here,
    /// or whose parameters are not allowed.
    pub fn from_identifier(identifier: &AlgorithmIdentifierOwned) -> Option<Self> {
        let parameters = identifier.parameters.as_ref()?.to_der().ok()?;
        let cbc = |key_len| {
            let iv = AnyRef::from_der(&parameters).ok()?.decode_as::<OctetString>().ok()?;
            Some(Self::AesCbc { key_len, iv: iv.as_bytes().try_into().ok()? })
        };
        let gcm = |key_len| {
            let (nonce, tag_len) = match GcmParameters::from_der(&parameters) {
                Ok(parameters) => (parameters.nonce, usize::from(parameters.tag_len)),
                // The bare nonce of PKI.js, whose tags are whole.
                Err(_) => (AnyRef::from_der(&parameters).ok()?.decode_as::<OctetString>().ok()?, 16),
            };
            if let Ok(nonce) = nonce.as_bytes().try_into() {
                return (12..=16).contains(&tag_len).then_some(Self::AesGcm { key_len, nonce, tag_len });
            }
            let nonce = nonce.as_bytes().try_into().ok().filter(|_| tag_len == 16)?;
            Some(Self::AesGcmLongNonce { key_len, nonce })
        };
        match identifier.oid {
            rfc5911::ID_AES_128_CBC => cbc(16),
            rfc5911::ID_AES_192_CBC => cbc(24),
            rfc5911::ID_AES_256_CBC => cbc(32),
            rfc5911::ID_AES_128_GCM => gcm(16),
            rfc5911::ID_AES_192_GCM => gcm(24),
            rfc5911::ID_AES_256_GCM => gcm(32),
            CHACHA20_POLY1305 => {
                let nonce = AnyRef::from_der(&parameters).ok()?.decode_as::<OctetString>().ok()?;
                Some(Self::ChaCha20Poly1305 { nonce: nonce.as_bytes().try_into().ok()? })
            }
            oid => {
                let (cipher, iv) = LegacyCipher::read(oid, identifier.parameters.as_ref()?)?;
                Some(Self::Legacy { cipher, iv })
            }
        }
    }

    /// The length of the content-encryption key in octets.
    pub fn key_len(&self) -> usize {
        match self {
            Self::AesCbc { key_len, .. }
            | Self::AesGcm { key_len, .. }
            | Self::AesGcmLongNonce { key_len, .. } => *key_len,
            Self::ChaCha20Poly1305 { .. } => 32,
            Self::Legacy { cipher, .. } => cipher.key_len(),
        }
    }

    /// Whether a change of the ciphertext is noticed.
    pub fn is_authenticated(&self) -> bool {
        matches!(self, Self::AesGcm { .. } | Self::AesGcmLongNonce { .. } | Self::ChaCha20Poly1305 { .. })
    }

    /// The length of the tag that stands behind the content where an `EnvelopedData` names this cipher; `None` for
    /// ciphers of which nobody writes that.
    pub(crate) fn appended_tag_len(&self) -> Option<usize> {
        match self {
            Self::AesGcm { tag_len, .. } => Some(*tag_len),
            Self::AesGcmLongNonce { .. } => Some(16),
            _ => None,
        }
    }

    /// Whether the cipher is too weak today to keep anything confidential: DES, RC2, and Triple-DES, whose
    /// blocks are too short (RFC 8551 2.7, appendix B; RFC 8429 for the reasons).
    pub fn is_weak(&self) -> bool {
        matches!(self, Self::Legacy { .. })
    }

    /// Whether its blocks have eight octets, of which many are text, or anything else with a form, by chance.
    pub fn has_short_blocks(&self) -> bool {
        matches!(self, Self::Legacy { .. })
    }

    /// The name used in logs and comments.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Legacy { cipher, .. } => cipher.name(),
            Self::AesCbc { key_len: 16, .. } => "AES-128-CBC",
            Self::AesCbc { key_len: 24, .. } => "AES-192-CBC",
            Self::AesCbc { .. } => "AES-256-CBC",
            Self::AesGcm { key_len: 16, .. } | Self::AesGcmLongNonce { key_len: 16, .. } => "AES-128-GCM",
            Self::AesGcm { key_len: 24, .. } | Self::AesGcmLongNonce { key_len: 24, .. } => "AES-192-GCM",
            Self::AesGcm { .. } | Self::AesGcmLongNonce { .. } => "AES-256-GCM",
            Self::ChaCha20Poly1305 { .. } => "ChaCha20-Poly1305",
        }
    }
}
