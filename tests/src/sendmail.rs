//! A private Sendmail: unpacked, not installed, because its package and Postfix's exclude each other.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::command;
use crate::lab::{Lab, Running};
use crate::mta::Mta;
use crate::saslauthd::Saslauthd;
use crate::sink::Offer;
use crate::smtp::{Client, Origin};
use crate::wait;
use crate::workdir::Workdir;

/// A running instance; it stops when dropped.
#[derive(Debug)]
pub struct Sendmail {
    base: PathBuf,
    port: u16,
    office: u16,
    daemon: Child,
    /// Whom its logins ask.
    _saslauthd: Saslauthd,
}

impl Sendmail {
    /// The client address of hosts of ours. Sendmail has no XCLIENT: who a client is depends on where it comes from,
    /// and who logs in does.
    pub const OURS: [u8; 4] = [127, 0, 0, 2];
    /// The client address of all others.
    pub const OTHERS: [u8; 4] = [127, 0, 0, 3];

    /// Starts an instance below `workdir` that asks the milter at `inet:127.0.0.1:PORT` and delivers everything to
    /// `sink_port`; mail that comes back from the milter, which sees it again, has a port of its own.
    pub fn start(workdir: &Workdir, milter: &str, sink_port: u16, reinjection: Option<u16>) -> Result<Self> {
        let base = workdir.directory("sendmail")?;
        let queue = base.join("queue");
        fs::create_dir_all(&queue)?;
        fs::set_permissions(&queue, fs::Permissions::from_mode(0o700))?;
        let (port, office) = (wait::free_port()?, wait::free_port()?);
        let root = unpacked()?;
        let sasl = workdir.directory("sendmail/sasl")?;
        let saslauthd = Saslauthd::start(&base.join("saslauthd"))?;
        fs::write(
            sasl.join("Sendmail.conf"),
            format!("pwcheck_method: saslauthd\nsaslauthd_path: {}\n", base.join("saslauthd").display()),
        )?;
        let milter = milter.rsplit(':').next().context("no port of the milter")?;
        let source = base.join("sendmail.mc");
        fs::write(&source, macros(&base, &root, [Some(port), Some(office), reinjection], milter, sink_port))?;
        let cf = command::succeed(
            "m4",
            Command::new(root.join("usr/bin/m4")).arg(&source).envs(libraries(&root)),
        )?;
        fs::write(base.join("sendmail.cf"), cf.stdout)?;
        let daemon = daemon(&base, &root, &[])?;
        let sendmail = Self { base, port, office, daemon, _saslauthd: saslauthd };
        sendmail.answers()?;
        Ok(sendmail)
    }

    fn answers(&self) -> Result<()> {
        let up = wait::until("Sendmail to answer", PATIENCE, || Ok(Client::greet(self.port).ok()));
        up.map(drop).with_context(|| self.log())
    }

    fn stop(&mut self) -> io::Result<ExitStatus> {
        // It may have stopped by itself.
        if let Some(pid) = i32::try_from(self.daemon.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        self.daemon.wait()
    }

    /// With an option that its configuration does not have.
    fn restart_with(&mut self, option: &str) -> Result<()> {
        self.stop()?;
        self.daemon = daemon(&self.base, &unpacked()?, &[option])?;
        self.answers()
    }

    /// How many files of the queue begin so.
    fn files(&self, prefixes: &[&str]) -> Result<usize> {
        let files = fs::read_dir(self.base.join("queue"))?.collect::<io::Result<Vec<_>>>()?;
        let names = files.iter().map(|file| file.file_name().to_string_lossy().into_owned());
        Ok(names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).count())
    }
}

impl Mta for Sendmail {
    const IS_SENDMAIL: bool = true;

