//! A token for tests: every test in a process of its own, with tokens of its own.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{self, UnparsedPublicKey};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass},
    session::{Session, UserType},
    types::AuthPin,
};
use hsmpool::{
    PinSource, Pool, PoolError, TokenKey, TokenSettings, TokenState,
    server::{Closing, Gate, KeyUse, Server, Told},
};
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    key::{Digest, KeyError, SignatureInput, SignatureValue, Signer},
};
use testkit::{
    command,
    isolated::{self, Surroundings, not_applicable},
    token::{Kind, Tokens, library},
};

pub(crate) const PIN: &str = "1234";

/// A directory with the tokens of the maker that the environment names, and whatever else a test needs.
pub(crate) struct TestToken {
    pub(crate) directory: PathBuf,
    /// The module to load: the token's, or OpenSC's spy in front of it.
    pub(crate) module: PathBuf,
    tokens: Tokens,
}

/// What stands between the pool and the token's module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// Nothing.
    Nothing,
    /// OpenSC's pkcs11-spy, which writes down every call: an independent witness.
    Spy,
    /// The spy writing to a FIFO. While nobody reads it, calls hang.
    Fifo,
}

/// Runs `body` in a child process that sees a fresh token "mail".
pub(crate) fn isolated(through: Through, body: impl FnOnce(&TestToken)) {
    let kind = Kind::chosen().unwrap();
    let prepare = |directory: &Path| {
        let tokens = Tokens::new(kind, directory)?;
        fs::write(directory.join("pin"), PIN)?;
        fs::set_permissions(directory.join("pin"), fs::Permissions::from_mode(0o600))?;
        let mut environment = tokens.environment()?;
        environment.push(("PKCS11SPY", tokens.module_for_spy()?.into()));
        environment.push(("PKCS11SPY_OUTPUT", directory.join("calls").into()));
        Ok(Surroundings { environment, launcher: tokens.launcher() })
    };
    let in_child = |directory: &Path| {
        let tokens = Tokens::open(kind, directory);
        tokens.init("mail", PIN).unwrap();
        if through == Through::Fifo {
            run(Command::new("mkfifo").arg(directory.join("calls")), "coreutils");
        }
        let module = match through {
            Through::Nothing => tokens.module(),
            Through::Spy | Through::Fifo => library("pkcs11-spy.so", "opensc-pkcs11"),
        };
        body(&TestToken { directory: directory.to_owned(), module: module.unwrap(), tokens });
        // A module that is finalised while the process ends, and takes it down itself, may crash.
        let end = Instant::now() + Duration::from_secs(5);
        while SERVING.load(Ordering::SeqCst) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    };
    if let Some(ended) = isolated::in_child(prepare, in_child).unwrap() {
        ended.check().unwrap();
    }
}

/// Runs a program to its end and gives its standard output.
pub(crate) fn run(command: &mut Command, package: &str) -> Vec<u8> {
    command::succeed(package, command).unwrap().stdout
}

