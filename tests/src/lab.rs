//! Everything put together: token, CA, people, milter, Postfix, sink, peers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testmodule::Control;

use crate::command::Finished;
use crate::config::{Config, Identity};
use crate::milter::Milter;
use crate::mta::Mta;
use crate::peers::{Gpgsm, Nss, OpenSsl};
use crate::pki::{Key, Person, Pki, Profile};
use crate::postfix::{Back, Postfix};
use crate::programs;
use crate::sendmail::Sendmail;
use crate::sink::{Delivered, Offer, Sink};
use crate::smtp::{Origin, Reply};
use crate::softhsm::SoftHsm;
use crate::wait;
use crate::workdir::Workdir;

/// The people, the token with their keys, and the configuration; nothing runs yet.
#[derive(Debug)]
pub struct Lab {
    /// Ours, RSA, key on the token.
    pub alice: Person,
    /// Ours, RSA, key on the token.
    pub bob: Person,
    /// Ours, P-256, key on the token.
    pub carol: Person,
    /// A stranger with a certificate of the same CA; her key is a file.
    pub erin: Person,
    /// The CAs.
    pub pki: Pki,
    /// The token.
    pub token: SoftHsm,
    /// What [`Lab::start`] writes to the configuration file.
    pub config: Config,
    /// What the daemons have in their environment besides.
    pub environment: Vec<(&'static str, OsString)>,
    /// Where everything lies.
    pub workdir: Workdir,
}

/// A lab with milter, Postfix and sink running.
#[derive(Debug)]
pub struct Running<M: Mta = Postfix> {
    /// Where the mail comes in.
    pub postfix: M,
    /// What is tested.
    pub milter: Milter,
    /// Where the mail goes to.
    pub sink: Sink,
    /// The rest. Dropped last: the directory goes with it.
    pub lab: Lab,
}

impl Lab {
    /// The authserv-id in [`Lab::config`].
    pub const AUTHSERV_ID: &str = "mx.example.org";

    /// Prepares it all. `name` says whose it is.
    pub fn new(name: &str) -> Result<Self> {
        let workdir = Workdir::new(name)?;
        let token = SoftHsm::new(&workdir)?;
        let pki = Pki::new(&workdir.directory("pki")?)?;
        let ours = |name: &str, key: Key, id: &str| -> Result<Person> {
            let person = pki.issue(&Profile::new(name, &format!("{name}@example.org"), key))?;
            token.import(&person.key, name, id)?;
            Ok(person)
        };
        let alice = ours("alice", Key::Rsa2048, "a11ce0")?;
        let bob = ours("bob", Key::Rsa2048, "b0b0")?;
        let carol = ours("carol", Key::P256, "ca201e")?;
        let erin = pki.issue(&Profile::new("erin", "erin@partner.example", Key::Rsa2048))?;
        let identity = |person| Identity::of(person, pki.issuing());
        let config = Config {
            module: SoftHsm::MODULE.to_owned(),
            label: SoftHsm::LABEL.to_owned(),
            pin_file: token.pin_file().to_owned(),
            keyd_socket: None,
            keyd_client: String::new(),
            sessions: 4,
            deadline: 20_000,
            anchors: vec![pki.root()],
            crls: Vec::new(),
            revocation: "off".to_owned(),
            listen: format!("inet:127.0.0.1:{}", wait::free_port()?),
            control: None,
            metrics: None,
            socket_mode: None,
            authserv_id: Self::AUTHSERV_ID.to_owned(),
            opened_mail_sender: None,
            reinjection: None,
            reinjection_socket: None,
            audit: None,
            cache: None,
            harvest: false,
            first_rules: String::new(),
            trust: String::new(),
            milter: String::new(),
            trusted_networks: vec!["192.0.2.0/24".to_owned()],
            identities: [&alice, &bob, &carol].map(identity).into(),
            rules: vec![("*@example.org".to_owned(), "required".to_owned())],
        };
        Ok(Self { alice, bob, carol, erin, pki, token, config, environment: Vec::new(), workdir })
    }

    /// Puts a module in front of the token that does what it is told to.
    pub fn with_faults(&mut self) -> Result<Control> {
        self.config.module = testmodule::library()?.to_string_lossy().into_owned();
        self.environment.extend(Control::environment(self.workdir.path()));
        Ok(Control::new(self.workdir.path())?)
    }

    /// Starts sink, milter and Postfix.
    pub fn start(self) -> Result<Running> {
        self.start_with(Offer::EightBit)
    }

    /// As [`Lab::start`], with a next hop that offers less.
    pub fn start_with(self, offer: Offer) -> Result<Running> {
        let sink = Sink::start(offer)?;
        let milter = self.start_milter()?;
        let back = match (&self.config.reinjection_socket, &self.config.reinjection) {
            (Some(_), _) => Some(Back::Socket),
            (None, back) => back.as_ref().map(|(port, _)| Back::Port(*port)),
        };
        let postfix = Postfix::start_with(&self.workdir, &self.config.listen, sink.port(), back)?;
        Ok(Running { postfix, milter, sink, lab: self })
    }

    /// As [`Lab::start`], with Sendmail in the place of Postfix, and its way to know a trusted host.
    pub fn start_sendmail(self) -> Result<Running<Sendmail>> {
        self.start_sendmail_with(Offer::EightBit)
    }

