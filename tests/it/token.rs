//! Without its token the gateway lets mail wait; nothing leaves unsigned, and it recovers by itself.

use std::time::{Duration, Instant};

use testkit::Lab;
use testkit::config::Identity;
use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::peers::Recipient;
use testkit::pki::{Key, Profile};
use testkit::smtp::{Origin, Reply};
use testkit::softhsm::SoftHsm;
use testkit::wait;

const TO: &str = "friend@partner.example";

/// A mail that alice sends and the gateway must sign.
fn urgent(running: &Running) -> Vec<u8> {
    let from = &running.lab.alice.address;
    Letter { from, to: TO, subject: "Urgent" }.text("signed or not at all")
}

fn try_to_send(running: &Running) -> Reply {
    let from = &running.lab.alice.address;
    running.send(&Origin::login("alice"), from, &[TO], &urgent(running)).unwrap()
}

/// The gateway accepts mail again before long, and what arrives is signed.
fn assert_recovers(running: &Running) {
    let from = &running.lab.alice.address;
    let mail = running.deliver_in_time(&Origin::login("alice"), from, &[TO], &urgent(running)).unwrap();
    running.lab.openssl().unwrap().verify(&mail.octets).unwrap();
}

#[test]
fn with_the_token_away_mail_is_deferred_and_flows_again_when_it_is_back() {
    let running = Lab::new("away").unwrap().start().unwrap();
    assert_recovers(&running);

    running.lab.token.stop().unwrap();
    let told_before = running.milter.log().lines().count();
    for _ in 0..3 {
        let asked = Instant::now();
        assert_eq!(try_to_send(&running).code, 451);
        assert!(asked.elapsed() < Duration::from_secs(30), "deferred only after {:?}", asked.elapsed());
    }
    assert_eq!(running.sink.mails().len(), 1, "nothing leaves");
    let log = running.milter.log();
    let told: Vec<&str> =
        log.lines().skip(told_before).filter(|line| line.contains("token is down")).collect();
    assert_eq!(told.len(), 1, "one line says why: {log}");
    assert!(told[0].contains("ERROR") && told[0].contains("CKR_"), "{log}");

    running.lab.token.start().unwrap();
    assert_recovers(&running);
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
    let to = [lab.bob.address.as_str()];
    let mail = running.deliver_in_time(&Origin::remote(), &lab.erin.address, &to, &sent).unwrap();
    assert!(mail.octets.ends_with(b"for bob only\r\n"), "{mail:?}");
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
    assert_recovers(&running);
}

#[test]
fn mail_of_a_key_that_is_not_on_the_token_waits_and_the_log_names_it() {
    let mut lab = Lab::new("nokey").unwrap();
    let dora = lab.pki.issue(&Profile::new("dora", "dora@example.org", Key::Rsa2048)).unwrap();
    lab.config.identities.push(Identity::of(&dora, lab.pki.issuing()));
    let running = lab.start().unwrap();
    // Told at the start already, before any mail.
    let mut at_start = String::new();
    wait::until("the log to name the key", Duration::from_secs(10), || {
        at_start = running.milter.log();
        Ok(at_start.contains("no token has the key").then_some(()))
    })
    .unwrap();
    let named: Vec<&str> = at_start.lines().filter(|line| line.contains("no token has the key")).collect();
    assert!(named.len() == 1 && named[0].contains("CN=dora"), "{at_start}");
    let sent = Letter { from: &dora.address, to: TO, subject: "No key" }.text("signed or not at all");
    let attempt = running.attempt(&Origin::login("dora"), &dora.address, &[TO], &sent).unwrap();
    assert_eq!((attempt.0.code, attempt.1), (451, None));
    let log = running.milter.log();
    let since = log.get(at_start.len()..).unwrap_or_default();
    let told: Vec<&str> = since.lines().filter(|line| line.contains("CN=dora")).collect();
    assert_eq!(told.len(), 1, "one line says why: {log}");
    assert!(told[0].contains("fault=operator"), "{log}");

    running.lab.token.import(&dora.key, "dora", "d02a").unwrap();
    let mail = running.deliver_in_time(&Origin::login("dora"), &dora.address, &[TO], &sent).unwrap();
    running.lab.openssl().unwrap().verify(&mail.octets).unwrap();
}

#[test]
fn with_the_milter_away_postfix_defers() {
    let mut running = Lab::new("nomilter").unwrap().start().unwrap();
    running.milter.stop().unwrap();
    assert_eq!(try_to_send(&running).code, 451);
    assert!(running.sink.mails().is_empty());
    running.restart_milter().unwrap();
    assert_recovers(&running);
}
