//! An output held against the report of the run that wrote it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
};

use batch::{
    manifest::{check, sign},
    report::Report,
    run::{Output, run},
    task::Identity,
};
use smime::testing::fixtures::{certificate, data, key, now};

use crate::{
    resume::maildir,
    support::{Shout, Unlucky, options, sample_mbox},
};

pub(crate) fn written(folder: &Path, input: &str, output: &str) -> PathBuf {
    let path = |name: &str| folder.join(name);
    let report = path(&format!("{output}.report"));
    let task: &dyn batch::task::Task = if output.contains("unlucky") { &Unlucky } else { &Shout };
    let options = options(&[&path(input)], &path(output));
    run(&options, task, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
    report
}

#[test]
fn every_change_of_an_output_or_its_report_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("mbox"), sample_mbox(20)).unwrap();
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(path("mail").join(part)).unwrap();
    }
    for number in 0..20 {
        fs::write(path("mail").join(format!("cur/{number}.host:2,S")), format!("Subject: {number}\n\nx\n"))
            .unwrap();
    }
    for (input, output) in [("mbox", "out"), ("mail", "mail-out"), ("mbox", "unlucky")] {
        let report = written(folder.path(), input, output);
        let checked = check(&report, &[path(output)]).unwrap();
        assert_eq!((checked.good, checked.count), (20, 0), "{output}: {:?}", checked.problems);
    }

    // The report changed,
    let report = path("out.report");
    let lines = fs::read_to_string(&report).unwrap();
    let all: Vec<&str> = lines.lines().collect();
    let without = |gone: usize| {
        let left = all.iter().enumerate().filter(|(at, _)| *at != gone);
        left.map(|(_, line)| format!("{line}\n")).collect::<Vec<_>>().concat()
    };
    let mut swapped = all.clone();
    swapped.swap(3, 4);
    for (name, changed) in [
        ("a line is gone", without(7)),
        ("the last line is gone", without(19)),
        ("a word is changed", lines.replacen("shouted", "whispered", 1)),
        ("two lines changed places", swapped.join("\n") + "\n"),
    ] {
        fs::write(path("changed.report"), changed).unwrap();
        let checked = check(&path("changed.report"), &[path("out")]).unwrap();
        assert!(checked.count > 0, "{name}");
    }
    // the mbox changed,
    let mbox = fs::read_to_string(path("out")).unwrap();
    for (name, changed) in [
        ("an octet", mbox.replacen("LINE 5", "LINE 6", 1)),
        ("a message less", mbox.split_inclusive("\n\nFrom ").skip(1).collect::<Vec<_>>().concat()),
        ("cut short", mbox.chars().take(mbox.len() - 100).collect()),
        ("a message more", format!("{mbox}From - \nSubject: x\n\ny\n\n")),
    ] {
        fs::write(path("other"), format!("From {}", changed.trim_start_matches("From "))).unwrap();
        assert!(check(&report, &[path("other")]).unwrap().count > 0, "{name}");
    }
    // and the Maildir.
    let (report, mail) = (path("mail-out.report"), path("mail-out"));
    // A changed message has a name of its own.
    let files: Vec<_> = fs::read_dir(mail.join("cur")).unwrap().map(|entry| entry.unwrap().path()).collect();
    fs::remove_file(&files[3]).unwrap();
    fs::write(&files[4], "Subject: forged\n\nx\n").unwrap();
    fs::rename(&files[5], format!("{}R", files[5].display())).unwrap();
    let checked = check(&report, &[mail]).unwrap();
    assert_eq!((checked.good, checked.count), (18, 3), "{:?}", checked.problems);
}

#[test]
fn a_report_is_signed_so_that_openssl_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("mbox"), sample_mbox(50)).unwrap();
    fs::write(path("root.pem"), data("root.pem")).unwrap();
    let report = written(folder.path(), "mbox", "out");
    let signature = sign(&report, &key("alice"), &[certificate("ca")], now()).unwrap();
    let at = now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let verify = || {
        let mut openssl = Command::new("openssl");
        openssl.args(["cms", "-verify", "-binary", "-inform", "DER", "-out", "/dev/null", "-attime", &at]);
        openssl.arg("-in").arg(&signature).arg("-content").arg(&report).arg("-CAfile").arg(path("root.pem"));
        openssl.output().unwrap()
    };
    let said = verify();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let changed = fs::read_to_string(&report).unwrap().replacen("shouted", "whispered", 1);
    fs::write(&report, changed).unwrap();
    assert!(!verify().status.success(), "a changed report is not what was signed");
    assert!(sign(&report, &key("alice"), &[], now()).is_err(), "a signature is never overwritten");
}

