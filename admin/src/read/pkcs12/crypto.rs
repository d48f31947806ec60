//! Password-based MACs and ciphers of PKCS#12: RFC 7292 appendix B, PKCS#5 (RFC 8018), PBMAC1 (RFC 9579).

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{
        AES_128, AES_192, AES_256, Algorithm as Aes, DecryptionContext, PaddedBlockDecryptingKey,
        UnboundCipherKey,
    },
    digest, hmac,
    iv::FixedLength,
    pbkdf2,
};
use cbc::{
    Decryptor,
    cipher::{BlockCipherDecrypt, BlockModeDecrypt, InnerIvInit, KeyInit, block_padding::Pkcs7},
};
use des::TdesEde3;
use rc2::Rc2;
use smime::ber::{BerError, Element, Tag};
use zeroize::Zeroizing;

use super::Pkcs12Error;

/// How many rounds of key derivation one file may ask for, in all: some seconds.
pub(super) const MAX_ITERATIONS: u64 = 10_000_000;

/// The rounds that are left.
#[derive(Debug)]
pub(super) struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_ITERATIONS)
    }
}

impl Budget {
    fn take(&mut self, iterations: u32) -> Result<(), Pkcs12Error> {
        self.0 = self.0.checked_sub(u64::from(iterations)).ok_or(Pkcs12Error::TooSlow)?;
        Ok(())
    }
}

/// Hash functions, with the block length that RFC 7292 B.2 calls v.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(oid: &str) -> Result<Self, Pkcs12Error> {
        Ok(match oid {
            "1.3.14.3.2.26" | "1.2.840.113549.2.7" => Self::Sha1,
            "2.16.840.1.101.3.4.2.1" | "1.2.840.113549.2.9" => Self::Sha256,
            "2.16.840.1.101.3.4.2.2" | "1.2.840.113549.2.10" => Self::Sha384,
            "2.16.840.1.101.3.4.2.3" | "1.2.840.113549.2.11" => Self::Sha512,
            other => return Err(Pkcs12Error::Unsupported(format!("the hash {other}"))),
        })
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha384 => pbkdf2::PBKDF2_HMAC_SHA384,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn block_len(self) -> usize {
        match self {
            Self::Sha1 | Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 => 128,
        }
    }
}

/// What a derived key is for (RFC 7292 B.3).
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// A salt and how often to hash.
#[derive(Debug)]
pub(super) struct Rounds {
    salt: Vec<u8>,
    iterations: u32,
}

/// `MacData`.
#[derive(Debug)]
pub(super) struct Mac {
    kind: MacKind,
    expected: Vec<u8>,
    rounds: Rounds,
}

#[derive(Debug)]
enum MacKind {
    Hmac(Hash),
    Pbmac1 { key: Pbkdf2, key_len: usize, hash: Hash },
}

impl Mac {
    pub(super) fn read(mac: Element<'_, '_>) -> Result<Self, Pkcs12Error> {
        let mut fields = mac.expect(Tag::SEQUENCE, "MacData")?.children();
        let mut info = fields.required("mac")?.children();
        let (oid, parameters) = algorithm(info.required("digestAlgorithm")?)?;
        let expected = info.required("digest")?.octet_string()?.concat();
        let salt = fields.required("macSalt")?.octet_string()?.concat();
        let iterations = fields.next().map_or(Ok(1), |number| iterations(&number))?;
        let kind = if oid == "1.2.840.113549.1.5.14" {
            let parameters = parameters.ok_or_else(|| mac.unexpected("PBMAC1-params"))?;
            let mut fields = parameters.children();
            let key = Pbkdf2::read(fields.required("keyDerivationFunc")?)?;
            let (hash, _) = algorithm(fields.required("messageAuthScheme")?)?;
            // RFC 9579 section 6: the length must be there.
            let key_len = key.key_len.filter(|len| (20..=128).contains(len));
            let key_len = key_len.ok_or_else(|| parameters.unexpected("a keyLength"))?;
            MacKind::Pbmac1 { key, key_len, hash: Hash::of(&hash)? }
        } else {
            MacKind::Hmac(Hash::of(&oid)?)
        };
        Ok(Self { kind, expected, rounds: Rounds { salt, iterations } })
    }