    /// As [`Lab::start_sendmail`], with a next hop that offers less.
    pub fn start_sendmail_with(mut self, offer: Offer) -> Result<Running<Sendmail>> {
        let [a, b, c, d] = Sendmail::OURS;
        self.config.trusted_networks.push(format!("{a}.{b}.{c}.{d}/32"));
        let sink = Sink::start(offer)?;
        let milter = self.start_milter()?;
        let back = self.config.reinjection.as_ref().map(|(port, _)| *port);
        let postfix = Sendmail::start(&self.workdir, &self.config.listen, sink.port(), back)?;
        Ok(Running { postfix, milter, sink, lab: self })
    }

    /// Starts the milter alone.
    pub fn start_milter(&self) -> Result<Milter> {
        Milter::start(self.daemon("hsmime-milter")?, &self.config.listen, &self.workdir.join("milter.log"))
    }

    /// Starts `hsmime-keyd`, which must be in [`Lab::config`].
    pub fn start_keyd(&self) -> Result<Milter> {
        let socket = self.config.keyd_socket.as_ref().context("no socket for hsmime-keyd")?;
        let command = self.daemon("hsmime-keyd")?;
        Milter::start(command, &format!("unix:{}", socket.display()), &self.workdir.join("keyd.log"))
    }

    fn daemon(&self, name: &str) -> Result<Command> {
        let mut command = programs::command(name, &self.token, &self.write_config()?)?;
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Writes the configuration file.
    pub fn write_config(&self) -> Result<PathBuf> {
        self.workdir.file("hsmime.toml", self.config.to_toml())
    }

    /// Runs `hsmime-batch COMMAND INPUT --output OUTPUT --report REPORT`; gives how it ended and the report.
    pub fn batch(
        &self,
        command: &str,
        input: &Path,
        output: &Path,
    ) -> Result<(Finished, Vec<serde_json::Value>)> {
        let mut report = output.to_owned().into_os_string();
        report.push(".report.jsonl");
        let report = PathBuf::from(report);
        let path = |path: &Path| path.to_str().map(str::to_owned).context("a path that is not UTF-8");
        let (input, output) = (path(input)?, path(output)?);
        let arguments = [command, &input, "--output", &output, "--report", &path(&report)?];
        let finished = programs::run("hsmime-batch", &self.token, &self.write_config()?, &arguments)?;
        let lines = std::fs::read_to_string(&report).unwrap_or_default();
        Ok((finished, lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?))
    }

    /// Runs `hsmime` with these arguments.
    pub fn admin(&self, arguments: &[&str]) -> Result<Finished> {
        programs::run("hsmime", &self.token, &self.write_config()?, arguments)
    }

    /// OpenSSL as a peer.
    pub fn openssl(&self) -> Result<OpenSsl> {
        OpenSsl::new(&self.workdir, &self.pki)
    }

    /// gpgsm as a peer, with erin's key.
    pub fn gpgsm(&self) -> Result<Gpgsm> {
        Gpgsm::new(&self.workdir, &self.pki, Some(&self.erin))
    }

    /// NSS as a peer, without keys.
    pub fn nss(&self) -> Result<Nss> {
        Nss::new(&self.workdir, &self.pki)
    }
}

impl<M: Mta> Running<M> {
    /// Sends one mail in a session of its own.
    pub fn send(&self, origin: &Origin, from: &str, to: &[&str], octets: &[u8]) -> Result<Reply> {
        let mut client = self.postfix.connect(origin)?;
        let reply = client.send(from, to, octets)?;
        client.quit()?;
        Ok(reply)
    }

    /// Sends one mail; if it is accepted, waits for it to arrive as the only new one.
    pub fn attempt(
        &self,
        origin: &Origin,
        from: &str,
        to: &[&str],
        octets: &[u8],
    ) -> Result<(Reply, Option<Delivered>)> {
        let before = self.sink.mails().len();
        let reply = self.send(origin, from, to, octets)?;
        if reply.code != 250 {
            return Ok((reply, None));
        }
        let mut mails = self.sink.wait_for(before + 1, PATIENCE).with_context(|| self.postfix.log())?;
        ensure!(mails.len() == before + 1, "{} mails arrived instead of one", mails.len() - before);
        Ok((reply, mails.pop()))
    }

    /// Sends one mail that must be accepted, and waits for it to arrive.
    pub fn deliver(&self, origin: &Origin, from: &str, to: &[&str], octets: &[u8]) -> Result<Delivered> {
        let (reply, mail) = self.attempt(origin, from, to, octets)?;
        mail.with_context(|| format!("refused: {reply:?}\n{}", self.milter.log()))
    }

    /// As [`Running::deliver`], but sends again while the mail is deferred, as an MTA would.
    pub fn deliver_in_time(
        &self,
        origin: &Origin,
        from: &str,
        to: &[&str],
        octets: &[u8],
    ) -> Result<Delivered> {
        wait::until("the mail to be accepted", PATIENCE, || match self.attempt(origin, from, to, octets)? {
            (Reply { code: 400..=499, .. }, None) => Ok(None),
            (reply, mail) => Ok(Some(mail.with_context(|| format!("refused: {reply:?}"))?)),
        })
    }

    /// Sends a mail as somebody of ours who is logged in.
    pub fn outgoing(&self, from: &Person, to: &str, octets: &[u8]) -> Result<Delivered> {
        self.deliver(&Origin::login(&from.address), &from.address, &[to], octets)
    }

    /// Sends a mail from erin, a stranger, to people of ours.
    pub fn incoming(&self, to: &[&str], octets: &[u8]) -> Result<Delivered> {
        self.deliver(&Origin::remote(), &self.lab.erin.address, to, octets)
    }

    /// Starts the milter again after it was stopped or killed.
    pub fn restart_milter(&mut self) -> Result<()> {
        self.milter = self.lab.start_milter()?;
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_mins(1);
