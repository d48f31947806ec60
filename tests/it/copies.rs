//! Mail whose recipients need different messages: each gets its own, once, and learns of no other.

use std::fs;
use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::pki::{Key, Person, Profile};
use testkit::postfix::{Back, Postfix};
use testkit::sink::{Delivered, Offer, Sink};
use testkit::smtp::Origin;
use testkit::{Lab, mime, wait};

use crate::common::{waiting, waiting_in};
use crate::disk::{Disk, Reached};

const NOBODY: &str = "nobody@partner.example";
const PATIENCE: Duration = Duration::from_mins(1);

/// Erin, dora and fred at the partner's have certificates, nobody has none.
struct People {
    dora: Person,
    fred: Person,
}

fn lab(name: &str, encrypt: &str) -> (Lab, People) {
    let mut lab = Lab::new(name).unwrap();
    let issue = |name: &str, key| {
        lab.pki.issue(&Profile::new(name, &format!("{name}@partner.example"), key)).unwrap()
    };
    let (dora, fred) = (issue("dora", Key::Rsa2048), issue("fred", Key::P256));
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    lab.config.first_rules =
        format!("\n[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"{encrypt}\"\n");
    let files = [&lab.erin, &dora, &fred].map(|person| person.certificate.to_str().unwrap());
    let imported = lab.admin(&[&["cert", "import"], &files[..]].concat()).unwrap();
    assert!(imported.success(), "{imported:?}");
    (lab, People { dora, fred })
}

/// The mail that arrived for exactly these people.
#[track_caller]
fn for_only<'m>(mails: &'m [Delivered], to: &[&str]) -> &'m Delivered {
    let mut found = mails.iter().filter(|mail| mail.to == to);
    let mail = found.next().unwrap_or_else(|| panic!("nothing for {to:?} in {mails:?}"));
    assert!(found.next().is_none(), "twice for {to:?}");
    let names = mime::field_names(&mail.octets);
    assert!(!names.iter().any(|name| name == "x-hsmime-copy"), "the marker left: {names:?}");
    mail
}

/// Only this person can open the mail, and finds a good signature.
#[track_caller]
fn assert_sealed_for(running: &Running, mail: &Delivered, person: &Person, recipients: usize) {
    let openssl = running.lab.openssl().unwrap();
    assert!(!String::from_utf8_lossy(&mail.octets).contains("the plan"), "in clear: {mail:?}");
    assert_eq!(openssl.count_recipients(&mail.octets).unwrap(), recipients, "{mail:?}");
    let signed = openssl.decrypt(&mail.octets, person).unwrap();
    let text = openssl.verify(&signed).unwrap();
    assert!(String::from_utf8_lossy(&text).contains("the plan"));
}

#[test]
fn each_recipient_gets_what_it_can_read_and_learns_of_no_other() {
    let (lab, People { dora, fred }) = lab("copies", "when-possible");
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let (alice, erin) = (lab.alice.address.as_str(), lab.erin.address.as_str());
    let sent = Letter { from: alice, to: erin, subject: "Split" }.text("the plan");
    let all = [erin, &dora.address, &fred.address, NOBODY];
    let reply = running.send(&Origin::login(alice), alice, &all, &sent).unwrap();
    assert_eq!(reply.code, 250, "{reply:?} {}", running.milter.log());
    let mails = running.sink.wait_for(4, PATIENCE).unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", running.milter.log(), running.postfix.log());
    });
    for (person, address) in [(&lab.erin, erin), (&dora, dora.address.as_str()), (&fred, &fred.address)] {
        assert_sealed_for(&running, for_only(&mails, &[address]), person, 1);
    }
    let plain = for_only(&mails, &[NOBODY]);
    lab.openssl().unwrap().verify(&plain.octets).unwrap();
    wait::until("an empty spool", PATIENCE, || Ok((waiting(lab) == 0).then_some(()))).unwrap();
    assert_eq!(running.sink.mails().len(), 4, "each once");
}

