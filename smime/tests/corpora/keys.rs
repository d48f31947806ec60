//! The keys that came with the samples, out of their PKCS #12 files by OpenSSL.

use std::{path::Path, process::Command};

use num_bigint::BigUint;
use smime::{
    Certificate,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm},
    key::{ContentEncryptionKey, Decryptor, Digest, KeyError, Unwrapped},
    testing::{MemoryKey, Node},
};
use testkit::Workdir;

/// A key with the certificates beside it.
pub(crate) struct Key {
    pub(crate) certificate: Certificate,
    private: Private,
}

enum Private {
    /// RSADP by the book (RFC 8017 5.1.2): also for sizes, hashes and labels that the engine does not take.
    Rsa {
        modulus: BigUint,
        exponent: BigUint,
    },
    Other(Box<MemoryKey>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the key of {}", self.certificate)
    }
}

impl Key {
    /// A private key in PKCS #8 with its certificate.
    pub(crate) fn new(pkcs8: &[u8], certificate: Certificate) -> Self {
        if let Some(key) = MemoryKey::from_pkcs8(pkcs8, certificate.clone())
            && certificate.rsa_modulus_bits().is_none()
        {
            return Self { certificate, private: Private::Other(Box::new(key)) };
        }
        let info = Node::parse(pkcs8);
        let numbers = Node::parse(info.get(&[2]).clone().octets());
        let number = |at: usize| BigUint::from_bytes_be(numbers.get(&[at]).clone().octets());
        Self { certificate, private: Private::Rsa { modulus: number(1), exponent: number(3) } }
    }

    /// The keys of a PKCS #12 file, in DER or PEM armour. Each has the certificate that it fits.
    pub(crate) fn of_pkcs12(file: &Path, password: &str) -> Vec<Self> {
        let workdir = Workdir::new("corpora").unwrap();
        let mut octets = std::fs::read(file).unwrap();
        if octets.starts_with(b"-----BEGIN") {
            let text = String::from_utf8(octets).unwrap();
            let base64: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
            octets = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
        }
        let file = workdir.file("p12", octets).unwrap();
        let pem = openssl(&["pkcs12", "-nodes", "-passin", &format!("pass:{password}"), "-in"], &file);
        let pem = String::from_utf8(pem).unwrap();
        let certificates = Certificate::from_pem(&pem).unwrap();
        let keys = pem.split("-----BEGIN PRIVATE KEY-----").skip(1);
        let keys =
            keys.map(|text| text.split("-----END").next().unwrap().split_whitespace().collect::<String>());
        keys.map(|base64| {
            let pkcs8 = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
            let key = workdir.file("key", &pkcs8).unwrap();
            let public = openssl(&["pkey", "-inform", "DER", "-pubout", "-outform", "DER", "-in"], &key);
            let own = certificates.iter().find(|certificate| certificate.public_key_info() == public);
            Self::new(&pkcs8, own.unwrap().clone())
        })
        .collect()
    }
}

fn openssl(arguments: &[&str], file: &Path) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).arg(file).output().unwrap();
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Decryptor for Key {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError> {
        let (modulus, exponent) = match &self.private {
            Private::Rsa { modulus, exponent } => (modulus, exponent),
            Private::Other(key) => return key.decrypt_key(encrypted_key, algorithm),
        };
        let value = BigUint::from_bytes_be(encrypted_key).modpow(exponent, modulus).to_bytes_be();
        let len = modulus.to_bytes_be().len();
        let block = [vec![0; len - value.len()], value].concat();
        let key = match algorithm {
            KeyEncryptionAlgorithm::RsaPkcs1 => pkcs1(&block),
            KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label } => {
                oaep(&block, *hash, *mask_hash, label)
            }
            other => unreachable!("{other:?}"),
        };
        Ok(key.map_or(Unwrapped::Rejected, |key| Unwrapped::Key(ContentEncryptionKey::new(key))))
    }

    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        match &self.private {
            Private::Other(key) => key.agree(originator),
            Private::Rsa { .. } => unreachable!("{originator:?}"),
        }
    }
}

/// RFC 8017 7.2.2, not in constant time: the keys are everybody's.
fn pkcs1(block: &[u8]) -> Option<Vec<u8>> {
    let padded = block.strip_prefix(&[0, 2])?;
    let end = padded.iter().position(|octet| *octet == 0)?;
    padded.get(end + 1..).map(<[u8]>::to_vec)
}

/// RFC 8017 7.1.2, with a hash of its own for the mask.
fn oaep(block: &[u8], hash: DigestAlgorithm, mask_hash: DigestAlgorithm, label: &[u8]) -> Option<Vec<u8>> {
    let len = usize::from(hash.output_len());
    let (seed, data) = block.get(1..)?.split_at_checked(len)?;
    let masked = |octets: &[u8], seed: &[u8]| -> Vec<u8> {
        let mut mask = Vec::new();
        for counter in 0_u32.. {
            if mask.len() >= octets.len() {
                break;
            }
            let round = Digest::of_segments(mask_hash, [seed, &counter.to_be_bytes()]);
            mask.extend_from_slice(round.as_bytes());
        }
        octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask).collect()
    };
    let seed = masked(seed, data);
    let data = masked(data, &seed);
    let rest = data.strip_prefix(Digest::of(hash, label).as_bytes())?;
    let end = rest.iter().position(|octet| *octet == 1)?;
    rest.get(end + 1..).map(<[u8]>::to_vec)
}