    fn start(lab: Lab, offer: Offer) -> Result<Running<Self>> {
        lab.start_sendmail_with(offer)
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn connect_at(&self, port: u16, origin: &Origin) -> Result<Client> {
        let is_ours = origin.address.octets().starts_with(&[192, 0, 2]);
        let mut client = Client::connect_from(if is_ours { Self::OURS } else { Self::OTHERS }, port)?;
        if let Some(login) = &origin.login {
            client.log_in(login)?;
        }
        Ok(client)
    }

    fn office(&self) -> Result<u16> {
        Ok(self.office)
    }

    fn limit_size(&mut self, octets: usize) -> Result<()> {
        self.restart_with(&format!("-OMaxMessageSize={octets}"))
    }

    fn limit_header(&mut self, octets: usize) -> Result<()> {
        self.restart_with(&format!("-OMaxHeadersLength={octets}"))
    }

    fn write_mime_anew(&mut self) -> Result<()> {
        self.restart_with("-OMaxMimeHeaderLength=2048/1024")
    }

    /// What is quarantined.
    fn held(&self) -> Result<usize> {
        self.files(&["hf"])
    }

    fn queued(&self) -> Result<usize> {
        self.files(&["qf", "hf"])
    }

    fn log(&self) -> String {
        let read =
            |name| String::from_utf8_lossy(&fs::read(self.base.join(name)).unwrap_or_default()).into_owned();
        format!("{}{}", read("log"), read("traffic"))
    }
}

impl Drop for Sendmail {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Starts it on what is written in `base`.
fn daemon(base: &Path, root: &Path, options: &[&str]) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(base.join("log"))?;
    let mut command = Command::new("unshare");
    // With a short host name it would sleep for a minute; the name is this process's own.
    command.args(["--uts", "sh", "-c", "hostname mx.test.invalid && exec \"$@\"", "sh"]);
    command.arg(root.join("usr/libexec/sendmail/sendmail")).arg("-bD");
    command.arg(format!("-C{}", base.join("sendmail.cf").display())).args(options);
    command.arg("-X").arg(base.join("traffic")).envs(libraries(root));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().map_err(|error| command::not_started("util-linux", &command, &error))
}

/// Where scripts/prepare has unpacked it.
fn unpacked() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found =
        own.ancestors().map(|folder| folder.join("sendmail")).find(|root| root.join("unpacked").exists());
    found.context("Sendmail is not in the target folder; run: scripts/prepare")
}

