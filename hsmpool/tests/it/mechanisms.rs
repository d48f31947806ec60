//! Every mechanism with OpenSSL on the other side: signatures it verifies, shared secrets it derives too.

use std::{fs, path::Path, process::Command};

use hsmpool::{
    RawTokenKey,
    keys::{self, KeySpec},
};
use smime::{
    agreement::{Agreed, AgreementCurve, OriginatorPublicKey},
    algorithm::{
        DigestAlgorithm::{self, Sha256, Sha384, Sha512},
        SignatureAlgorithm::{self, Ecdsa, Ed25519, RsaPkcs1, RsaPss},
    },
    key::{KeyError, SignatureInput},
};
use spki::SubjectPublicKeyInfoRef;
use testkit::isolated::not_applicable;

use crate::support::{MESSAGE, TestToken, Through, isolated, pool_of, run};

/// Makes a key on the token; none, and says so, where the token makes no such keys.
fn made(token: &TestToken, spec: KeySpec) -> Option<Vec<u8>> {
    match keys::generate(&token.settings(), spec, &spec.to_string(), None) {
        Ok(made) => Some(made.public_key_info_der),
        Err(error @ hsmpool::PoolError::KeyKind { .. }) => {
            not_applicable(&error.to_string());
            None
        }
        Err(error) => panic!("{spec}: {error}"),
    }
}

fn hash_name(digest: DigestAlgorithm) -> String {
    digest.micalg().replace('-', "")
}

/// Lets `openssl pkeyutl` verify a signature, and refuse one of another message.
fn openssl_verifies(token: &TestToken, info: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) {
    let file = |name: &str| token.directory.join(name);
    fs::write(file("public.der"), info).unwrap();
    fs::write(file("signature"), signature).unwrap();
    let verify = |message: &[u8]| {
        let input = match SignatureInput::of(algorithm, message) {
            SignatureInput::Digest(digest) => digest.as_bytes().to_vec(),
            SignatureInput::Octets(octets) => octets.into_owned(),
        };
        fs::write(file("input"), input).unwrap();
        let mut command = token.command("openssl");
        command.args(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "public.der"]);
        command.args(["-sigfile", "signature", "-in", "input"]);
        let digest = format!("digest:{}", hash_name(algorithm.digest()));
        match algorithm {
            Ed25519 => command.arg("-rawin"),
            Ecdsa(_) => &mut command,
            RsaPss(_) => command
                .args(["-pkeyopt", &digest, "-pkeyopt", "rsa_padding_mode:pss"])
                .args(["-pkeyopt", "rsa_pss_saltlen:digest"]),
            _ => command.args(["-pkeyopt", &digest]),
        };
        command.output().unwrap().status.success()
    };
    assert!(verify(MESSAGE), "{algorithm:?}");
    assert!(!verify(b"another message"), "{algorithm:?}");
}

#[test]
fn openssl_verifies_every_signature() {
    isolated(Through::Nothing, |token| {
        let rsa = [RsaPkcs1, RsaPss].map(|scheme| [Sha256, Sha384, Sha512].map(scheme)).concat();
        let cases = [
            (KeySpec::Rsa(2048), rsa),
            (KeySpec::P256, vec![Ecdsa(Sha256)]),
            (KeySpec::P384, vec![Ecdsa(Sha384)]),
            (KeySpec::P521, vec![Ecdsa(Sha512)]),
            (KeySpec::Ed25519, vec![Ed25519]),
        ];
        let infos: Vec<_> = cases.iter().map(|(spec, _)| made(token, *spec)).collect();
        let pool = pool_of(&token.settings());
        for ((spec, algorithms), info) in cases.iter().zip(infos) {
            let Some(info) = info else { continue };
            let key = pool.key_by_public_key(&info);
            assert_eq!(key.algorithms(), algorithms, "{spec}");
            for algorithm in algorithms {
                let value = key.sign(&SignatureInput::of(*algorithm, MESSAGE), *algorithm).unwrap();
                openssl_verifies(token, &info, *algorithm, &value.0);
            }
        }
    });
}

#[test]
fn ed25519_signs_octets_of_any_length_up_to_the_limit() {
    isolated(Through::Nothing, |token| {
        let Some(info) = made(token, KeySpec::Ed25519) else { return };
        let key = pool_of(&token.settings()).key_by_public_key(&info);
        let public = SubjectPublicKeyInfoRef::try_from(&info[..]).unwrap();
        let public = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ED25519,
            public.subject_public_key.raw_bytes(),
        );
        for len in [0, 1, 63, 64, 1000, 64 << 10] {
            let octets = vec![0x5a; len];
            let value = key.sign(&SignatureInput::of(Ed25519, &octets), Ed25519).unwrap();
            public.verify(&octets, &value.0).unwrap();
        }
        let too_long = vec![0; (64 << 10) + 1];
        let error = key.sign(&SignatureInput::of(Ed25519, &too_long), Ed25519).unwrap_err();
        assert!(matches!(error, KeyError::Unsupported { .. }), "{error:?}");
    });
}

