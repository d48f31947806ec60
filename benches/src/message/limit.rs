//! What cannot be avoided: hash, cipher and base64 over the same octets, and the operation of the key.
//!
//! Block by block, so that all of it happens in the processor's cache, and into buffers that are there already: no
//! program that gets a whole message and gives a whole one can be as fast.

use std::hint::black_box;

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement,
    cipher::{
        AES_256, DecryptionContext, EncryptionContext, StreamingDecryptingKey, StreamingEncryptingKey,
        UnboundCipherKey,
    },
    digest::{Context, SHA256},
    error::Unspecified,
    iv::FixedLength,
    rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey},
    signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256},
};
use base64_simd::STANDARD;
use smime::{
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{Decryptor as _, SignatureInput, Signer as _},
};

use super::{
    contender::Run,
    material::{Person, Task},
    operation::{Key, Operation},
};

/// A whole number of lines of base64, and of the cipher's blocks.
const BLOCK: usize = 57 * 16 * 64;
const KEY: [u8; 32] = [7; 32];

/// Prepares a task.
pub fn prepare<'t>(task: &'t Task<'_>) -> Result<Run<'t>> {
    let content = vec![0x5a_u8; task.content_len];
    let mut key = key_operation(task)?;
    let mut buffer = vec![0_u8; BLOCK + 16];
    let mut text = vec![0_u8; BLOCK / 3 * 4];
    Ok(match task.operation {
        Operation::Sign | Operation::SignChecked | Operation::Verify => Box::new(move || {
            let mut hash = Context::new(&SHA256);
            content.chunks(BLOCK).for_each(|block| hash.update(block));
            black_box(hash.finish());
            key()?;
            Ok(content.len())
        }),
        Operation::EncryptCbc => Box::new(move || {
            let mut stream = encrypting().map_err(engine)?;
            for block in content.chunks(BLOCK) {
                let written = stream.update(block, &mut buffer).map_err(engine)?.written().len();
                encode(buffer.get(..written), &mut text);
            }
            black_box(stream.finish(&mut buffer).map_err(engine)?);
            key()?;
            Ok(content.len())
        }),
        Operation::EncryptGcm => Box::new(move || {
            let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).map_err(engine)?);
            let mut tag = [0; 16];
            for block in content.chunks(BLOCK) {
                let place = buffer.get_mut(..block.len()).context("longer than a block")?;
                let nonce = Nonce::assume_unique_for_key([0; 12]);
                cipher
                    .seal_out_of_place_scatter(nonce, Aad::empty(), block, place, &[], &mut tag)
                    .map_err(engine)?;
                encode(Some(place), &mut text);
            }
            key()?;
            Ok(content.len())
        }),
        Operation::DecryptCbc => {
            let sealed = STANDARD.encode_to_string(&content);
            Box::new(move || {
                let mut stream = decrypting().map_err(engine)?;
                for block in sealed.as_bytes().chunks(BLOCK / 3 * 4) {
                    let octets = decode(block, &mut text)?;
                    black_box(stream.update(octets, &mut buffer).map_err(engine)?);
                }
                key()?;
                Ok(content.len())
            })
        }
        Operation::DecryptGcm => {
            let sealed = sealed_blocks(&content)?;
            Box::new(move || {
                let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).map_err(engine)?);
                for (block, tag) in &sealed {
                    let octets = decode(block, &mut text)?;
                    let place = buffer.get_mut(..octets.len()).context("longer than a block")?;
                    let nonce = Nonce::assume_unique_for_key([0; 12]);
                    cipher.open_separate_gather(nonce, Aad::empty(), octets, tag, place).map_err(engine)?;
                }
                key()?;
                Ok(content.len())
            })
        }
    })
}

fn engine(_: Unspecified) -> anyhow::Error {
    anyhow!("aws-lc failed")
}

fn encode(octets: Option<&[u8]>, text: &mut [u8]) {
    let octets = octets.unwrap_or_default();
    let room = text.get_mut(..octets.len().div_ceil(3) * 4).unwrap_or_default();
    black_box(STANDARD.encode(octets, base64_simd::Out::from_slice(room)));
}

fn decode<'o>(text: &[u8], octets: &'o mut [u8]) -> Result<&'o [u8]> {
    Ok(STANDARD.decode(text, base64_simd::Out::from_slice(octets))?)
}

