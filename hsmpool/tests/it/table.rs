//! What each token can do: measured, and held against `docs/tokens.md`, which must say the same.
//!
//! Signatures, key agreement and raw RSA go through the pool; what the pool hides is asked of the module directly.
//! To write a column anew: `HSMIME_TEST_TOKEN=… cargo nextest run -p hsmpool --test it table --no-capture`.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path};

use aws_lc_rs::{
    agreement::{self, PrivateKey, UnparsedPublicKey as AgreementPublicKey},
    rsa::{
        OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
        OaepAlgorithm, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey,
    },
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::Error,
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::{Attribute, ObjectClass},
    session::{Session, SessionState, UserType},
    slot::Slot,
    types::AuthPin,
};
use hsmpool::{Pool, RawTokenKey, TokenSettings, modules::TokenInfo};
use smime::{
    agreement::{Agreed, AgreementCurve, OriginatorPublicKey},
    algorithm::{
        DigestAlgorithm::{Sha1, Sha256, Sha384, Sha512},
        KeyEncryptionAlgorithm,
        SignatureAlgorithm::{self, Ecdsa, Ed25519, RsaPkcs1, RsaPss},
    },
    key::{SignatureInput, Unwrapped},
};
use testkit::{isolated::not_applicable, token::Kind};

use crate::support::{MESSAGE, PIN, TestToken, Through, isolated, pool_of, run};

/// Enough for any pool.
const SESSIONS: usize = 1024;
const SECRET: [u8; 32] = [0xa5; 32];

#[test]
fn the_table_in_the_docs_says_what_the_token_does() {
    isolated(Through::Nothing, |token| {
        let measured = measure(token);
        for (row, cell) in &measured {
            writeln!(std::io::stdout(), "measured: | {row} | {cell} |").unwrap();
        }
        let documented = documented();
        let version = measured[0].0;
        if documented.get(version) != Some(&measured[0].1) {
            let told = documented.get(version);
            return not_applicable(&format!(
                "this is version {}, the table tells of {told:?}",
                measured[0].1
            ));
        }
        let measured: BTreeMap<String, String> =
            measured.into_iter().map(|(row, cell)| (row.to_owned(), cell)).collect();
        assert_eq!(documented, measured, "left: docs/tokens.md, right: measured");
    });
}

/// The rows of the table, with the cell of the token's column.
fn documented() -> BTreeMap<String, String> {
    let column = match Kind::chosen().unwrap() {
        Kind::SoftHsm => 0,
        Kind::Kryoptic => 1,
        Kind::Softokn => 2,
        Kind::OpenCryptoki => 3,
    };
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tokens.md")).unwrap();
    let table = text.lines().skip_while(|line| !line.starts_with("| --- |")).skip(1);
    let rows = table.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        (cells[0].to_owned(), cells[1 + column].to_owned())
    });
    rows.collect()
}

