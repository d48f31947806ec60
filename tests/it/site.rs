//! Where archives are worked on by the shipped program: people, their keys on a token that takes its time, and mail.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use testkit::mail::Letter;
use testkit::peers::{OpenSsl, Recipient};
use testkit::{Lab, archive, mime, programs};
use testmodule::{Control, Function, Rule};

use crate::common::assert_same_content;

/// A lab whose token takes a while for each operation, and counts them.
pub(crate) struct Site {
    pub(crate) lab: Lab,
    pub(crate) openssl: OpenSsl,
    control: Control,
    config: PathBuf,
}

/// What a private key does.
const OPERATIONS: [Function; 3] = [Function::Sign, Function::Decrypt, Function::DeriveKey];

impl Site {
    pub(crate) fn new(name: &str, each: Duration) -> Self {
        let mut lab = Lab::new(name).unwrap();
        lab.config.module = testmodule::library().unwrap().to_str().unwrap().to_owned();
        let mut control = Control::new(lab.workdir.path()).unwrap();
        control.add(Rule::delay(each).on(OPERATIONS)).unwrap();
        let (openssl, config) = (lab.openssl().unwrap(), lab.write_config().unwrap());
        Self { lab, openssl, control, config }
    }

    /// The archive tool with this configuration, its words to be read.
    pub(crate) fn batch(&self, arguments: &[&OsStr]) -> Command {
        self.batch_behind(&[], arguments)
    }

    /// The same, started by another program.
    pub(crate) fn batch_behind(&self, launcher: &[&OsStr], arguments: &[&OsStr]) -> Command {
        let program = programs::find("hsmime-batch").unwrap().into_os_string();
        let mut words = launcher.iter().copied().chain([&*program]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("--config").arg(&self.config).args(arguments);
        command.envs(self.lab.token.environment().unwrap());
        command.envs(Control::environment(self.lab.workdir.path()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// How many operations the token was asked for, by all runs.
    pub(crate) fn operations(&self) -> u64 {
        let counters = self.control.counters().unwrap();
        OPERATIONS.iter().map(|function| counters.begun(*function)).sum()
    }
}

/// What is done with an archive, and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    Sign,
    Decrypt,
}

impl Deed {
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Decrypt => "decrypt",
        }
    }

    /// Mails of so many octets, two of three of which need one operation of a key; those that are encrypted are short.
    pub(crate) fn mails(self, site: &Site, count: usize, octets: usize) -> Vec<Vec<u8>> {
        let Lab { alice, bob, carol, erin, .. } = &site.lab;
        let secret = |person, text: &str| {
            let content = format!("Content-Type: text/plain\r\n\r\n{text}\r\n");
            site.openssl.encrypt(content.as_bytes(), &[Recipient::pkcs1(person)], &[]).unwrap()
        };
        let secrets = match self {
            Self::Decrypt => vec![secret(bob, "for bob"), secret(carol, "for carol")],
            Self::Sign => Vec::new(),
        };
        let mail = |number: usize| {
            let from = if number.is_multiple_of(3) { &erin.address } else { &alice.address };
            let letter = Letter { from, to: &bob.address, subject: &format!("Archived {number}") };
            match (number % 3, self) {
                // Noise is slow to make.
                (0, _) | (_, Self::Sign) => letter.text(&"Some words in a line.\r\n".repeat(octets / 23)),
                (other, Self::Decrypt) => letter.carrying(&secrets[other - 1]),
            }
        };
        (0..count).map(mail).collect()
    }

    /// What a mail of these says is to be as this command is to leave it.
    #[track_caller]
    pub(crate) fn assert_done(self, site: &Site, mail: &[u8], was: &[u8]) {
        let is_ours = mime::values(was, "from")[0].contains(&site.lab.alice.address);
        match self {
            _ if !is_ours => assert!(mime::lf(mail) == mime::lf(was), "somebody else's mail was changed"),
            Self::Sign => {
                assert_same_content(&site.openssl.verify(&mime::crlf(mail)).unwrap(), was);
            }
            Self::Decrypt => {
                let text = String::from_utf8_lossy(mail);
                assert!(text.contains("for bob") || text.contains("for carol"), "{text}");
            }
        }
    }
}

/// An archive of one form, written and read alike.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Mbox,
    Maildir,
}

impl Form {
    pub(crate) fn write(self, at: &Path, mails: &[Vec<u8>]) {
        match self {
            Self::Mbox => fs::write(at, archive::mbox(mails)).unwrap(),
            Self::Maildir => archive::write_maildir(at, mails).unwrap(),
        }
    }

    /// In the order in which they were written.
    pub(crate) fn read(self, at: &Path) -> Vec<Vec<u8>> {
        match self {
            Self::Mbox => archive::read_mbox(&fs::read(at).unwrap()),
            Self::Maildir => archive::read_maildir(at).unwrap().into_iter().map(|(_, mail)| mail).collect(),
        }
    }
}

/// All files below a folder, or the one, with their octets.
pub(crate) fn files(at: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![at.to_owned()];
    while let Some(next) = open.pop() {
        if next.is_dir() {
            open.extend(fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.insert(next.strip_prefix(at).unwrap().to_owned(), fs::read(&next).unwrap());
        }
    }
    found
}

/// What lies beside a file or folder under a name that begins with its.
pub(crate) fn beside(at: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", at.display()))
}

/// The lines of a report.
pub(crate) fn lines(report: &Path) -> Vec<Value> {
    let text = fs::read_to_string(report).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The words that a run said for people.
pub(crate) fn words(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// Waits in short steps, until this is so.
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..300_000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_micros(200));
    }
    panic!("not within a minute");
}
