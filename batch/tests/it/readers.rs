//! What other programs read in the archives that are written here: Python's `mailbox`, and Dovecot.
//!
//! scripts/prepare installs both. Dovecot's service is not needed: `doveadm` reads with a configuration of the test's.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use batch::{
    archive::Format,
    mbox::Variant,
    run::{Options, Output},
    task::{Done, Failed, Identity, Task, Work},
};
use serde_json::Value;
use smime::mime::Message;

use crate::{
    corpora::{convert, mbox, proper, walk},
    support::{options, run_with, sample_mbox},
};

/// Samples of others, of which some were read, answered and so on.
fn with_flags() -> Vec<(String, Vec<u8>)> {
    let mut messages = proper();
    // Python and Dovecot do not know Thunderbird's flags.
    messages.retain(|(_, octets)| !String::from_utf8_lossy(octets).contains("X-Mozilla-Status"));
    let flags = ["", "Status: RO\n", "Status: O\n", "Status: RO\nX-Status: F\n", "Status: RO\nX-Status: A\n"];
    for (number, (_, octets)) in messages.iter_mut().enumerate() {
        let said = flags[number % flags.len()];
        let field =
            |name: &str| octets.to_ascii_lowercase().windows(name.len()).any(|part| part == name.as_bytes());
        if !field("status:") {
            *octets = [format!("X-Number: {number}\n{said}").as_bytes(), octets].concat();
        }
    }
    messages
}

const PYTHON: &str = r"
import calendar, hashlib, json, mailbox, re, sys, time
kind, path = sys.argv[1:]
out = []
if kind == 'mbox':
    box = mailbox.mbox(path, create=False)
    for key in box.keys():
        octets = re.sub(rb'(?m)^>(>*From )', rb'\1', box.get_bytes(key))
        message = box[key]
        date = calendar.timegm(time.strptime(' '.join(message.get_from().split()[-5:])))
        out.append((octets, mailbox.MaildirMessage(message).get_flags(), date))
else:
    box = mailbox.Maildir(path, create=False)
    for key in sorted(box.keys()):
        message = box[key]
        out.append((box.get_bytes(key), message.get_flags(), int(message.get_date())))
print(json.dumps([(hashlib.sha256(octets).hexdigest(), flags, date) for octets, flags, date in out]))
";

fn python(kind: &str, path: &Path) -> Vec<Value> {
    let ran = Command::new("python3").args(["-c", PYTHON, kind]).arg(path).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn what_is_compressed_in_many_frames_is_read_by_the_programs_it_is_meant_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(300)).unwrap();
    for (suffix, program, magic) in [
        ("gz", "gzip", &b"\x1f\x8b\x08"[..]),
        ("zst", "zstd", b"\x28\xb5\x2f\xfd"),
        ("xz", "xz", b"\xfd7zXZ\0"),
    ] {
        let small = path("out").with_extension(suffix);
        run_with(&options(&[&path("in")], &small), &Identity).unwrap();
        let octets = fs::read(&small).unwrap();
        assert!(memchr::memmem::find_iter(&octets, magic).count() > 5, "{suffix}: not many frames");
        let read = Command::new(program).arg("-dc").arg(&small).output().unwrap();
        assert!(read.status.success(), "{suffix}: {}", String::from_utf8_lossy(&read.stderr));
        assert!(read.stdout == fs::read(path("in")).unwrap(), "{suffix}");
        fs::write(path(suffix), read.stdout).unwrap();
        assert_eq!(python("mbox", &path(suffix)).len(), 300);
    }
}

#[test]
fn python_sees_the_same_messages_flags_and_dates_in_mbox_and_maildir() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let messages = with_flags();
    fs::write(path("in"), mbox(&messages, Variant::Mboxrd, false)).unwrap();
    convert(&path("in"), &path("maildir"), Format::Maildir);
    convert(&path("maildir"), &path("back"), Format::Mbox(Variant::Mboxrd));
    let before = python("mbox", &path("in"));
    assert_eq!(before.len(), messages.len());
    assert!(before.iter().filter(|seen| seen[1] == "FS").count() > 5, "the sample has flags");
    for (kind, name) in [("maildir", "maildir"), ("mbox", "back")] {
        let after = python(kind, &path(name));
        for (number, (after, before)) in after.iter().zip(&before).enumerate() {
            assert_eq!(after, before, "{kind}: message {number}, {}", messages[number].0);
        }
        assert_eq!(after.len(), before.len(), "{kind}");
    }
}

