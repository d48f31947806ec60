//! With `hsmime-keyd` between milter and token: nothing is lost, and nothing leaves unsigned, whatever it does.

use std::time::Duration;

use testkit::Lab;
use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::smtp::{Origin, Reply};

const TO: &str = "friend@partner.example";

fn lab(name: &str) -> Lab {
    let mut lab = Lab::new(name).unwrap();
    lab.config.keyd_socket = Some(lab.workdir.join("keyd.sock"));
    lab
}

fn send(running: &Running, subject: &str) -> Reply {
    let from = &running.lab.alice.address;
    let mail = Letter { from, to: TO, subject }.text("signed or not at all");
    running.send(&Origin::login("alice"), from, &[TO], &mail).unwrap()
}

/// All that has arrived is signed.
fn assert_signed(running: &Running, count: usize) {
    let mails = running.sink.wait_for(count, Duration::from_mins(1)).unwrap();
    assert_eq!(mails.len(), count);
    let openssl = running.lab.openssl().unwrap();
    for mail in mails {
        openssl.verify(&mail.octets).unwrap();
    }
}

#[test]
fn mail_is_signed_through_keyd_and_waits_while_it_is_away() {
    let lab = lab("keyd");
    let mut keyd = lab.start_keyd().unwrap();
    let running = lab.start().unwrap();
    assert_eq!(send(&running, "One").code, 250);
    assert_signed(&running, 1);

    keyd.kill().unwrap();
    assert_eq!(send(&running, "Two").code, 451);
    assert_eq!(running.sink.mails().len(), 1, "nothing leaves");

    let _keyd = running.lab.start_keyd().unwrap();
    let from = &running.lab.alice.address;
    let mail = Letter { from, to: TO, subject: "Two" }.text("signed or not at all");
    running.deliver_in_time(&Origin::login("alice"), from, &[TO], &mail).unwrap();
    assert_signed(&running, 2);
    let log = running.milter.log();
    assert!(!log.contains("token is up"), "the milter has the token itself: {log}");
}

#[test]
fn keyd_killed_and_restarted_under_mail_costs_no_mail_and_no_signature() {
    let lab = lab("keydkill");
    let mut keyd = lab.start_keyd().unwrap();
    let running = lab.start().unwrap();
    let mut accepted = 0;
    for round in 0..3 {
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|sender| {
                    let running = &running;
                    scope.spawn(move || {
                        (0..5).filter(|n| send(running, &format!("{round} {sender} {n}")).code == 250).count()
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(150));
            keyd.kill().unwrap();
            keyd = running.lab.start_keyd().unwrap();
            accepted += senders.into_iter().map(|sender| sender.join().unwrap()).sum::<usize>();
        });
    }
    assert!(accepted > 0);
    // What was accepted arrives, signed; what was not has been told so.
    assert_signed(&running, accepted);
    assert!(running.lab.workdir.join("keyd-audit.jsonl").exists());
}
