//! A test in a process of its own, with a token of its own behind the fault-injecting module.
//!
//! PKCS#11 modules are process-wide and read the environment once. So a test starts itself again as a child
//! with the environment set, and runs there.

use std::{
    env,
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
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
use testmodule::{Action, Control, Counters, Function, Rule};

pub(crate) const PIN: &str = "1234";
const DIRECTORY: &str = "HSMPOOL_TEST_DIRECTORY";
/// A test that hangs must end as a failure.
const LIMIT: Duration = Duration::from_secs(100);

/// The token "mail" with a P-256 key, and the hand on its faults.
pub(crate) struct Lab {
    pub(crate) directory: PathBuf,
    pub(crate) module: PathBuf,
    pub(crate) control: Control,
    pub(crate) certificate: Certificate,
}

/// How a child process ended.
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) signal: Option<i32>,
    pub(crate) text: String,
}

/// Runs `body` in a child process, which must succeed.
pub(crate) fn isolated(body: impl FnOnce(Lab)) {
    if let Some(ended) = in_child(body) {
        assert!(ended.success, "{}", ended.text);
        assert!(ended.text.contains("1 passed"), "the child did not run the test: {}", ended.text);
        let measured = ended.text.lines().filter(|line| line.contains("measured: "));
        measured.for_each(tell);
    }
}

/// Runs `body` in a child process and tells how that ended. `None` in the child itself.
pub(crate) fn in_child(body: impl FnOnce(Lab)) -> Option<Ended> {
    if let Some(directory) = env::var_os(DIRECTORY) {
        body(Lab::open(directory.into()));
        return None;
    }
    // The test harness names a test's thread after the test.
    let thread = thread::current();
    let name = thread.name().filter(|name| *name != "main").expect("run with more than one test thread");
    let temporary = tempfile::Builder::new().prefix("hsmpool-").tempdir().unwrap();
    let directory = temporary.path();
    prepare(directory);
    let report = directory.join("report");
    let output = || File::options().append(true).create(true).open(&report).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env("SOFTHSM2_CONF", directory.join("softhsm2.conf"))
        .env(testmodule::MODULE, softhsm())
        .envs(Control::environment(directory))
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .spawn()
        .unwrap();
    let end = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() >= end => break None,
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let text = String::from_utf8_lossy(&fs::read(&report).unwrap()).into_owned();
    let success = status.is_some_and(|status| status.success());
    let signal = status.and_then(|status| status.signal());
    Some(Ended { success, signal, text: format!("{status:?} (none: not within {LIMIT:?}): {text}") })
}

fn softhsm() -> PathBuf {
    let folders = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"];
    let paths = folders.iter().map(|folder| Path::new(folder).join("softhsm/libsofthsm2.so"));
    paths.into_iter().find(|path| path.exists()).expect("SoftHSM is missing: apt-get install softhsm2")
}

fn prepare(directory: &Path) {
    fs::create_dir(directory.join("tokens")).unwrap();
    fs::write(directory.join("pin"), PIN).unwrap();
    let configuration = format!(
        "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        directory.display()
    );
    fs::write(directory.join("softhsm2.conf"), configuration).unwrap();
    run(
        directory,
        "openssl",
        "req -x509 -nodes -days 30 -subj /CN=p256 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
         -keyout key.pem -out certificate.pem",
    );
    add_token(directory, "mail");
}

/// Makes a token that holds the same key as the others.
pub(crate) fn add_token(directory: &Path, label: &str) {
    let init = format!("--init-token --free --label {label} --so-pin 12345678 --pin {PIN}");
    run(directory, "softhsm2-util", &init);
    let import = format!("--token {label} --pin {PIN} --label key --id 01 --import key.pem");
    run(directory, "softhsm2-util", &import);
}

fn run(directory: &Path, program: &str, arguments: &str) {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).current_dir(directory).stdin(Stdio::null());
    let output = command.env("SOFTHSM2_CONF", directory.join("softhsm2.conf")).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Lab {
    fn open(directory: PathBuf) -> Self {
        let pem = fs::read_to_string(directory.join("certificate.pem")).unwrap();
        Self {
            module: testmodule::library().unwrap(),
            control: Control::new(&directory).unwrap(),
            certificate: Certificate::from_pem(&pem).unwrap().remove(0),
            directory,
        }
    }

    pub(crate) fn settings(&self, sessions: usize) -> TokenSettings {
        TokenSettings {
            module: self.module.clone(),
            label: "mail".into(),
            pin: PinSource::File(self.pin_file()),
            sessions,
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

/// Signs a message; a signature that is given must verify with the public key.
pub(crate) fn sign(key: &TokenKey, message: &[u8]) -> Result<(), KeyError> {
    let SignatureValue(value) =
        key.sign(&Digest::of(Sha256, message).into(), SignatureAlgorithm::Ecdsa(Sha256))?;
    let certificate = Signer::certificate(key);
    let public_key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, certificate.public_key());
    assert!(public_key.verify(message, &value).is_ok(), "a wrong signature for {message:?}");
    Ok(())
}

/// Says what was measured, for the report.
#[expect(clippy::print_stdout, reason = "a test's output is its report")]
pub(crate) fn tell(measured: &str) {
    println!("{measured}");
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
