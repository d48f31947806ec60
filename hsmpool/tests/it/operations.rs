//! Signing and decrypting with SoftHSM, checked by aws-lc-rs and OpenSSL.

use crate::support::{MESSAGE, Through, digest, isolated, pool_of, start};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use hsmpool::TokenKey;
use smime::{
    Certificate, Fault,
    algorithm::{
        DigestAlgorithm::{self, Sha1, Sha256, Sha384, Sha512},
        KeyEncryptionAlgorithm::{self, RsaOaep},
        SignatureAlgorithm::{self, Ecdsa, RsaPkcs1, RsaPss},
    },
    key::{Decryptor, KeyError, Signer, Unwrapped},
};

fn verify(certificate: &Certificate, algorithm: &'static dyn VerificationAlgorithm, value: &[u8]) {
    let key = UnparsedPublicKey::new(algorithm, certificate.public_key());
    key.verify(MESSAGE, value).unwrap_or_else(|_| panic!("{certificate} {algorithm:?}"));
}

fn signs(key: &TokenKey, algorithm: SignatureAlgorithm, verifier: &'static dyn VerificationAlgorithm) {
    assert!(key.must_be_checked(), "what comes from a token is checked before it is used");
    let value = key.sign(&digest(algorithm.digest()), algorithm).unwrap();
    verify(Signer::certificate(key), verifier, &value.0);
}

#[test]
fn signatures_verify_with_the_certificate() {
    isolated(Through::Nothing, |token| {
        let rsa = token.import_key("mail", "rsa:2048", "01");
        let rsa3072 = token.import_key("mail", "rsa:3072", "02");
        let p256 = token.import_key("mail", "P-256", "03");
        let p384 = token.import_key("mail", "P-384", "04");
        let p521 = token.import_key("mail", "P-521", "05");
        let pool = pool_of(&token.settings());
        for certificate in [rsa, rsa3072] {
            let key = pool.key(&certificate);
            let [pkcs1, pss] = [RsaPkcs1, RsaPss].map(|scheme| [Sha256, Sha384, Sha512].map(scheme));
            assert_eq!(key.algorithms(), [pkcs1, pss].concat());
            signs(&key, RsaPkcs1(Sha256), &signature::RSA_PKCS1_2048_8192_SHA256);
            signs(&key, RsaPkcs1(Sha384), &signature::RSA_PKCS1_2048_8192_SHA384);
            signs(&key, RsaPkcs1(Sha512), &signature::RSA_PKCS1_2048_8192_SHA512);
            signs(&key, RsaPss(Sha256), &signature::RSA_PSS_2048_8192_SHA256);
            signs(&key, RsaPss(Sha384), &signature::RSA_PSS_2048_8192_SHA384);
            signs(&key, RsaPss(Sha512), &signature::RSA_PSS_2048_8192_SHA512);
        }
        if token.lacks("ECDSA", "sign") {
            return;
        }
        let curves: [(Certificate, DigestAlgorithm, &'static dyn VerificationAlgorithm); 3] = [
            (p256.clone(), Sha256, &signature::ECDSA_P256_SHA256_ASN1),
            (p384, Sha384, &signature::ECDSA_P384_SHA384_ASN1),
            (p521, Sha512, &signature::ECDSA_P521_SHA512_ASN1),
        ];
        for (certificate, hash, verifier) in curves {
            let key = pool.key(&certificate);
            assert_eq!(key.algorithms(), [Ecdsa(hash)]);
            // Often enough to meet short and high-bit integers.
            for _ in 0..40 {
                signs(&key, Ecdsa(hash), verifier);
            }
        }
        // A digest longer than the order is cut on its left (FIPS 186-5).
        signs(&pool.key(&p256), Ecdsa(Sha512), &signature::ECDSA_P256_SHA512_ASN1);
    });
}

#[test]
fn keys_encrypted_by_openssl_are_unwrapped() {
    isolated(Through::Nothing, |token| {
        let certificates = [
            ("01", token.import_key("mail", "rsa:2048", "01")),
            ("02", token.import_key("mail", "rsa:3072", "02")),
        ];
        let pool = pool_of(&token.settings());
        let oaep = |hash, mask_hash, label: &[u8]| RsaOaep { hash, mask_hash, label: label.to_vec() };
        let cases: &[(&[&str], KeyEncryptionAlgorithm)] = &[
            (&["rsa_padding_mode:pkcs1"], KeyEncryptionAlgorithm::RsaPkcs1),
            (&["rsa_padding_mode:oaep"], oaep(Sha1, Sha1, b"")),
            // SoftHSM 2.6.1 refuses these, so the padding is taken off by us.
            (&["rsa_padding_mode:oaep", "rsa_oaep_md:sha256"], oaep(Sha256, Sha256, b"")),
            (&["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha1"], oaep(Sha256, Sha1, b"")),
            (&["rsa_padding_mode:oaep", "rsa_oaep_md:sha384"], oaep(Sha384, Sha384, b"")),
            (&["rsa_padding_mode:oaep", "rsa_oaep_md:sha512"], oaep(Sha512, Sha512, b"")),
            // … and would ignore this label.
            (&["rsa_padding_mode:oaep", "rsa_oaep_label:6c6162656c"], oaep(Sha1, Sha1, b"label")),
        ];
        for (id, certificate) in &certificates {
            let key = pool.key(certificate);
            for (options, algorithm) in cases {
                for len in [16, 32] {
                    let content_encryption_key = vec![0xa5; len];
                    let encrypted = token.encrypt_to(id, &content_encryption_key, options);
                    let Unwrapped::Key(unwrapped) = key.decrypt_key(&encrypted, algorithm).unwrap() else {
                        panic!("{algorithm:?} rejected a good key");
                    };
                    assert_eq!(unwrapped.expose(), content_encryption_key, "{algorithm:?}");
                    assert_rejected(&key, &encrypted, algorithm, &content_encryption_key);
                }
            }
        }
    });
}

/// Every way in which a ciphertext can be bad is the same value. For PKCS #1 v1.5 a token may also do what NSS and
/// OpenSSL 3.2 do: give a key made of the ciphertext, which then fails as every wrong key does.
fn assert_rejected(key: &TokenKey, good: &[u8], algorithm: &KeyEncryptionAlgorithm, plaintext: &[u8]) {
    let mut changed = good.to_vec();
    changed[77] ^= 1;
    let len = good.len();
    let bad = [
        changed,
        vec![0; len],
        vec![0xff; len],
        vec![1; len],
        vec![],
        good[1..].to_vec(),
        [good, &[0]].concat(),
    ];
    for ciphertext in bad {
        let result = key.decrypt_key(&ciphertext, algorithm);
        let is_rejected = match &result {
            Ok(Unwrapped::Rejected) => true,
            Ok(Unwrapped::Key(other)) => {
                *algorithm == KeyEncryptionAlgorithm::RsaPkcs1 && other.expose() != plaintext
            }
            _ => false,
        };
        assert!(is_rejected, "{algorithm:?} {} octets: {result:?}", ciphertext.len());
    }
}

#[test]
fn the_token_sees_the_same_calls_for_good_and_bad_ciphertexts() {
    isolated(Through::Spy, |token| {
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&hsmpool::TokenSettings { sessions: Some(1), ..token.settings() });
        let key = pool.key(&certificate);
        let pkcs1 = KeyEncryptionAlgorithm::RsaPkcs1;
        let good = token.encrypt_to("01", &[7; 32], &["rsa_padding_mode:pkcs1"]);
        let long = token.encrypt_to("01", &[7; 245], &["rsa_padding_mode:pkcs1"]);
        let wrong_block_type =
            token.encrypt_to("01", &[[0, 1], [9; 2]].concat().repeat(64), &["rsa_padding_mode:none"]);
        // SoftHSM says CKR_GENERAL_ERROR for bad padding; the first one is where this is learned. NSS gives a key.
        let first = key.decrypt_key(&wrong_block_type, &pkcs1);
        assert!(matches!(first, Ok(Unwrapped::Rejected | Unwrapped::Key(_))), "{first:?}");
        let mut seen: Option<Vec<String>> = None;
        for ciphertext in [&good, &wrong_block_type, &long, &vec![0x42; 256], &good] {
            let before = token.calls().lines().count();
            key.decrypt_key(ciphertext, &pkcs1).unwrap();
            let calls: Vec<String> = token.calls().lines().skip(before).filter_map(called_function).collect();
            assert!(calls.iter().any(|call| call == "C_Decrypt"), "{calls:?}");
            assert_eq!(seen.get_or_insert_with(|| calls.clone()), &calls);
        }
    });
}

