//! The archive tool's commands and options, each given to the program as people give them.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use testkit::config::Identity;
use testkit::mail::{Letter, ugly_entity};
use testkit::peers::Recipient;
use testkit::pki::Person;
use testkit::{Lab, archive, command, mime, programs};

use crate::common::assert_same_content;

/// A lab and its configuration.
struct Desk {
    lab: Lab,
    config: PathBuf,
}

impl Desk {
    fn new(lab: Lab) -> Self {
        let config = lab.write_config().unwrap();
        Self { lab, config }
    }

    /// Runs a line of words; gives the exit status, what was said, and the report if there is one. A word that begins with `/` is a file
    /// in the lab's folder.
    fn run(&self, line: &str) -> (Option<i32>, String, Vec<Value>) {
        let path = |name: &str| self.lab.workdir.join(name).to_str().unwrap().to_owned();
        let words: Vec<String> = line
            .split(' ')
            .map(|word| word.strip_prefix('/').map_or_else(|| word.to_owned(), path))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let report = words.iter().position(|word| *word == "--report").map(|at| words[at + 1]);
        let ended = programs::run("hsmime-batch", &self.lab.token, &self.config, &words).unwrap();
        let lines = report.and_then(|report| fs::read_to_string(report).ok()).unwrap_or_default();
        let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (ended.code(), ended.stderr, lines)
    }

    /// Has a command make an mbox of another: all must be well, each message must have this action, and this word in `key`, and the
    /// output must be what the report says. Gives the mails and the report.
    fn make(
        &self,
        command: &str,
        from: &str,
        to: &str,
        action: &str,
        key: &str,
    ) -> (Vec<Vec<u8>>, Vec<Value>) {
        let (code, said, report) = self.run(&format!("{command} /{from} -o /{to} --report /{to}.report"));
        assert_eq!(code, Some(0), "{command}: {said}");
        for line in &report {
            assert_eq!(line["action"], action, "{command}: {line}");
            assert!(line["key"].as_str().unwrap_or_default().contains(key), "{command}: {line}");
            assert_eq!(line["key"].is_null(), key.is_empty(), "{command}: {line}");
        }
        let (code, said, _) = self.run(&format!("check /{to}.report /{to}"));
        assert_eq!(code, Some(0), "{command}: {said}");
        let mails = archive::read_mbox(&fs::read(self.lab.workdir.join(to)).unwrap());
        assert_eq!(mails.len(), report.len(), "{command}");
        (mails.iter().map(|mail| mime::crlf(mail)).collect(), report)
    }
}

/// A word of a certificate file's path, as [`Desk::run`] takes it.
fn file(of: &Person, lab: &Lab) -> String {
    of.certificate.strip_prefix(lab.workdir.path()).unwrap().to_str().unwrap().to_owned()
}

/// The same mail with another digit in its base64, in the content near its end.
fn damaged(mail: &[u8]) -> Vec<u8> {
    let mut mail = mail.to_vec();
    let at = mail.len() - 400;
    let digit = mail[at..].iter().position(u8::is_ascii_alphanumeric).unwrap() + at;
    mail[digit] = if mail[digit] == b'A' { b'B' } else { b'A' };
    mail
}

