//! Postfix with a content filter: behind us it sees what leaves us, copies too, each once; before us it sees what came, once.

use std::{path::PathBuf, time::Duration};

use rustix::process::Signal;
use testkit::filter::{Filter, Lacking};
use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::peers::Recipient;
use testkit::pki::{Key, Profile};
use testkit::postfix::Back;
use testkit::sink::{Delivered, Offer, Sink};
use testkit::smtp::{Client, Origin};
use testkit::{Lab, Person, mime, wait};

use crate::common::{verdict_below, waiting};

const TEXT: &[u8] = b"Content-Type: text/plain\r\n\r\nthe plan\r\n";
const NOBODY: &str = "nobody@partner.example";
const DAVE: &str = "dave@example.org";
const PATIENCE: Duration = Duration::from_mins(1);
/// What the documentation has the server do that takes mail back from a filter behind us.
const BEHIND: &str = "-o content_filter= -o smtpd_milters= -o smtpd_discard_ehlo_keywords=";

/// A lab whose copies go back to Postfix, and where alice and bob are under different rules: what is opened for one is a copy.
fn lab(name: &str) -> (Lab, Person) {
    let mut lab = Lab::new(name).unwrap();
    let dora = lab.pki.issue(&Profile::new("dora", "dora@partner.example", Key::Rsa2048)).unwrap();
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    lab.config.first_rules = "\n[[incoming]]\nto = \"bob@example.org\"\ndetails = true\n\
         \n[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"when-possible\"\n"
        .to_owned();
    let files = [&lab.erin, &dora].map(|person| person.certificate.to_str().unwrap());
    let imported = lab.admin(&[&["cert", "import"], &files[..]].concat()).unwrap();
    assert!(imported.success(), "{imported:?}");
    (lab, dora)
}

/// Where copies go back to.
fn back(running: &Running) -> Back {
    Back::Port(running.lab.config.reinjection.as_ref().unwrap().0)
}

/// Has all mail pass a filter that hands it on to a server with these options.
fn filter(running: &Running, options: &str, lacking: Lacking) -> Filter {
    let back = running.postfix.add_server_with(options).unwrap();
    let filter = Filter::start(back, lacking).unwrap();
    running.postfix.set(&format!("content_filter={}", filter.destination())).unwrap();
    filter
}

/// A filter before us, which hands mail on to us, and the port where mail comes in.
fn filter_before(running: &Running) -> (Filter, u16) {
    let entry = running.postfix.add_server_with("-o smtpd_milters=").unwrap();
    (filter(running, "-o content_filter=", Lacking::Nothing), entry)
}

/// What alice and bob can open, from erin.
fn sealed(lab: &Lab, subject: &str) -> Vec<u8> {
    let signed = lab.openssl().unwrap().sign(TEXT, &lab.erin).unwrap();
    let keys = [Recipient::pkcs1(&lab.alice), Recipient::pkcs1(&lab.bob)];
    let entity = lab.openssl().unwrap().encrypt(&mime::crlf(&signed), &keys, &[]).unwrap();
    Letter { from: &lab.erin.address, to: &lab.bob.address, subject }.carrying(&entity)
}

fn send(port: u16, origin: &Origin, from: &str, to: &[&str], octets: &[u8]) {
    let mut client = Client::connect(port, origin).unwrap();
    let reply = client.send(from, to, octets).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
}

/// What arrived, once all of so many recipients have it, nothing is under way any more, and nobody has it twice.
#[track_caller]
fn arrived(running: &Running, recipients: usize) -> Vec<Delivered> {
    let has_ended = || {
        let to = running.sink.mails().iter().map(|mail| mail.to.len()).sum::<usize>();
        let is_still = waiting(&running.lab) == 0 && running.postfix.queue()?.is_empty();
        Ok((to >= recipients && is_still).then_some(()))
    };
    wait::until("everybody to have it", PATIENCE, has_ended).unwrap_or_else(|error| {
        panic!("{error}\n{:?}\n{}\n{}", running.sink.mails(), running.milter.log(), running.postfix.log())
    });
    let mails = running.sink.take();
    let mut to: Vec<_> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
    to.sort();
    to.dedup();
    assert_eq!(to.len(), recipients, "{mails:?}");
    assert_eq!(mails.iter().map(|mail| mail.to.len()).sum::<usize>(), recipients, "each once: {mails:?}");
    for mail in &mails {
        assert_eq!(count(mail, "x-hsmime-copy"), 0, "the marker left: {mail:?}");
    }
    mails
}