fn called_function(line: &str) -> Option<String> {
    let (number, function) = line.split_once(": ")?;
    (number.parse::<u32>().is_ok() && function.starts_with("C_")).then(|| function.to_owned())
}

#[test]
fn what_key_or_token_cannot_do_is_unsupported_not_rejected() {
    isolated(Through::Nothing, |token| {
        let rsa = token.import_key("mail", "rsa:2048", "01");
        let p256 = token.import_key("mail", "P-256", "02");
        let pool = pool_of(&token.settings());
        let unsupported = |error: KeyError| {
            assert!(matches!(error, KeyError::Unsupported { .. }), "{error:?}");
            assert_eq!(error.fault(), Fault::Operator);
        };
        for (certificate, algorithm, hash) in [
            (&rsa, Ecdsa(Sha256), Sha256),
            (&p256, RsaPkcs1(Sha256), Sha256),
            // A digest of another algorithm than announced, and SHA-1.
            (&rsa, RsaPkcs1(Sha256), Sha384),
            (&rsa, RsaPkcs1(Sha1), Sha1),
            (&p256, Ecdsa(Sha1), Sha1),
        ] {
            unsupported(pool.key(certificate).sign(&digest(hash), algorithm).unwrap_err());
        }
        unsupported(pool.key(&p256).decrypt_key(&[0; 256], &KeyEncryptionAlgorithm::RsaPkcs1).unwrap_err());
        // The token has gone on working.
        signs(&pool.key(&rsa), RsaPkcs1(Sha256), &signature::RSA_PKCS1_2048_8192_SHA256);
    });
}

#[test]
fn kinds_of_keys_that_are_not_used_have_no_algorithms() {
    isolated(Through::Nothing, |token| {
        let pool = start(&[]).unwrap();
        for (kind, name) in [("secp256k1", "01"), ("brainpoolP256r1", "02")] {
            let key = pool.key(&token.certificate(kind, name));
            assert_eq!(key.algorithms(), []);
            let error = key.sign(&digest(Sha256), Ecdsa(Sha256)).unwrap_err();
            assert!(matches!(error, KeyError::Unsupported { .. }), "{error:?}");
        }
    });
}
