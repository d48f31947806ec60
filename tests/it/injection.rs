//! What strangers write becomes no line of our log, no field of a header, and no header without end.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::mta::Mta;
use testkit::peers::Recipient;
use testkit::smtp::Origin;
use testkit::{Lab, mime};

use crate::common::{our_results, with_every_mta};

with_every_mta! {
    in lab;
    nobody_writes_lines_or_controls_into_the_log
    no_address_is_run_by_a_shell
    nothing_that_is_sent_adds_a_field_to_the_header
    a_header_without_end_is_refused_and_harms_nobody
}

/// What an attacker would like to see in a log, or to hide what stands there.
const FORGED: &str = "2026-11-20T12:00:00.000000Z  INFO forged";

fn lab() -> Lab {
    let mut lab = Lab::new("injection").unwrap();
    lab.config.first_rules = "\n[log]\nfilter = \"debug\"\n\n".to_owned();
    lab
}

fn nobody_writes_lines_or_controls_into_the_log<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Log" };
    let plain = String::from_utf8(letter.text("hello")).unwrap();
    let id = "Message-ID: <Log@test.invalid>";
    let from = format!("From: {}", lab.erin.address);
    let endless = "x".repeat(30_000);
    for sent in [
        plain.replace(id, &format!("Message-ID: <a\r\n {FORGED}>")),
        plain.replace(id, &format!("Message-ID: <a\n{FORGED}>")),
        plain.replace(id, "Message-ID: <a\u{1b}[2J\u{7}\u{9b}31m\u{2028}b\u{202e}>"),
        plain.replace(id, &format!("Message-ID: <{endless}>")),
        plain.replace(&from, &format!("From: \"a\r\n {FORGED}\" <erin@partner.example>, \u{1b}[2J@x")),
        plain.replace(
            "Subject: Log",
            &format!("Subject: a\r\n {FORGED}\r\nContent-Type: a/\u{1b}[2J;\r\n\tb=\"\u{1b}\""),
        ),
    ] {
        if M::IS_SENDMAIL && sent.replace("\r\n", "").contains('\n') {
            // It takes no line feed without its carriage return, and hangs up.
            let mut client = running.postfix.connect(&Origin::remote()).unwrap();
            let reply = client.send(&lab.erin.address, &[&lab.bob.address], sent.as_bytes()).unwrap();
            assert_eq!(reply.code, 421, "{reply:?}");
            continue;
        }
        running.incoming(&[&lab.bob.address], sent.as_bytes()).unwrap();
    }
    let odd = format!("\"a {FORGED}\"@partner.example");
    running.deliver(&Origin::remote(), &odd, &[&lab.bob.address], plain.as_bytes()).unwrap();
    let log = running.milter.log();
    assert_eq!(log.matches(" done action=").count(), if M::IS_SENDMAIL { 6 } else { 7 }, "{log}");
    for line in log.lines() {
        assert!(line.starts_with("20") && !line.starts_with(FORGED), "a line of somebody else's: {line:?}");
        assert!(line.len() < 3_000, "{} octets in a line", line.len());
        let is_shown = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{202e}' | '\u{9b}');
        assert!(line.chars().all(is_shown), "{line:?}");
    }
}

fn no_address_is_run_by_a_shell<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let mark = folder.path().join("ran");
    let mark = mark.display();
    // Postfix itself refuses to pass on what begins with a hyphen.
    for (part, passes) in [
        (format!("\"|touch {mark}\""), true),
        (format!("\"`touch {mark}`\""), true),
        (format!("\"$(touch {mark})\""), true),
        (format!("\"; touch {mark} ;\""), true),
        (format!("\"-oQ{mark} -be\""), false),
    ] {
        let odd = format!("{part}@partner.example");
        let letter = Letter { from: &lab.alice.address, to: &odd, subject: "Shell" };
        let to_it =
            running.attempt(&Origin::login("alice"), &lab.alice.address, &[&odd], &letter.text("hello"));
        let letter = Letter { from: &odd, to: &lab.bob.address, subject: "Shell" };
        let from_it = running.attempt(&Origin::remote(), &odd, &[&lab.bob.address], &letter.text("hello"));
        for (reply, mail) in [to_it.unwrap(), from_it.unwrap()] {
            assert!(mail.is_some() || !passes, "{odd} was refused, and tried nothing: {reply:?}");
        }
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "an address was run");
}

fn nothing_that_is_sent_adds_a_field_to_the_header<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Fields" };
    let seal = |content: &str| {
        let entity = openssl.encrypt(content.as_bytes(), &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
        letter.carrying(&entity)
    };
    for content in [
        "X-Evil: 1\r\nBcc: x@evil.example\r\nContent-Type: text/plain\r\n\r\nhello\r\n",
        "Content-Type: text/plain\r\nContent-Description: a\r\n b\n\rX-Evil: 1\r\n\r\nhello\r\n",
        "Content-Type: text/plain;\r\n name=\"a\nX-Evil: 1\"\r\n\r\nhello\r\n",
        "Content-Type: text/plain\r\nContent-X: a\rX-Evil: 1\r\n\r\nhello\r\n",
        "Content-Type: text/plain\r\nContent-\u{c4}: a\r\nContent-A\u{0}: X-Evil: 1\r\n\r\nhello\r\n",
    ] {
        let mail = running.incoming(&[&lab.bob.address], &seal(content)).unwrap();
        let names = mime::field_names(&mail.octets);
        let evil = ["x-evil", "bcc", "x-evil:", "return-path"];
        assert!(!names.iter().any(|name| evil.contains(&name.as_str())), "{names:?} of {mail:?}");
        let leaves = mime::leaves(&mail.octets).unwrap();
        assert!(leaves.iter().any(|leaf| mime::find(&leaf.octets, b"hello").is_some()), "opened: {mail:?}");
        assert_eq!(our_results(&mail).len(), 1, "{mail:?}");
        assert_eq!(names.iter().filter(|name| *name == "mime-version").count(), 1, "{names:?}");
    }
}

fn a_header_without_end_is_refused_and_harms_nobody<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Header" };
    // Postfix cuts each field and the header as a whole; both as large as they may be here.
    running.postfix.limit_header(2_000_000).unwrap();
    let fields = format!("X-Long: {}\r\n", "x ".repeat(20_000)).repeat(30);
    let huge = [fields.as_bytes(), &letter.text("hello")].concat();
    let reply = running.send(&Origin::remote(), &lab.erin.address, &[&lab.bob.address], &huge).unwrap();
    assert_eq!((reply.code, reply.text.get(..5)), (552, Some("5.3.4")), "{reply:?}");
    // As many as it can take off the header, and so many that its cleanup would end.
    for (field, most) in [("X: y", 900), ("X-Hsmime-:", 900), ("Content-A:", 40)] {
        let many =
            |count| [&*format!("{field}\r\n").repeat(count).into_bytes(), &letter.text("hello")].concat();
        let reply =
            running.send(&Origin::remote(), &lab.erin.address, &[&lab.bob.address], &many(11_000)).unwrap();
        assert_eq!((reply.code, reply.text.get(..5)), (554, Some("5.6.0")), "{field} {reply:?}");
        let mail = running.incoming(&[&lab.bob.address], &many(most)).unwrap();
        assert_eq!(our_results(&mail).len(), 1, "{field}");
    }
}