    pub(super) fn verify(
        &self,
        content: &[u8],
        password: &str,
        budget: &mut Budget,
    ) -> Result<(), Pkcs12Error> {
        let verify = |hash: Hash, key: &[u8]| {
            hmac::verify(&hmac::Key::new(hash.hmac(), key), content, &self.expected)
                .map_err(|_| Pkcs12Error::Password)
        };
        match &self.kind {
            MacKind::Pbmac1 { key, key_len, hash } => verify(*hash, &key.derive(password, *key_len, budget)?),
            MacKind::Hmac(hash) => {
                let len = hash.digest().output_len();
                let mut outcome = Err(Pkcs12Error::Password);
                for secret in secrets(password) {
                    let key = derive(*hash, Purpose::Mac, &secret, &self.rounds, len, budget)?;
                    outcome = verify(*hash, &key);
                    if outcome.is_ok() {
                        break;
                    }
                }
                outcome
            }
        }
    }
}

/// How content is encrypted.
#[derive(Debug)]
pub(super) enum Cipher {
    /// RFC 7292 appendix C.
    Pkcs12 { cipher: Old, rounds: Rounds },
    /// PBES2.
    Pkcs5 { key: Pbkdf2, scheme: Scheme },
}

/// Ciphers of RFC 7292 appendix C, with the length of their keys.
#[derive(Clone, Copy, Debug)]
pub(super) enum Old {
    TripleDes,
    TwoKeyTripleDes,
    Rc2(usize),
}

#[derive(Debug)]
pub(super) enum Scheme {
    Aes { key_len: usize, iv: [u8; 16] },
    TripleDes { iv: [u8; 8] },
}

/// PBKDF2 (RFC 8018 5.2).
#[derive(Debug)]
pub(super) struct Pbkdf2 {
    hash: Hash,
    rounds: Rounds,
    key_len: Option<usize>,
}

impl Cipher {
    pub(super) fn read(element: Element<'_, '_>) -> Result<Self, Pkcs12Error> {
        let (oid, parameters) = algorithm(element)?;
        let parameters = parameters.ok_or_else(|| element.unexpected("parameters"))?;
        let mut fields = parameters.children();
        let cipher = match oid.as_str() {
            "1.2.840.113549.1.12.1.3" => Old::TripleDes,
            "1.2.840.113549.1.12.1.4" => Old::TwoKeyTripleDes,
            "1.2.840.113549.1.12.1.5" => Old::Rc2(16),
            "1.2.840.113549.1.12.1.6" => Old::Rc2(5),
            "1.2.840.113549.1.5.13" => {
                let key = Pbkdf2::read(fields.required("keyDerivationFunc")?)?;
                return Ok(Self::Pkcs5 { key, scheme: Scheme::read(fields.required("encryptionScheme")?)? });
            }
            other => return Err(Pkcs12Error::Unsupported(format!("the encryption {other}"))),
        };
        let salt = fields.required("salt")?.octet_string()?.concat();
        let iterations = iterations(&fields.required("iterations")?)?;
        Ok(Self::Pkcs12 { cipher, rounds: Rounds { salt, iterations } })
    }

