//! The configuration is read again while mail flows: good files count at once, bad ones not at all.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use testkit::config::Identity;
use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::peers::Recipient;
use testkit::pki::{Key, Person, Profile};
use testkit::smtp::Origin;
use testkit::{Lab, mime, programs, wait};

const TO: &str = "friend@partner.example";
const READ: &str = "configuration read again";
const STAYS: &str = "the configuration stays as it was";

/// A lab with a person whose key is on the token and whose certificate is not in the configuration.
fn lab(name: &str) -> (Lab, Person) {
    let mut lab = Lab::new(name).unwrap();
    lab.config.control = Some(lab.workdir.join("control"));
    let dora = lab.pki.issue(&Profile::new("dora", "dora@example.org", Key::P256)).unwrap();
    (lab, dora)
}

fn send(running: &Running, from: &Person) -> u16 {
    let letter = Letter { from: &from.address, to: TO, subject: "Reload" }.text("signed or not at all");
    running.send(&Origin::login(&from.address), &from.address, &[TO], &letter).unwrap().code
}

fn tell(running: &Running, signal: Signal, word: &str) {
    let count = |log: &str| log.matches(word).count();
    let before = count(&running.milter.log());
    running.milter.signal(signal).unwrap();
    wait::until("the log to say it", Duration::from_secs(40), || {
        Ok((count(&running.milter.log()) > before).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", running.milter.log()));
}

/// What `hsmime-milter reload` says, and its exit code.
fn command(running: &Running) -> (Option<i32>, String) {
    let config = running.lab.workdir.join("hsmime.toml");
    let finished = programs::run("hsmime-milter", &running.lab.token, &config, &["reload"]).unwrap();
    (finished.code(), format!("{}{}", finished.text(), finished.stderr))
}

#[track_caller]
fn assert_all_signed(running: &Running, count: usize) {
    let openssl = running.lab.openssl().unwrap();
    for mail in running.sink.wait_for(count, Duration::from_mins(1)).unwrap() {
        openssl.verify(&mail.octets).unwrap();
    }
}

#[test]
fn a_certificate_that_comes_with_sighup_signs_from_then_on() {
    let (lab, dora) = lab("reload");
    let mut running = lab.start().unwrap();
    assert_eq!(send(&running, &running.lab.alice), 250);
    assert!(send(&running, &dora) >= 400, "nobody knows her yet");

    // Her key is found on the token although it was not there when the milter began.
    running.lab.token.import(&dora.key, "dora", "d02a").unwrap();
    let identity = Identity::of(&dora, running.lab.pki.issuing());
    running.lab.config.identities.push(identity);
    running.lab.write_config().unwrap();
    tell(&running, Signal::HUP, READ);
    assert_eq!(send(&running, &dora), 250);

    // A certificate without a key on the token would keep mail waiting: it is not taken.
    let fred = running.lab.pki.issue(&Profile::new("fred", "fred@example.org", Key::P256)).unwrap();
    running.lab.config.identities[3] = Identity::of(&fred, running.lab.pki.issuing());
    running.lab.write_config().unwrap();
    tell(&running, Signal::HUP, STAYS);
    assert!(running.milter.log().contains("CN=fred"), "{}", running.milter.log());
    for person in [&dora, &running.lab.alice] {
        assert_eq!(send(&running, person), 250);
    }
    assert_all_signed(&running, 4);
}

#[test]
fn a_bad_file_leaves_the_old_one_in_use_and_says_so() {
    let (lab, _) = lab("badreload");
    let mut running = lab.start().unwrap();
    let good = running.lab.config.clone();
    let file = running.lab.workdir.join("hsmime.toml");
    for (text, word) in [
        (format!("{}surprise = 1\n", good.to_toml()), "surprise"),
        ("[milter".to_owned(), "line 1"),
        (String::new(), "[milter]"),
        (good.to_toml().replace("alice", "nobody"), "No such file"),
        // Somebody writes the file, and is not at its end: what is there may be right, and say less.
        (good.to_toml().trim_end().to_owned(), "Is the file whole?"),
        (good.to_toml().split_once("[[rule]]").unwrap().0.to_owned(), "no [[rule]] is left of 1"),
    ] {
        fs::write(&file, text).unwrap();
        tell(&running, Signal::HUP, STAYS);
        assert!(running.milter.log().lines().last().unwrap().contains(word), "{}", running.milter.log());
        let (code, said) = command(&running);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("nothing was changed") && said.contains(word), "{said}");
        assert_eq!(send(&running, &running.lab.alice), 250);
    }
    // Only the running milter finds out that a token is not there.
    running.lab.config.label = "elsewhere".to_owned();
    running.lab.write_config().unwrap();
    let (code, said) = command(&running);
    assert!(code == Some(2) && said.contains("elsewhere"), "{code:?} {said}");
    assert!(running.milter.log().contains(STAYS));
    assert_eq!(send(&running, &running.lab.alice), 250);

    // A mistyped path must not make a cache in which nobody is distrusted.
    running.lab.config = good.clone();
    for (path, word) in [(running.lab.workdir.join("cahce"), "no certificate cache"), (file.clone(), "cache")]
    {
        running.lab.config.cache = Some(path.clone());
        running.lab.write_config().unwrap();
        let (code, said) = command(&running);
        assert!(code == Some(2) && said.contains(word), "{code:?} {said}");
        assert!(!path.is_dir(), "a cache was made");
        assert_eq!(send(&running, &running.lab.alice), 250);
    }

    // What only a restart changes is named.
    running.lab.config = good;
    running.lab.config.listen = "inet:127.0.0.1:1".to_owned();
    running.lab.write_config().unwrap();
    let (code, said) = command(&running);
    assert!(code == Some(0) && said.starts_with("reloaded") && said.contains("`listen`"), "{code:?} {said}");
    assert_eq!(send(&running, &running.lab.alice), 250);
    assert_all_signed(&running, 10);
}

#[test]
fn another_name_for_verdicts_waits_for_a_restart_where_copies_carry_the_old_one() {
    let (mut lab, _) = lab("renamed");
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    let running = lab.start().unwrap();
    let file = running.lab.workdir.join("hsmime.toml");
    let text = running.lab.config.to_toml();
    fs::write(&file, text.replace(Lab::AUTHSERV_ID, "other.example")).unwrap();
    let (code, said) = command(&running);
    assert!(code == Some(2) && said.contains("authserv-id"), "{code:?} {said}");
    assert_eq!(send(&running, &running.lab.alice), 250);
}

#[test]
fn a_server_for_copies_waits_for_a_restart_and_so_do_the_rules_that_need_it() {
    let (lab, _) = lab("newserver");
    let running = lab.start().unwrap();
    let mut later = running.lab.config.clone();
    later.reinjection = Some((wait::free_port().unwrap(), running.lab.workdir.join("state")));
    later.first_rules = "\n[[incoming]]\nto = \"bob@example.org\"\nsubject-tag = true\n".to_owned();
    fs::write(running.lab.workdir.join("hsmime.toml"), later.to_toml()).unwrap();
    let (code, said) = command(&running);
    assert!(code == Some(2) && said.contains("`reinject`") && said.contains("restart"), "{code:?} {said}");
    assert_eq!(send(&running, &running.lab.alice), 250);
}

#[test]
fn a_larger_limit_of_mail_holds_only_after_a_restart_for_what_is_opened_too() {
    const LIMIT: usize = 1 << 20;
    let (mut lab, _) = lab("larger");
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    // What is opened for the one is a copy, which comes back.
    lab.config.first_rules = format!("\n[[incoming]]\nto = {:?}\ndetails = true\n", lab.bob.address);
    let limit = |octets: usize| format!("max-message-bytes = {octets}\n");
    lab.config.milter = limit(LIMIT);
    let mut running = lab.start().unwrap();
    running.lab.config.milter = limit(4 * LIMIT);
    running.lab.write_config().unwrap();
    let (code, said) = command(&running);
    assert!(code == Some(0) && said.contains("limits"), "{code:?} {said}");

    let lab = &running.lab;
    let keys = [Recipient::pkcs1(&lab.alice), Recipient::pkcs1(&lab.bob)];
    let text = b"Content-Type: text/plain\r\n\r\nthe plan\r\n";
    let entity = lab.openssl().unwrap().encrypt(text, &keys, &[]).unwrap();
    for (subject, octets, is_opened) in [("Near", LIMIT - 500, false), ("Far", LIMIT - (80 << 10), true)] {
        let mut sent = Letter { from: &lab.erin.address, to: &lab.bob.address, subject }.carrying(&entity);
        sent.extend_from_slice(&b"\r\n".repeat((octets - sent.len()) / 2));
        let to = [lab.alice.address.as_str(), &lab.bob.address];
        let reply = running.send(&Origin::remote(), &lab.erin.address, &to, &sent).unwrap();
        assert_eq!(reply.code, 250, "{reply:?} {}", running.milter.log());
        wait::until("both to have it", Duration::from_mins(1), || {
            Ok((running.sink.mails().iter().map(|mail| mail.to.len()).sum::<usize>() >= 2).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {}", running.milter.log()));
        for mail in running.sink.take() {
            assert_eq!(mime::find(&mail.octets, b"the plan").is_some(), is_opened, "{subject}: {mail:?}");
        }
    }
}

#[test]
fn no_mail_is_refused_or_leaves_unsigned_while_configurations_come_and_go() {
    let (lab, _) = lab("reloads");
    let running = lab.start().unwrap();
    let file = running.lab.workdir.join("hsmime.toml");
    let good = running.lab.config.to_toml();
    // The same token by another setting: a pool of its own.
    let other = good.replace("sessions = 4", "sessions = 3");
    let ended = AtomicBool::new(false);
    let accepted: usize = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut accepted = 0;
                    while !ended.load(Ordering::Relaxed) {
                        let code = send(&running, &running.lab.alice);
                        assert_eq!(code, 250, "{}", running.milter.log());
                        accepted += 1;
                    }
                    accepted
                })
            })
            .collect();
        for text in [&good, &other, &"broken".to_owned(), &good, &other, &good] {
            fs::write(&file, text).unwrap();
            let word = if text == "broken" { STAYS } else { READ };
            tell(&running, Signal::HUP, word);
        }
        ended.store(true, Ordering::Relaxed);
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    assert!(accepted >= 3);
    assert_all_signed(&running, accepted);
}
