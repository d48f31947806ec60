//! What lies in a Maildir outside of `cur` and `new`, and may be mail.

use std::{fs, os::unix::fs::symlink, path::Path};

use batch::{
    manifest::check,
    run::{Options, Output},
    task::Identity,
};

use crate::{
    filter::{desk, filter},
    resume::{files, maildir_folder},
    support::{options, run_with},
};

/// Writes messages below a root, each with its path in it.
fn put(root: &Path, paths: &[&str]) {
    for below in paths {
        let path = root.join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("Subject: {below}\n\nx\n")).unwrap();
    }
}

#[test]
fn what_may_be_mail_and_is_neither_copied_nor_replaced_is_named() {
    for way in ["--in-place", "--output new"] {
        let folder = desk();
        let path = |name: &str| folder.path().join(name);
        maildir_folder(&path("mail"), 1);
        maildir_folder(&path("disk/archive"), 1);
        put(&path("mail"), &["kept.eml", "dovecot.index.log", "subscriptions"]);
        // As somebody does who moves a folder to another disk.
        symlink("../disk/archive", path("mail/.Archive")).unwrap();
        symlink("../disk/gone", path("mail/.Old")).unwrap();
        symlink("kept.eml", path("mail/linked.eml")).unwrap();
        // As a server does whose users have their scripts beside their mail.
        put(&path("mail"), &["sieve/x.sieve"]);
        symlink("sieve/x.sieve", path("mail/.dovecot.sieve")).unwrap();
        let before = files(&path("disk"));
        let line = format!("plain encrypt mail --quiet {way} --to-certificate bob.pem");
        let ended = filter(folder.path(), &line, b"", None);
        let words = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{words}");
        for name in ["mail/.Archive", "mail/.Old", "mail/kept.eml", "mail/linked.eml"] {
            let named =
                words.lines().filter(|line| line.starts_with(&format!("hsmime-batch: {name}: "))).count();
            assert_eq!(named, 1, "{way}: {name}: {words}");
        }
        assert!(words.contains("though it may be mail or lead to some"), "{way}: {words}");
        for name in ["dovecot.index.log", ".dovecot.sieve"] {
            assert_eq!(
                words.contains(&format!("{name}: not mail, left out")),
                way != "--in-place",
                "{words}"
            );
            assert!(!words.contains(&format!("{name}: stays")), "{words}");
        }
        assert!(!words.contains("subscriptions"), "{words}");
        assert_eq!(files(&path("disk")), before, "{way}");
    }
}

#[test]
fn a_tree_of_files_with_a_folder_called_new_or_cur_is_not_taken_for_a_maildir() {
    for (paths, doubt) in [
        (["2023/1.eml", "2024/2.eml", "new/3.eml"], Some("")),
        (["1.eml", "2.eml", "deep/below/cur/3.eml"], Some("deep/below")),
        (["1.eml", "cur/2.host:2,S", "new/3.host"], None),
        (["1.eml", "cur/2.host:2,S", "notes.txt"], Some("")),
        // Thunderbird makes no `new`.
        (["Templates/x.eml", "Inbox/cur/2.eml", "Inbox/tmp/none"], None),
        (["1.eml", "a/cur/2.host:2,S", "b/new/3.host"], Some("a, and one more like it,")),
        (["notes.txt", "cur/2.host:2,S", "cur/3.host:2,S"], None),
        (["cur/1.eml", "cur/2.eml", "cur/3.eml"], None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("mail"), folder.path().join("out"));
        put(&input, &paths);
        let before = files(&input);
        let runs = [
            options(&[&input], &output),
            Options { output: Output::InPlace, ..options(&[&input], &input) },
            Options { output: Output::None, ..options(&[&input], &output) },
        ];
        for options in runs {
            let ended = run_with(&options, &Identity);
            let Some(doubt) = doubt else {
                assert!(ended.is_ok(), "{paths:?}");
                continue;
            };
            let error = format!("{:#}", anyhow::Error::from(ended.err().unwrap().error));
            let named = input.join(doubt).display().to_string();
            assert!(error.contains(&named) && error.contains("give that folder another name"), "{error}");
            assert_eq!(files(&input), before);
            assert!(!output.exists());
        }
    }
}

#[test]
fn what_an_mbox_had_before_its_first_message_is_in_no_mbox_where_the_root_has_no_messages() {
    let folder = desk();
    let path = |name: &str| folder.path().join(name);
    maildir_folder(&path("mail/.a"), 1);
    maildir_folder(&path("mail/.b"), 1);
    for name in ["mail/mbox-preamble", "mail/.b/mbox-preamble"] {
        fs::write(path(name), "junk\n\n").unwrap();
    }
    for (format, root_has_messages, named) in [
        ("mbox", false, ["mail/mbox-preamble: ", "mail/.b/mbox-preamble: "].as_slice()),
        ("eml", false, &["mail/mbox-preamble: ", "mail/.b/mbox-preamble: "]),
        ("maildir", false, &[]),
        ("mbox", true, &["mail/.b/mbox-preamble: "]),
    ] {
        if root_has_messages {
            maildir_folder(&path("mail"), 1);
        }
        let (output, report) = (format!("{format}-{root_has_messages}"), path(&format!("{format}.report")));
        let _ = fs::remove_file(&report);
        let line = format!("plain verify mail -o {output} --format {format} --report {}", report.display());
        let ended = filter(folder.path(), &line, b"", None);
        let words = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{words}");
        let told: Vec<&str> = words.lines().filter(|line| line.contains("mbox-preamble: left out")).collect();
        assert!(
            told.len() == named.len() && named.iter().all(|name| words.contains(name)),
            "{format}: {words}"
        );
        let checked = check(&report, &[path(&output)]).unwrap();
        assert_eq!(checked.problems, Vec::<String>::new(), "{format}");
        assert!(checked.good >= 2, "{format}");
    }
}