#[test]
fn each_command_of_the_archive_tool_does_what_it_says() {
    let mut lab = Lab::new("batchcommands").unwrap();
    lab.config.cache = Some(lab.workdir.join("cache"));
    let files = [lab.alice.certificate.clone(), lab.erin.certificate.clone(), lab.pki.issuing()];
    let files = files.each_ref().map(|file| file.to_str().unwrap());
    assert!(lab.admin(&[&["cert", "import"], &files[..]].concat()).unwrap().success());
    let openssl = lab.openssl().unwrap();
    let sent: Vec<Vec<u8>> = ["One", "Two", "Three"]
        .iter()
        .map(|subject| Letter { from: &lab.alice.address, to: &lab.erin.address, subject }.ugly(500))
        .collect();
    lab.workdir.file("sent", archive::mbox(&sent)).unwrap();
    let [bob, carol] = [&lab.bob, &lab.carol].map(|person| file(person, &lab));
    let desk = Desk::new(lab);
    let lab = &desk.lab;
    let are_sent = |mails: &[Vec<u8>], open: &dyn Fn(&[u8]) -> Vec<u8>| {
        for (mail, sent) in mails.iter().zip(&sent) {
            assert_same_content(&open(mail), sent);
        }
    };
    let verified = |mail: &[u8]| openssl.verify(mail).unwrap();

    let (signed, _) = desk.make("sign", "sent", "signed", "signed", "alice");
    are_sent(&signed, &verified);
    let (anew, report) = desk.make("resign --at signing-time", "signed", "anew", "signed anew", "alice");
    are_sent(&anew, &verified);
    assert!(report.iter().all(|line| line["verdict"] == "pass"), "{report:?}");
    assert!(
        signed.iter().zip(&anew).all(|(old, new)| old != new),
        "a new signature in the place of the old one"
    );
    // When the certificates were not valid yet, none of them passes: what is verified, and what is signed anew.
    for (at, code, verdict) in [("now", 0, "pass"), ("2026-10-01", 0, "pass"), ("2024-05-31", 1, "fail")] {
        let (ended, said, report) = desk.run(&format!("verify /anew --at {at} --report /verify.{at}"));
        assert_eq!(ended, Some(code), "{at}: {said}");
        let is_right = |line: &Value| (line["verdict"] == "pass") == (verdict == "pass");
        assert!(report.len() == 3 && report.iter().all(is_right), "{at}: {report:?}");
        let line = format!("resign /signed -o /resigned.{at} --at {at} --report /resign.{at}");
        let (ended, said, report) = desk.run(&line);
        assert_eq!(ended, Some(code), "{at}: {said}");
        let action = if code == 0 { "signed anew" } else { "failed" };
        assert!(report.iter().all(|line| line["action"] == action), "{at}: {report:?}");
    }

    // To those whom the cache knows,
    let command = "encrypt --to-cached --profile authenticated";
    let (sealed, _) = desk.make(command, "signed", "sealed", "encrypted", "");
    for mail in &sealed {
        assert_eq!(openssl.count_recipients(mail).unwrap(), 2);
    }
    are_sent(&sealed, &|mail| verified(&openssl.decrypt(mail, &lab.erin).unwrap()));
    // one of them replaced by carol, or added to them, or alone;
    for (keep, proof, alice, erin) in
        [("others", "key", false, true), ("all", "content", true, true), ("none", "content", false, false)]
    {
        let command = format!("rekey --to-certificate /{carol} --keep {keep} --proof {proof}");
        let (rekeyed, report) = desk.make(&command, "sealed", &format!("rekeyed.{keep}"), "rekeyed", "alice");
        assert_eq!(report[0]["layers"][0]["algorithms"][0], "AES-256-GCM", "{keep}: {report:?}");
        are_sent(&rekeyed, &|mail| verified(&openssl.decrypt(mail, &lab.carol).unwrap()));
        for mail in &rekeyed {
            let count = 1 + usize::from(alice) + usize::from(erin);
            assert_eq!(openssl.count_recipients(mail).unwrap(), count, "{keep}");
            assert_eq!(openssl.decrypt(mail, &lab.alice).is_ok(), alice, "{keep}");
            assert_eq!(openssl.decrypt(mail, &lab.erin).is_ok(), erin, "{keep}");
        }
    }
    // of what somebody damaged only the key is whole, for those who ask for no more;
    let damaged: Vec<Vec<u8>> = sealed.iter().map(|mail| damaged(mail)).collect();
    lab.workdir.file("damaged", archive::mbox(&damaged)).unwrap();
    for (proof, code, action) in [("content", 1, "failed"), ("key", 0, "rekeyed")] {
        let (ended, said, report) = desk.run(&format!(
            "rekey /damaged -o /damaged.{proof} --to-certificate /{carol} --proof {proof} --report /damaged.{proof}.report"
        ));
        assert_eq!((ended, report.len()), (Some(code), 3), "{proof}: {said}");
        assert!(report.iter().all(|line| line["action"] == action), "{proof}: {report:?}");
    }
    // anew to bob with other algorithms, and opened, as it was or without the signatures.
    let command = format!("reencrypt --to-certificate /{bob} --profile compatible");
    let (anew, _) = desk.make(&command, "rekeyed.none", "reencrypted", "encrypted anew", "carol");
    for mail in &anew {
        assert_eq!(openssl.count_recipients(mail).unwrap(), 1);
        assert!(openssl.decrypt(mail, &lab.carol).is_err());
    }
    are_sent(&anew, &|mail| verified(&openssl.decrypt(mail, &lab.bob).unwrap()));
    let (opened, report) = desk.make("decrypt", "reencrypted", "opened", "opened", "bob");
    are_sent(&opened, &verified);
    assert_ne!(report[0]["layers"][0]["algorithms"][0], "AES-256-GCM", "{report:?}");
    let (bare, report) = desk.make("decrypt --remove-signatures", "reencrypted", "bare", "opened", "bob");
    are_sent(&bare, &<[u8]>::to_vec);
    assert!(report.iter().all(|line| line["verdict"] == "pass"), "{report:?}");
    assert!(bare.iter().all(|mail| openssl.verify(mail).is_err()), "no signature is left");
}

