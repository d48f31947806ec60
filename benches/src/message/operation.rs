//! What is done to a message.

use serde::{Deserialize, Serialize};
use smime::cipher::ContentCipher;

/// One operation on a whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Operation {
    /// An entity to `multipart/signed`, with a key in this process.
    Sign,
    /// The same as with a key on a token, whose every signature is checked with the certificate before it is used. OpenSSL
    /// checks none.
    SignChecked,
    /// `multipart/signed` to a verdict, with the certification path.
    Verify,
    /// An entity to EnvelopedData with AES-256-CBC.
    EncryptCbc,
    /// An entity to AuthEnvelopedData with AES-256-GCM.
    EncryptGcm,
    /// The reverse of [`Operation::EncryptCbc`].
    DecryptCbc,
    /// The reverse of [`Operation::EncryptGcm`].
    DecryptGcm,
}

impl Operation {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Sign,
        Self::SignChecked,
        Self::Verify,
        Self::EncryptCbc,
        Self::EncryptGcm,
        Self::DecryptCbc,
        Self::DecryptGcm,
    ];

    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::SignChecked => "sign, checked",
            Self::Verify => "verify",
            Self::EncryptCbc => "encrypt, AES-256-CBC",
            Self::EncryptGcm => "encrypt, AES-256-GCM",
            Self::DecryptCbc => "decrypt, AES-256-CBC",
            Self::DecryptGcm => "decrypt, AES-256-GCM",
        }
    }

    /// The cipher, where there is one.
    pub fn cipher(self) -> Option<ContentCipher> {
        match self {
            Self::Sign | Self::SignChecked | Self::Verify => None,
            Self::EncryptCbc | Self::DecryptCbc => Some(ContentCipher::Aes256Cbc),
            Self::EncryptGcm | Self::DecryptGcm => Some(ContentCipher::Aes256Gcm),
        }
    }
}

/// The kind of the key that signs or is encrypted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Key {
    /// RSA with 2048 bits: PKCS#1 v1.5 signatures and key transport.
    Rsa2048,
    /// P-256: ECDSA, and ECDH with an ephemeral key.
    P256,
}

impl Key {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Rsa2048, Self::P256];

    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rsa2048 => "RSA-2048",
            Self::P256 => "P-256",
        }
    }
}
