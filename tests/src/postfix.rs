//! A private Postfix without systemd: its own directory, its own port, its own log.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::command;
use crate::lab::{Lab, Running};
use crate::mta::Mta;
use crate::sink::Offer;
use crate::smtp::{Client, Origin};
use crate::wait;
use crate::workdir::Workdir;

/// A running instance; it stops when dropped.
#[derive(Debug)]
pub struct Postfix {
    base: PathBuf,
    port: u16,
    master: Option<Child>,
}

/// Where mail comes back from the milter.
#[derive(Clone, Copy, Debug)]
pub enum Back {
    /// A port of this machine.
    Port(u16),
    /// A Unix socket in Postfix's own folder.
    Socket,
}

impl Postfix {
    /// Starts an instance below `workdir` that asks `milter` and delivers everything to `sink_port`.
    ///
    /// `milter` is written as Postfix wants it: `inet:127.0.0.1:PORT` or `unix:/path`.
    pub fn start(workdir: &Workdir, milter: &str, sink_port: u16) -> Result<Self> {
        Self::start_with(workdir, milter, sink_port, None)
    }

    /// The socket of [`Back::Socket`] in an instance below `workdir`.
    pub fn reinjection_socket(workdir: &Workdir) -> PathBuf {
        workdir.join("postfix/spool/public/reinject")
    }

    /// As [`Postfix::start`], with a second server for mail that comes back from the milter, which sees it again.
    pub fn start_with(
        workdir: &Workdir,
        milter: &str,
        sink_port: u16,
        reinjection: Option<Back>,
    ) -> Result<Self> {
        let base = workdir.directory("postfix")?;
        for below in ["etc", "spool", "data"] {
            fs::create_dir_all(base.join(below))?;
        }
        let port = wait::free_port()?;
        chown(base.join("data"), Some(user_id("postfix")?), None)
            .context("Postfix can only be started by root")?;
        fs::write(base.join("etc/main.cf"), main_cf(&base, milter, sink_port))?;
        let of_port = |port| format!("127.0.0.1:{port} inet n - n - - smtpd\n");
        let back = match reinjection {
            None => String::new(),
            Some(Back::Port(port)) => format!("{}{OF_COPIES}", of_port(port)),
            Some(Back::Socket) => format!("reinject unix n - n - - smtpd\n{OF_COPIES}"),
        };
        let servers = of_port(port) + &back;
        fs::write(base.join("etc/master.cf"), format!("{servers}{SERVICES}"))?;
        let mut postfix = Self { base, port, master: None };
        command::succeed(PACKAGE, postfix.command("postfix").arg("check")).with_context(|| postfix.log())?;
        postfix.run()?;
        Ok(postfix)
    }

    /// The port its SMTP server listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new SMTP session.
    pub fn connect(&self, origin: &Origin) -> Result<Client> {
        Client::connect(self.port, origin)
    }

    /// Hands over one mail as a program on this host does: by `sendmail`, and not by SMTP.
    pub fn submit(&self, from: &str, to: &[&str], octets: &[u8]) -> Result<()> {
        let mut command = Command::new("/usr/sbin/sendmail");
        command.arg("-C").arg(self.base.join("etc")).args(["-i", "-f", from, "--"]).args(to);
        command::succeed_with_input(PACKAGE, &mut command, octets).map(drop)
    }

    /// The mail log so far.
    pub fn log(&self) -> String {
        let octets = fs::read(self.base.join("mail.log")).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// The mails in the queue, one JSON object each, as `postqueue -j` shows them.
    pub fn queue(&self) -> Result<Vec<serde_json::Value>> {
        let listed = command::succeed(PACKAGE, self.command("postqueue").arg("-j"))?.text();
        Ok(listed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Tries to deliver all that waits.
    pub fn flush(&self) -> Result<()> {
        command::succeed(PACKAGE, self.command("postqueue").arg("-f")).map(drop)
    }

    /// Changes one setting of main.cf and lets the running daemons read it.
    pub fn set(&self, setting: &str) -> Result<()> {
        command::succeed(PACKAGE, self.command("postconf").args(["-e", setting]))?;
        self.reload()
    }

    fn reload(&self) -> Result<()> {
        let reloads = || self.log().matches("reload -- version").count();
        let before = reloads();
        command::succeed(PACKAGE, self.command("postfix").arg("reload"))?;
        // `reload` only sends a signal; the log tells when master has acted on it.
        wait::until("Postfix to reload", PATIENCE, || Ok((reloads() > before).then_some(())))
    }

    /// Changes one setting of the server for copies, as `-o` in its line does, and lets it read it.
    pub fn set_for_copies(&self, back: Back, setting: &str) -> Result<()> {
        let service = match back {
            Back::Port(port) => format!("127.0.0.1:{port}/inet"),
            Back::Socket => "reinject/unix".to_owned(),
        };
        let setting = format!("{service}/{setting}");
        command::succeed(PACKAGE, self.command("postconf").args(["-P", &setting]))?;
        self.reload()
    }

    /// Adds an SMTP server on a port of its own that asks another milter; gives the port.
    pub fn add_server(&self, milter: &str) -> Result<u16> {
        self.add_server_with(&format!("-o smtpd_milters={milter}"))
    }

    /// Adds an SMTP server on a port of its own, with these options; gives the port.
    pub fn add_server_with(&self, options: &str) -> Result<u16> {
        let port = wait::free_port()?;
        let services = self.base.join("etc/master.cf");
        let server = format!("127.0.0.1:{port} inet n - n - - smtpd\n  {options}\n");
        fs::write(&services, format!("{}{server}", fs::read_to_string(&services)?))?;
        self.reload()?;
        wait::until("the server to answer", PATIENCE, || Ok(Client::greet(port).ok()))?;
        Ok(port)
    }

    /// Stops it and all its daemons.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut master) = self.master.take() else { return Ok(()) };
        let pid = i32::try_from(master.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM).context("Postfix has stopped by itself")?;
        master.wait()?;
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let mut command = Command::new("/usr/lib/postfix/sbin/master");
        // A run that is killed before it can stop Postfix leaves it no longer than this behind.
        command.arg("-c").arg(self.base.join("etc")).args(["-e", LIFETIME_SECONDS]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| command::not_started(PACKAGE, &command, &error))?;
        self.master = Some(child);
        let port = self.port;
        let up = wait::until("Postfix to answer", PATIENCE, || Ok(Client::greet(port).ok()));
        up.map(drop).with_context(|| self.log())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.base.join("etc"));
        command
    }
}

impl Mta for Postfix {
    const IS_SENDMAIL: bool = false;

