//! The milter's audit: each use of a key has its line, with whose message it was; without one nothing is signed or opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::milter::Milter;
use testkit::peers::Recipient;
use testkit::smtp::Origin;
use testkit::{Lab, programs, wait};

const TO: &str = "friend@partner.example";

fn lab(name: &str) -> (Lab, PathBuf) {
    let mut lab = Lab::new(name).unwrap();
    let audit = lab.workdir.join("audit.jsonl");
    lab.config.audit = Some(audit.clone());
    (lab, audit)
}

/// The lines about uses of keys.
fn uses(audit: &Path) -> Vec<Value> {
    let text = fs::read_to_string(audit).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "use").collect()
}

#[track_caller]
fn assert_whole(lab: &Lab, audit: &Path) -> String {
    let checked = lab.admin(&["audit", "check", audit.to_str().unwrap()]).unwrap();
    assert!(checked.success(), "{checked:?}");
    checked.text()
}

#[test]
fn each_use_of_a_key_has_a_line_with_its_message_over_a_kill() {
    let (lab, audit) = lab("audit");
    let mut running = lab.start().unwrap();
    let (alice, bob) = (running.lab.alice.address.clone(), running.lab.bob.address.clone());
    let sent = Letter { from: &alice, to: TO, subject: "One" }.text("one");
    running.deliver(&Origin::login("alice"), &alice, &[TO], &sent).unwrap();
    let entity = {
        let to = Recipient::pkcs1(&running.lab.bob);
        running.lab.openssl().unwrap().encrypt(b"Content-Type: text/plain\r\n\r\nx\r\n", &[to], &[]).unwrap()
    };
    let from = running.lab.erin.address.clone();
    let sent = Letter { from: &from, to: &bob, subject: "Two" }.carrying(&entity);
    running.incoming(&[&bob], &sent).unwrap();
    let found = uses(&audit);
    let words = |name: &str| found.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(words("operation"), ["sign", "decrypt"]);
    assert_eq!(words("outcome"), ["done", "done"]);
    assert_eq!(words("login"), [Value::from("alice"), Value::Null]);
    assert_eq!(words("sender"), [alice.as_str(), from.as_str()]);
    for line in &found {
        let queue_id = line["queue_id"].as_str().unwrap();
        assert!(running.postfix.log().contains(queue_id), "{line}");
        assert!(line["client"].as_str().unwrap().parse::<std::net::IpAddr>().is_ok(), "{line}");
        assert_eq!(line["key"].as_str().unwrap().len(), 64, "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    // Nothing of the message is in it.
    assert!(!fs::read_to_string(&audit).unwrap().contains("Two"));

    // A second milter would use the same numbers.
    let listen = format!("inet:127.0.0.1:{}", wait::free_port().unwrap());
    let text = running.lab.config.to_toml().replace(&running.lab.config.listen, &listen);
    let other = running.lab.workdir.file("other.toml", text).unwrap();
    let second = programs::run("hsmime-milter", &running.lab.token, &other, &[]).unwrap();
    assert_eq!(second.code(), Some(2), "{second:?}");
    assert!(format!("{second:?}").contains("another process writes to it"), "{second:?}");

    running.milter.kill().unwrap();
    running.restart_milter().unwrap();
    let sent = Letter { from: &alice, to: TO, subject: "Three" }.text("three");
    running.deliver_in_time(&Origin::login("alice"), &alice, &[TO], &sent).unwrap();
    // Two starts, and three uses.
    let told = assert_whole(&running.lab, &audit);
    assert!(told.contains("5 lines, 1 to 5, none missing"), "{told}");
}

#[test]
fn without_room_for_its_line_mail_waits_and_the_key_rests() {
    let (lab, audit) = lab("auditfull");
    let sink = testkit::sink::Sink::start(testkit::sink::Offer::EightBit).unwrap();
    // A limit to the length of files is as good as a full disk, where it is not deadly.
    let plain = programs::command("hsmime-milter", &lab.token, &lab.write_config().unwrap()).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let milter = Milter::start(command, &lab.config.listen, &lab.workdir.join("milter.log")).unwrap();
    let postfix =
        testkit::postfix::Postfix::start_with(&lab.workdir, &lab.config.listen, sink.port(), None).unwrap();
    let running = Running { postfix, milter, sink, lab };
    let alice = running.lab.alice.address.clone();
    let sent = Letter { from: &alice, to: TO, subject: "Full" }.text("signed or not at all");
    let code = || running.send(&Origin::login("alice"), &alice, &[TO], &sent).unwrap().code;
    assert_eq!(code(), 250);
    let limit = |octets| {
        let pid = i32::try_from(running.milter.id().unwrap()).ok().and_then(Pid::from_raw);
        prlimit(pid, Resource::Fsize, Rlimit { current: octets, maximum: None }).unwrap();
    };
    // In the middle of the next line.
    limit(Some(fs::metadata(&audit).unwrap().len() + 100));
    assert_eq!(code(), 451);
    assert_eq!(code(), 451);
    assert_whole(&running.lab, &audit);
    assert_eq!(uses(&audit).len(), 1);
    limit(None);
    wait::until("mail is signed again", Duration::from_secs(30), || Ok((code() == 250).then_some(())))
        .unwrap();
    let mails = running.sink.wait_for(2, Duration::from_mins(1)).unwrap();
    for mail in &mails {
        running.lab.openssl().unwrap().verify(&mail.octets).unwrap();
    }
    assert_eq!(mails.len(), 2, "nothing left meanwhile");
    assert_whole(&running.lab, &audit);
    // The first that failed was signed, and that signature withheld; then the key rested.
    let lines = uses(&audit);
    assert_eq!(lines.len(), 3, "{lines:?}");
}