fn libraries(root: &Path) -> [(&'static str, PathBuf); 1] {
    [("LD_LIBRARY_PATH", root.join("libraries"))]
}

fn macros(base: &Path, root: &Path, ports: [Option<u16>; 3], milter: &str, sink_port: u16) -> String {
    let named = ports.into_iter().zip(["MTA", "office", "Back"]);
    let daemons = named.filter_map(|(port, name)| {
        Some(format!("DAEMON_OPTIONS(`Port={},Addr=127.0.0.1,Name={name}')dnl\n", port?))
    });
    let daemons = daemons.collect::<Vec<_>>().concat();
    let (base, cf) = (base.display(), root.join("usr/share/sendmail/cf"));
    let (cf, sasl) = (cf.display(), root.join("libraries/sasl2"));
    let sasl = sasl.display();
    format!(
        "define(`_CF_DIR_', `{cf}/')dnl
include(`{cf}/m4/cf.m4')dnl
OSTYPE(`linux')dnl
define(`QUEUE_DIR', `{base}/queue')dnl
define(`confPID_FILE', `{base}/pid')dnl
define(`STATUS_FILE', `{base}/statistics')dnl
define(`ALIAS_FILE', `')dnl
define(`confCW_FILE', `-o {base}/names')dnl
define(`confDONT_BLAME_SENDMAIL', `GroupWritableDirPathSafe,TrustStickyBit')dnl
define(`confRUN_AS_USER', `root')dnl
define(`confTO_IDENT', `0')dnl
dnl It refuses, or queues what is large, by the machine's load: not here.
define(`confREFUSE_LA', `100000')dnl
define(`confQUEUE_LA', `100000')dnl
define(`confDELAY_LA', `0')dnl
define(`confDOMAIN_NAME', `mx.test.invalid')dnl
define(`SMART_HOST', `esmtp:[127.0.0.1]')dnl
define(`ESMTP_MAILER_ARGS', `TCP $h {sink_port}')dnl
define(`confAUTH_MECHANISMS', `PLAIN')dnl
TRUST_AUTH_MECH(`PLAIN')dnl
{}FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`promiscuous_relay')dnl
dnl Its own server for submission would be at port 587, of which there is one.
FEATURE(`no_default_msa')dnl
{daemons}INPUT_MAIL_FILTER(`hsmime', `S=inet:{milter}@127.0.0.1, F=T, T=C:10s;S:10s;R:1m;E:2m')dnl
MAILER(`smtp')dnl
LOCAL_CONFIG
ESASL_CONF_PATH={base}/sasl
ESASL_PATH={sasl}
",
        documented()
    )
}

/// What docs/guide.md has admins write beside what has it ask the milter.
fn documented() -> String {
    let guide = include_str!("../../docs/guide.md");
    let section = guide.split_once("\n## Sendmail\n").map_or("", |(_, section)| section);
    let block = section.split("```").nth(1).unwrap_or_default();
    let lines = block.lines().skip(1).filter(|line| !line.starts_with("INPUT_MAIL_FILTER"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    /// What Sendmail writes for an address in From, where this is left out of its source.
    fn written(left_out: &[&str], address: &str) -> String {
        let workdir = Workdir::new("canonical").unwrap();
        let (base, root) = (workdir.path().to_owned(), unpacked().unwrap());
        fs::create_dir(base.join("queue")).unwrap();
        // A line of it is to its first name what a CNAME is to the name it leads to, and nobody asks DNS.
        fs::write(base.join("hosts"), "192.0.2.1 example.org x.attacker.example\n").unwrap();
        fs::write(base.join("switch"), "hosts files\naliases files\n").unwrap();
        let mut source = macros(&base, &root, [None; 3], "1", 1);
        for line in left_out {
            assert!(source.contains(line), "{source}");
            source = source.replace(line, "");
        }
        let files = format!(
            "define(`confHOSTS_FILE', `{0}/hosts')dnl\ndefine(`confSERVICE_SWITCH_FILE', `{0}/switch')dnl\n",
            base.display()
        );
        let source = source.replace("OSTYPE(`linux')dnl\n", &format!("OSTYPE(`linux')dnl\n{files}"));
        fs::write(base.join("sendmail.mc"), source).unwrap();
        let mut m4 = Command::new(root.join("usr/bin/m4"));
        let cf = command::succeed("m4", m4.arg(base.join("sendmail.mc")).envs(libraries(&root))).unwrap();
        fs::write(base.join("sendmail.cf"), cf.stdout).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--uts", "sh", "-c", "hostname mx.test.invalid && echo \"$0\" | \"$@\""]);
        command.arg(format!("/tryflags HS\n/try esmtp {address}"));
        command.arg(root.join("usr/libexec/sendmail/sendmail")).arg("-bt");
        command.arg(format!("-C{}", base.join("sendmail.cf").display())).envs(libraries(&root));
        let said = command::succeed("sendmail", &mut command).unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let written = said.lines().find_map(|line| line.strip_prefix("Rcode = 0, addr = "));
        written.unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    #[test]
    fn a_name_that_leads_to_ours_is_not_written_as_ours_where_sendmail_is_as_the_guide_says() {
        let forged = "ceo@x.attacker.example";
        let canonical = "FEATURE(`nocanonify')dnl\n";
        assert_eq!(written(&[canonical], forged), "ceo@example.org");
        assert_eq!(written(&[], forged), forged);
        assert!(documented().contains("define(`confDONT_EXPAND_CNAMES', `True')dnl\n"));
    }
}