fn count(mail: &Delivered, field: &str) -> usize {
    mime::field_names(&mail.octets).iter().filter(|name| *name == field).count()
}

fn shows(mail: &Delivered) -> bool {
    mime::find(&mail.octets, b"the plan").is_some()
}

/// The one mail for these.
#[track_caller]
fn of<'m>(mails: &'m [Delivered], to: &str) -> &'m Delivered {
    mails.iter().find(|mail| mail.to.iter().any(|one| one == to)).unwrap_or_else(|| panic!("{to}: {mails:?}"))
}

/// Alice and bob have the text with its verdict, dave has the ciphertext.
#[track_caller]
fn assert_opened_for_two(lab: &Lab, mails: &[Delivered], verdict: &str) {
    for person in [&lab.alice, &lab.bob] {
        let mail = of(mails, &person.address);
        assert!(shows(mail) && mail.to.len() == 1, "{mail:?}");
        assert_eq!(verdict_below(mail), verdict, "{mail:?}");
    }
    let closed = of(mails, DAVE);
    assert!(!shows(closed), "{closed:?}");
    let opened = lab.openssl().unwrap().decrypt(&closed.octets, &lab.bob).unwrap();
    assert!(mime::find(&opened, b"the plan").is_some());
}

/// Erin and dora have ciphertext of their own, who has no certificate what alice signed.
#[track_caller]
fn assert_sealed_for_two(lab: &Lab, dora: &Person, mails: &[Delivered]) {
    let openssl = lab.openssl().unwrap();
    for person in [&lab.erin, dora] {
        let mail = of(mails, &person.address);
        assert!(!shows(mail) && mail.to.len() == 1, "{mail:?}");
        assert_eq!(openssl.count_recipients(&mail.octets).unwrap(), 1, "{mail:?}");
        openssl.verify(&openssl.decrypt(&mail.octets, person).unwrap()).unwrap();
    }
    let plain = of(mails, NOBODY);
    assert!(shows(plain), "{plain:?}");
    openssl.verify(&plain.octets).unwrap();
    assert_eq!(count(plain, "content-type"), 1);
}

#[test]
fn a_filter_behind_us_sees_each_form_once_and_so_does_who_it_is_for() {
    let (lab, dora) = lab("behind");
    let running = lab.start().unwrap();
    let filter = filter(&running, BEHIND, Lacking::Nothing);
    let listen = running.lab.config.listen.clone();
    running.postfix.set(&format!("non_smtpd_milters={listen}")).unwrap();
    let (lab, port) = (&running.lab, running.postfix.port());
    let (alice, erin) = (lab.alice.address.as_str(), lab.erin.address.as_str());
    let ours = [alice, lab.bob.address.as_str(), DAVE];

    send(port, &Origin::remote(), erin, &ours, &sealed(lab, "By SMTP"));
    let mut mails = arrived(&running, 3);
    assert_opened_for_two(lab, &mails, "pass");
    assert_eq!(filter.seen().iter().filter(|mail| shows(mail)).count(), 2, "also the copy that is open");

    // Of what a program hands over all forms are copies.
    running.postfix.submit(erin, &ours, &sealed(lab, "By sendmail")).unwrap();
    let submitted = arrived(&running, 3);
    assert_opened_for_two(lab, &submitted, "pass");
    mails.extend(submitted);

    let sent = Letter { from: alice, to: erin, subject: "Out" }.text("the plan");
    send(port, &Origin::login(alice), alice, &[erin, &dora.address, NOBODY], &sent);
    let left = arrived(&running, 3);
    assert_sealed_for_two(lab, &dora, &left);
    mails.extend(left);

    for mail in &mails {
        assert_eq!(count(mail, Filter::FIELD), 1, "{mail:?}");
    }
    let seen = filter.seen();
    assert_eq!(seen.len(), mails.len(), "{seen:?}");
    assert_eq!(seen.iter().map(|mail| count(mail, "x-hsmime-copy")).sum::<usize>(), 0, "{seen:?}");
}

