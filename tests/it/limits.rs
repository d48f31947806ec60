//! More than is taken, through the MTA: it is put off and comes again, and costs nobody else anything.

use std::thread;
use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::smtp::{Client, Origin, dot_stuffed};
use testkit::{Lab, wait};

const TO: &str = "friend@partner.example";
const PATIENCE: Duration = Duration::from_mins(1);
const MESSAGES: usize = 4;
const CONNECTIONS: usize = 8;

fn letter(running: &Running, subject: &str) -> Vec<u8> {
    Letter { from: &running.lab.alice.address, to: TO, subject }.text("signed or not at all")
}

/// A session of somebody in the trusted network, whose clients are told apart by their addresses.
fn session(running: &Running, host: u8) -> Client {
    running.postfix.connect(&Origin::host([192, 0, 2, host])).unwrap()
}

/// Begins a message and stops before its content.
fn begin(running: &Running, client: &mut Client) -> (u16, String) {
    assert_eq!(client.command(&format!("MAIL FROM:<{}>", running.lab.alice.address)).unwrap().code, 250);
    let reply = client.command(&format!("RCPT TO:<{TO}>")).unwrap();
    (reply.code, reply.text)
}

/// So many arrive, and all are signed.
fn assert_arrive(running: &Running, count: usize) {
    let mails = running.sink.wait_for(count, PATIENCE).unwrap();
    assert_eq!(mails.len(), count);
    let openssl = running.lab.openssl().unwrap();
    for mail in running.sink.take() {
        openssl.verify(&mail.octets).unwrap();
    }
}

fn assert_sent(running: &Running, host: u8) {
    let mut client = session(running, host);
    let reply = client.send(&running.lab.alice.address, &[TO], &letter(running, "Another")).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    client.quit().unwrap();
    assert_arrive(running, 1);
}

/// Clients that begin and go on slowly have places, and no more than half of them for one client.
fn slow_clients(running: &Running) {
    let mut slow: Vec<Client> = (0..=MESSAGES / 2).map(|_| session(running, 1)).collect();
    let mut replies: Vec<_> = slow.iter_mut().map(|client| begin(running, client)).collect();
    let (code, text) = replies.pop().unwrap();
    assert_eq!(
        (code, &*text),
        (451, "4.7.1 Too many messages of yours at a time for the S/MIME gateway, try again later")
    );
    assert!(replies.iter().all(|(code, _)| *code == 250), "{replies:?}");
    assert_sent(running, 2);
    // With those of another one all places are taken.
    let mut others: Vec<Client> = (0..MESSAGES / 2).map(|_| session(running, 2)).collect();
    assert!(others.iter_mut().all(|client| begin(running, client).0 == 250));
    let mut late = session(running, 3);
    let (code, text) = begin(running, &mut late);
    assert_eq!(
        (code, &*text),
        (451, "4.3.2 S/MIME gateway has as many messages as it can take, try again later")
    );
    // Who hangs up gives its place back,
    drop(others);
    wait::until("a place", PATIENCE, || {
        assert!(late.command("RSET")?.is_positive());
        Ok((begin(running, &mut late).0 == 250).then_some(()))
    })
    .unwrap();
    // and so does who comes to an end, in however small pieces.
    slow.truncate(MESSAGES / 2);
    slow.push(late);
    thread::scope(|scope| {
        for client in &mut slow {
            scope.spawn(|| {
                assert_eq!(client.command("DATA").unwrap().code, 354);
                for piece in dot_stuffed(&letter(running, "Slow")).chunks(10) {
                    client.raw(piece).unwrap();
                    thread::sleep(Duration::from_millis(10));
                }
                assert_eq!(client.reply().unwrap().code, 250);
            });
        }
    });
    assert_arrive(running, MESSAGES / 2 + 1);
}

/// One session more than the milter takes has to come again.
fn connections(running: &Running) {
    let mut all: Vec<Client> =
        (0..CONNECTIONS).map(|host| session(running, u8::try_from(host).unwrap())).collect();
    let mut late = session(running, 99);
    let reply = late.send(&running.lab.alice.address, &[TO], &letter(running, "Too many")).unwrap();
    assert_eq!(reply.code, 451, "{reply:?}");
    let reply = all[0].send(&running.lab.alice.address, &[TO], &letter(running, "One of them")).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    assert_arrive(running, 1);
    drop(all);
    wait::until("the milter to take one again", PATIENCE, || {
        let reply = session(running, 99).send(&running.lab.alice.address, &[TO], &letter(running, "Late"))?;
        Ok((reply.code == 250).then_some(()))
    })
    .unwrap();
    assert_arrive(running, 1);
}

/// Recipients beyond what the milter keeps in mind are refused one by one; those before them get the mail.
fn recipients(running: &Running) {
    running.postfix.set("smtpd_recipient_limit = 3000").unwrap();
    let mut client = session(running, 1);
    assert_eq!(client.command(&format!("MAIL FROM:<{}>", running.lab.alice.address)).unwrap().code, 250);
    let long = "x".repeat(1_900);
    let mut taken = 0;
    let refused = loop {
        let reply = client.command(&format!("RCPT TO:<{taken}-{long}@partner.example>")).unwrap();
        if reply.code != 250 {
            break reply;
        }
        taken += 1;
    };
    // Half a MiB of addresses.
    assert!((200..300).contains(&taken), "{taken}");
    // Postfix would say it in other words.
    assert_eq!((refused.code, &*refused.text), (452, "4.5.3 Too many recipients"));
    assert_eq!(client.command("DATA").unwrap().code, 354);
    client.raw(&dot_stuffed(&letter(running, "Many"))).unwrap();
    assert_eq!(client.reply().unwrap().code, 250);
    let mut reached = Vec::new();
    wait::until("all to be reached", PATIENCE, || {
        for mail in running.sink.take() {
            running.lab.openssl()?.verify(&mail.octets)?;
            reached.extend(mail.to);
        }
        Ok((reached.len() >= taken).then_some(()))
    })
    .unwrap();
    reached.sort_unstable();
    reached.dedup();
    assert_eq!(reached.len(), taken, "each once");
}

#[test]
fn what_the_mta_hands_over_beyond_a_limit_is_put_off_and_harms_nobody_else() {
    let mut lab = Lab::new("limits").unwrap();
    lab.config.milter = format!("max-connections = {CONNECTIONS}\n");
    lab.config.first_rules = format!("\n[limits]\nmessages = {MESSAGES}\n");
    let running = lab.start().unwrap();
    slow_clients(&running);
    connections(&running);
    recipients(&running);
    assert_sent(&running, 9);
}