#[test]
fn copies_of_a_message_with_as_many_fields_as_are_taken_come_back_with_more() {
    let (lab, People { dora, .. }) = lab("fields", "when-possible");
    let running = lab.start().unwrap();
    let (alice, erin) = (running.lab.alice.address.as_str(), running.lab.erin.address.as_str());
    let sent = Letter { from: alice, to: erin, subject: "Fields" }.text("the plan");
    let with = |fields: usize| {
        let more = fields - mime::field_names(&sent).len();
        [b"X-More: x\r\n".repeat(more), sent.clone()].concat()
    };
    let all = [erin, &dora.address, NOBODY];
    let reply = running.send(&Origin::login(alice), alice, &all, &with(1000)).unwrap();
    assert_eq!(reply.code, 250, "{reply:?} {}", running.milter.log());
    let mails = running.sink.wait_for(3, PATIENCE).unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", running.milter.log(), running.postfix.log());
    });
    assert_sealed_for(&running, for_only(&mails, &[erin]), &running.lab.erin, 1);
    assert_sealed_for(&running, for_only(&mails, &[&dora.address]), &dora, 1);
    for_only(&mails, &[NOBODY]);
    // A stranger's word is no marker.
    let marker = format!("X-Hsmime-Copy: {0}\r\n {0}\r\n", "ab".repeat(32));
    for (fields, above) in [(1001, ""), (1000, marker.as_str())] {
        let octets = [above.as_bytes(), &with(fields)].concat();
        let reply = running.send(&Origin::login(alice), alice, &all, &octets).unwrap();
        assert_eq!(reply.code, 554, "{reply:?}");
    }
    assert_eq!(running.sink.mails().len(), 3, "each once");
}

#[test]
fn those_who_are_named_get_one_message() {
    let (lab, People { dora, .. }) = lab("together", "required");
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let (alice, erin) = (lab.alice.address.as_str(), lab.erin.address.as_str());
    let to = format!("{erin}, Dora <{}>", dora.address);
    let sent = Letter { from: alice, to: &to, subject: "Together" }.text("the plan");
    let mail = running.deliver(&Origin::login(alice), alice, &[erin, &dora.address], &sent).unwrap();
    assert_sealed_for(&running, &mail, &lab.erin, 2);
    assert_sealed_for(&running, &mail, &dora, 2);
    // What must be encrypted never leaves otherwise.
    let reply = running.send(&Origin::login(alice), alice, &[erin, NOBODY], &sent).unwrap();
    assert_eq!(reply.code, 451, "{reply:?}");
    assert_eq!(running.sink.mails().len(), 1);
}