fn encrypting() -> Result<StreamingEncryptingKey, Unspecified> {
    let start = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    StreamingEncryptingKey::less_safe_cbc_pkcs7(UnboundCipherKey::new(&AES_256, &KEY)?, start)
}

fn decrypting() -> Result<StreamingDecryptingKey, Unspecified> {
    let start = DecryptionContext::Iv128(FixedLength::from([0; 16]));
    StreamingDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &KEY)?, start)
}

/// Each block in base64 with its tag.
fn sealed_blocks(content: &[u8]) -> Result<Vec<(Vec<u8>, [u8; 16])>> {
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).map_err(engine)?);
    let seal = |block: &[u8]| {
        let (mut octets, mut tag) = (block.to_vec(), [0; 16]);
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let sealed = cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut octets).map_err(engine)?;
        tag.copy_from_slice(sealed.as_ref());
        Ok((STANDARD.encode_to_string(&octets).into_bytes(), tag))
    };
    content.chunks(BLOCK).map(seal).collect()
}

/// What the key does once for a message: the private half to sign and decrypt, the public half to verify and encrypt.
fn key_operation<'t>(task: &'t Task<'_>) -> Result<Box<dyn FnMut() -> Result<()> + 't>> {
    let person = task.person;
    let algorithm = *person.key.algorithms().first().context("the key does not sign")?;
    match task.operation {
        Operation::Sign | Operation::SignChecked => Ok(Box::new(move || {
            black_box(person.key.sign(&SignatureInput::of(algorithm, b"x"), algorithm)?);
            Ok(())
        })),
        Operation::Verify => verification(person, algorithm),
        Operation::EncryptCbc | Operation::EncryptGcm => encryption(person),
        Operation::DecryptCbc | Operation::DecryptGcm => decryption(person),
    }
}

/// A box of what a key does.
type KeyRun<'t> = Box<dyn FnMut() -> Result<()> + 't>;

fn verification(person: &Person, algorithm: SignatureAlgorithm) -> Result<KeyRun<'_>> {
    let signature = person.key.sign(&SignatureInput::of(algorithm, b"x"), algorithm)?;
    let engine_algorithm: &'static dyn aws_lc_rs::signature::VerificationAlgorithm = match person.kind() {
        Key::Rsa2048 => &RSA_PKCS1_2048_8192_SHA256,
        Key::P256 => &ECDSA_P256_SHA256_ASN1,
    };
    let key = ParsedPublicKey::new(engine_algorithm, person.certificate.public_key())?;
    Ok(Box::new(move || key.verify_sig(b"x", &signature.0).map_err(engine)))
}

fn encryption(person: &Person) -> Result<KeyRun<'_>> {
    if person.kind() == Key::P256 {
        return Ok(Box::new(move || {
            let own = agreement::PrivateKey::generate(&agreement::ECDH_P256).map_err(engine)?;
            black_box(own.compute_public_key().map_err(engine)?);
            let peer =
                agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, person.certificate.public_key());
            agreement::agree(&own, peer, anyhow!("no agreement"), |secret| {
                black_box(secret);
                Ok(())
            })
        }));
    }
    let key = rsa_public(person)?;
    let mut out = vec![0; key.ciphertext_size()];
    Ok(Box::new(move || {
        black_box(key.encrypt(&KEY, &mut out).map_err(engine)?);
        Ok(())
    }))
}

fn decryption(person: &Person) -> Result<KeyRun<'_>> {
    if person.kind() == Key::P256 {
        let own = agreement::PrivateKey::generate(&agreement::ECDH_P256).map_err(engine)?;
        return Ok(Box::new(move || {
            let peer =
                agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, person.certificate.public_key());
            agreement::agree(&own, peer, anyhow!("no agreement"), |secret| {
                black_box(secret);
                Ok(())
            })
        }));
    }
    let key = rsa_public(person)?;
    let mut out = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(&KEY, &mut out).map_err(engine)?.to_vec();
    Ok(Box::new(move || {
        black_box(person.key.decrypt_key(&encrypted, &KeyEncryptionAlgorithm::RsaPkcs1)?);
        Ok(())
    }))
}

fn rsa_public(person: &Person) -> Result<Pkcs1PublicEncryptingKey> {
    let key = openssl::x509::X509::from_der(person.certificate.der())?.public_key()?.public_key_to_der()?;
    Pkcs1PublicEncryptingKey::new(PublicEncryptingKey::from_der(&key)?).map_err(engine)
}