#[test]
fn a_filter_before_us_sees_what_came_once_and_no_copy() {
    let (lab, _) = lab("before");
    let running = lab.start().unwrap();
    let (filter, entry) = filter_before(&running);
    running.postfix.set_for_copies(back(&running), "content_filter=").unwrap();
    let lab = &running.lab;
    let ours = [lab.alice.address.as_str(), lab.bob.address.as_str(), DAVE];
    send(entry, &Origin::remote(), &lab.erin.address, &ours, &sealed(lab, "Before"));
    let mails = arrived(&running, 3);
    assert_opened_for_two(lab, &mails, "pass");
    for mail in &mails {
        assert_eq!(count(mail, Filter::FIELD), 1, "what it wrote above is in each form: {mail:?}");
    }
    let seen = filter.seen();
    assert!(seen.len() == 1 && !shows(&seen[0]), "{seen:?}");
}

#[test]
fn where_copies_go_by_a_filter_before_us_once_more_nobody_gets_less_or_twice() {
    let (lab, _) = lab("again");
    let running = lab.start().unwrap();
    let (filter, entry) = filter_before(&running);
    let lab = &running.lab;
    let (alice, erin) = (lab.alice.address.as_str(), lab.erin.address.as_str());
    let ours = [alice, lab.bob.address.as_str(), DAVE];
    send(entry, &Origin::remote(), erin, &ours, &sealed(lab, "Again"));
    let mails = arrived(&running, 3);
    assert_opened_for_two(lab, &mails, "pass");
    assert_eq!(filter.seen().len(), 3, "the mail, and two copies: {:?}", filter.seen());
    for (to, times) in [(alice, 1), (lab.bob.address.as_str(), 2), (DAVE, 2)] {
        let mail = of(&mails, to);
        assert_eq!(count(mail, Filter::FIELD), times, "{mail:?}");
    }
}

#[test]
fn what_comes_to_us_by_a_filter_leaves_in_the_form_that_is_due_also_where_copies_go_by_it_once_more() {
    let (mut lab, dora) = lab("leaving");
    lab.config.trusted_networks.push("127.0.0.0/8".to_owned());
    let running = lab.start().unwrap();
    let (filter, entry) = filter_before(&running);
    let lab = &running.lab;
    let (alice, erin) = (lab.alice.address.as_str(), lab.erin.address.as_str());
    let mut seen = 0;
    for (subject, times) in [("Once more", 3), ("Past it", 1)] {
        if times == 1 {
            running.postfix.set_for_copies(back(&running), "content_filter=").unwrap();
        }
        let sent = Letter { from: alice, to: erin, subject }.text("the plan");
        send(entry, &Origin::remote(), alice, &[erin, &dora.address, NOBODY], &sent);
        assert_sealed_for_two(lab, &dora, &arrived(&running, 3));
        seen += times;
        assert_eq!(filter.seen().len(), seen, "{subject}: {:?}", filter.seen());
    }
}

