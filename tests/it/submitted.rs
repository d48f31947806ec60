//! Mail that comes to Postfix by `sendmail`, and not by SMTP: it tells the milter recipients as it rewrote them, and removes
//! none of these when it is told to.

use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::peers::Recipient;
use testkit::sink::Delivered;
use testkit::smtp::{Origin, dot_stuffed};
use testkit::{Lab, mime, wait};

const PATIENCE: Duration = Duration::from_mins(1);

/// A lab whose Postfix asks the milter of all mail and completes recipients with this domain, after our changes to it.
fn running(name: &str, domain: &str, change: impl FnOnce(&mut Lab)) -> Running {
    let mut lab = Lab::new(name).unwrap();
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    change(&mut lab);
    let running = lab.start().unwrap();
    let listen = running.lab.config.listen.clone();
    running.postfix.set(&format!("non_smtpd_milters={listen}")).unwrap();
    running.postfix.set(&format!("myorigin={domain}")).unwrap();
    running
}

/// What arrived for each of so many, once the last has it.
fn arrived(running: &Running, recipients: usize) -> Vec<Delivered> {
    let all = wait::until("everybody to have it", PATIENCE, || {
        let mails = running.sink.mails();
        Ok((mails.iter().map(|mail| mail.to.len()).sum::<usize>() >= recipients).then_some(mails))
    });
    let mails = all.unwrap_or_else(|error| {
        panic!("{error}\n{:?}\n{}\n{}", running.sink.mails(), running.milter.log(), running.postfix.log())
    });
    wait::until("an empty queue", PATIENCE, || Ok(running.postfix.queue()?.is_empty().then_some(())))
        .unwrap();
    assert_eq!(running.sink.mails().len(), mails.len(), "each once");
    assert_eq!(mails.iter().map(|mail| mail.to.len()).sum::<usize>(), recipients, "each once: {mails:?}");
    for mail in &mails {
        let names = mime::field_names(&mail.octets);
        assert!(!names.iter().any(|name| name == "x-hsmime-copy"), "the marker left: {names:?}");
    }
    mails
}

#[test]
fn what_must_be_encrypted_is_so_for_who_is_named_without_a_domain() {
    let running = running("submitted", "partner.example", |lab| {
        lab.config.trusted_networks.push("127.0.0.0/8".to_owned());
        lab.config.first_rules =
            "\n[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"required\"\n"
                .to_owned();
        let imported = lab.admin(&["cert", "import", lab.erin.certificate.to_str().unwrap()]).unwrap();
        assert!(imported.success(), "{imported:?}");
    });
    let lab = &running.lab;
    // Each with a Message-ID of its own: the same one would be a client trying again.
    let letter =
        |subject: &str| Letter { from: &lab.alice.address, to: &lab.erin.address, subject }.text("the plan");
    for others in [&["x@plain.example"][..], &["x@plain.example", "y@plain.example"]] {
        running.sink.take();
        let sent = letter(&format!("Submitted-to-{}", others.len()));
        running.postfix.submit(&lab.alice.address, &[&["erin"], others].concat(), &sent).unwrap();
        for mail in arrived(&running, 1 + others.len()) {
            let shows = String::from_utf8_lossy(&mail.octets).contains("the plan");
            let is_erins = mail.to == [lab.erin.address.as_str()];
            assert!(is_erins || !mail.to.contains(&lab.erin.address), "{mail:?}");
            assert_eq!(shows, !is_erins, "{mail:?}");
        }
    }
    // Nobody has to be removed where all get the same.
    running.sink.take();
    running.postfix.submit(&lab.alice.address, &["erin"], &letter("Alone")).unwrap();
    let mails = arrived(&running, 1);
    assert!(!String::from_utf8_lossy(&mails[0].octets).contains("the plan"), "{mails:?}");
}

#[test]
fn what_is_opened_for_one_is_closed_for_everybody_who_is_named_without_a_domain() {
    let running = running("submitted-to-us", "example.org", |_| {});
    let lab = &running.lab;
    let text = b"Content-Type: text/plain\r\n\r\nthe plan\r\n";
    let entity = lab.openssl().unwrap().encrypt(text, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let from = "mallory@evil.example";
    let sent = Letter { from, to: &lab.bob.address, subject: "Submitted" }.carrying(&entity);
    running.postfix.submit(from, &[&lab.bob.address, "dave", "eve"], &sent).unwrap();
    let mails = arrived(&running, 3);
    for mail in mails {
        let shows = String::from_utf8_lossy(&mail.octets).contains("the plan");
        assert_eq!(shows, mail.to == [lab.bob.address.as_str()], "{mail:?}");
    }
}

#[test]
fn no_client_can_have_opened_mail_sent_past_a_content_filter_by_how_it_writes_recipients() {
    let running = running("unbracketed", "example.org", |_| {});
    let lab = &running.lab;
    let text = b"Content-Type: text/plain\r\n\r\nthe plan\r\n";
    let entity = lab.openssl().unwrap().encrypt(text, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let from = "mallory@evil.example";
    for (subject, brackets) in [("Bracketed", ("<", ">")), ("Bare", ("", ""))] {
        running.sink.take();
        let sent = Letter { from, to: &lab.bob.address, subject }.carrying(&entity);
        let mut client = running.postfix.connect(&Origin::remote()).unwrap();
        assert_eq!(client.command(&format!("MAIL FROM:<{from}>")).unwrap().code, 250);
        for recipient in [&lab.bob.address, "dave@partner.example"] {
            let command = format!("RCPT TO:{}{recipient}{}", brackets.0, brackets.1);
            assert_eq!(client.command(&command).unwrap().code, 250, "{command}");
        }
        assert_eq!(client.command("DATA").unwrap().code, 354);
        client.raw(&dot_stuffed(&sent)).unwrap();
        assert_eq!(client.reply().unwrap().code, 250);
        for mail in arrived(&running, 2) {
            let shows = String::from_utf8_lossy(&mail.octets).contains("the plan");
            assert_eq!(shows, mail.to == [lab.bob.address.as_str()], "{mail:?}");
        }
        // What it takes from the client a filter sees, and what comes back by the other server it does not.
        assert!(!running.postfix.log().contains("milter-discard"), "{}", running.postfix.log());
        assert!(running.milter.log().contains("1 copies for others; decrypted"), "{}", running.milter.log());
    }
}