fn letter<'a>(from: &'a str, to: &'a str, subject: &'a str) -> Letter<'a> {
    Letter { from, to, subject }
}

#[test]
fn each_option_that_selects_messages_selects_the_right_ones() {
    let lab = Lab::new("batchselect").unwrap();
    let openssl = lab.openssl().unwrap();
    let (alice, erin, friend) = (&*lab.alice.address, &*lab.erin.address, "friend@elsewhere.example");
    let old = String::from_utf8(letter(alice, friend, "1").text("x\r\n")).unwrap();
    let secret = |recipient: &Person, subject, cipher| {
        let content =
            openssl.encrypt(b"A: b\r\n\r\nx\r\n", &[Recipient::pkcs1(recipient)], &[cipher]).unwrap();
        letter(friend, &recipient.address, subject).carrying(&content)
    };
    let root = [
        old.replace("Fri, 20 Nov 2026", "Fri, 31 May 2024").into_bytes(),
        secret(&lab.bob, "2", "-aes-128-cbc"),
        secret(&lab.carol, "3", "-aes-256-cbc"),
    ];
    let mail = lab.workdir.directory("mail").unwrap();
    archive::write_maildir(&mail, &root).unwrap();
    archive::write_maildir(&mail.join(".Sent"), &[letter(alice, erin, "4").text("x\r\n")]).unwrap();
    let desk = Desk::new(lab);
    let (code, said, all) = desk.run("scan /mail --report /scanned");
    assert_eq!((code, all.len()), (Some(0), 4), "{said}");
    let bobs = all.iter().filter(|line| line["message_id"] == "<2@test.invalid>");
    let serial = bobs.map(|line| &line["layers"][0]["recipients"][0]["serial"]).next().unwrap();
    let by_key = format!("--key {}", serial.as_str().unwrap());
    for (at, (options, expected)) in [
        ("--since 2025-01-01", "234"),
        ("--before 2025-01-01", "1"),
        ("--since 2024-01-01 --before 2026-01-01", "1"),
        ("--address alice@example.org", "14"),
        ("--address @partner.example --address bob@example.org", "24"),
        ("--folder .Sent", "4"),
        ("--algorithm aes-128", "2"),
        ("--algorithm AES", "23"),
        (&*by_key, "2"),
        ("--key B0B0B0B0", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let (code, said, report) = desk.run(&format!("verify /mail {options} --report /selected.{at}"));
        assert_eq!(code, Some(i32::from(expected.is_empty())), "{options}: {said}");
        assert_eq!(report.len(), 4, "{options}");
        let selected = report.iter().filter(|line| line["action"] != "not selected");
        let mut selected: Vec<&str> =
            selected.map(|line| line["message_id"].as_str().unwrap().get(1..2).unwrap()).collect();
        selected.sort_unstable();
        assert_eq!(selected.concat(), expected, "{options}: {report:?}");
    }
}

#[test]
fn options_about_what_is_read_and_written_reach_the_run() {
    let lab = Lab::new("batchoptions").unwrap();
    let letter = Letter { from: &lab.alice.address, to: "friend@partner.example", subject: "x" };
    let mails = [letter.text("short\r\n"), letter.of_size(9_000, 7)];
    let input = lab.workdir.file("in", archive::mbox(&mails)).unwrap();
    // The second From_ line is text if a Content-Length is the writer's.
    let body = "one\n\nFrom a@b Fri Nov 20 12:00:00 2026\nSubject: two\n\nthree\n";
    let header =
        format!("From a@b Fri Nov 20 12:00:00 2026\nSubject: one\nContent-Length: {}\n\n", body.len());
    lab.workdir.file("lengths", format!("{header}{body}\n")).unwrap();
    let before = fs::read(&input).unwrap();
    let desk = Desk::new(lab);
    let there = |name: &str| desk.lab.workdir.join(name).exists();
    let actions = |report: &[Value]| {
        report.iter().map(|line| line["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };

    let (code, said, report) = desk.run("sign /in -o /dry --dry-run --report /dry.report --html /dry.html");
    assert_eq!((code, &*actions(&report)), (Some(0), "signed signed"), "{said}");
    assert!(!there("dry") && !there("dry.hsmime-partial") && !there("dry.hsmime-journal"));
    assert_eq!(fs::read(&input).unwrap(), before);
    let page = fs::read_to_string(desk.lab.workdir.join("dry.html")).unwrap();
    assert!(page.to_ascii_lowercase().starts_with("<!doctype html>") && page.contains("signed"), "{page}");

    let (code, said, report) = desk.run("sign /in -o /small --max-message 5000 --report /small.report");
    assert_eq!((code, &*actions(&report)), (Some(1), "signed failed"), "{said}");
    let (code, said, report) = desk.run("sign /in -o /disk --in-memory 5000 --report /disk.report");
    assert_eq!((code, &*actions(&report)), (Some(0), "signed signed"), "{said}");
    let (code, said, report) =
        desk.run("sign /in -o /box --format maildir --report /box.report --jobs 1 --memory 2");
    assert_eq!((code, report.len()), (Some(0), 2), "{said}");
    assert!(there("box/cur") && report.iter().all(|line| line["kind"] == "maildir"), "{report:?}");
    for (whose, messages) in [("writer", 1), ("senders", 2)] {
        let (_, said, report) =
            desk.run(&format!("verify /lengths --lengths {whose} --report /{whose}.report"));
        assert_eq!(report.len(), messages, "{whose}: {said}");
    }
    let (code, said, _) = desk.run("sign /in -o /quiet --quiet --report /quiet.report");
    assert_eq!((code, &*said), (Some(0), ""));
}

#[test]
fn a_scan_asks_the_tokens_which_keys_they_have_and_how_fast_they_are() {
    let mut lab = Lab::new("batchask").unwrap();
    lab.config.identities.push(Identity::of(&lab.erin, lab.pki.issuing()));
    let openssl = lab.openssl().unwrap();
    let secret = |people: &[&Person]| {
        let recipients: Vec<Recipient<'_>> = people.iter().map(|person| Recipient::pkcs1(person)).collect();
        let content = openssl.encrypt(b"A: b\r\n\r\nx\r\n", &recipients, &[]).unwrap();
        Letter { from: "a@b.example", to: "c@d.example", subject: "x" }.carrying(&content)
    };
    let (bob, carol, erin) = (secret(&[&lab.bob]), secret(&[&lab.carol]), secret(&[&lab.erin]));
    let both = secret(&[&lab.bob, &lab.carol]);
    let mixed = [carol.clone(), bob.clone(), erin, both, bob];
    lab.workdir.file("mixed", archive::mbox(&mixed)).unwrap();
    lab.workdir.file("curve", archive::mbox(&[carol])).unwrap();
    let desk = Desk::new(lab);
    let (code, said, _) = desk.run("scan /mixed --ask-tokens --report /mixed.report");
    assert_eq!(code, Some(0), "{said}");
    for (mark, count) in
        [(", on a token", 2), (", MISSING on every token", 1), ("; tokens were not asked", 0)]
    {
        assert_eq!(said.matches(mark).count(), count, "{mark}: {said}");
    }
    let line = said.lines().find(|line| line.starts_with("about ")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(" 3 x RSA 2048 at "), "{line}");
    assert!(line.contains(" 1 x ECDH P256 at ") && line.ends_with("/s, as just measured"), "{line}");
    assert!(!line.contains(" at 0"), "{line}");
    let (_, said, _) = desk.run("scan /curve --ask-tokens --report /curve.report");
    assert!(said.contains(" to open all that can be: 1 x ECDH P256 at "), "{said}");
    let (_, said, _) = desk.run("scan /mixed --report /not.report");
    assert!(!said.contains("about ") && said.contains("tokens were not asked"), "{said}");
}

#[test]
fn a_filter_signs_and_opens_with_the_tokens_keys_and_through_keyd_in_the_bulk_lane() {
    let mut lab = Lab::new("batchfilter").unwrap();
    let openssl = lab.openssl().unwrap();
    let from = |person: &Person, subject: &str| {
        Letter { from: &person.address, to: &lab.bob.address, subject }.ugly(500)
    };
    let (ours, theirs) = (from(&lab.alice, "Ours"), from(&lab.erin, "Theirs"));
    let inside = openssl.sign(&ugly_entity(500), &lab.erin).unwrap();
    let secret = |person: &Person| {
        let object = openssl.encrypt(&inside, &[Recipient::pkcs1(person)], &["-aes-256-cbc"]).unwrap();
        Letter { from: &lab.erin.address, to: &person.address, subject: "Secret" }.carrying(&object)
    };
    let (bobs, carols, erins) = (secret(&lab.bob), secret(&lab.carol), secret(&lab.erin));
    // By itself, and with a keyd that lets it have nothing but the lane of those who need not be quick.
    for is_through_keyd in [false, true] {
        if is_through_keyd {
            lab.config.keyd_socket = Some(lab.workdir.join("keyd.sock"));
            lab.config.keyd_client = "lanes = [\"bulk\"]\n".to_owned();
        }
        let _keyd = is_through_keyd.then(|| lab.start_keyd().unwrap());
        let config = lab.write_config().unwrap();
        let filter = |command: &str, mail: &[u8]| {
            let mut program = programs::command("hsmime-batch", &lab.token, &config).unwrap();
            command::finish_with_input("hsmime", program.args([command, "-"]), mail).unwrap()
        };
        // Nothing but the mail comes out, and what is said goes to nobody where all is well.
        let done = |command: &str, mail: &[u8]| {
            let ended = filter(command, mail);
            assert_eq!((ended.code(), &*ended.stderr), (Some(0), ""), "{command}, keyd {is_through_keyd}");
            ended.stdout
        };
        let signed = done("sign", &ours);
        assert_same_content(&openssl.verify_by(&signed, &lab.alice).unwrap(), &ours);
        assert_eq!(mime::values(&signed, "subject"), ["Ours"]);
        assert!(done("sign", &theirs) == theirs, "somebody else's mail was changed");
        for mail in [&bobs, &carols] {
            let opened = done("decrypt", mail);
            assert_same_content(&openssl.verify_by(&opened, &lab.erin).unwrap(), &ours);
            assert_eq!(mime::values(&opened, "subject"), ["Secret"]);
        }
        assert!(done("decrypt", &ours) == ours, "mail in clear was changed");
        let ended = filter("decrypt", &erins);
        assert_eq!((ended.code(), &*ended.stdout), (Some(78), &b""[..]), "{ended:?}");
        assert!(ended.stderr.contains("no key here is among its recipients"), "{ended:?}");
    }
    let audit = fs::read_to_string(lab.workdir.join("keyd-audit.jsonl")).unwrap();
    let uses: Vec<&str> = audit.lines().filter(|line| line.contains("\"lane\":")).collect();
    assert!(uses.len() >= 3 && uses.iter().all(|line| line.contains("\"bulk\"")), "{audit}");
}
