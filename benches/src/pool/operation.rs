//! What is measured: a key, what is done with it, and how each contender is told.

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey,
};
use serde::{Deserialize, Serialize};
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::Digest,
};

/// A private-key operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// RSASSA-PKCS1-v1_5 with 2048 bits.
    #[serde(rename = "rsa2048-sign")]
    Rsa2048Sign,
    /// The same with 3072 bits.
    #[serde(rename = "rsa3072-sign")]
    Rsa3072Sign,
    /// The same with 4096 bits.
    #[serde(rename = "rsa4096-sign")]
    Rsa4096Sign,
    /// ECDSA on P-256.
    #[serde(rename = "p256-sign")]
    P256Sign,
    /// RSAES-PKCS1-v1_5 with 2048 bits.
    #[serde(rename = "rsa2048-decrypt")]
    Rsa2048Decrypt,
    /// RSAES-OAEP with SHA-1, the only hash that SoftHSM 2.6.1 knows, and 2048 bits.
    #[serde(rename = "rsa2048-oaep")]
    Rsa2048Oaep,
}

/// A key that an operation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its label on the token, and the beginning of its files' names.
    pub name: &'static str,
    /// How `openssl req -newkey` is told to make it.
    pub recipe: &'static [&'static str],
    /// What `openssl speed` calls it.
    pub speed: &'static str,
}

/// All keys.
pub const KEYS: [Key; 4] = [
    Key { name: "rsa2048", recipe: &["rsa:2048"], speed: "rsa2048" },
    Key { name: "rsa3072", recipe: &["rsa:3072"], speed: "rsa3072" },
    Key { name: "rsa4096", recipe: &["rsa:4096"], speed: "rsa4096" },
    Key { name: "p256", recipe: &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], speed: "ecdsap256" },
];

/// What a token is asked, ready to be asked again and again.
#[derive(Clone, Debug)]
pub enum Question {
    /// Sign this.
    Sign(Digest, SignatureAlgorithm),
    /// Decrypt this.
    Decrypt(Vec<u8>, KeyEncryptionAlgorithm),
}

/// What is signed, again and again.
pub const MESSAGE: &[u8] = b"a message as good as any";

/// The content-encryption key that is encrypted for decryptions.
pub const SECRET: [u8; 32] = [0x5a; 32];

impl Operation {
    /// All, in the order of the report.
    pub const ALL: [Self; 6] = [
        Self::Rsa2048Sign,
        Self::Rsa3072Sign,
        Self::Rsa4096Sign,
        Self::P256Sign,
        Self::Rsa2048Decrypt,
        Self::Rsa2048Oaep,
    ];

    /// Short, for files and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa2048Sign => "rsa2048-sign",
            Self::Rsa3072Sign => "rsa3072-sign",
            Self::Rsa4096Sign => "rsa4096-sign",
            Self::P256Sign => "p256-sign",
            Self::Rsa2048Decrypt => "rsa2048-decrypt",
            Self::Rsa2048Oaep => "rsa2048-oaep",
        }
    }

    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rsa2048Sign => "RSA-2048 signature",
            Self::Rsa3072Sign => "RSA-3072 signature",
            Self::Rsa4096Sign => "RSA-4096 signature",
            Self::P256Sign => "P-256 signature",
            Self::Rsa2048Decrypt => "RSA-2048 decryption, v1.5",
            Self::Rsa2048Oaep => "RSA-2048 decryption, OAEP",
        }
    }

    /// The operation of that short name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|operation| operation.name() == name);
        found.with_context(|| {
            format!("there is no operation {name}; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }

    /// The key it uses.
    pub fn key(self) -> Key {
        let [rsa2048, rsa3072, rsa4096, p256] = KEYS;
        match self {
            Self::Rsa2048Sign | Self::Rsa2048Decrypt | Self::Rsa2048Oaep => rsa2048,
            Self::Rsa3072Sign => rsa3072,
            Self::Rsa4096Sign => rsa4096,
            Self::P256Sign => p256,
        }
    }

    /// What is asked of the key of this certificate.
    pub fn question(self, certificate: &Certificate) -> Result<Question> {
        let sha256 = DigestAlgorithm::Sha256;
        let sha1 = DigestAlgorithm::Sha1;
        let digest = Digest::of(sha256, MESSAGE);
        match self {
            Self::P256Sign => Ok(Question::Sign(digest, SignatureAlgorithm::Ecdsa(sha256))),
            Self::Rsa2048Sign | Self::Rsa3072Sign | Self::Rsa4096Sign => {
                Ok(Question::Sign(digest, SignatureAlgorithm::RsaPkcs1(sha256)))
            }
            Self::Rsa2048Decrypt => {
                let algorithm = KeyEncryptionAlgorithm::RsaPkcs1;
                Ok(Question::Decrypt(encrypt(certificate, &algorithm)?, algorithm))
            }
            Self::Rsa2048Oaep => {
                let algorithm =
                    KeyEncryptionAlgorithm::RsaOaep { hash: sha1, mask_hash: sha1, label: Vec::new() };
                Ok(Question::Decrypt(encrypt(certificate, &algorithm)?, algorithm))
            }
        }
    }
}

fn encrypt(certificate: &Certificate, algorithm: &KeyEncryptionAlgorithm) -> Result<Vec<u8>> {
    let public = PublicEncryptingKey::from_der(&certificate.public_key_info())?;
    let mut room = vec![0; public.key_size_bytes()];
    let written = match algorithm {
        KeyEncryptionAlgorithm::RsaPkcs1 => {
            Pkcs1PublicEncryptingKey::new(public)?.encrypt(&SECRET, &mut room)?.len()
        }
        KeyEncryptionAlgorithm::RsaOaep { .. } => {
            let key = OaepPublicEncryptingKey::new(public)?;
            key.encrypt(&OAEP_SHA1_MGF1SHA1, &SECRET, &mut room, None)?.len()
        }
        other => bail!("nothing is encrypted by {other:?} here"),
    };
    ensure!(written == room.len(), "an encrypted key of {written} octets");
    Ok(room)
}