fn measure(token: &TestToken) -> Vec<(&'static str, String)> {
    let rsa = ["2048", "3072", "4096"].map(|bits| (bits, key(token, &format!("RSA:{bits}"), bits)));
    let curves = ["P-256", "P-384", "P-521"].map(|curve| (curve, key(token, &format!("EC:{curve}"), curve)));
    let ed25519 = key(token, "ED25519", "ed25519");
    let x25519 = x25519(token);
    let always = always_authenticate(token);
    token.init_token("second", PIN);
    let rsa2048 = rsa[0].1.clone().unwrap();

    let mut rows = directly(token, &rsa2048);
    let pool = pool_of(&TokenSettings { sessions: Some(1), ..token.settings() });
    let signs = |info: Option<&Vec<u8>>, algorithm, verifier| {
        info.is_some_and(|info| signs(&pool, info, algorithm, verifier))
    };
    let rsa_sizes = rsa
        .iter()
        .filter(|(_, info)| signs(info.as_ref(), RsaPkcs1(Sha256), &signature::RSA_PKCS1_2048_8192_SHA256));
    rows.push(("signs by RSA PKCS #1 v1.5", list(rsa_sizes.map(|(bits, _)| *bits))));
    let pss: [(&str, _, &'static dyn VerificationAlgorithm); 3] = [
        ("SHA-256", Sha256, &signature::RSA_PSS_2048_8192_SHA256),
        ("SHA-384", Sha384, &signature::RSA_PSS_2048_8192_SHA384),
        ("SHA-512", Sha512, &signature::RSA_PSS_2048_8192_SHA512),
    ];
    let pss = pss.into_iter().filter(|(_, hash, verifier)| signs(Some(&rsa2048), RsaPss(*hash), *verifier));
    rows.push(("signs by RSASSA-PSS", list(pss.map(|(name, _, _)| name))));
    let ecdsa: [(_, &'static dyn VerificationAlgorithm); 3] = [
        (Sha256, &signature::ECDSA_P256_SHA256_ASN1),
        (Sha384, &signature::ECDSA_P384_SHA384_ASN1),
        (Sha512, &signature::ECDSA_P521_SHA512_ASN1),
    ];
    let ecdsa = curves
        .iter()
        .zip(ecdsa)
        .filter(|((_, info), (hash, verifier))| signs(info.as_ref(), Ecdsa(*hash), *verifier));
    rows.push(("signs by ECDSA", list(ecdsa.map(|((curve, _), _)| *curve))));
    rows.push(("signs by Ed25519", yes(signs(ed25519.as_ref(), Ed25519, &signature::ED25519))));

    let key = pool.key_by_public_key(&rsa2048);
    let encrypted = encrypt_pkcs1(&rsa2048);
    rows.push((
        "decrypts RSA PKCS #1 v1.5",
        yes(decrypts(&key, &encrypted, &KeyEncryptionAlgorithm::RsaPkcs1)),
    ));
    // Nobody's token takes off the padding with such a label through the pool: this is CKM_RSA_X_509.
    let label = KeyEncryptionAlgorithm::RsaOaep { hash: Sha1, mask_hash: Sha1, label: b"label".to_vec() };
    let encrypted = encrypt_oaep(&rsa2048, &OAEP_SHA1_MGF1SHA1, Some(b"label"));
    rows.push(("decrypts raw RSA, so OAEP of any kind", yes(decrypts(&key, &encrypted, &label))));
    let agreement = [AgreementCurve::P256, AgreementCurve::P384, AgreementCurve::P521];
    let agreed = curves
        .iter()
        .zip(agreement)
        .filter(|((_, info), curve)| info.as_ref().is_some_and(|info| agrees(&pool, info, *curve)));
    rows.push(("agrees by ECDH", list(agreed.map(|((curve, _), _)| *curve))));
    let agrees_x25519 = x25519.is_some_and(|info| agrees(&pool, &info, AgreementCurve::X25519));
    rows.push(("agrees by X25519", yes(agrees_x25519)));
    rows.push(("asks for the PIN at each use", always.to_owned()));
    rows
}

/// What the pool does not show, asked of the module.
fn directly(token: &TestToken, rsa: &[u8]) -> Vec<(&'static str, String)> {
    let (pkcs11, info) = initialised(token);
    let slot = Slot::try_from(info.slot).unwrap();
    let library = pkcs11.get_library_info().unwrap();
    let mut rows =
        vec![("version", version(&pkcs11, slot)), ("PKCS #11", library.cryptoki_version().to_string())];
    let told = info.max_sessions.map_or("no limit".to_owned(), |most| most.to_string());
    rows.push(("sessions at most, as it says", told));
    let mut sessions = Vec::new();
    while sessions.len() < SESSIONS
        && let Ok(session) = pkcs11.open_ro_session(slot)
    {
        sessions.push(session);
    }
    let opened =
        if sessions.len() == SESSIONS { format!("{SESSIONS} or more") } else { sessions.len().to_string() };
    rows.push(("sessions that it gave", opened));
    drop(sessions);

    let other =
        || hsmpool::modules::tokens(&token.module).unwrap().into_iter().find(|it| it.label == "second");
    let second = pkcs11.open_ro_session(other().unwrap().slot.try_into().unwrap()).unwrap();
    second.login(UserType::User, Some(&AuthPin::new("86753091".into()))).unwrap_err();
    rows.push(("a wrong PIN shows in its flags", yes(other().unwrap().pin_count_low)));
    let session = pkcs11.open_ro_session(slot).unwrap();
    let private = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(b"key 2048".to_vec())];
    let shown = session.find_objects(&private).is_ok_and(|found| !found.is_empty());
    rows.push(("shows private keys before login", yes(shown)));
    session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
    let stays_out = second.get_session_info().unwrap().session_state() == SessionState::RoPublic;
    rows.push(("several tokens in one process", yes(stays_out)));
    let key = session.find_objects(&private).unwrap().remove(0);
    let hashes: [(&str, &'static OaepAlgorithm, _, _); 4] = [
        ("SHA-1", &OAEP_SHA1_MGF1SHA1, MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        ("SHA-256", &OAEP_SHA256_MGF1SHA256, MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
        ("SHA-384", &OAEP_SHA384_MGF1SHA384, MechanismType::SHA384, PkcsMgfType::MGF1_SHA384),
        ("SHA-512", &OAEP_SHA512_MGF1SHA512, MechanismType::SHA512, PkcsMgfType::MGF1_SHA512),
    ];
    let oaep = |hash, mask| Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty()));
    let takes = hashes.into_iter().filter(|(_, algorithm, hash, mask)| {
        let encrypted = encrypt_oaep(rsa, algorithm, None);
        session.decrypt(&oaep(*hash, *mask), key, &encrypted).is_ok_and(|plaintext| plaintext == SECRET)
    });
    rows.push(("decrypts RSAES-OAEP by itself", list(takes.map(|(name, ..)| name))));
    let bad = |mechanism: &Mechanism<'_>| {
        // Below the modulus, but of no padding at all.
        let result = session.decrypt(mechanism, key, &[1; 256]);
        after_bad_ciphertext(&session, result)
    };
    rows.push(("says to bad PKCS #1 v1.5 padding", bad(&Mechanism::RsaPkcs)));
    rows.push(("says to bad OAEP padding", bad(&oaep(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1))));
    drop((session, second));
    pkcs11.clone().finalize().unwrap();
    let again = pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).is_ok();
    let again = again && pkcs11.open_ro_session(slot).is_ok();
    rows.push(("works again after C_Finalize and C_Initialize", yes(again)));
    pkcs11.finalize().unwrap();
    rows
}

