//! Mail from elsewhere under `[[incoming]]` rules: held, refused, split for those who own a key.

use std::time::Duration;

use testkit::mail::Letter;
use testkit::mta::Mta;
use testkit::peers::Recipient;
use testkit::sink::Offer;
use testkit::smtp::Origin;
use testkit::{Lab, mime, wait};

use crate::common::{assert_same_content, assert_untouched, our_results, waiting, with_every_mta};

with_every_mta! {
    who_owns_the_key_gets_the_text_and_everybody_else_the_ciphertext
    a_rule_holds_and_refuses_mail_by_its_signature
    the_reply_to_ciphertext_is_that_of_success_whatever_a_rule_requires
    a_spool_that_takes_nothing_does_not_tell_which_ciphertext_a_rule_holds
    rules_by_listener_header_and_size_do_what_they_wish_for_and_a_stranger_is_discarded_as_one_says
}

const TEXT: &[u8] = b"Content-Type: text/plain\r\n\r\nfor bob only\r\n";
const DORA: &str = "dora@example.org";
const PATIENCE: Duration = Duration::from_mins(1);

fn lab(name: &str, rules: &str) -> Lab {
    let mut lab = Lab::new(name).unwrap();
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    lab.config.first_rules = rules.to_owned();
    lab
}

fn letter<'a>(lab: &'a Lab, subject: &'a str) -> Letter<'a> {
    Letter { from: &lab.erin.address, to: &lab.bob.address, subject }
}

