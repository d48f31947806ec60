//! The batch tool: archives come out complete, the input stays as it was, whatever happens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use testkit::mail::Letter;
use testkit::peers::{Recipient, pkcs7_mime};
use testkit::{Lab, archive, mime, programs};

use crate::common::assert_same_content;

/// Mails of all kinds that alice may have sent.
fn mails(lab: &Lab, count: u64) -> Vec<Vec<u8>> {
    let mail = |number: u64| {
        let subject = format!("Archived {number}");
        let letter = Letter { from: &lab.alice.address, to: "friend@partner.example", subject: &subject };
        match number % 3 {
            0 => letter.ugly(2_000),
            1 => letter.of_size(3_000, number),
            _ => letter.text("From here on, a line that mbox quotes:\r\nFrom here\r\n>From there\r\n"),
        }
    };
    (0..count).map(mail).collect()
}

fn encrypted(lab: &Lab, count: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let openssl = lab.openssl().unwrap();
    let contents: Vec<Vec<u8>> =
        (0..count).map(|n| format!("Content-Type: text/plain\r\n\r\nsecret {n}\r\n").into_bytes()).collect();
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Archived" };
    let encrypt = |content: &Vec<u8>| {
        letter.carrying(&openssl.encrypt(content, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap())
    };
    (contents.iter().map(encrypt).collect(), contents)
}

/// An archive of one form, written and read alike.
struct Form {
    name: &'static str,
    write: fn(&Lab, &str, &[Vec<u8>]) -> PathBuf,
    read: fn(&Path) -> Vec<Vec<u8>>,
}

const FORMS: [Form; 2] = [
    Form {
        name: "mbox",
        write: |lab, name, mails| lab.workdir.file(name, archive::mbox(mails)).unwrap(),
        read: |path| archive::read_mbox(&fs::read(path).unwrap()),
    },
    Form {
        name: "Maildir",
        write: |lab, name, mails| {
            let directory = lab.workdir.directory(name).unwrap();
            archive::write_maildir(&directory, mails).unwrap();
            directory
        },
        read: |path| archive::read_maildir(path).unwrap().into_iter().map(|(_, mail)| mail).collect(),
    },
];

#[test]
fn an_archive_is_signed_and_verified_and_loses_nothing() {
    let lab = Lab::new("batchsign").unwrap();
    let openssl = lab.openssl().unwrap();
    for Form { name, write, read } in FORMS {
        let mails = mails(&lab, 30);
        let input = write(&lab, &format!("{name}.in"), &mails);
        let before = read(&input);
        let signed = lab.workdir.join(format!("{name}.signed"));
        let (finished, report) = lab.batch("sign", &input, &signed).unwrap();
        assert_eq!(finished.code(), Some(0), "{name}: {finished:?}");
        assert_eq!(report.len(), mails.len(), "{name}: one line each");
        assert_eq!(read(&input), before, "{name}: the input stays as it was");
        let output = read(&signed);
        assert_eq!(output.len(), mails.len(), "{name}");
        for (mail, sent) in output.iter().zip(&mails) {
            assert_same_content(&openssl.verify(&mime::crlf(mail)).unwrap(), sent);
        }

        let verified = lab.workdir.join(format!("{name}.verified"));
        let (finished, report) = lab.batch("verify", &signed, &verified).unwrap();
        assert_eq!(finished.code(), Some(0), "{name}: {finished:?}");
        let passed = report.iter().filter(|line| line["verdict"] == "pass").count();
        assert_eq!(passed, mails.len(), "{name}: {report:?}");
    }
}

#[test]
fn an_archive_is_decrypted_and_what_cannot_be_opened_is_copied_and_named() {
    let lab = Lab::new("batchdecrypt").unwrap();
    for Form { name, write, read } in FORMS {
        let (mut mails, contents) = encrypted(&lab, 12);
        let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Broken" };
        mails[5] = letter.carrying(&pkcs7_mime("enveloped-data", b"garbage"));
        let input = write(&lab, &format!("{name}.in"), &mails);
        let output = lab.workdir.join(format!("{name}.out"));
        let (finished, report) = lab.batch("decrypt", &input, &output).unwrap();
        assert_eq!(finished.code(), Some(1), "{name}: {finished:?}");
        assert_eq!(report.len(), mails.len(), "{name}");
        let failed = report.iter().filter(|line| line["action"] == "failed").count();
        assert_eq!(failed, 1, "{name}: {report:?}");
        let opened = read(&output);
        assert_eq!(opened.len(), mails.len(), "{name}");
        if output.is_file() {
            let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&output), mode(&input) & 0o770, "{name}: the text is not for everybody");
        }
        for (number, (mail, content)) in opened.iter().zip(&contents).enumerate() {
            if number == 5 {
                assert_eq!(*mail, mime::lf(&mails[5]), "{name}: copied as it was");
            } else {
                assert_same_content(&mime::crlf(mail), content);
            }
        }
    }
}

