//! Without its token the gateway lets mail wait; nothing leaves unsigned, and it recovers by itself.

use std::time::{Duration, Instant};

use testkit::config::Identity;
use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::peers::Recipient;
use testkit::pki::{Key, Profile};
use testkit::smtp::{Origin, Reply};
use testkit::softhsm::SoftHsm;
use testkit::{Lab, Result, wait};

const TO: &str = "friend@partner.example";
const RECOVERY: Duration = Duration::from_mins(1);

fn try_to_send(running: &Running) -> Reply {
    let lab = &running.lab;
    let sent = Letter { from: &lab.alice.address, to: TO, subject: "Urgent" }.text("signed or not at all");
    running.send(&Origin::login("alice"), &lab.alice.address, &[TO], &sent).unwrap()
}

/// Sends until it is accepted, as an MTA would that keeps the mail in its queue.
fn until_accepted(send: impl Fn() -> Result<Reply>) {
    wait::until("the gateway to recover", RECOVERY, || Ok((send()?.code == 250).then_some(()))).unwrap();
}

#[test]
fn with_the_token_away_mail_is_deferred_and_flows_again_when_it_is_back() {
    let running = Lab::new("away").unwrap().start().unwrap();
    assert_eq!(try_to_send(&running).code, 250);
    running.sink.wait_for(1, RECOVERY).unwrap();

    running.lab.token.stop().unwrap();
    let told_before = running.milter.log().lines().count();
    for _ in 0..3 {
        let asked = Instant::now();
        assert_eq!(try_to_send(&running).code, 451);
        assert!(asked.elapsed() < Duration::from_secs(30), "deferred only after {:?}", asked.elapsed());
    }
    assert_eq!(running.sink.mails().len(), 1, "nothing leaves");
    let log = running.milter.log();
    let told: Vec<&str> = log.lines().skip(told_before).filter(|line| line.contains("CKR_")).collect();
    assert!(!told.is_empty(), "the log says why: {log}");

    running.lab.token.start().unwrap();
    until_accepted(|| Ok(try_to_send(&running)));
    let mails = running.sink.wait_for(2, RECOVERY).unwrap();
    for mail in mails {
        running.lab.openssl().unwrap().verify(&mail.octets).unwrap();
    }
}

#[test]
fn encrypted_mail_waits_for_the_token_too() {
    let running = Lab::new("awayin").unwrap().start().unwrap();
    let lab = &running.lab;
    let content = b"Content-Type: text/plain\r\n\r\nfor bob only\r\n";
    let entity = lab.openssl().unwrap().encrypt(content, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Waits" };
    let sent = letter.carrying(&entity);
    lab.token.stop().unwrap();
    let reply = running.send(&Origin::remote(), &lab.erin.address, &[&lab.bob.address], &sent).unwrap();
    assert_eq!(reply.code, 451);
    assert!(running.sink.mails().is_empty());

    lab.token.start().unwrap();
    until_accepted(|| running.send(&Origin::remote(), &lab.erin.address, &[&lab.bob.address], &sent));
    let mails = running.sink.wait_for(1, RECOVERY).unwrap();
    assert!(mails[0].octets.ends_with(b"for bob only\r\n"), "{mails:?}");
}

#[test]
fn a_wrong_pin_is_tried_once_and_told_in_one_line_and_mail_waits() {
    let lab = Lab::new("pin").unwrap();
    lab.token.write_pin("0000-wrong").unwrap();
    let running = lab.start().unwrap();
    for _ in 0..3 {
        assert_eq!(try_to_send(&running).code, 451);
    }
    assert!(running.sink.mails().is_empty());
    let log = running.milter.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(told.len(), 1, "tried once, and one line says why: {log}");
    assert!(told[0].contains("rejected the PIN"), "{log}");
    assert!(!log.contains("0000-wrong"), "the PIN stays secret: {log}");

    running.lab.token.write_pin(SoftHsm::PIN).unwrap();
    until_accepted(|| Ok(try_to_send(&running)));
    let mails = running.sink.wait_for(1, RECOVERY).unwrap();
    running.lab.openssl().unwrap().verify(&mails[0].octets).unwrap();
}

#[test]
fn mail_of_a_key_that_is_not_on_the_token_waits_and_the_log_names_it() {
    let mut lab = Lab::new("nokey").unwrap();
    let dora = lab.pki.issue(&Profile::new("dora", "dora@example.org", Key::Rsa2048)).unwrap();
    lab.config.identities.push(Identity::of(&dora, lab.pki.issuing()));
    let running = lab.start().unwrap();
    let sent = Letter { from: &dora.address, to: TO, subject: "No key" }.text("signed or not at all");
    let attempt = running.attempt(&Origin::login("dora"), &dora.address, &[TO], &sent).unwrap();
    assert_eq!((attempt.0.code, attempt.1), (451, None));
    let log = running.milter.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("CN=dora")).collect();
    assert_eq!(told.len(), 1, "one line says why: {log}");
    assert!(told[0].contains("fault=operator"), "{log}");

    running.lab.token.import(&dora.key, "dora", "d02a").unwrap();
    until_accepted(|| running.send(&Origin::login("dora"), &dora.address, &[TO], &sent));
    let mails = running.sink.wait_for(1, RECOVERY).unwrap();
    running.lab.openssl().unwrap().verify(&mails[0].octets).unwrap();
}

#[test]
fn with_the_milter_away_postfix_defers() {
    let mut running = Lab::new("nomilter").unwrap().start().unwrap();
    running.milter.stop().unwrap();
    assert_eq!(try_to_send(&running).code, 451);
    assert!(running.sink.mails().is_empty());
    running.restart_milter().unwrap();
    assert_eq!(try_to_send(&running).code, 250);
    let mails = running.sink.wait_for(1, RECOVERY).unwrap();
    running.lab.openssl().unwrap().verify(&mails[0].octets).unwrap();
}