/// That of the library, or of the token where the library has none.
fn version(pkcs11: &Pkcs11, slot: Slot) -> String {
    match pkcs11.get_library_info().unwrap().library_version().to_string() {
        none if none == "0.0" => pkcs11.get_token_info(slot).unwrap().firmware_version().to_string(),
        version => version,
    }
}

fn after_bad_ciphertext(session: &Session, result: Result<Vec<u8>, Error>) -> String {
    assert!(session.get_session_info().is_ok(), "the session outlives it");
    match result {
        Ok(_) => "nothing: gives a random key".to_owned(),
        Err(Error::Pkcs11(value, _)) => {
            // `DeviceError` is CKR_DEVICE_ERROR.
            format!("{value:?}").chars().fold("CKR".to_owned(), |name, character| {
                let separator = if character.is_uppercase() { "_" } else { "" };
                format!("{name}{separator}{}", character.to_ascii_uppercase())
            })
        }
        Err(error) => panic!("{error}"),
    }
}

/// Makes a key with OpenSSL and imports it; gives its `SubjectPublicKeyInfo`, if the token takes such keys.
fn key(token: &TestToken, kind: &str, name: &str) -> Option<Vec<u8>> {
    let (algorithm, option) = kind.split_once(':').unwrap_or((kind, ""));
    let mut generate = token.command("openssl");
    generate.args(["genpkey", "-quiet", "-algorithm", algorithm, "-out"]).arg(format!("{name}.key"));
    match algorithm {
        "RSA" => drop(generate.arg("-pkeyopt").arg(format!("rsa_keygen_bits:{option}"))),
        "EC" => drop(generate.arg("-pkeyopt").arg(format!("ec_paramgen_curve:{option}"))),
        _ => {}
    }
    run(&mut generate, "openssl");
    let mut public = token.command("openssl");
    public.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(format!("{name}.key"));
    let info = run(&mut public, "openssl");
    let id = data_encoding::HEXLOWER.encode(name.as_bytes());
    token.try_import("mail", PIN, name, &id).ok().map(|()| info)
}

