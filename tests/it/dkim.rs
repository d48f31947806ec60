//! Where DKIM stands beside us: what the guide says of the order of milters, tried with OpenDKIM.

use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::opendkim::OpenDkim;
use testkit::peers::Recipient;
use testkit::smtp::{Client, Origin};
use testkit::{Lab, mime, wait};

use crate::common::{assert_same_content, verdict_below, waiting};

const PATIENCE: Duration = Duration::from_mins(1);

/// A lab with copies that runs, and OpenDKIM beside it for both domains.
fn start() -> (Running, OpenDkim) {
    let mut lab = Lab::new("dkim").unwrap();
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.first_rules =
        "\n[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"when-possible\"\n"
            .to_owned();
    let imported = lab.admin(&["cert", "import", lab.erin.certificate.to_str().unwrap()]).unwrap();
    assert!(imported.success(), "{imported:?}");
    let dkim = OpenDkim::start(&lab.workdir, &["example.org", "partner.example"]).unwrap();
    (lab.start().unwrap(), dkim)
}

#[test]
fn dkim_holds_where_it_is_made_behind_us_and_read_before_us_and_not_the_other_way_round() {
    let (running, dkim) = start();
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let (alice, erin, bob) =
        (lab.alice.address.as_str(), lab.erin.address.as_str(), lab.bob.address.as_str());
    let (we_first, dkim_first) = ([&lab.config.listen, dkim.listen()], [dkim.listen(), &lab.config.listen]);
    let order =
        |milters: [&str; 2]| running.postfix.set(&format!("smtpd_milters = {}", milters.join(", "))).unwrap();

    // A partner's mail, encrypted and then signed by DKIM: the sink keeps it as it would come from outside.
    let text = b"Content-Type: text/plain\r\n\r\nfor bob only\r\n";
    let entity = openssl.encrypt(text, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let letter = Letter { from: erin, to: bob, subject: "Incoming" }.carrying(&entity);
    let elsewhere = running.postfix.add_server(dkim.listen()).unwrap();
    let mut client = Client::connect(elsewhere, &Origin::login(erin)).unwrap();
    assert_eq!(client.send(erin, &[bob], &letter).unwrap().code, 250);
    let partners = running.sink.wait_for(1, PATIENCE).unwrap().remove(0).octets;
    assert!(dkim.verifies(&partners).unwrap());

    for (milters, holds) in [(we_first, true), (dkim_first, false)] {
        order(milters);
        let sent = Letter { from: alice, to: "x@other.example", subject: "Signed" }.text("the plan");
        let mail = running.outgoing(&lab.alice, "x@other.example", &sent).unwrap();
        assert_same_content(&openssl.verify_by(&mail.octets, &lab.alice).unwrap(), &sent);
        assert_eq!(dkim.verifies(&mail.octets).unwrap(), holds, "{milters:?}: {mail:?}");

        let mail = running.incoming(&[bob], &partners).unwrap();
        assert_same_content(&mail.octets, text);
        assert_eq!(verdict_below(&mail), "none", "{mail:?}");
        let results = mime::values(&mail.octets, "authentication-results");
        let its = results.iter().filter(|value| value.starts_with(OpenDkim::AUTHSERV_ID)).collect::<Vec<_>>();
        let found = if holds { "dkim=fail" } else { "dkim=pass" };
        assert!(its.len() == 1 && its[0].contains(found), "{milters:?}: {results:?}");
        // Who reads the opened mail cannot check it any more.
        assert!(!dkim.verifies(&mail.octets).unwrap(), "{mail:?}");
    }

    // Copies that come back are signed like all else.
    order(we_first);
    let before = running.sink.mails().len();
    let sent = Letter { from: alice, to: erin, subject: "Split" }.text("the plan");
    let reply = running.send(&Origin::login(alice), alice, &[erin, "nobody@partner.example"], &sent).unwrap();
    assert_eq!(reply.code, 250, "{reply:?} {}", running.milter.log());
    let mails = running.sink.wait_for(before + 2, PATIENCE).unwrap().split_off(before);
    for mail in &mails {
        let own = openssl.decrypt(&mail.octets, &lab.erin).unwrap_or_else(|_| mail.octets.clone());
        assert_same_content(&openssl.verify_by(&own, &lab.alice).unwrap(), &sent);
        assert!(dkim.verifies(&mail.octets).unwrap(), "{mail:?}");
    }
    wait::until("an empty spool", PATIENCE, || Ok((waiting(lab) == 0).then_some(()))).unwrap();
    assert_eq!(running.sink.mails().len(), before + 2, "each once");
}