    pub(super) fn decrypt(
        &self,
        content: Vec<u8>,
        password: &str,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, Pkcs12Error> {
        match self {
            Self::Pkcs12 { cipher, rounds } => {
                let mut outcome = Err(Pkcs12Error::Password);
                for secret in secrets(password) {
                    let key_len = match cipher {
                        Old::TripleDes => 24,
                        Old::TwoKeyTripleDes => 16,
                        Old::Rc2(len) => *len,
                    };
                    let mut key = derive(Hash::Sha1, Purpose::Key, &secret, rounds, key_len, budget)?;
                    let iv = derive(Hash::Sha1, Purpose::Iv, &secret, rounds, 8, budget)?;
                    outcome = match cipher {
                        Old::TripleDes => triple_des(&key, &iv, content.clone()),
                        Old::TwoKeyTripleDes => {
                            key.extend_from_within(..8);
                            triple_des(&key, &iv, content.clone())
                        }
                        Old::Rc2(len) => old(Rc2::new_with_eff_key_len(&key, len * 8), &iv, content.clone()),
                    };
                    if outcome.is_ok() {
                        break;
                    }
                }
                outcome
            }
            Self::Pkcs5 { key, scheme: Scheme::TripleDes { iv } } => {
                triple_des(&key.derive(password, 24, budget)?, iv, content)
            }
            Self::Pkcs5 { key, scheme: Scheme::Aes { key_len, iv } } => {
                let algorithm: &'static Aes = match key_len {
                    16 => &AES_128,
                    24 => &AES_192,
                    _ => &AES_256,
                };
                let key = key.derive(password, *key_len, budget)?;
                aes(algorithm, &key, *iv, content).ok_or(Pkcs12Error::Password)
            }
        }
    }
}

impl Scheme {
    fn read(element: Element<'_, '_>) -> Result<Self, Pkcs12Error> {
        let (oid, parameters) = algorithm(element)?;
        let iv = parameters
            .ok_or_else(|| element.unexpected("an initialisation vector"))?
            .octet_string()?
            .concat();
        let wrong = |_| element.unexpected("an initialisation vector");
        let key_len = match oid.as_str() {
            "2.16.840.1.101.3.4.1.2" => 16,
            "2.16.840.1.101.3.4.1.22" => 24,
            "2.16.840.1.101.3.4.1.42" => 32,
            "1.2.840.113549.3.7" => {
                return Ok(Self::TripleDes { iv: iv.as_slice().try_into().map_err(wrong)? });
            }
            other => return Err(Pkcs12Error::Unsupported(format!("the cipher {other}"))),
        };
        Ok(Self::Aes { key_len, iv: iv.as_slice().try_into().map_err(wrong)? })
    }
}

impl Pbkdf2 {
    fn read(element: Element<'_, '_>) -> Result<Self, Pkcs12Error> {
        let (oid, parameters) = algorithm(element)?;
        if oid != "1.2.840.113549.1.5.12" {
            return Err(Pkcs12Error::Unsupported(format!("the key derivation {oid}")));
        }
        let mut fields = parameters.ok_or_else(|| element.unexpected("PBKDF2-params"))?.children();
        let salt = fields.required("salt")?.octet_string()?.concat();
        let rounds = Rounds { salt, iterations: iterations(&fields.required("iterationCount")?)? };
        let mut next = fields.next();
        let mut key_len = None;
        if let Some(number) = next.filter(|element| element.tag() == Tag::INTEGER) {
            key_len = Some(usize::try_from(iterations(&number)?).unwrap_or(usize::MAX));
            next = fields.next();
        }
        // Its default is SHA-1.
        let hash = match next {
            Some(prf) => Hash::of(&algorithm(prf)?.0)?,
            None => Hash::Sha1,
        };
        Ok(Self { hash, rounds, key_len })
    }

    fn derive(
        &self,
        password: &str,
        len: usize,
        budget: &mut Budget,
    ) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
        budget.take(self.rounds.iterations)?;
        let iterations = NonZeroU32::new(self.rounds.iterations).ok_or(Pkcs12Error::TooSlow)?;
        let mut key = Zeroizing::new(vec![0; len]);
        pbkdf2::derive(self.hash.pbkdf2(), iterations, &self.rounds.salt, password.as_bytes(), &mut key);
        Ok(key)
    }
}

/// `AlgorithmIdentifier`.
fn algorithm<'t, 'a>(element: Element<'t, 'a>) -> Result<(String, Option<Element<'t, 'a>>), BerError> {
    let mut fields = element.expect(Tag::SEQUENCE, "AlgorithmIdentifier")?.children();
    Ok((fields.required("algorithm")?.object_identifier()?.to_string(), fields.next()))
}

