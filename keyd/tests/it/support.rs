//! A token of SoftHSM behind the fault-injecting module, a configuration, and `hsmime-keyd` with both.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use hsmpool::{Pool, TokenKey};
use rustix::process::{Pid, Signal, kill_process};
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::{Digest, KeyError, SignatureValue, Signer},
};
use testmodule::{Control, Function};

pub(crate) const PIN: &str = "1234";
/// Nothing takes so long that is well.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) struct Lab {
    _temporary: tempfile::TempDir,
    pub(crate) directory: PathBuf,
    pub(crate) control: Control,
    /// P-256, its key on the token.
    pub(crate) certificate: Certificate,
    /// What is changed before [`Lab::start`].
    pub(crate) deadline_ms: u64,
    pub(crate) sessions: usize,
    pub(crate) queue: usize,
    pub(crate) clients: String,
    pub(crate) keyd: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::Builder::new().prefix("keyd-").tempdir().unwrap();
        let directory = temporary.path().to_owned();
        fs::create_dir(directory.join("tokens")).unwrap();
        fs::write(directory.join("pin"), PIN).unwrap();
        fs::set_permissions(directory.join("pin"), fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            directory.display()
        );
        fs::write(directory.join("softhsm2.conf"), text).unwrap();
        make_key(&directory, "ours");
        run(&directory, "softhsm2-util", "--init-token --free --label mail --so-pin 12345678 --pin 1234");
        run(&directory, "softhsm2-util", "--token mail --pin 1234 --label key --id 01 --import ours.key");
        let certificate = certificate(&directory, "ours");
        let control = Control::new(&directory).unwrap();
        let clients = format!("[[keyd.client]]\nuser = \"{}\"\ncertificates = [\"ours.pem\"]\n", own_user());
        Self {
            _temporary: temporary,
            directory,
            control,
            certificate,
            deadline_ms: 10_000,
            sessions: 2,
            queue: 1024,
            clients,
            keyd: "audit = \"audit.jsonl\"\n".to_owned(),
        }
    }

    /// Another key of the same kind; it is imported too.
    pub(crate) fn another(&self) -> Certificate {
        make_key(&self.directory, "other");
        run(
            &self.directory,
            "softhsm2-util",
            "--token mail --pin 1234 --label other --id 02 --import other.key",
        );
        certificate(&self.directory, "other")
    }

    /// An RSA key, imported as well.
    pub(crate) fn rsa(&self) -> Certificate {
        let arguments =
            "req -x509 -nodes -days 30 -subj /CN=rsa -newkey rsa:2048 -keyout rsa.key -out rsa.pem";
        run(&self.directory, "openssl", arguments);
        let import = "--token mail --pin 1234 --label rsa --id 03 --import rsa.key";
        run(&self.directory, "softhsm2-util", import);
        certificate(&self.directory, "rsa")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("keyd.sock")
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.directory.join("audit.jsonl")
    }

    pub(crate) fn write_config(&self) -> PathBuf {
        let module = testmodule::library().unwrap();
        let text = format!(
            "[[token]]\nmodule = {module:?}\nlabel = \"mail\"\npin-file = \"pin\"\nsessions = {}\nqueue = {}\n\
             deadline-ms = {}\n[pool]\nsocket = \"keyd.sock\"\n[keyd]\n{}{}",
            self.sessions, self.queue, self.deadline_ms, self.keyd, self.clients
        );
        let path = self.directory.join("hsmime.toml");
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self) -> Command {
        self.write_config();
        self.command_as_configured()
    }

    pub(crate) fn command_as_configured(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime-keyd"));
        command.env("SOFTHSM2_CONF", self.directory.join("softhsm2.conf"));
        command.envs(Control::environment(&self.directory));
        command.arg("--config").arg(self.directory.join("hsmime.toml"));
        command
    }

    pub(crate) fn start(&self) -> Keyd {
        let keyd = self.spawn(self.command());
        eventually("keyd listens", || UnixStream::connect(self.socket()).is_ok());
        keyd
    }

    pub(crate) fn spawn(&self, mut command: Command) -> Keyd {
        let log = self.directory.join("keyd.log");
        let output = File::options().append(true).create(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().unwrap();
        Keyd { child, log }
    }

    /// A client, as milter and batch are.
    pub(crate) fn pool(&self) -> Pool {
        Pool::connect(&self.socket(), Duration::from_millis(self.deadline_ms)).unwrap()
    }

    /// A client of a keyd whose token is up.
    pub(crate) fn key(&self) -> TokenKey {
        let pool = self.pool();
        pool.ready(LONG).unwrap();
        pool.key(&self.certificate)
    }

    pub(crate) fn begun(&self, function: Function) -> u64 {
        self.control.counters().unwrap().begun(function)
    }

    /// The lines of the audit that were written whole.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.audit()).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The audit's lines about uses of keys.
    pub(crate) fn uses(&self) -> Vec<serde_json::Value> {
        self.lines().into_iter().filter(|line| line["event"] == "use").collect()
    }

    pub(crate) fn check_audit(&self) -> (ExitStatus, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_hsmime-keyd"))
            .arg("check-audit")
            .arg(self.audit())
            .output()
            .unwrap();
        (output.status, String::from_utf8(output.stdout).unwrap())
    }
}

/// A running `hsmime-keyd`; killed when dropped.
pub(crate) struct Keyd {
    child: Child,
    log: PathBuf,
}

impl Keyd {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.id(), signal);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    /// The process that has the module.
    pub(crate) fn module_process(&self) -> u32 {
        let mut found = None;
        eventually("there is a process with the module", || {
            found = children(self.id()).first().copied();
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Keyd {
    fn drop(&mut self) {
        // It may have been stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let _ = writeln!(std::io::stderr(), "keyd's log:\n{}", self.log());
        }
    }
}

pub(crate) fn send(process: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Processes whose parent this is, and that still run.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        (fields.next()?.parse::<u32>().ok()? == parent && state != "Z").then_some(id)
    });
    processes.collect()
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

pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "not within {LONG:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn own_user() -> u32 {
    rustix::process::getuid().as_raw()
}

fn make_key(directory: &Path, name: &str) {
    let arguments = format!(
        "req -x509 -nodes -days 30 -subj /CN={name} -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
         -keyout {name}.key -out {name}.pem"
    );
    run(directory, "openssl", &arguments);
}

fn certificate(directory: &Path, name: &str) -> Certificate {
    let pem = fs::read_to_string(directory.join(format!("{name}.pem"))).unwrap();
    Certificate::from_pem(&pem).unwrap().remove(0)
}

pub(crate) fn run(directory: &Path, program: &str, arguments: &str) {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).current_dir(directory).stdin(Stdio::null());
    let output = command.env("SOFTHSM2_CONF", directory.join("softhsm2.conf")).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
