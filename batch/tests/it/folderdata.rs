//! What a server keeps about a folder in an mbox, and messages that only look a little like it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use batch::run::Output;

use crate::{
    resume::files,
    support::{Ran, Shout, options, run_with, sample_mbox},
};

/// As c-client and Dovecot write it.
pub(crate) const DATA: &str = "From MAILER-DAEMON Fri Sep 16 22:26:51 2016\n\
    Date: 16 Sep 2016 22:26:51 +0000\n\
    From: Mail System Internal Data <MAILER-DAEMON@host.example.org>\n\
    Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\
    Message-ID: <1474064811@host.example.org>\n\
    X-IMAP: 1474064811 0000000003\n\
    Status: RO\n\n\
    This text is part of the internal format of your mail folder, and is not\n\
    a real message.\n\n";

fn converted(mbox: &[u8], folder: &Path, format: &str) -> Ran {
    let (input, output) = (folder.join("in"), folder.join("out"));
    fs::write(&input, mbox).unwrap();
    let mut options = options(&[&input], &output);
    if !format.is_empty() {
        options.output = Output::Converted(output, format.parse().unwrap());
    }
    run_with(&options, &Shout).unwrap()
}

#[test]
fn a_field_that_servers_write_makes_no_message_folder_data_that_anybody_sent() {
    let field = "From a@b Fri Sep 16 22:26:51 2016\nSubject: x\nX-IMAP: 1 2\n\nbody\n\n";
    let encrypted = DATA.replace("Status: RO", "MIME-Version: 1.0\nContent-Type: application/pkcs7-mime");
    let of_another = DATA.replace("Mail System Internal Data <MAILER-DAEMON@", "Mallory <mallory@");
    let titled = DATA.replace("DON'T DELETE THIS", "READ THIS");
    for (name, first) in
        [("field", field), ("encrypted", &encrypted), ("sender", &of_another), ("subject", &titled)]
    {
        for (before, after) in [(1, 1), (0, 2)] {
            let mbox = [&sample_mbox(before), first.as_bytes(), &sample_mbox(after)].concat();
            for format in ["", "mbox", "maildir", "eml"] {
                let folder = tempfile::tempdir().unwrap();
                let ran = converted(&mbox, folder.path(), format);
                let shouted = ran.report.iter().filter(|line| line["action"] == "shouted").count();
                assert_eq!((shouted, ran.totals.failed()), (3, 0), "{name} {before} {format}");
                if !matches!(format, "" | "mbox") {
                    let written = files(&folder.path().join("out"));
                    assert_eq!(written.len(), 3, "{name} {before} {format}: {:?}", written.keys());
                }
            }
        }
    }
}

#[test]
fn folder_data_that_is_not_the_first_message_is_a_message() {
    let mbox = [&sample_mbox(1), DATA.as_bytes(), &sample_mbox(1)].concat();
    for format in ["maildir", "eml"] {
        let folder = tempfile::tempdir().unwrap();
        let ran = converted(&mbox, folder.path(), format);
        assert!(ran.report.iter().all(|line| line["action"] == "shouted"));
        let written = files(&folder.path().join("out"));
        assert!(written.len() == 3 && !written.contains_key(Path::new("mbox-preamble")), "{format}");
    }
}

#[test]
fn what_is_kept_beside_the_messages_is_for_its_owner_alone() {
    for before in [DATA, "junk\n\n"] {
        for format in ["maildir", "eml"] {
            let folder = tempfile::tempdir().unwrap();
            converted(&[before.as_bytes(), &sample_mbox(2)].concat(), folder.path(), format);
            let beside = folder.path().join("out/mbox-preamble");
            assert_eq!(fs::read_to_string(&beside).unwrap(), before);
            assert_eq!(fs::metadata(beside).unwrap().permissions().mode() & 0o777, 0o600, "{format}");
        }
    }
}