fn iterations(element: &Element<'_, '_>) -> Result<u32, Pkcs12Error> {
    let content = element.expect(Tag::INTEGER, "a number")?.content();
    let is_positive = content.first().is_some_and(|first| first & 0x80 == 0);
    if !is_positive {
        return Err(element.unexpected("a positive number").into());
    }
    let value = content
        .iter()
        .try_fold(0_u32, |value, octet| value.checked_mul(256).map(|value| value | u32::from(*octet)));
    match value {
        Some(0) => Err(element.unexpected("a positive number").into()),
        Some(value) => Ok(value),
        None => Err(Pkcs12Error::TooSlow),
    }
}

/// A password as a `BMPString` with two zeros at its end (RFC 7292 B.1). Of no password some make two zeros, and some
/// nothing.
fn secrets(password: &str) -> Vec<Zeroizing<Vec<u8>>> {
    let units = password.encode_utf16().chain([0]);
    let secret = Zeroizing::new(units.flat_map(u16::to_be_bytes).collect::<Vec<u8>>());
    if password.is_empty() { vec![secret, Zeroizing::default()] } else { vec![secret] }
}

/// RFC 7292 B.2.
fn derive(
    hash: Hash,
    purpose: Purpose,
    secret: &[u8],
    rounds: &Rounds,
    len: usize,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let v = hash.block_len();
    let stretched = |octets: &[u8]| -> Vec<u8> {
        let len = octets.len().div_ceil(v) * v;
        octets.iter().copied().cycle().take(len).collect()
    };
    let mut input = Zeroizing::new([stretched(&rounds.salt), stretched(secret)].concat());
    let mut out = Zeroizing::new(Vec::with_capacity(len + 64));
    loop {
        budget.take(rounds.iterations)?;
        let mut context = digest::Context::new(hash.digest());
        context.update(&vec![purpose as u8; v]);
        context.update(&input);
        let mut block = context.finish();
        for _ in 1..rounds.iterations {
            block = digest::digest(hash.digest(), block.as_ref());
        }
        out.extend_from_slice(block.as_ref());
        if out.len() >= len {
            out.truncate(len);
            return Ok(out);
        }
        let added: Vec<u8> = block.as_ref().iter().copied().cycle().take(v).collect();
        for chunk in input.chunks_mut(v) {
            // chunk + added + 1, modulo 2 to the power of 8 v.
            let mut carry = 1_u16;
            for (octet, more) in chunk.iter_mut().zip(&added).rev() {
                let sum = u16::from(*octet) + u16::from(*more) + carry;
                let [high, low] = sum.to_be_bytes();
                (*octet, carry) = (low, u16::from(high));
            }
        }
    }
}

fn triple_des(key: &[u8], iv: &[u8], content: Vec<u8>) -> Result<Vec<u8>, Pkcs12Error> {
    old(TdesEde3::new_from_slice(key).map_err(|_| Pkcs12Error::Password)?, iv, content)
}

fn old<C: BlockCipherDecrypt>(cipher: C, iv: &[u8], mut content: Vec<u8>) -> Result<Vec<u8>, Pkcs12Error> {
    let mode = Decryptor::inner_iv_slice_init(cipher, iv).map_err(|_| Pkcs12Error::Password)?;
    let len = mode.decrypt_padded::<Pkcs7>(&mut content).map_err(|_| Pkcs12Error::Password)?.len();
    content.truncate(len);
    Ok(content)
}

fn aes(algorithm: &'static Aes, key: &[u8], iv: [u8; 16], mut content: Vec<u8>) -> Option<Vec<u8>> {
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(algorithm, key).ok()?).ok()?;
    let len = key.decrypt(&mut content, DecryptionContext::Iv128(FixedLength::from(iv))).ok()?.len();
    content.truncate(len);
    Some(content)
}
