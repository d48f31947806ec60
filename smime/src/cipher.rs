//! Content-encryption algorithms by name, for those who choose one and write with it.
//!
//! RFC 3565 (AES-CBC), RFC 5084 (AES-GCM), RFC 8103 (ChaCha20-Poly1305). What stands in a message, with its
//! parameters, is [`crate::algorithm::ContentEncryptionAlgorithm`].

use const_oid::db::rfc5911;
use der::asn1::ObjectIdentifier;

/// A content-encryption algorithm that is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContentCipher {
    /// AES with 128 bits in CBC mode: no integrity.
    Aes128Cbc,
    /// AES with 192 bits in CBC mode: no integrity.
    Aes192Cbc,
    /// AES with 256 bits in CBC mode: no integrity.
    Aes256Cbc,
    /// AES with 128 bits in Galois/Counter mode.
    Aes128Gcm,
    /// AES with 256 bits in Galois/Counter mode.
    Aes256Gcm,
    /// ChaCha20 with Poly1305.
    ChaCha20Poly1305,
}

/// id-alg-AEADChaCha20Poly1305 (RFC 8103 section 4).
pub const CHACHA20_POLY1305: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.18");

impl ContentCipher {
    /// All of them, best first: those with integrity before those without, longer keys before shorter ones.
    pub const ALL: [Self; 6] = [
        Self::Aes256Gcm,
        Self::Aes128Gcm,
        Self::ChaCha20Poly1305,
        Self::Aes256Cbc,
        Self::Aes192Cbc,
        Self::Aes128Cbc,
    ];

    /// The cipher that an object identifier names.
    pub fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.oid() == oid)
    }

    /// The object identifier.
    pub fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Aes128Cbc => rfc5911::ID_AES_128_CBC,
            Self::Aes192Cbc => rfc5911::ID_AES_192_CBC,
            Self::Aes256Cbc => rfc5911::ID_AES_256_CBC,
            Self::Aes128Gcm => rfc5911::ID_AES_128_GCM,
            Self::Aes256Gcm => rfc5911::ID_AES_256_GCM,
            Self::ChaCha20Poly1305 => CHACHA20_POLY1305,
        }
    }

    /// The length of the key in octets.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128Cbc | Self::Aes128Gcm => 16,
            Self::Aes192Cbc => 24,
            Self::Aes256Cbc | Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Whether a change of the ciphertext is noticed; then the content goes into an `AuthEnvelopedData`.
    pub fn is_authenticated(self) -> bool {
        matches!(self, Self::Aes128Gcm | Self::Aes256Gcm | Self::ChaCha20Poly1305)
    }

    /// The name used in logs and comments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Cbc => "AES-128-CBC",
            Self::Aes192Cbc => "AES-192-CBC",
            Self::Aes256Cbc => "AES-256-CBC",
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        }
    }
}
