//! The product's configuration file, written out for a test.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::pki::Person;

/// What goes into the file; tests change a field or [`Config::to_toml`]'s text.
#[derive(Clone, Debug)]
pub struct Config {
    /// The PKCS #11 module.
    pub module: String,
    /// The token's label.
    pub label: String,
    /// The file the PIN is in.
    pub pin_file: PathBuf,
    /// Where `hsmime-keyd` listens; without it each program has the token itself.
    pub keyd_socket: Option<PathBuf>,
    /// More lines of its `[[keyd.client]]`, as they are written.
    pub keyd_client: String,
    /// PKCS #11 sessions.
    pub sessions: u32,
    /// How long a request to the token may take, in milliseconds.
    pub deadline: u32,
    /// Trust anchors.
    pub anchors: Vec<PathBuf>,
    /// Certificate revocation lists.
    pub crls: Vec<PathBuf>,
    /// How revocation is treated.
    pub revocation: String,
    /// Where the milter listens.
    pub listen: String,
    /// The Unix socket for commands to the milter.
    pub control: Option<PathBuf>,
    /// Where the milter tells how it is.
    pub metrics: Option<String>,
    /// The permissions of a Unix socket, octal.
    pub socket_mode: Option<String>,
    /// Whose results `Authentication-Results` are.
    pub authserv_id: String,
    /// The envelope sender of opened mail.
    pub opened_mail_sender: Option<String>,
    /// The port where copies go back to the MTA, and the folder where they wait.
    pub reinjection: Option<(u16, PathBuf)>,
    /// That Postfix listens at this socket in place of the port.
    pub reinjection_socket: Option<PathBuf>,
    /// Where the milter writes each use of a key to.
    pub audit: Option<PathBuf>,
    /// The certificate cache.
    pub cache: Option<PathBuf>,
    /// Whether certificates of senders are put into it.
    pub harvest: bool,
    /// Rules in front of the others, as they are written.
    pub first_rules: String,
    /// Networks that need no login.
    pub trusted_networks: Vec<String>,
    /// Certificates with keys on the token.
    pub identities: Vec<Identity>,
    /// More lines of `[trust]`, as they are written.
    pub trust: String,
    /// More lines of `[milter]`, as they are written.
    pub milter: String,
    /// `from` and `sign`, first match first.
    pub rules: Vec<(String, String)>,
}

/// One `[[identity]]`.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its certificate.
    pub certificate: PathBuf,
    /// The file with the CA certificates sent along.
    pub chain: PathBuf,
    /// Who may use it; empty: whose login is the address or its local part.
    pub logins: Vec<String>,
}

impl Identity {
    /// A person's certificate, with the issuing CA's sent along.
    pub fn of(person: &Person, issuing: PathBuf) -> Self {
        Self { certificate: person.certificate.clone(), chain: issuing, logins: Vec::new() }
    }
}

impl Config {
    /// The file's text.
    pub fn to_toml(&self) -> String {
        let mut toml = format!(
            "[[token]]\nmodule = {:?}\nlabel = {:?}\npin-file = {:?}\nsessions = {}\ndeadline-ms = {}\n\n\
             [trust]\nanchors = {:?}\ncrls = {:?}\nrevocation = {:?}\n{}\n\
             [milter]\nlisten = {:?}\nauthserv-id = {:?}\ntrusted-networks = {:?}\n",
            self.module,
            self.label,
            self.pin_file.to_string_lossy(),
            self.sessions,
            self.deadline,
            self.anchors,
            self.crls,
            self.revocation,
            self.trust,
            self.listen,
            self.authserv_id,
            self.trusted_networks,
        );
        // Writing to a string does not fail.
        if let Some(control) = &self.control {
            let _ = writeln!(toml, "control = {:?}", control.to_string_lossy());
        }
        if let Some(mode) = &self.socket_mode {
            let _ = writeln!(toml, "socket-mode = {mode:?}");
        }
        if let Some(sender) = &self.opened_mail_sender {
            let _ = writeln!(toml, "opened-mail-sender = {sender:?}");
        }
        if let Some(audit) = &self.audit {
            let _ = writeln!(toml, "audit = {:?}", audit.to_string_lossy());
        }
        if let Some((port, folder)) = &self.reinjection {
            let folder = folder.to_string_lossy();
            let place = match &self.reinjection_socket {
                Some(socket) => format!("unix:{}", socket.display()),
                None => format!("inet:127.0.0.1:{port}"),
            };
            let _ = writeln!(toml, "reinject = {place:?}\nstate = {folder:?}");
        }
        toml.push_str(&self.milter);
        if let Some(metrics) = &self.metrics {
            let _ = write!(toml, "\n[metrics]\nlisten = {metrics:?}\n");
        }
        if let Some(cache) = &self.cache {
            let (cache, harvest) = (cache.to_string_lossy(), self.harvest);
            let _ = writeln!(toml, "\n[cache]\npath = {cache:?}\nharvest = {harvest}");
        }
        if let Some(socket) = &self.keyd_socket {
            let user = rustix::process::getuid().as_raw();
            let socket = socket.to_string_lossy();
            let _ = write!(
                toml,
                "\n[pool]\nsocket = {socket:?}\n[keyd]\naudit = \"keyd-audit.jsonl\"\n\
                 [[keyd.client]]\nuser = \"{user}\"\n{}",
                self.keyd_client
            );
        }
        for identity in &self.identities {
            let Identity { certificate, chain, logins } = identity;
            let [certificate, chain] = [certificate, chain].map(|path| path.to_string_lossy());
            let _ = write!(toml, "\n[[identity]]\ncertificate = {certificate:?}\nchain = {chain:?}\n");
            if !logins.is_empty() {
                let _ = writeln!(toml, "logins = {logins:?}");
            }
        }
        toml.push_str(&self.first_rules);
        for (from, sign) in &self.rules {
            let _ = write!(toml, "\n[[rule]]\nfrom = {from:?}\nsign = {sign:?}\n");
        }
        toml
    }
}