    fn start(lab: Lab, offer: Offer) -> Result<Running<Self>> {
        lab.start_with(offer)
    }

    fn port(&self) -> u16 {
        Self::port(self)
    }

    fn connect_at(&self, port: u16, origin: &Origin) -> Result<Client> {
        Client::connect(port, origin)
    }

    fn office(&self) -> Result<u16> {
        self.add_server_with("-o milter_macro_daemon_name=office")
    }

    fn limit_size(&mut self, octets: usize) -> Result<()> {
        self.set(&format!("message_size_limit = {octets}"))
    }

    fn limit_header(&mut self, octets: usize) -> Result<()> {
        self.set(&format!("header_size_limit = {octets}"))
    }

    fn held(&self) -> Result<usize> {
        Ok(self.queue()?.iter().filter(|mail| mail["queue_name"] == "hold").count())
    }

    fn queued(&self) -> Result<usize> {
        Ok(self.queue()?.len())
    }

    fn log(&self) -> String {
        Self::log(self)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // It stopped by itself, or its lifetime ends it.
        let _ = self.stop();
    }
}

/// The number of a user, from /etc/passwd.
fn user_id(name: &str) -> Result<u32> {
    let users = fs::read_to_string(Path::new("/etc/passwd"))?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name));
    let id = line.and_then(|line| line.split(':').nth(2)).and_then(|id| id.parse().ok());
    ensure!(line.is_some(), "there is no user {name}; install the package {PACKAGE}");
    id.ok_or_else(|| anyhow!("the user {name} has no number"))
}

fn main_cf(base: &Path, milter: &str, sink_port: u16) -> String {
    let base = base.display();
    format!(
        "compatibility_level = 3.6
queue_directory = {base}/spool
data_directory = {base}/data
maillog_file = {base}/mail.log
maillog_file_prefixes = {base}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.test.invalid
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
local_header_rewrite_clients =
smtpd_relay_restrictions = check_client_access static:permit, reject
smtpd_authorized_xclient_hosts = 127.0.0.1
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
disable_dns_lookups = yes
default_transport = smtp:[127.0.0.1]:{sink_port}
smtp_destination_concurrency_limit = 20
in_flow_delay = 0
message_size_limit = 104857600
smtpd_milters = {milter}
milter_default_action = tempfail
"
    )
}

const PACKAGE: &str = "postfix";
const PATIENCE: Duration = Duration::from_secs(30);
const LIFETIME_SECONDS: &str = "3000";
/// What `docs/copies.md` has a server for copies set, whatever main.cf says.
const OF_COPIES: &str = "  -o smtpd_discard_ehlo_keywords=\n  -o smtpd_client_restrictions=permit_mynetworks,reject\n  \
     -o smtpd_sender_restrictions=\n";
const SERVICES: &str = "pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
showq unix n - n - - showq
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Sink;

    #[test]
    fn a_mail_goes_through_a_private_postfix_to_the_sink_unchanged() {
        let workdir = Workdir::new("postfix").unwrap();
        let sink = Sink::start(Offer::EightBit).unwrap();
        let mut postfix = Postfix::start(&workdir, "", sink.port()).unwrap();
        let octets = "From: a@example.org\r\nSubject: x\r\n\r\n.dot\r\nümlaut  \r\n".as_bytes();
        let mut client = postfix.connect(&Origin::remote()).unwrap();
        assert_eq!(client.send("a@example.org", &["b@example.net"], octets).unwrap().code, 250);
        let mails = sink.wait_for(1, PATIENCE).unwrap();
        assert!(mails[0].octets.ends_with(octets), "{mails:?}");
        assert_eq!(
            (mails[0].from.as_str(), mails[0].to.as_slice()),
            ("a@example.org", &["b@example.net".to_owned()][..])
        );
        wait::until("an empty queue", PATIENCE, || Ok(postfix.queue()?.is_empty().then_some(()))).unwrap();
        postfix.stop().unwrap();
        assert!(Client::greet(postfix.port()).is_err());
    }

    #[test]
    fn without_its_milter_postfix_defers() {
        let workdir = Workdir::new("postfix").unwrap();
        let sink = Sink::start(Offer::EightBit).unwrap();
        let nobody = format!("inet:127.0.0.1:{}", wait::free_port().unwrap());
        let postfix = Postfix::start(&workdir, &nobody, sink.port()).unwrap();
        let mut client = postfix.connect(&Origin::remote()).unwrap();
        let reply = client.send("a@example.org", &["b@example.net"], b"Subject: x\r\n\r\nx\r\n").unwrap();
        assert_eq!(reply.code, 451);
        assert!(sink.mails().is_empty());
    }
}