const AGREEING: [(KeySpec, AgreementCurve, &[&str]); 4] = [
    (KeySpec::P256, AgreementCurve::P256, &["EC", "ec_paramgen_curve:P-256"]),
    (KeySpec::P384, AgreementCurve::P384, &["EC", "ec_paramgen_curve:P-384"]),
    (KeySpec::P521, AgreementCurve::P521, &["EC", "ec_paramgen_curve:P-521"]),
    (KeySpec::X25519, AgreementCurve::X25519, &["X25519"]),
];

/// The secret that OpenSSL derives from a new key of its own and this one; and that new key's public half.
fn openssl_derives(directory: &Path, kind: &[&str], info: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let openssl = || {
        let mut command = Command::new("openssl");
        command.current_dir(directory);
        command
    };
    let mut generate = openssl();
    generate.args(["genpkey", "-out", "ephemeral.pem", "-algorithm"]).arg(kind[0]);
    for option in &kind[1..] {
        generate.args(["-pkeyopt", option]);
    }
    run(&mut generate, "openssl");
    let public =
        run(openssl().args(["pkey", "-in", "ephemeral.pem", "-pubout", "-outform", "DER"]), "openssl");
    fs::write(directory.join("peer.der"), info).unwrap();
    let mut derive = openssl();
    derive.args([
        "pkeyutl",
        "-derive",
        "-inkey",
        "ephemeral.pem",
        "-peerform",
        "DER",
        "-peerkey",
        "peer.der",
    ]);
    let secret = run(&mut derive, "openssl");
    let public = SubjectPublicKeyInfoRef::try_from(&public[..]).unwrap();
    (secret, public.subject_public_key.raw_bytes().to_vec())
}

fn secret(key: &RawTokenKey, curve: AgreementCurve, point: &[u8]) -> Option<Vec<u8>> {
    let originator = OriginatorPublicKey::new(curve, point).unwrap();
    match key.agree(&originator).unwrap() {
        Agreed::Secret(secret) => Some(secret.expose().to_vec()),
        Agreed::Rejected => None,
    }
}

#[test]
fn openssl_derives_the_same_secrets() {
    isolated(Through::Nothing, |token| {
        if token.lacks("ECDH1-DERIVE", "derive") {
            return;
        }
        let infos = AGREEING.map(|(spec, ..)| made(token, spec));
        let pool = pool_of(&token.settings());
        for ((spec, curve, kind), info) in AGREEING.into_iter().zip(infos) {
            let Some(info) = info else { continue };
            let key = pool.key_by_public_key(&info);
            // Often enough to meet secrets that begin with a zero, which must not be dropped.
            for _ in 0..if curve == AgreementCurve::P521 { 20 } else { 5 } {
                let (expected, point) = openssl_derives(&token.directory, kind, &info);
                assert_eq!(expected.len(), curve.field_len());
                assert_eq!(secret(&key, curve, &point), Some(expected), "{spec}");
            }
        }
    });
}

#[test]
fn a_shared_secret_does_not_stay_on_the_token() {
    isolated(Through::Spy, |token| {
        if token.lacks("ECDH1-DERIVE", "derive") {
            return;
        }
        let Some(info) = made(token, KeySpec::P256) else { return };
        let key = pool_of(&token.settings()).key_by_public_key(&info);
        let (kind, curve) = (AGREEING[0].2, AgreementCurve::P256);
        for _ in 0..3 {
            let (_, point) = openssl_derives(&token.directory, kind, &info);
            secret(&key, curve, &point).unwrap();
        }
        assert_eq!((token.count("C_DeriveKey"), token.count("C_DestroyObject")), (3, 3));
    });
}

#[test]
fn keys_that_do_not_agree_say_so_before_the_token_is_asked() {
    isolated(Through::Spy, |token| {
        let kinds = [KeySpec::Rsa(2048), KeySpec::Ed25519, KeySpec::P384];
        let infos: Vec<Vec<u8>> = kinds.into_iter().filter_map(|kind| made(token, kind)).collect();
        let pool = pool_of(&token.settings());
        let p256 = aws_lc_rs::agreement::PrivateKey::generate(AgreementCurve::P256.engine()).unwrap();
        let point = p256.compute_public_key().unwrap();
        let originator = OriginatorPublicKey::new(AgreementCurve::P256, point.as_ref()).unwrap();
        for info in infos {
            let error = pool.key_by_public_key(&info).agree(&originator).unwrap_err();
            assert!(matches!(error, KeyError::Unsupported { .. }), "{error:?}");
        }
        assert_eq!(token.count("C_DeriveKey"), 0);
    });
}