#[test]
fn a_copy_with_crs_that_end_no_line_is_known_when_it_comes_back() {
    let (mut lab, _) = lab("crs");
    lab.config.trusted_networks.push("127.0.0.0/8".to_owned());
    let rules = format!("{}\n[[incoming]]\nrequire-encrypted = true\n", lab.config.first_rules);
    lab.config.first_rules = rules;
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let (alice, bob, erin) = (&lab.alice.address, &lab.bob.address, &lab.erin.address);
    let entity = "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=b\r\n\
                  \r\n--b\r\nContent-Type: text/plain\r\n\r\nthe plan\r\r\nin\rtwo\r\r\r\nlines\r\n\
                  --b\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\
                  \r\nAAAA\r\n--b--\r\n";
    let keys = [Recipient::pkcs1(&lab.alice), Recipient::pkcs1(&lab.bob)];
    let entity = lab.openssl().unwrap().encrypt(entity.as_bytes(), &keys, &[]).unwrap();
    let mail = Letter { from: erin, to: bob, subject: "CRs" }.carrying(&entity);
    send(running.postfix.port(), &Origin::remote(), erin, &[alice, bob], &mail);
    for mail in &arrived(&running, 2) {
        assert!(shows(mail) && mail.from == *erin, "{mail:?}\n{}", running.milter.log());
        assert_ne!(verdict_below(mail), "pass", "{mail:?}");
    }
    assert!(running.milter.log().contains("it is a copy of ours"), "{}", running.milter.log());

    // From there nothing else that says to be one is taken for our people's; who logs in is known.
    let forged = format!("X-Hsmime-Copy: {0}\r\n {0}\r\n", "ab".repeat(32));
    let mail = Letter { from: alice, to: alice, subject: "Forged" }.text("the plan");
    for (origin, marker, code) in [
        (Origin::host([127, 0, 0, 1]), forged.as_str(), 451),
        (Origin::host([127, 0, 0, 1]), "", 250),
        (Origin::host([127, 0, 0, 1]), "X-Hsmime-Copy: yes\r\n", 250),
        (Origin::login(alice), &forged, 250),
    ] {
        let mail = [marker.as_bytes(), &mail].concat();
        let reply = running.send(&origin, alice, &[alice], &mail).unwrap();
        assert_eq!(reply.code, code, "{origin:?} {reply:?}");
    }
}

#[test]
fn what_postfix_refuses_of_an_opened_copy_is_put_aside_and_nobody_outside_hears_of_it() {
    let (lab, _) = lab("checked");
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let checks = |name: &str, lines: &str| {
        let file = lab.workdir.join(name);
        std::fs::write(&file, lines).unwrap();
        running.postfix.set(&format!("{name}=regexp:{}", file.display())).unwrap();
    };
    // What header_checks do beside refusing they do with copies.
    checks("header_checks", "/^Subject: Refused/ HOLD\n");
    checks("body_checks", "/the plan/ REJECT 5.7.1 not taken\n");
    let port = running.postfix.port();
    let (alice, bob, erin) = (&lab.alice.address, &lab.bob.address, &lab.erin.address);
    send(port, &Origin::remote(), erin, &[alice, bob, DAVE], &sealed(lab, "Refused"));
    let aside = lab.workdir.join("state/failed");
    let is_kept = wait::until("a copy put aside", PATIENCE, || {
        Ok(std::fs::read_dir(&aside).is_ok_and(|found| found.count() == 1).then_some(()))
    });
    is_kept.unwrap_or_else(|error| panic!("{error}\n{}", running.milter.log()));
    wait::until("no copy under way", PATIENCE, || Ok((waiting(lab) == 0).then_some(()))).unwrap();
    // What came, and the copy that is closed.
    assert_eq!(running.postfix.queue().unwrap().len(), 2, "{}", running.postfix.log());
    assert!(running.sink.mails().is_empty(), "{:?}", running.sink.mails());
}