/// What somebody does who can write to the outputs of a run and to its report.
pub(crate) type Attack = fn(&Path);

fn lines(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    change(&mut lines);
    fs::write(path, lines.concat()).unwrap();
}

/// Changes the order of the messages of an mbox, or what messages there are.
fn messages(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let text = fs::read_to_string(path).unwrap();
    let mut messages: Vec<String> =
        text.split("From alice").skip(1).map(|m| format!("From alice{m}")).collect();
    change(&mut messages);
    fs::write(path, messages.concat()).unwrap();
}

pub(crate) fn swap(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(aside, other).unwrap();
}

/// Files of a Maildir, by their numbers.
fn mail(root: &Path, numbers: [&str; 2]) -> [PathBuf; 2] {
    let files = || fs::read_dir(root.join("cur")).unwrap().map(|entry| entry.unwrap().path());
    numbers.map(|number| {
        files()
            .find(|file| file.file_name().unwrap().to_string_lossy().starts_with(&format!("{number}.")))
            .unwrap()
    })
}

const ATTACKS: [(&str, Attack); 15] = [
    ("the last lines of the report are dropped", |at| lines(&at.join("report"), |lines| lines.truncate(50))),
    ("the last line of the report is dropped and its message, too", |at| {
        lines(&at.join("report"), |lines| drop(lines.pop()));
        let [last, _] = mail(&at.join("out/other"), ["19", "3"]);
        fs::remove_file(last).unwrap();
    }),
    ("a line of the report is there twice", |at| lines(&at.join("report"), |l| l.insert(5, l[4].clone()))),
    ("the report is another run's", |at| {
        fs::copy(at.join("report2"), at.join("report")).unwrap();
    }),
    ("report and signature are another run's", |at| {
        fs::copy(at.join("report2"), at.join("report")).unwrap();
        fs::copy(at.join("report2.p7s"), at.join("report.p7s")).unwrap();
    }),
    ("the signature is another report's", |at| {
        fs::copy(at.join("report2.p7s"), at.join("report.p7s")).unwrap();
    }),
    ("the signature is none", |at| fs::write(at.join("report.p7s"), "no signature").unwrap()),
    ("two messages of an mbox changed places", |at| messages(&at.join("out/mbox"), |all| all.swap(3, 9))),
    ("a message is added to an mbox", |at| {
        messages(&at.join("out/mbox"), |all| all.push("From alice\nSubject: x\n\ny\n\n".into()));
    }),
    ("a message of an mbox is there twice", |at| {
        messages(&at.join("out/mbox"), |all| all.insert(4, all[4].clone()));
    }),
    ("an mbox and a Maildir changed places", |at| swap(&at.join("out/mbox"), &at.join("out/mail"))),
    ("two Maildirs changed places", |at| swap(&at.join("out/mail"), &at.join("out/other"))),
    ("two messages of a Maildir changed places", |at| {
        let [one, other] = mail(&at.join("out/mail"), ["3", "7"]);
        swap(&one, &other);
    }),
    ("a message is added to a Maildir", |at| {
        fs::write(at.join("out/mail/cur/99.host:2,S"), "A: 1\n\n").unwrap();
    }),
    ("a message of a Maildir is there twice", |at| {
        let [one, _] = mail(&at.join("out/mail"), ["3", "7"]);
        fs::copy(one, at.join("out/mail/cur/99.host:2,S")).unwrap();
    }),
];

#[test]
fn whatever_somebody_does_who_can_write_to_outputs_and_report_is_found() {
    for (name, attack) in
        [("nothing is done", None)].into_iter().chain(ATTACKS.map(|(name, it)| (name, Some(it))))
    {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("mbox"), sample_mbox(20)).unwrap();
        for maildir in ["mail", "other"] {
            fs::create_dir_all(path(maildir).join("cur")).unwrap();
            for number in 0..20 {
                let text = format!("Subject: {number} of {maildir}\n\nx\n");
                fs::write(path(maildir).join(format!("cur/{number}.host:2,S")), text).unwrap();
            }
        }
        let inputs = ["mbox", "mail", "other"].map(&path);
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        for (output, report) in [("out", "report"), ("out2", "report2")] {
            let task: &dyn batch::task::Task = if report == "report" { &Shout } else { &Identity };
            let written = Report::create(&path(report)).unwrap();
            run(&options(&inputs, &path(output)), task, written, &AtomicBool::new(false)).unwrap();
            sign(&path(report), &key("alice"), &[], now()).unwrap();
        }
        if let Some(attack) = attack {
            attack(folder.path());
        }
        let outputs = ["out/mbox", "out/mail", "out/other"].map(path);
        match (check(&path("report"), &outputs), attack) {
            (Ok(checked), None) => {
                assert_eq!((checked.good, checked.count), (60, 0), "{:?}", checked.problems);
                assert_eq!(checked.signers.len(), 1);
            }
            (Ok(checked), Some(_)) => assert!(checked.count > 0, "{name}: nothing was found"),
            (Err(error), None) => panic!("{error}"),
            (Err(_), Some(_)) => {}
        }
    }
}

