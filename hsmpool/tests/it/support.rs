//! SoftHSM for tests: every test in a process of its own, with a token directory of its own.
//!
//! PKCS#11 modules are process-wide and read their configuration from the environment when they are
//! initialised. So a test starts itself again as a child with the environment set, and runs there.

use std::{
    env,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{self, UnparsedPublicKey};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use hsmpool::{PinSource, Pool, TokenKey, TokenSettings, TokenState};
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    key::{Digest, KeyError, SignatureInput, SignatureValue, Signer},
};

pub(crate) const PIN: &str = "1234";
const DIRECTORY: &str = "HSMPOOL_TEST_DIRECTORY";
/// A test that hangs must end as a failure.
const LIMIT: Duration = Duration::from_secs(100);

/// A directory with SoftHSM's configuration, its tokens, and whatever else a test needs.
pub(crate) struct SoftHsm {
    pub(crate) directory: PathBuf,
    /// The module to load: SoftHSM, or OpenSC's spy in front of it.
    pub(crate) module: PathBuf,
}

/// What stands between the pool and SoftHSM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// Nothing.
    Nothing,
    /// OpenSC's pkcs11-spy, which writes down every call: an independent witness.
    Spy,
    /// The spy writing to a FIFO. While nobody reads it, calls hang.
    Fifo,
}

/// Runs `body` in a child process that sees a fresh SoftHSM with the token "mail".
pub(crate) fn isolated(through: Through, body: impl FnOnce(&SoftHsm)) {
    let softhsm = library("softhsm/libsofthsm2.so", "softhsm2");
    let spy = || library("pkcs11-spy.so", "opensc-pkcs11");
    let module = if through == Through::Nothing { softhsm.clone() } else { spy() };
    if let Some(directory) = env::var_os(DIRECTORY) {
        return body(&SoftHsm { directory: directory.into(), module });
    }
    // The test harness names a test's thread after the test.
    let thread = thread::current();
    let name = thread.name().filter(|name| *name != "main").expect("run with more than one test thread");
    let temporary = tempfile::Builder::new().prefix("hsmpool-").tempdir().unwrap();
    let directory = temporary.path();
    fs::create_dir(directory.join("tokens")).unwrap();
    fs::write(directory.join("pin"), PIN).unwrap();
    fs::set_permissions(directory.join("pin"), fs::Permissions::from_mode(0o600)).unwrap();
    let configuration = format!(
        "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        directory.display()
    );
    fs::write(directory.join("softhsm2.conf"), configuration).unwrap();
    let spy_output = directory.join("calls");
    if through == Through::Fifo {
        run(Command::new("mkfifo").arg(&spy_output), "coreutils");
    }
    let fresh = SoftHsm { directory: directory.to_owned(), module };
    fresh.init_token("mail", PIN);
    let report = directory.join("report");
    let output = || File::options().append(true).create(true).open(&report).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env("SOFTHSM2_CONF", directory.join("softhsm2.conf"))
        .env("PKCS11SPY", softhsm)
        .env("PKCS11SPY_OUTPUT", spy_output)
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
    assert!(status.is_some_and(|status| status.success()), "{status:?} (none: not within {LIMIT:?}): {text}");
    assert!(text.contains("1 passed"), "the child did not run the test: {text}");
}

fn library(name: &str, package: &str) -> PathBuf {
    let folders = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"];
    let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed: apt-get install {package}"))
}

/// Runs a program to its end and gives its standard output.
pub(crate) fn run(command: &mut Command, package: &str) -> Vec<u8> {
    let program = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}; install {package}", program.display()));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {words}", output.status);
    output.stdout
}

