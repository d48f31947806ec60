//! What a server keeps about a folder in an mbox, and messages that only look a little like it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use batch::{
    manifest::check,
    report::Report,
    run::{Output, run},
};

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

/// What somebody does to the file with the data and to that of a message.
type Attack = fn(&Path, &Path);

/// Runs on an mbox with folder data and five messages; gives the report and the output.
fn reported(folder: &Path, format: &str) -> (PathBuf, PathBuf) {
    let path = |name: &str| folder.join(format!("{name}-{format}"));
    let (input, output, report) = (path("in"), path("out"), path("report"));
    fs::write(&input, [DATA.as_bytes(), &sample_mbox(5)].concat()).unwrap();
    let mut options = options(&[&input], &output);
    if format != "same" {
        options.output = Output::Converted(output.clone(), format.parse().unwrap());
    }
    run(&options, &Shout, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
    (report, output)
}

#[test]
fn folder_data_is_held_against_the_report_where_it_is_and_an_output_of_another_kind_is_none() {
    let kinds = ["same", "mboxcl2", "maildir", "eml"];
    let folder = tempfile::tempdir().unwrap();
    let all = kinds.map(|kind| (kind, reported(folder.path(), kind)));
    for (kind, (report, output)) in &all {
        let checked = check(report, std::slice::from_ref(output)).unwrap();
        assert_eq!((checked.good, checked.count), (6, 0), "{kind}: {:?}", checked.problems);
        // A Maildir and files have the same octets under numbers of their own: which of the two it was, a report does not say.
        let is_other =
            |other: &str| other != *kind && !(output.is_dir() && matches!(other, "maildir" | "eml"));
        for (other, (_, output)) in all.iter().filter(|(other, _)| is_other(other)) {
            let checked = check(report, std::slice::from_ref(output));
            assert!(checked.is_err() || checked.unwrap().count > 0, "{kind}: this is {other}");
        }
    }
    let attacks: [(&str, Attack); 6] = [
        ("the data is changed", |data, _| fs::write(data, DATA.replace("00003", "00009")).unwrap()),
        ("the data is gone", |data, _| fs::remove_file(data).unwrap()),
        ("the data is there twice", |data, _| fs::write(data, DATA.repeat(2)).unwrap()),
        ("the data is a message", |data, first| {
            fs::rename(data, first.with_file_name("00000006.eml")).unwrap();
        }),
        ("the data is in the place of a message", |data, first| fs::rename(data, first).unwrap()),
        ("a message is data", |data, first| {
            let both = [DATA.as_bytes(), &fs::read(first).unwrap()].concat();
            fs::write(data, both).unwrap();
            fs::remove_file(first).unwrap();
        }),
    ];
    for kind in ["maildir", "eml"] {
        for (name, attack) in attacks {
            let folder = tempfile::tempdir().unwrap();
            let (report, output) = reported(folder.path(), kind);
            let first = files(&output).into_keys().find(|file| !file.ends_with("mbox-preamble")).unwrap();
            attack(&output.join("mbox-preamble"), &output.join(first));
            assert!(check(&report, &[output]).unwrap().count > 0, "{kind}: {name}");
        }
    }
}