/// The file in a folder whose name has this in it.
fn file(folder: &Path, part: &str) -> PathBuf {
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.find(|file| file.file_name().unwrap().to_string_lossy().contains(part)).unwrap()
}

/// The same on an output of another kind than its input: which input, which format, what is done.
const CONVERTED: [(&str, &str, &str, Attack); 12] = [
    ("two messages of a Maildir that was an mbox changed places", "mbox", "maildir", |out| {
        swap(&file(&out.join("new"), ".Q0000000003R"), &file(&out.join("new"), ".Q0000000007R"));
    }),
    ("two messages of a Maildir that was a tree changed places", "tree", "maildir", |out| {
        swap(&file(&out.join("new"), ".Q0000000001R"), &file(&out.join("new"), ".Q0000000006R"));
    }),
    ("two files that were an mbox changed places", "mbox", "eml", |out| {
        swap(&out.join("00000003.eml"), &out.join("00000007.eml"));
    }),
    ("two files that were a Maildir changed places", "mail", "eml", |out| {
        swap(&out.join("3.host.eml"), &out.join("7.host.eml"));
    }),
    ("a file that was in a Maildir is in another folder", "mail", "eml", |out| {
        fs::rename(out.join(".Sent/3.host.eml"), out.join("33.host.eml")).unwrap();
    }),
    ("a file of a tree was moved up", "tree", "", |out| {
        fs::rename(out.join("a/b/1.eml"), out.join("b/1.eml")).unwrap();
    }),
    ("two folders of a tree changed places", "tree", "", |out| swap(&out.join("b"), &out.join("a/b"))),
    ("two mboxes that were folders changed places", "mail", "mbox", |out| {
        swap(&out.join("INBOX.mbox"), &out.join("Sent.mbox"));
    }),
    ("a message was moved from one mbox to the next", "mail", "mbox", |out| {
        // In the order of the report it stays where it is.
        let mut moved = String::new();
        split(&out.join("INBOX.mbox"), |all| moved = all.pop().unwrap());
        split(&out.join("Sent.mbox"), |all| all.insert(0, moved));
    }),
    ("an mbox that is not called so is added to them", "mail", "mbox", |out| {
        fs::copy(out.join("INBOX.mbox"), out.join("Archive")).unwrap();
    }),
    ("a link is added to mboxes", "mail", "mbox", |out| {
        std::os::unix::fs::symlink(out.join("Sent.mbox"), out.join("Drafts")).unwrap();
    }),
    ("an mbox is gone", "mail", "mbox", |out| fs::remove_file(out.join("Sent.mbox")).unwrap()),
];

/// Changes what messages there are in an mbox.
fn split(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let text = fs::read_to_string(path).unwrap();
    let mut all: Vec<String> = text.split_inclusive("\n\nX\n\n").map(str::to_owned).collect();
    assert!(all.len() > 5, "{text}");
    change(&mut all);
    fs::write(path, all.concat()).unwrap();
}

