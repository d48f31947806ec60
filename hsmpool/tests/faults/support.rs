//! A test in a process of its own, with a token of its own behind the fault-injecting module.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use hsmpool::{PinSource, Pool, TokenKey, TokenSettings, TokenStatus};
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::{Digest, KeyError, SignatureValue, Signer},
};
use testkit::{
    command,
    isolated::{self, Ended, Surroundings},
    token::{Kind, Tokens},
};
use testmodule::{Action, Control, Counters, Function, Rule};

pub(crate) const PIN: &str = "1234";

/// The token "mail" with a P-256 key, and the hand on its faults.
pub(crate) struct Lab {
    pub(crate) directory: PathBuf,
    pub(crate) module: PathBuf,
    pub(crate) control: Control,
    pub(crate) certificate: Certificate,
    tokens: Tokens,
}

/// Runs `body` in a child process, which must succeed.
pub(crate) fn isolated(body: impl FnOnce(Lab)) {
    if let Some(ended) = in_child(body) {
        ended.check().unwrap();
    }
}

/// Runs `body` in a child process and tells how that ended. `None` in the child itself.
pub(crate) fn in_child(body: impl FnOnce(Lab)) -> Option<Ended> {
    let kind = Kind::chosen().unwrap();
    let prepare = |directory: &Path| {
        let tokens = Tokens::new(kind, directory)?;
        fs::write(directory.join("pin"), PIN)?;
        fs::set_permissions(directory.join("pin"), fs::Permissions::from_mode(0o600))?;
        let mut environment = tokens.environment()?;
        environment.extend(Control::environment(directory));
        Ok(Surroundings { environment, launcher: tokens.launcher() })
    };
    isolated::in_child(prepare, |directory| body(Lab::new(Tokens::open(kind, directory), directory))).unwrap()
}

impl Lab {
    fn new(tokens: Tokens, directory: &Path) -> Self {
        let certificate = make_key(&tokens, directory, "key");
        let lab = Self {
            directory: directory.to_owned(),
            module: testmodule::library().unwrap(),
            control: Control::new(directory).unwrap(),
            certificate,
            tokens,
        };
        lab.add_token("mail");
        lab
    }

    /// Makes a token that holds the same key as the others.
    pub(crate) fn add_token(&self, label: &str) {
        self.tokens.init(label, PIN).unwrap();
        self.tokens.import(label, PIN, &self.directory.join("key.pem"), "key", "01").unwrap();
    }

    /// Makes a token that holds another key.
    pub(crate) fn add_token_with_another_key(&self, label: &str) -> Certificate {
        let certificate = self.a_key_of_no_token(label);
        self.tokens.init(label, PIN).unwrap();
        self.tokens.import(label, PIN, &self.directory.join(format!("{label}.pem")), "key", "01").unwrap();
        certificate
    }

    /// Makes a key that no token has.
    pub(crate) fn a_key_of_no_token(&self, name: &str) -> Certificate {
        make_key(&self.tokens, &self.directory, name)
    }

    pub(crate) fn settings(&self, sessions: usize) -> TokenSettings {
        TokenSettings {
            module: self.module.clone(),
            label: "mail".into(),
            pin: PinSource::File(self.pin_file()),
            sessions: Some(sessions),
            queue: 64,
            deadline: Duration::from_secs(5),
        }
    }

    pub(crate) fn pin_file(&self) -> PathBuf {
        self.directory.join("pin")
    }

    pub(crate) fn counters(&self) -> Counters {
        self.control.counters().unwrap()
    }

    /// Takes all sessions away at one moment, and the login with them.
    pub(crate) fn lose_all_sessions(&mut self) {
        let lose = Rule::new(Action::LoseSessions).on([Function::GetSlotList]).next(1);
        let rule = self.control.add(lose).unwrap();
        hsmpool::modules::tokens(&self.module).unwrap();
        assert_eq!(self.counters().applied(rule), 1);
    }

    /// A pool that is up, and the key.
    pub(crate) fn pool(&self, settings: &TokenSettings) -> (Pool, TokenKey) {
        let pool = Pool::start(std::slice::from_ref(settings)).unwrap();
        pool.ready(Duration::from_secs(20)).unwrap();
        let key = pool.key(&self.certificate);
        (pool, key)
    }
}

/// Makes a key, and a certificate.
fn make_key(tokens: &Tokens, directory: &Path, name: &str) -> Certificate {
    let (key, certificate) = (format!("{name}.pem"), format!("{name}.certificate.pem"));
    let mut make = tokens.command("openssl").unwrap();
    make.args(["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=p256", "-newkey", "ec"]);
    make.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", &key, "-out", &certificate]);
    command::succeed("openssl", &mut make).unwrap();
    let pem = fs::read_to_string(directory.join(certificate)).unwrap();
    Certificate::from_pem(&pem).unwrap().remove(0)
}

/// Signs a message; a signature that is given must verify with the public key.
pub(crate) fn sign(key: &TokenKey, message: &[u8]) -> Result<(), KeyError> {
    let SignatureValue(value) =
        key.sign(&Digest::of(Sha256, message).into(), SignatureAlgorithm::Ecdsa(Sha256))?;
    assert_verifies(key, message, &SignatureValue(value));
    Ok(())
}

pub(crate) fn assert_verifies(key: &TokenKey, message: &[u8], SignatureValue(value): &SignatureValue) {
    let certificate = Signer::certificate(key);
    let public_key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, certificate.public_key());
    assert!(public_key.verify(message, value).is_ok(), "a wrong signature for {message:?}");
}

/// Says what was measured, for the report.
pub(crate) fn tell(measured: &str) {
    writeln!(io::stdout(), "{measured}").unwrap();
}

/// Waits for something that must come true.
pub(crate) fn eventually(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn status(pool: &Pool) -> TokenStatus {
    pool.status().remove(0)
}