impl TestToken {
    /// A program that sees the same tokens.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.tokens.command(program).unwrap()
    }

    /// pkcs11-tool, logged in to the token "mail".
    pub(crate) fn pkcs11_tool(&self) -> Command {
        let mut command = self.command("pkcs11-tool");
        command.arg("--module").arg(self.tokens.module().unwrap());
        command.args(["--token-label", "mail", "--login", "--pin", PIN]);
        command
    }

    pub(crate) fn init_token(&self, label: &str, pin: &str) {
        self.tokens.init(label, pin).unwrap();
    }

    /// Whether the token offers a mechanism, by pkcs11-tool's name, for signing, decrypting...
    pub(crate) fn offers(&self, mechanism: &str, for_what: &str) -> bool {
        self.tokens.offers(mechanism, for_what).unwrap()
    }

    /// As [`TestToken::offers`]; says so where it does not, and the test then returns.
    pub(crate) fn lacks(&self, mechanism: &str, for_what: &str) -> bool {
        let lacks = !self.offers(mechanism, for_what);
        if lacks {
            not_applicable(&format!("the token does not offer {mechanism} to {for_what}"));
        }
        lacks
    }

    /// The folder whose absence is that of the tokens; where there is none, that is said, and the test returns.
    pub(crate) fn removable(&self) -> Option<PathBuf> {
        let folder = self.tokens.removable();
        if folder.is_none() {
            not_applicable("the token cannot be taken away under a running process");
        }
        folder
    }

    /// Gives a session that is logged in to the token "mail", without the pool.
    pub(crate) fn with_session<T>(&self, body: impl FnOnce(&Session) -> T) -> T {
        let pkcs11 = Pkcs11::new(self.tokens.module().unwrap()).unwrap();
        pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let info = hsmpool::modules::tokens(&self.tokens.module().unwrap()).unwrap();
        let slot = info.into_iter().find(|token| token.label == "mail").unwrap().slot;
        let session = pkcs11.open_rw_session(slot.try_into().unwrap()).unwrap();
        session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
        let result = body(&session);
        drop(session);
        pkcs11.finalize().unwrap();
        result
    }

    /// Whether the token refuses to sign with an RSA key after one login, asked without the pool.
    pub(crate) fn wants_a_login_for_each_use(&self, label: &str) -> bool {
        let signed = self.with_session(|session| {
            let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.into())];
            let key = session.find_objects(&template).unwrap().remove(0);
            session.sign(&Mechanism::RsaPkcs, key, &[0; 51])
        });
        match signed {
            Ok(_) => false,
            Err(Error::Pkcs11(RvError::UserNotLoggedIn, _)) => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether several tokens cannot be used at once; says so, and the test then returns.
    pub(crate) fn mixes_up_tokens(&self) -> bool {
        let mixes = !self.tokens.keeps_tokens_apart();
        if mixes {
            not_applicable("the module mixes up the tokens that one process uses");
        }
        mixes
    }

    /// Whether the token's flags tell of wrong PINs.
    pub(crate) fn tells_of_wrong_pins(&self) -> bool {
        self.tokens.tells_of_wrong_pins()
    }

    /// Breaks the module's configuration, so that it cannot be initialised.
    pub(crate) fn spoil(&self) {
        self.tokens.spoil().unwrap();
    }

    /// p11-kit's proxy, which has the same tokens and gives whoever asks for its functions an instance of their
    /// own. None, and says so, where it does not load the maker's module by itself.
    pub(crate) fn proxy(&self) -> Option<PathBuf> {
        let configured = Path::new("/usr/share/p11-kit/modules/softhsm2.module").exists();
        if self.tokens.kind() != Kind::SoftHsm || !configured {
            not_applicable("p11-kit does not know the module");
            return None;
        }
        Some(library("libp11-kit.so.0", "libp11-kit0").unwrap())
    }

    pub(crate) fn pin_file(&self) -> PathBuf {
        self.directory.join("pin")
    }

    pub(crate) fn settings(&self) -> TokenSettings {
        TokenSettings {
            module: self.module.clone(),
            label: "mail".into(),
            pin: PinSource::File(self.pin_file()),
            sessions: Some(2),
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
        self.try_import(token, pin, name, id).unwrap();
    }

    /// As [`TestToken::import_file`], for kinds of keys that not every token takes.
    pub(crate) fn try_import(&self, token: &str, pin: &str, name: &str, id: &str) -> testkit::Result<()> {
        let key = self.directory.join(format!("{name}.key"));
        self.tokens.import(token, pin, &key, &format!("key {name}"), id)
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
    pub(crate) fn new(token: &TestToken) -> Self {
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

/// A pool as the test program wants them: in this process, or behind a socket.
pub(crate) fn start(settings: &[TokenSettings]) -> Result<Pool, PoolError> {
    let pool = Pool::start(settings)?;
    if !crate::SERVED {
        return Ok(pool);
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keyd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = Arc::new(Server::new(pool.clone()));
    SERVING.fetch_add(1, Ordering::SeqCst);
    thread::spawn(move || {
        let (interactive, _) = listener.accept().unwrap();
        let of_bulk = Arc::clone(&server);
        thread::spawn(move || {
            let _directory = directory;
            for stream in listener.incoming() {
                let server = Arc::clone(&of_bulk);
                thread::spawn(move || server.serve(stream.unwrap(), Arc::new(Everything)).unwrap());
            }
        });
        server.serve(interactive, Arc::new(Everything)).unwrap();
        // The client has closed its pool.
        pool.close();
        SERVING.fetch_sub(1, Ordering::SeqCst);
    });
    let deadline = settings.iter().map(|token| token.deadline).max().unwrap_or(Duration::from_secs(10));
    Pool::connect(&socket, deadline)
}

/// Pools behind sockets that are not closed yet.
static SERVING: AtomicUsize = AtomicUsize::new(0);

/// Waits until the pools that were dropped are closed, which a server sees a moment later.
pub(crate) fn until_closed() {
    eventually("the servers have closed their pools", Duration::from_secs(5), || {
        SERVING.load(Ordering::SeqCst) == 0
    });
}

struct Everything;

impl Gate for Everything {
    fn begin(&self, _usage: &KeyUse<'_>) -> Result<Closing, KeyError> {
        Ok(Box::new(|_| Ok(Told::AsItIs)))
    }

    fn shows(&self, _key: &[u8; 32]) -> bool {
        true
    }
}

/// The pool has been closed, and so has its module: at once, or as soon as the server has seen it.
pub(crate) fn assert_finalised(token: &TestToken) {
    if crate::SERVED {
        eventually("the module is finalised", Duration::from_secs(5), || token.count("C_Finalize") == 1);
    }
    assert_eq!(token.count("C_Finalize"), 1);
}

/// A pool that is up.
pub(crate) fn pool_of(settings: &TokenSettings) -> Pool {
    let pool = start(std::slice::from_ref(settings)).unwrap();
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

/// Writes a PIN where only its owner may read it.
pub(crate) fn write_pin(path: &Path, pin: &str) {
    fs::write(path, pin).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