#[test]
fn what_is_opened_arrives_where_the_server_for_copies_looks_at_no_content() {
    let (lab, _) = lab("unchecked");
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let file = lab.workdir.join("body_checks");
    std::fs::write(&file, "/the plan/ REJECT 5.7.1 not taken\n").unwrap();
    running.postfix.set(&format!("body_checks=regexp:{}", file.display())).unwrap();
    running.postfix.set_for_copies(back(&running), "receive_override_options=no_header_body_checks").unwrap();
    let ours = [lab.alice.address.as_str(), lab.bob.address.as_str(), DAVE];
    send(running.postfix.port(), &Origin::remote(), &lab.erin.address, &ours, &sealed(lab, "Unchecked"));
    assert_opened_for_two(lab, &arrived(&running, 3), "pass");
}

/// The one file in a folder of the milter's `state`, once it is there.
fn only_file(running: &Running, folder: &str) -> PathBuf {
    let folder = running.lab.workdir.join("state").join(folder);
    let found = wait::until("one file", PATIENCE, || {
        let files =
            std::fs::read_dir(&folder).map(|found| found.map(|one| one.unwrap().path()).collect::<Vec<_>>());
        Ok(files
            .ok()
            .filter(|files| files.len() == 1 && files[0].extension().is_none())
            .and_then(|files| files.into_iter().next()))
    });
    found.unwrap_or_else(|error| panic!("{error}\n{}", running.milter.log()))
}

/// With the settings of the guide for mail by `sendmail`: the text is a stranger's, who says to be bob.
#[test]
fn what_was_put_aside_and_is_handed_on_is_never_signed_as_that_of_whom_it_says_to_be() {
    let (mut lab, _) = lab("handed-on");
    lab.config.trusted_networks.push("127.0.0.1".to_owned());
    let running = lab.start().unwrap();
    let listen = running.lab.config.listen.clone();
    running.postfix.set(&format!("non_smtpd_milters={listen}")).unwrap();
    let checks = running.lab.workdir.join("body_checks");
    std::fs::write(&checks, "/the plan/ REJECT 5.7.1 not taken\n").unwrap();
    let checks = format!("body_checks=regexp:{}", checks.display());
    let (bob, erin) = (running.lab.bob.address.clone(), running.lab.erin.address.clone());
    let alice = running.lab.alice.address.clone();
    let keys = [Recipient::pkcs1(&running.lab.alice), Recipient::pkcs1(&running.lab.bob)];
    let entity = running.lab.openssl().unwrap().encrypt(TEXT, &keys, &[]).unwrap();
    let mail = Letter { from: &bob, to: &alice, subject: "Forged" }.carrying(&entity);
    running.postfix.set(&checks).unwrap();
    send(running.postfix.port(), &Origin::remote(), &erin, &[&alice, &bob], &mail);
    let aside = only_file(&running, "failed");
    let own = running.sink.wait_for(1, PATIENCE).unwrap();
    assert!(shows(&own[0]), "who stays in the transaction: {own:?}");
    running.sink.take();
    running.postfix.set("body_checks=").unwrap();

    // As a Sieve script or a list hands it on, or somebody by hand: it waits for a person, and nobody is told.
    let file = std::fs::read(&aside).unwrap();
    let begin = mime::find(&file, b"\n\n").unwrap() + 2;
    let text = file[begin..].strip_suffix(b"\r\nend of copy\n").unwrap();
    let to = if own[0].to == [alice.as_str()] { &bob } else { &alice };
    for sender in ["postmaster@example.org", &erin] {
        running.postfix.submit(sender, &[to], text).unwrap();
    }
    let held = wait::until("both to be held", PATIENCE, || {
        let queue = running.postfix.queue()?;
        let held = queue.iter().filter(|one| one["queue_name"] == "hold").count();
        Ok((held == 2 && queue.len() == 2).then_some(()))
    });
    held.unwrap_or_else(|error| panic!("{error}\n{}\n{}", running.milter.log(), running.postfix.log()));
    assert!(running.sink.mails().is_empty(), "{:?}", running.sink.mails());
    assert!(running.milter.log().contains("it came from elsewhere"), "{}", running.milter.log());

    // As the documentation says it arrives, with what was found of it.
    let again = running.lab.workdir.join("state/again").join(aside.file_name().unwrap());
    std::fs::rename(&aside, &again).unwrap();
    running.milter.signal(Signal::HUP).unwrap();
    let mails = running.sink.wait_for(1, PATIENCE).unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", running.milter.log(), running.postfix.log());
    });
    let mail = of(&mails, to);
    assert!(shows(mail) && verdict_below(mail) == "none" && mail.from == erin, "{mail:?}");
    assert!(mime::find(&mail.octets, b"multipart/signed").is_none(), "{mail:?}");
}