impl SoftHsm {
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.directory.join("softhsm2.conf")).current_dir(&self.directory);
        command
    }

    pub(crate) fn init_token(&self, label: &str, pin: &str) {
        let mut command = self.command("softhsm2-util");
        command.args(["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", pin]);
        run(&mut command, "softhsm2");
    }

    /// The folder that SoftHSM keeps the tokens in.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.directory.join("tokens")
    }

    pub(crate) fn pin_file(&self) -> PathBuf {
        self.directory.join("pin")
    }

    pub(crate) fn settings(&self) -> TokenSettings {
        TokenSettings {
            module: self.module.clone(),
            label: "mail".into(),
            pin: PinSource::File(self.pin_file()),
            sessions: 2,
            queue: 16,
            deadline: Duration::from_secs(10),
        }
    }

    /// Makes a key with OpenSSL (`rsa:2048`, `P-256`...) in `name.key`, and a certificate in `name.pem`.
    pub(crate) fn certificate(&self, kind: &str, name: &str) -> Certificate {
        let pem = self.directory.join(format!("{name}.pem"));
        let mut request = self.command("openssl");
        request.args(["req", "-x509", "-nodes", "-days", "30", "-subj", &format!("/CN={name}")]);
        match kind.split_once(':') {
            Some(_) => request.args(["-newkey", kind]),
            None => request.args(["-newkey", "ec", "-pkeyopt", &format!("ec_paramgen_curve:{kind}")]),
        };
        run(request.arg("-keyout").arg(format!("{name}.key")).arg("-out").arg(&pem), "openssl");
        Certificate::from_pem(&fs::read_to_string(&pem).unwrap()).unwrap().remove(0)
    }

    /// Imports `name.key` with a `CKA_ID`.
    pub(crate) fn import_file(&self, token: &str, pin: &str, name: &str, id: &str) {
        let mut import = self.command("softhsm2-util");
        import.args(["--token", token, "--pin", pin, "--label", &format!("key {name}"), "--id", id]);
        run(import.arg("--import").arg(format!("{name}.key")), "softhsm2");
    }

    /// Makes a key and its certificate, and imports the key under `id`, which is its name too.
    pub(crate) fn import_key(&self, token: &str, kind: &str, id: &str) -> Certificate {
        let certificate = self.certificate(kind, id);
        self.import_file(token, PIN, id, id);
        certificate
    }

    /// Encrypts to the public key in `id.pem` with `openssl pkeyutl`.
    pub(crate) fn encrypt_to(&self, id: &str, plaintext: &[u8], options: &[&str]) -> Vec<u8> {
        let input = self.directory.join("plaintext");
        fs::write(&input, plaintext).unwrap();
        let mut command = self.command("openssl");
        command
            .args(["pkeyutl", "-encrypt", "-certin", "-inkey"])
            .arg(format!("{id}.pem"))
            .arg("-in")
            .arg(input);
        for option in options {
            command.args(["-pkeyopt", option]);
        }
        run(&mut command, "openssl")
    }

    /// What the spy wrote down so far.
    pub(crate) fn calls(&self) -> String {
        let octets =
            fs::read(self.directory.join("copy")).or_else(|_| fs::read(self.directory.join("calls")));
        String::from_utf8_lossy(&octets.unwrap_or_default()).into_owned()
    }

    /// How often a function was called.
    pub(crate) fn count(&self, function: &str) -> usize {
        let is_call = |line: &&str| line.split_once(": ").is_some_and(|(_, name)| name == function);
        self.calls().lines().filter(is_call).count()
    }
}

/// Reads the spy's FIFO in a thread, as long as it may. While it may not, calls to the module hang.
pub(crate) struct Tap {
    open: Arc<AtomicBool>,
}

impl Tap {
    pub(crate) fn new(token: &SoftHsm) -> Self {
        let open = Arc::new(AtomicBool::new(true));
        let (flag, path) = (Arc::clone(&open), token.directory.join("calls"));
        let copy = token.directory.join("copy");
        thread::spawn(move || {
            let mut fifo = File::open(path).unwrap();
            let mut copy = File::create(copy).unwrap();
            let mut buffer = [0; 4096];
            loop {
                while !flag.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
                let len = fifo.read(&mut buffer).unwrap();
                copy.write_all(&buffer[..len]).unwrap();
            }
        });
        Self { open }
    }

    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // The spy writes until the process ends.
        self.open();
    }
}

/// All that is logged, as text.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// How many lines contain all of these.
    pub(crate) fn count(&self, parts: &[&str]) -> usize {
        self.text().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn digest(algorithm: DigestAlgorithm) -> SignatureInput<'static> {
    Digest::of(algorithm, MESSAGE).into()
}

/// Signs with an RSA key.
pub(crate) fn sign(key: &TokenKey) -> Result<SignatureValue, KeyError> {
    key.sign(&digest(DigestAlgorithm::Sha256), SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Sha256))
}

/// Signs with an RSA key and verifies.
pub(crate) fn assert_signs(key: &TokenKey) {
    let value = sign(key).unwrap();
    let certificate = Signer::certificate(key);
    let verifier = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, certificate.public_key());
    assert!(verifier.verify(MESSAGE, &value.0).is_ok(), "{certificate}");
}

pub(crate) const MESSAGE: &[u8] = b"signed attributes";

/// A pool that is up.
pub(crate) fn pool_of(settings: &TokenSettings) -> Pool {
    let pool = Pool::start(std::slice::from_ref(settings)).unwrap();
    pool.ready(Duration::from_secs(20)).unwrap();
    pool
}

/// Ends all sessions behind the pool's back: what a token does that restarts, or another user of the module.
pub(crate) fn reset(module: &Path) {
    finalise(module);
    Pkcs11::new(module).unwrap().initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
}

/// What another user of the module in this process may do to us.
pub(crate) fn finalise(module: &Path) {
    Pkcs11::new(module).unwrap().finalize().unwrap();
}

/// Waits for something that must come true.
pub(crate) fn eventually(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn state(pool: &Pool) -> TokenState {
    pool.status().remove(0).state
}