#[test]
fn whatever_somebody_does_to_an_output_of_another_kind_is_found() {
    let inputs = [("mbox", 20), ("mail", 40), ("tree", 30)];
    for (name, input, format, attack) in CONVERTED {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (_, messages) = inputs.iter().find(|(name, _)| *name == input).unwrap();
        let write = |folder: &str, name: String, number: usize| {
            fs::create_dir_all(path(folder)).unwrap();
            fs::write(path(folder).join(name), format!("Subject: {number} of {folder}\n\nx\n")).unwrap();
        };
        match input {
            "mbox" => fs::write(path(input), sample_mbox(20)).unwrap(),
            "mail" => ["mail/cur", "mail/.Sent/cur"].iter().for_each(|folder| {
                (0..20).for_each(|number| write(folder, format!("{number}.host:2,S"), number));
            }),
            _ => ["tree/a", "tree/a/b", "tree/b"]
                .iter()
                .for_each(|folder| (0..10).for_each(|number| write(folder, format!("{number}.eml"), number))),
        }
        let (input, output) = (path(input), path("out"));
        let mut options = options(&[&input], &output);
        if !format.is_empty() {
            options.output = Output::Converted(output.clone(), format.parse().unwrap());
        }
        let report = path("report");
        run(&options, &Shout, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
        let checked = check(&report, std::slice::from_ref(&output)).unwrap();
        assert_eq!((checked.good, checked.count), (*messages, 0), "before {name}: {:?}", checked.problems);
        attack(&output);
        let checked = check(&report, &[output]);
        assert!(checked.is_err() || checked.unwrap().count > 0, "{name}: nothing was found");
    }
}

#[test]
fn mboxes_that_were_folders_may_be_named_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    maildir(&path("mail"), 30);
    let report = path("report");
    let mut options = options(&[&path("mail")], &path("out"));
    options.output = Output::Converted(path("out"), "mboxrd".parse().unwrap());
    run(&options, &Shout, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
    let [inbox, sent] = ["out/INBOX.mbox", "out/Sent.mbox"].map(&path);
    for outputs in [vec![inbox.clone(), sent.clone()], vec![sent.clone(), inbox], vec![path("out")]] {
        let checked = check(&report, &outputs).unwrap();
        assert_eq!((checked.good, checked.count), (60, 0), "{outputs:?}: {:?}", checked.problems);
    }
    assert_eq!(check(&report, &[sent]).unwrap().count, 30, "one is not all");
}

#[test]
fn what_never_ends_in_the_place_of_a_preamble_holds_no_check_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("mbox"), sample_mbox(3)).unwrap();
    let report = path("report");
    let mut options = options(&[&path("mbox")], &path("out"));
    options.output = Output::Converted(path("out"), "maildir".parse().unwrap());
    run(&options, &Identity, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
    assert_eq!(check(&report, &[path("out")]).unwrap().count, 0);
    let preamble = path("out/mbox-preamble");
    for (what, is_made) in [("fifo", true), ("link", false)] {
        if is_made {
            assert!(Command::new("mkfifo").arg(&preamble).status().unwrap().success());
        } else {
            fs::remove_file(&preamble).unwrap();
            std::os::unix::fs::symlink("/dev/zero", &preamble).unwrap();
        }
        let (sender, ended) = std::sync::mpsc::channel();
        let given = (report.clone(), path("out"));
        std::thread::spawn(move || sender.send(check(&given.0, &[given.1])));
        let checked = ended.recv_timeout(std::time::Duration::from_secs(20));
        let checked = checked.unwrap_or_else(|_| panic!("{what}: it does not end"));
        assert!(checked.is_err() || checked.unwrap().count == 1, "{what}");
    }
}

#[test]
fn beside_the_mboxes_of_a_maildir_nothing_passes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    maildir(&path("mail"), 2);
    let report = path("report");
    let mut options = options(&[&path("mail")], &path("out"));
    options.output = Output::Converted(path("out"), "mbox".parse().unwrap());
    run(&options, &Identity, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
    let problems = || check(&report, &[path("out")]).unwrap().count;
    assert_eq!(problems(), 0);
    for name in ["Drafts/cur/1.host:2,S", "MH/1", "Drafts", "notes"] {
        let made = path("out").join(name);
        fs::create_dir_all(made.parent().unwrap()).unwrap();
        fs::write(&made, "X: y\n\nFrom x@a Fri Sep 16 22:26:51 2016\nSubject: x\n\ny\n").unwrap();
        assert_eq!(problems(), 1, "{name}");
        fs::remove_file(&made).unwrap();
        for above in made.ancestors().skip(1).take_while(|above| *above != path("out")) {
            fs::remove_dir(above).unwrap();
        }
    }
    assert!(Command::new("mkfifo").arg(path("out/Drafts")).status().unwrap().success());
    assert_eq!(problems(), 1);
}

#[test]
fn an_input_without_messages_has_no_output_of_others_be_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    maildir(&path("A"), 2);
    maildir(&path("B"), 0);
    let report = path("report");
    let options = options(&[&path("A"), &path("B")], &path("out"));
    run(&options, &Identity, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
    let problems = || check(&report, &[path("out/A"), path("out/B")]).unwrap().count;
    assert_eq!(problems(), 0);
    let cur = path("out/A/cur");
    fs::rename(cur.join("0.host,S=17:2,S"), cur.join("0.evil,S=17:2,S")).unwrap();
    assert_eq!(problems(), 2, "another name");
    fs::rename(cur.join("0.evil,S=17:2,S"), path("out/B/cur/0.host,S=17:2,S")).unwrap();
    assert_eq!(problems(), 2, "in another output");
}