#[test]
fn a_lost_token_stops_the_run_and_shows_no_half_output() {
    let lab = Lab::new("batchtoken").unwrap();
    let mails = mails(&lab, 5);
    let input = lab.workdir.file("in.mbox", archive::mbox(&mails)).unwrap();
    lab.token.stop().unwrap();
    let output = lab.workdir.join("out.mbox");
    let (finished, _) = lab.batch("sign", &input, &output).unwrap();
    assert_eq!(finished.code(), Some(2), "{finished:?}");
    assert!(!output.exists(), "nothing half done is shown");
    assert_eq!(fs::read(&input).unwrap(), archive::mbox(&mails));
}

#[test]
fn an_existing_output_is_never_overwritten() {
    let lab = Lab::new("batchexists").unwrap();
    let input = lab.workdir.file("in.mbox", archive::mbox(&mails(&lab, 2))).unwrap();
    let output = lab.workdir.file("out.mbox", "precious\n").unwrap();
    let (finished, _) = lab.batch("sign", &input, &output).unwrap();
    assert_eq!(finished.code(), Some(2), "{finished:?}");
    assert_eq!(fs::read(&output).unwrap(), b"precious\n");
}

#[test]
fn who_signs_a_report_is_known_before_the_first_message_and_it_can_be_signed_later() {
    let lab = Lab::new("batchseal").unwrap();
    let config = lab.write_config().unwrap();
    let input = lab.workdir.file("in.mbox", archive::mbox(&mails(&lab, 3))).unwrap();
    let path = |name: &str| lab.workdir.join(name).to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| programs::run("hsmime-batch", &lab.token, &config, arguments).unwrap();
    let sign = |output: &str, report: &str, by: &str| {
        let (input, output, report) = (input.to_str().unwrap(), path(output), path(report));
        run(&["sign", input, "--output", &output, "--report", &report, "--sign-report", by])
    };
    let alice = &*lab.alice.address;
    let refused = sign("out", "report", "bob@nowhere.example");
    assert_eq!(refused.code(), Some(2), "{refused:?}");
    assert!(refused.stderr.contains("bob@nowhere.example"), "{refused:?}");
    assert!(!lab.workdir.join("out").exists() && !lab.workdir.join("report").exists());

    // Given a report whose signature would have a name that is too long,
    let long = "r".repeat(253);
    let ended = sign("out", &long, alice);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("out is complete; the report is not signed"), "{ended:?}");
    // when it is called otherwise, it can be signed if the output is as it says, and only once.
    fs::rename(lab.workdir.join(&long), lab.workdir.join("report")).unwrap();
    let check = |output: &str| run(&["check", &path("report"), &path(output), "--sign-report", alice]);
    let wrong = check("in.mbox");
    assert_eq!(wrong.code(), Some(1), "{wrong:?}");
    assert!(!lab.workdir.join("report.p7s").exists());
    let signed = check("out");
    assert_eq!(signed.code(), Some(0), "{signed:?}");
    let again = check("out");
    assert_eq!(again.code(), Some(2), "{again:?}");
    assert!(again.stderr.contains("it is signed by"), "{again:?}");
    // And what has a signature already is not begun.
    fs::remove_file(lab.workdir.join("report")).unwrap();
    assert_eq!(sign("other", "report", alice).code(), Some(2));
    assert!(!lab.workdir.join("other").exists());
}