/// What erin, or who gets bounces in her place, hears of mail to alice and bob, whose mailboxes are full.
fn bounces(running: &Running, subject: &str) -> Vec<Delivered> {
    let lab = &running.lab;
    let both = [lab.alice.address.as_str(), lab.bob.address.as_str()];
    for address in both {
        running.sink.fill(address);
    }
    send(running.postfix.port(), &Origin::remote(), &lab.erin.address, &both, &sealed(lab, subject));
    let bounces = running.sink.wait_for(2, PATIENCE).unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", running.milter.log(), running.postfix.log());
    });
    for bounce in &bounces {
        assert_eq!(bounce.from, "", "not a bounce: {bounce:?}");
    }
    bounces
}

#[test]
fn bounces_of_what_went_by_a_filter_behind_us_do_not_hold_what_was_opened() {
    let (lab, _) = lab("bounced");
    let running = lab.start().unwrap();
    // Strangers are offered no DSN.
    running.postfix.set("smtpd_discard_ehlo_keywords=dsn").unwrap();
    let filter = filter(&running, BEHIND, Lacking::Nothing);
    for bounce in bounces(&running, "Bounced") {
        assert!(bounce.to == [running.lab.erin.address.as_str()] && !shows(&bounce), "{bounce:?}");
    }
    assert_eq!(filter.seen().iter().filter(|mail| shows(mail)).count(), 2);
}

#[test]
fn bounces_of_what_went_by_a_filter_without_dsn_go_to_whom_the_configuration_names() {
    let (mut lab, _) = lab("redirected");
    lab.config.opened_mail_sender = Some("postmaster@example.org".to_owned());
    let running = lab.start().unwrap();
    let filter = filter(&running, BEHIND, Lacking::Reports);
    for bounce in bounces(&running, "Redirected") {
        assert_eq!(bounce.to, ["postmaster@example.org"]);
    }
    assert_eq!(filter.seen().iter().filter(|mail| shows(mail)).count(), 2);
}

#[test]
fn bounces_of_what_a_filter_hands_back_by_sendmail_go_to_whom_the_configuration_names() {
    let (mut lab, _) = lab("by-sendmail");
    lab.config.opened_mail_sender = Some("postmaster@example.org".to_owned());
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let both = [lab.alice.address.as_str(), lab.bob.address.as_str()];
    let filter = Sink::start(Offer::Reports).unwrap();
    running.postfix.set(&format!("content_filter=smtp:[127.0.0.1]:{}", filter.port())).unwrap();
    send(running.postfix.port(), &Origin::remote(), &lab.erin.address, &both, &sealed(lab, "By sendmail"));
    let seen = filter.wait_for(2, PATIENCE).unwrap();
    for address in both {
        running.sink.fill(address);
    }
    running.postfix.set("content_filter=").unwrap();
    for mail in &seen {
        assert!(shows(mail) && mail.parameters[0].contains("RET=HDRS"), "{mail:?}");
        let to: Vec<&str> = mail.to.iter().map(String::as_str).collect();
        running.postfix.submit(&mail.from, &to, &mail.octets).unwrap();
    }
    for bounce in running.sink.wait_for(2, PATIENCE).unwrap() {
        assert_eq!((bounce.from.as_str(), &bounce.to[..]), ("", &["postmaster@example.org".to_owned()][..]));
        // `sendmail` was not told what bounces may hold: hence that address.
        assert!(shows(&bounce), "{bounce:?}");
    }
}