#[test]
fn copies_survive_a_server_that_is_away_and_a_milter_that_is_killed() {
    let (mut lab, People { dora, .. }) = lab("killed", "required");
    let back = lab.config.reinjection.clone();
    let away = wait::free_port().unwrap();
    // Nobody listens where copies go.
    lab.config.reinjection = back.as_ref().map(|(_, folder)| (away, folder.clone()));
    lab.write_config().unwrap();
    let sink = Sink::start(Offer::EightBit).unwrap();
    let milter = lab.start_milter().unwrap();
    let port = back.as_ref().map(|(port, _)| Back::Port(*port));
    let postfix = Postfix::start_with(&lab.workdir, &lab.config.listen, sink.port(), port).unwrap();
    let mut running = Running { postfix, milter, sink, lab };
    let (alice, erin) = (running.lab.alice.address.clone(), running.lab.erin.address.clone());
    // Three messages, each with a Message-ID of its own: the same one three times would be a client trying again.
    for subject in ["Killed-1", "Killed-2", "Killed-3"] {
        let sent = Letter { from: &alice, to: &erin, subject }.text("the plan");
        let reply = running.send(&Origin::login(&alice), &alice, &[&erin, &dora.address], &sent).unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    running.sink.wait_for(3, PATIENCE).unwrap();
    assert_eq!(waiting(&running.lab), 3, "what the MTA was promised is on the disk");
    running.milter.kill().unwrap();
    assert_eq!(waiting(&running.lab), 3);
    running.lab.config.reinjection = back;
    running.restart_milter().unwrap();
    let mails = running.sink.wait_for(6, PATIENCE).unwrap();
    let copies: Vec<_> = mails.iter().filter(|mail| mail.to == [dora.address.as_str()]).collect();
    assert_eq!(copies.len(), 3);
    for copy in copies {
        assert_sealed_for(&running, copy, &dora, 1);
    }
    wait::until("an empty spool", PATIENCE, || Ok((waiting(&running.lab) == 0).then_some(()))).unwrap();
    assert_eq!(running.sink.mails().len(), 6, "each once");
}

#[test]
fn what_the_mta_was_promised_and_who_has_a_copy_survive_a_power_cut() {
    let Some(mut disk) = Disk::ext4(64 << 20) else { return };
    let (mut lab, People { dora, .. }) = lab("power", "required");
    let (port, state) = (wait::free_port().unwrap(), disk.path().join("state"));
    // Nobody listens where copies go at first.
    let away = wait::free_port().unwrap();
    lab.config.reinjection = Some((away, state.clone()));
    let sink = Sink::start(Offer::EightBit).unwrap();
    let milter = lab.start_milter().unwrap();
    let postfix =
        Postfix::start_with(&lab.workdir, &lab.config.listen, sink.port(), Some(Back::Port(port))).unwrap();
    let mut running = Running { postfix, milter, sink, lab };
    disk.sync();
    let (alice, erin) = (running.lab.alice.address.clone(), running.lab.erin.address.clone());
    let send = |running: &Running, subject| {
        let sent = Letter { from: &alice, to: &erin, subject }.text("the plan");
        let reply = running.send(&Origin::login(&alice), &alice, &[&erin, &dora.address], &sent).unwrap();
        assert_eq!(reply.code, 250, "{reply:?} {}", running.milter.log());
    };
    let canary = disk.path().join("canary");
    for (subject, reached) in [("Power-1", Reached::Nothing), ("Power-2", Reached::Names)] {
        let switch = disk.switch();
        send(&running, subject);
        fs::write(&canary, "nobody waits for this").unwrap();
        switch.cut(reached);
        running.milter.kill().unwrap();
        disk.power_on();
        assert_eq!(fs::read(&canary).unwrap_or_default(), b"", "the power was cut");
        running.restart_milter().unwrap();
    }
    assert_eq!(waiting_in(&state), 2, "{}", running.milter.log());
    // Once they are taken, that is known as well: whoever sends again gets nobody a second one.
    running.milter.kill().unwrap();
    running.lab.config.reinjection = Some((port, state.clone()));
    running.restart_milter().unwrap();
    running.sink.wait_for(4, PATIENCE).unwrap();
    wait::until("an empty spool", PATIENCE, || Ok((waiting_in(&state) == 0).then_some(()))).unwrap();
    let switch = disk.switch();
    switch.cut(Reached::Nothing);
    running.milter.kill().unwrap();
    disk.power_on();
    running.restart_milter().unwrap();
    send(&running, "Power-1");
    let mails = running.sink.wait_for(5, PATIENCE).unwrap();
    wait::until("an empty spool", PATIENCE, || Ok((waiting_in(&state) == 0).then_some(()))).unwrap();
    let copies: Vec<_> = mails.iter().filter(|mail| mail.to == [dora.address.as_str()]).collect();
    assert_eq!((copies.len(), running.sink.mails().len()), (2, 5), "{mails:?}");
    for copy in copies {
        assert_sealed_for(&running, copy, &dora, 1);
    }
    running.milter.stop().unwrap();
}

#[test]
fn copies_go_back_through_a_socket_that_only_postfix_can_make() {
    let (mut lab, People { dora, .. }) = lab("by-socket", "required");
    let socket = Postfix::reinjection_socket(&lab.workdir);
    lab.config.reinjection_socket = Some(socket.clone());
    let mut running = lab.start().unwrap();
    let (alice, erin) = (running.lab.alice.address.clone(), running.lab.erin.address.clone());
    let send = |running: &Running, subject| {
        let sent = Letter { from: &alice, to: &erin, subject }.text("the plan");
        let reply = running.send(&Origin::login(&alice), &alice, &[&erin, &dora.address], &sent).unwrap();
        assert_eq!(reply.code, 250, "{reply:?} {}", running.milter.log());
    };
    send(&running, "By socket");
    let mails = running.sink.wait_for(2, PATIENCE).unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", running.milter.log(), running.postfix.log());
    });
    assert_sealed_for(&running, for_only(&mails, &[&erin]), &running.lab.erin, 1);
    assert_sealed_for(&running, for_only(&mails, &[&dora.address]), &dora, 1);

    // Where others may write, nobody is handed anything, though Postfix listens.
    let public = socket.parent().unwrap();
    let mode = |bits| {
        use std::{fs, os::unix::fs::PermissionsExt as _};
        let before = fs::metadata(public).unwrap().permissions();
        fs::set_permissions(public, fs::Permissions::from_mode(bits)).unwrap();
        before.mode()
    };
    let before = mode(0o777);
    send(&running, "By a socket of anybody's");
    running.sink.wait_for(3, PATIENCE).unwrap();
    let refused = || running.milter.log().contains("could put their own socket").then_some(());
    wait::until("a warning", PATIENCE, || Ok(refused())).unwrap();
    assert_eq!(waiting(&running.lab), 1);
    assert_eq!(running.sink.mails().len(), 3);
    mode(before);
    running.sink.wait_for(4, PATIENCE).unwrap();
    wait::until("an empty spool", PATIENCE, || Ok((waiting(&running.lab) == 0).then_some(()))).unwrap();
    running.milter.stop().unwrap();
}