/// Makes a key on the token, because nobody's tool imports one; gives its `SubjectPublicKeyInfo`. Which of the two
/// mechanisms makes keys on Curve25519 is not the same everywhere.
fn x25519(token: &TestToken) -> Option<Vec<u8>> {
    let (pkcs11, info) = initialised(token);
    let session = pkcs11.open_rw_session(info.slot.try_into().unwrap()).unwrap();
    session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
    let common = [Attribute::Token(true), Attribute::Label(b"x25519".to_vec()), Attribute::Id(vec![0x25])];
    // OBJECT IDENTIFIER 1.3.101.110, RFC 8410.
    let parameters = Attribute::EcParams(vec![0x06, 0x03, 0x2b, 0x65, 0x6e]);
    let public = [&common[..], &[parameters]].concat();
    let private = [&common[..], &[Attribute::Private(true), Attribute::Derive(true)]].concat();
    let made = [Mechanism::EccMontgomeryKeyPairGen, Mechanism::EccEdwardsKeyPairGen]
        .iter()
        .any(|mechanism| session.generate_key_pair(mechanism, &public, &private).is_ok());
    drop(session);
    pkcs11.finalize().unwrap();
    let listed = hsmpool::keys::list(&token.settings()).unwrap();
    let listed = listed.into_iter().find(|key| made && key.label == "x25519");
    listed.and_then(|key| key.public_key_info_der)
}

/// The module as a user of it has it, and the token "mail".
fn initialised(token: &TestToken) -> (Pkcs11, TokenInfo) {
    let slots = hsmpool::modules::tokens(&token.module).unwrap();
    let info = slots.into_iter().find(|info| info.label == "mail").unwrap();
    let pkcs11 = Pkcs11::new(&token.module).unwrap();
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    (pkcs11, info)
}

/// The bits of a `SubjectPublicKeyInfo`.
fn public_key_bits(info: &[u8]) -> Vec<u8> {
    use der::Decode;
    let info = spki::SubjectPublicKeyInfoRef::from_der(info).unwrap();
    info.subject_public_key.raw_bytes().to_vec()
}

fn signs(
    pool: &Pool,
    info: &[u8],
    algorithm: SignatureAlgorithm,
    verifier: &'static dyn VerificationAlgorithm,
) -> bool {
    let Ok(value) = pool.key_by_public_key(info).sign(&SignatureInput::of(algorithm, MESSAGE), algorithm)
    else {
        return false;
    };
    UnparsedPublicKey::new(verifier, public_key_bits(info)).verify(MESSAGE, &value.0).unwrap();
    true
}

fn agrees(pool: &Pool, info: &[u8], curve: AgreementCurve) -> bool {
    let own = PrivateKey::generate(curve.engine()).unwrap();
    let originator = OriginatorPublicKey::new(curve, own.compute_public_key().unwrap().as_ref()).unwrap();
    let Ok(agreed) = pool.key_by_public_key(info).agree(&originator) else { return false };
    let Agreed::Secret(secret) = agreed else { panic!("{agreed:?}") };
    let peer = AgreementPublicKey::new(curve.engine(), public_key_bits(info));
    agreement::agree(&own, peer, (), |expected| {
        assert_eq!(secret.expose(), expected);
        Ok(())
    })
    .unwrap();
    true
}

fn decrypts(key: &RawTokenKey, encrypted: &[u8], algorithm: &KeyEncryptionAlgorithm) -> bool {
    matches!(key.decrypt_key(encrypted, algorithm), Ok(Unwrapped::Key(key)) if key.expose() == SECRET)
}

fn encrypt_pkcs1(info: &[u8]) -> Vec<u8> {
    let key = Pkcs1PublicEncryptingKey::new(PublicEncryptingKey::from_der(info).unwrap()).unwrap();
    let mut room = vec![0; key.ciphertext_size()];
    key.encrypt(&SECRET, &mut room).unwrap().to_vec()
}

fn encrypt_oaep(info: &[u8], algorithm: &'static OaepAlgorithm, label: Option<&[u8]>) -> Vec<u8> {
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(info).unwrap()).unwrap();
    let mut room = vec![0; key.ciphertext_size()];
    key.encrypt(algorithm, &SECRET, &mut room, label).unwrap().to_vec()
}

/// What comes of asking for a key with `CKA_ALWAYS_AUTHENTICATE`.
fn always_authenticate(token: &TestToken) -> &'static str {
    let mut generate = token.pkcs11_tool();
    generate.args([
        "--keypairgen",
        "--key-type",
        "rsa:2048",
        "--id",
        "c0",
        "--label",
        "careful",
        "--always-auth",
    ]);
    run(&mut generate, "opensc");
    let listed = hsmpool::keys::list(&token.settings()).unwrap();
    let careful = listed.iter().find(|key| key.label == "careful").unwrap();
    match (careful.always_authenticate, token.wants_a_login_for_each_use("careful")) {
        (true, true) => "yes",
        (true, false) => "no, but keeps the attribute",
        (false, _) => "no",
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "no".to_owned() } else { names.join(", ") }
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}