/// What Dovecot sees: flags, time of arrival, size with CRLF, `X-Number` and body.
fn dovecot(home: &Path, location: &str) -> Vec<Value> {
    let settings = format!(
        "log_path = {0}/log\nprotocols =\nssl = no\nmail_home = {0}\nmail_uid = 65534\nmail_gid = 65534\n\
         first_valid_uid = 1\nmbox_write_locks = fcntl\n",
        home.display()
    );
    let config = home.join("dovecot.conf");
    fs::write(&config, settings).unwrap();
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(home).status().unwrap();
    assert!(owned.success());
    let fields = "uid flags date.received hdr.x-number body";
    let ran = Command::new("doveadm")
        .args(["-c", config.to_str().unwrap(), "-f", "json", "-o", &format!("mail_location={location}")])
        .args(["fetch", fields, "mailbox", "INBOX", "all"])
        .envs([("USER", "nobody"), ("TZ", "UTC"), ("HOME", home.to_str().unwrap())])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    let log = fs::read_to_string(home.join("log")).unwrap_or_default();
    assert!(ran.status.success() && errors.is_empty(), "{errors}{log}");
    let seen = String::from_utf8_lossy(&ran.stdout);
    let mut seen: Vec<Value> = serde_json::from_str(&seen).unwrap();
    for message in &mut seen {
        let flags: Vec<&str> =
            message["flags"].as_str().unwrap().split(' ').filter(|flag| *flag != "\\Recent").collect();
        let flags = flags.join(" ");
        let body = message["body"].as_str().unwrap().replace("\n>From ", "\nFrom ");
        let body = body.strip_prefix('>').filter(|body| body.starts_with("From ")).unwrap_or(&body);
        message["body"] = body.replace("\r\n", "\n").into();
        message["flags"] = flags.into();
    }
    seen
}

/// Changes every other message.
struct EveryOther;

impl Task for EveryOther {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let text = [b"X-Changed: yes\r\n", work.message.header(), b"\r\nchanged\r\n"].concat();
        let message = work.index.is_multiple_of(2).then(|| Message::from_stored(&text));
        Ok(Done { message: message.map(Into::into), ..Done::unchanged("copied") })
    }
}

#[test]
fn dovecot_keeps_the_numbers_of_messages_that_stay_and_gives_others_to_those_that_change() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let path = |name: &str| home.join(name);
    fs::write(path("in"), sample_mbox(6)).unwrap();
    convert(&path("in"), &path("old"), Format::Maildir);
    let location = |name: &str| format!("maildir:{}/{name}", home.display());
    let numbers = |seen: &[Value]| -> Vec<(String, bool)> {
        let changed = |message: &Value| message["body"].as_str().unwrap().contains("changed");
        seen.iter().map(|message| (message["uid"].as_str().unwrap().to_owned(), changed(message))).collect()
    };
    let before = numbers(&dovecot(&home, &location("old")));
    assert_eq!(before.len(), 6);
    crate::support::run_on(&path("old"), &path("new"), &EveryOther);
    let after = numbers(&dovecot(&home, &location("new")));
    let expected = [("1", false), ("3", false), ("5", false), ("7", true), ("8", true), ("9", true)];
    assert_eq!(after, expected.map(|(uid, changed)| (uid.to_owned(), changed)));
    // The same in place, beside Dovecot's index and cache of what was there.
    assert!(path("old").join("dovecot.index.log").exists());
    let old = path("old");
    run_with(&Options { output: Output::InPlace, ..options(&[&old], &old) }, &EveryOther).unwrap();
    assert_eq!(numbers(&dovecot(&home, &location("old"))), expected.map(|(uid, is)| (uid.to_owned(), is)));
}

#[test]
fn dovecot_sees_the_same_messages_flags_and_dates_in_mbox_and_maildir() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let path = |name: &str| home.join(name);
    let mut messages = with_flags();
    // Dovecot takes these fields for its own, and quotes of mboxrd for the author's.
    messages.retain(|(_, octets)| {
        let text = String::from_utf8_lossy(octets).to_ascii_lowercase();
        !text.contains("content-length") && !text.contains("\n>from ")
    });
    assert!(messages.len() > 70, "{}", messages.len());
    fs::write(path("in"), mbox(&messages, Variant::Mboxrd, false)).unwrap();
    convert(&path("in"), &path("maildir"), Format::Maildir);
    convert(&path("maildir"), &path("back"), Format::Mbox(Variant::Mboxrd));
    let file = |name: &str| format!("mbox:{0}/folders:INBOX={0}/{name}:INDEX=MEMORY", home.display());
    let before = dovecot(&home, &file("in"));
    let back = dovecot(&home, &file("back"));
    let maildir = dovecot(&home, &format!("maildir:{}/maildir", home.display()));
    assert_eq!(before.len(), messages.len());
    for (kind, after) in [("mbox", &back), ("Maildir", &maildir)] {
        for (number, (after, before)) in after.iter().zip(&before).enumerate() {
            assert_eq!(after, before, "{kind}: message {number}, {}", messages[number].0);
        }
        assert_eq!(after.len(), before.len(), "{kind}");
    }
    // It found the sizes in the names right: else it says so, and does not serve the message.
    let log = fs::read_to_string(home.join("log")).unwrap_or_default();
    assert!(!log.contains("size"), "{log}");
    assert!(walk(&path("maildir")).iter().any(|file| file.ends_with("dovecot-uidlist")));
}