fn who_owns_the_key_gets_the_text_and_everybody_else_the_ciphertext<M: Mta>() {
    let running = M::start(lab("split-in", "\n[[incoming]]\ndetails = true\n"), Offer::EightBit).unwrap();
    let lab = &running.lab;
    let (erin, bob, alice) = (&lab.erin.address, lab.bob.address.as_str(), lab.alice.address.as_str());
    let openssl = lab.openssl().unwrap();
    let entity = openssl.encrypt(TEXT, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let sent = letter(lab, "Split in").carrying(&entity);
    let reply = running.send(&Origin::remote(), erin, &[DORA, bob, alice], &sent).unwrap();
    assert_eq!(reply.code, 250, "{reply:?} {}", running.milter.log());
    let mails = running.sink.wait_for(2, PATIENCE).unwrap();
    let of =
        |to: &[&str]| mails.iter().find(|mail| mail.to == to).unwrap_or_else(|| panic!("{to:?}: {mails:?}"));
    let (opened, closed) = (of(&[bob]), of(&[alice, DORA]));
    assert_same_content(&opened.octets, TEXT);
    assert!(mime::find(&closed.octets, b"for bob only").is_none(), "{closed:?}");
    assert_eq!(openssl.decrypt(&closed.octets, &lab.bob).unwrap(), TEXT);
    for (mail, word) in [(opened, "decrypted"), (closed, "not decrypted")] {
        let ours = our_results(mail);
        assert!(ours.len() == 1 && ours[0].contains(word), "{ours:?}");
        let names = mime::field_names(&mail.octets);
        assert_eq!(names.iter().filter(|name| name.starts_with("x-hsmime-")).count(), 1, "{names:?}");
    }
    let log = running.milter.log();
    assert!(
        log.contains("layers=\"encrypted AES-256-CBC\"") || log.contains("layers=encrypted AES-256-CBC"),
        "{log}"
    );
}

fn a_rule_holds_and_refuses_mail_by_its_signature<M: Mta>() {
    let rules =
        "\n[[incoming]]\nfrom = \"*@partner.example\"\non-fail = \"quarantine\"\non-unsigned = \"reject\"\n";
    let running = M::start(lab("held", rules), Offer::EightBit).unwrap();
    let lab = &running.lab;
    let signed = lab.openssl().unwrap().sign(TEXT, &lab.erin).unwrap();
    let good = letter(lab, "Good").carrying(&signed);
    running.incoming(&[&lab.bob.address], &good).unwrap();
    let changed = String::from_utf8(good).unwrap().replace("for bob only", "for bob alone");
    let send = |octets: &[u8]| {
        running.send(&Origin::remote(), &lab.erin.address, &[&lab.bob.address], octets).unwrap().code
    };
    assert_eq!(send(changed.as_bytes()), 250);
    assert_eq!((running.postfix.held().unwrap(), running.sink.mails().len()), (1, 1));
    assert_eq!(send(&letter(lab, "Unsigned").text("hello")), 550);
    assert_eq!(running.postfix.held().unwrap(), 1);
}

fn the_reply_to_ciphertext_is_that_of_success_whatever_a_rule_requires<M: Mta>() {
    let running =
        M::start(lab("oracle-in", "\n[[incoming]]\nrequire-signed = true\n"), Offer::EightBit).unwrap();
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let signed = mime::crlf(&openssl.sign(TEXT, &lab.erin).unwrap());
    let changed = String::from_utf8(signed.clone()).unwrap().replace("for bob only", "for bob alone");
    let seal = |content: &[u8]| {
        let entity = openssl.encrypt(content, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
        letter(lab, "Oracle").carrying(&entity)
    };
    let broken = {
        let sent = seal(&signed);
        let der = mime::leaves(&sent).unwrap().remove(0).octets;
        let mut changed = der;
        let at = changed.len() - 3;
        changed[at] ^= 1;
        letter(lab, "Oracle").carrying(&testkit::peers::pkcs7_mime("enveloped-data", &changed))
    };
    let mut seen = Vec::new();
    for sent in [seal(TEXT), seal(changed.as_bytes()), broken] {
        let reply = running.send(&Origin::remote(), &lab.erin.address, &[&lab.bob.address], &sent).unwrap();
        let text = reply.text.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        seen.push((reply.code, text, running.postfix.held().unwrap()));
    }
    let good = running.incoming(&[&lab.bob.address], &seal(&signed)).unwrap();
    assert_same_content(&good.octets, &signed);
    let codes: Vec<u16> = seen.iter().map(|(code, ..)| *code).collect();
    assert_eq!(codes, [250, 250, 250], "{seen:?}");
    assert_eq!(seen.iter().map(|(.., held)| *held).collect::<Vec<_>>(), [1, 2, 3]);
}

fn a_spool_that_takes_nothing_does_not_tell_which_ciphertext_a_rule_holds<M: Mta>() {
    let rules = "\n[[incoming]]\nto = \"bob@example.org\"\nrequire-signed = true\n";
    let running = M::start(lab("no-spool", rules), Offer::EightBit).unwrap();
    let lab = &running.lab;
    let keys = [Recipient::pkcs1(&lab.alice), Recipient::pkcs1(&lab.bob)];
    let openssl = lab.openssl().unwrap();
    let signed = mime::crlf(&openssl.sign(TEXT, &lab.erin).unwrap());
    let entity = openssl.encrypt(&signed, &keys, &[]).unwrap();
    let to = [lab.alice.address.as_str(), &lab.bob.address];
    let good = |subject| letter(lab, subject).carrying(&entity);
    let bad = |subject| {
        let mut der = mime::leaves(&good(subject)).unwrap().remove(0).octets;
        let at = der.len() - 17;
        der[at] ^= 1;
        letter(lab, subject).carrying(&testkit::peers::pkcs7_mime("enveloped-data", &der))
    };
    let send = |octets: &[u8]| running.send(&Origin::remote(), &lab.erin.address, &to, octets).unwrap().code;
    assert_eq!((send(&good("Good")), send(&bad("Bad"))), (250, 250), "{}", running.milter.log());
    running.sink.wait_for(2, PATIENCE).unwrap();
    wait::until("an empty spool", PATIENCE, || Ok((waiting(lab) == 0).then_some(()))).unwrap();
    assert_eq!((running.sink.mails().len(), running.postfix.held().unwrap()), (2, 1));
    std::fs::remove_dir_all(lab.workdir.join("state")).unwrap();
    assert_eq!((send(&good("Good again")), send(&bad("Bad again"))), (451, 451), "{}", running.milter.log());
    assert_eq!((running.sink.mails().len(), running.postfix.held().unwrap()), (2, 1));
}

/// What a rule may ask about a mail, and wish of it, that no other test has from Postfix.
fn rules_by_listener_header_and_size_do_what_they_wish_for_and_a_stranger_is_discarded_as_one_says<M: Mta>() {
    let mut lab = Lab::new("wishes").unwrap();
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.first_rules = format!(
        "\n[[rule]]\nlistener = [\"office\"]\nsign = \"required\"\nsignature = \"opaque\"\n\
         [[rule]]\nheader = [\"X-Classification: secret\"]\nsign = \"never\"\nencrypt = \"required\"\nencrypt-to = [{:?}]\n\
         [[rule]]\nlarger-than = 20000\nsign = \"never\"\n\
         [[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"when-possible\"\nmixed = \"refuse\"\n\
         [[incoming]]\nfrom = \"*@spam.example\"\non-unsigned = \"discard-silently\"\n",
        lab.bob.certificate
    );
    let imported = lab.admin(&["cert", "import", lab.erin.certificate.to_str().unwrap()]).unwrap();
    assert!(imported.success(), "{imported:?}");
    let running = M::start(lab, Offer::EightBit).unwrap();
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let (alice, erin, bob) = (&lab.alice.address, &lab.erin.address, &lab.bob.address);
    let letter = |subject| Letter { from: alice, to: erin, subject }.text("the plan");
    let media = |octets: &[u8]| mime::values(octets, "content-type").concat();

    let office = running.postfix.office().unwrap();
    let to = "x@other.example";
    let mut client = running.postfix.connect_at(office, &Origin::login(alice)).unwrap();
    assert_eq!(client.send(alice, &[to], &letter("Office")).unwrap().code, 250);
    let opaque = running.sink.wait_for(1, PATIENCE).unwrap().remove(0);
    assert!(media(&opaque.octets).contains("smime-type=signed-data"), "{opaque:?}");
    assert_same_content(&openssl.verify(&opaque.octets).unwrap(), &letter("Office"));
    let detached = running.outgoing(&lab.alice, to, &letter("Elsewhere")).unwrap();
    assert!(media(&detached.octets).starts_with("multipart/signed"), "{detached:?}");

    let secret = [b"X-Classification: secret\r\n", &letter("Secret")[..]].concat();
    let secret_sent = running.outgoing(&lab.alice, erin, &secret).unwrap();
    assert_eq!(openssl.count_recipients(&secret_sent.octets).unwrap(), 2);
    for person in [&lab.erin, &lab.bob] {
        assert_same_content(&openssl.decrypt(&secret_sent.octets, person).unwrap(), &letter("Secret"));
    }
    let large = Letter { from: alice, to: erin, subject: "Large" }.text(&"many words\r\n".repeat(2000));
    assert_untouched(&running.outgoing(&lab.alice, to, &large).unwrap(), &large);

    let both = [erin.as_str(), "nobody@partner.example"];
    let mixed = running.send(&Origin::login(alice), alice, &both, &letter("Mixed")).unwrap();
    assert_eq!(mixed.code, 550, "{mixed:?}");
    let spam = Letter { from: "eve@spam.example", to: bob, subject: "Spam" }.text("buy");
    let reply = running.send(&Origin::remote(), "eve@spam.example", &[bob], &spam).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let is_empty = || Ok((running.postfix.queued()? == 0).then_some(()));
    wait::until("an empty queue", PATIENCE, is_empty).unwrap();
    assert_eq!(running.sink.mails().len(), 4);
    assert!(running.milter.log().contains("action=\"discarded\""), "{}", running.milter.log());
}