#[test]
fn what_a_sender_asks_of_delivery_is_asked_for_each_copy_too() {
    let (lab, People { dora, .. }) = lab("asked", "when-possible");
    let running = lab.start_with(Offer::Reports).unwrap();
    let alice = running.lab.alice.address.clone();
    let sent = Letter { from: &alice, to: &dora.address, subject: "Asked" }.text("the plan");
    let mut client = running.postfix.connect(&Origin::login(&alice)).unwrap();
    for command in [
        format!("MAIL FROM:<{alice}> RET=HDRS ENVID=QQ314159"),
        format!("RCPT TO:<{}> NOTIFY=FAILURE ORCPT=rfc822;dora@alias.example", dora.address),
        format!("RCPT TO:<{NOBODY}> NOTIFY=NEVER ORCPT=rfc822;nobody@alias.example"),
    ] {
        let reply = client.command(&command).unwrap();
        assert_eq!(reply.code, 250, "{command}: {reply:?}");
    }
    assert_eq!(client.command("DATA").unwrap().code, 354);
    client.raw(&testkit::smtp::dot_stuffed(&sent)).unwrap();
    let mails = running.sink.wait_for(2, PATIENCE).unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", running.milter.log(), running.postfix.log());
    });
    for (to, notify, original) in [(dora.address.as_str(), "FAILURE", "dora"), (NOBODY, "NEVER", "nobody")] {
        let [mail, rcpt] = for_only(&mails, &[to]).parameters.as_slice() else { panic!("{mails:?}") };
        let has = |text: &str, word: &str| text.split(' ').any(|one| one.eq_ignore_ascii_case(word));
        assert!(has(mail, "RET=HDRS") && has(mail, "ENVID=QQ314159"), "{to}: {mail}");
        let original = format!("ORCPT=rfc822;{original}@alias.example");
        assert!(has(rcpt, &format!("NOTIFY={notify}")) && has(rcpt, &original), "{to}: {rcpt}");
    }
}
