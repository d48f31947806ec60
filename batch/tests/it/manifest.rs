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
    run::run,
};
use smime::testing::fixtures::{certificate, data, key, now};

use crate::support::{Shout, Unlucky, options, sample_mbox};

fn written(folder: &Path, input: &str, output: &str) -> PathBuf {
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
