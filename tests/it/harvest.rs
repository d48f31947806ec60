//! Certificates of senders: who signs is encrypted to from then on, and no later mail changes to what.

use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::pki::{Key, Person, Profile};
use testkit::smtp::Origin;
use testkit::{Lab, wait};

const PATIENCE: Duration = Duration::from_mins(1);
const TEXT: &str = "the plan";

/// A lab that harvests or not, and a newer certificate of erin's address with a key of its own.
fn start(name: &str, harvest: bool) -> (Running, Person) {
    let mut lab = Lab::new(name).unwrap();
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.harvest = harvest;
    "soft-fail".clone_into(&mut lab.config.revocation);
    // The root has no list, by which the issuing CA could be judged.
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.crls = vec![lab.pki.crl()];
    "\n[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"when-possible\"\n\
     [revocation]\nfetch = false\n"
        .clone_into(&mut lab.config.first_rules);
    let newer = lab.pki.issue(&Profile::new("newer", &lab.erin.address, Key::Rsa2048)).unwrap();
    (lab.start().unwrap(), newer)
}

/// A mail of erin's to alice, signed by somebody.
fn signed_by(lab: &Lab, signer: &Person, fields: &str) -> Vec<u8> {
    let entity = lab.openssl().unwrap().sign(b"Content-Type: text/plain\r\n\r\nhello\r\n", signer).unwrap();
    let letter = Letter { from: &lab.erin.address, to: &lab.alice.address, subject: "Signed" };
    [fields.as_bytes(), &letter.carrying(&entity)].concat()
}

/// Brings a mail in, and answers with its verdict.
fn arrives(running: &Running, mail: &[u8]) -> String {
    let (lab, origin) = (&running.lab, Origin::remote());
    let arrived = running.deliver(&origin, &lab.erin.address, &[&lab.alice.address], mail).unwrap();
    crate::common::verdict(&arrived)
}

/// What alice's mail to erin leaves as: in whose hands it can be read, or in clear.
fn leaves_for<'p>(running: &Running, people: &[&'p Person]) -> Option<&'p str> {
    let lab = &running.lab;
    let (alice, erin) = (lab.alice.address.as_str(), lab.erin.address.as_str());
    let sent = Letter { from: alice, to: erin, subject: "Secret" }.text(TEXT);
    let mail = running.deliver(&Origin::login(alice), alice, &[erin], &sent).unwrap();
    if String::from_utf8_lossy(&mail.octets).contains(TEXT) {
        return None;
    }
    let openssl = lab.openssl().unwrap();
    assert_eq!(openssl.count_recipients(&mail.octets).unwrap(), 1, "{mail:?}");
    let mut readers = people.iter().filter_map(|person| {
        let signed = openssl.decrypt(&mail.octets, person).ok()?;
        let text = openssl.verify(&signed).unwrap();
        String::from_utf8_lossy(&text).contains(TEXT).then_some(person.name.as_str())
    });
    let reader = readers.next();
    assert!(reader.is_some() && readers.next().is_none(), "nobody can read it: {mail:?}");
    reader
}

/// Lines of the milter's log that tell of a certificate.
fn kept(running: &Running) -> usize {
    running.milter.log().matches("a sender's certificate is kept").count()
}

#[test]
fn who_signs_is_encrypted_to_and_poisoned_mail_changes_nothing() {
    let (running, newer) = start("harvest", true);
    let lab = &running.lab;
    let people = [&lab.erin, &newer];
    assert_eq!(leaves_for(&running, &people), None, "nothing is known of erin");
    assert_eq!(arrives(&running, &signed_by(lab, &lab.erin, "")), "pass");
    wait::until("erin's certificate", PATIENCE, || Ok((kept(&running) == 1).then_some(()))).unwrap();
    assert_eq!(leaves_for(&running, &people), Some("erin"));
    // Changed, of a list, by another, by our own people; what is a good signature under another key waits.
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    let changed = text(signed_by(lab, &newer, "")).replacen("hello", "hallo", 1);
    for (what, mail, verdict) in [
        ("changed", changed.into_bytes(), "fail"),
        ("of a list", signed_by(lab, &newer, "List-Id: <l.partner.example>\r\n"), "pass"),
        ("by a machine", signed_by(lab, &newer, "Auto-Submitted: auto-replied\r\n"), "pass"),
        ("by another", signed_by(lab, &lab.bob, ""), "policy"),
    ] {
        assert_eq!(arrives(&running, &mail), verdict, "{what}");
    }
    assert_eq!(arrives(&running, &signed_by(lab, &newer, "")), "pass");
    // They are looked at in their order: when the last is kept, the others were not.
    wait::until("the newer one", PATIENCE, || Ok((kept(&running) >= 2).then_some(()))).unwrap();
    assert_eq!(kept(&running), 2, "{}", running.milter.log());
    assert_eq!(leaves_for(&running, &people), Some("erin"));
    let explained = lab.admin(&["explain", &lab.erin.address]).unwrap();
    assert!(explained.success() && explained.text().contains("pending"), "{explained:?}");
}

#[test]
fn nothing_is_harvested_where_nobody_says_so() {
    let (running, newer) = start("harvest-off", false);
    let lab = &running.lab;
    assert_eq!(arrives(&running, &signed_by(lab, &lab.erin, "")), "pass");
    assert_eq!(leaves_for(&running, &[&lab.erin, &newer]), None);
    let listed = lab.admin(&["cert", "list"]).unwrap();
    assert!(!listed.text().contains(&lab.erin.address), "{listed:?}");
}
