//! Verdicts on mail signed by others: `pass` for what deserves it, an honest other word for the rest.

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::mta::Mta;
use testkit::peers::multipart_signed;
use testkit::pki::{Key, Pki, Profile};
use testkit::sink::Offer;
use testkit::{Lab, mime};

use crate::common::{assert_untouched, our_results, verdict, with_every_mta};

with_every_mta! {
    in "verdicts";
    good_signatures_of_every_peer_pass
    a_changed_octet_fails
    a_signature_of_somebody_else_than_from_is_against_policy
    a_signed_part_inside_an_unsigned_mail_does_not_pass
    content_inside_a_detached_signature_does_not_pass
    a_signature_without_signed_attributes_does_not_pass
    unsigned_mail_is_told_as_such
}

with_every_mta! {
    certificates_that_must_not_be_trusted_do_not_pass
}

const CONTENT: &[u8] = b"Content-Type: text/plain\r\n\r\nI owe you 10 euros\r\n";

fn letter(lab: &Lab) -> Letter<'_> {
    Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Signed" }
}

fn good_signatures_of_every_peer_pass<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let (openssl, nss) = (lab.openssl().unwrap(), lab.nss().unwrap());
    nss.import(&lab.pki, &lab.erin).unwrap();
    let gpgsm = lab.gpgsm().unwrap();
    let pss = ["-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:32"];
    for (how, entity) in [
        ("openssl", openssl.sign(CONTENT, &lab.erin).unwrap()),
        ("openssl, opaque", openssl.sign_with(CONTENT, &lab.erin, &["-nodetach"]).unwrap()),
        (
            "openssl, opaque and streamed",
            openssl.sign_with(CONTENT, &lab.erin, &["-nodetach", "-stream"]).unwrap(),
        ),
        ("openssl, PSS", openssl.sign_with(CONTENT, &lab.erin, &pss).unwrap()),
        ("gpgsm", multipart_signed(CONTENT, &gpgsm.sign(CONTENT, &lab.erin).unwrap())),
        ("nss", multipart_signed(CONTENT, &nss.sign(CONTENT, &lab.erin).unwrap())),
    ] {
        let sent = letter(lab).carrying(&entity);
        let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
        assert_eq!(verdict(&mail), "pass", "{how}: {mail:?}");
        assert!(our_results(&mail)[0].contains(&lab.erin.address), "{how} names the signer: {mail:?}");
        assert_untouched(&mail, &sent);
    }
}

fn a_changed_octet_fails<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let sent = letter(lab).carrying(&lab.openssl().unwrap().sign(CONTENT, &lab.erin).unwrap());
    let sent = String::from_utf8(sent).unwrap().replace("10 euros", "99 euros");
    let mail = running.incoming(&[&lab.bob.address], sent.as_bytes()).unwrap();
    assert_eq!(verdict(&mail), "fail", "{mail:?}");
    assert_untouched(&mail, sent.as_bytes());
}

fn a_signature_of_somebody_else_than_from_is_against_policy<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let entity = lab.openssl().unwrap().sign(CONTENT, &lab.erin).unwrap();
    for from in [
        "boss@example.org".to_owned(),
        format!("\"{}\" <boss@example.org>", lab.erin.address),
        format!("boss@example.org, {}", lab.erin.address),
        format!("{}\r\nFrom: boss@example.org", lab.erin.address),
    ] {
        let sent = Letter { from: &from, ..letter(lab) }.carrying(&entity);
        let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
        assert_eq!(verdict(&mail), "policy", "{from}: {mail:?}");
    }
}

fn certificates_that_must_not_be_trusted_do_not_pass<M: Mta>() {
    let mut lab = Lab::new("untrusted").unwrap();
    let erin = Profile::new("x", &lab.erin.address, Key::P256);
    let named = |name: &str, profile: Profile| Profile { name: name.to_owned(), ..profile };
    let expired = lab.pki.issue(&named("expired", erin.clone().expired())).unwrap();
    let server = lab.pki.issue(&named("server", erin.clone().for_purpose("serverAuth"))).unwrap();
    let revoked = lab.pki.issue(&named("revoked", erin.clone())).unwrap();
    let fresh = lab.pki.issue(&named("fresh", erin.clone())).unwrap();
    lab.pki.revoke(&revoked).unwrap();
    let other = Pki::new(&lab.workdir.directory("other").unwrap()).unwrap();
    let foreign = other.issue(&erin).unwrap();
    lab.config.crls = vec![lab.pki.crl()];
    lab.config.revocation = "soft-fail".to_owned();
    let running = M::start(lab, Offer::EightBit).unwrap();
    let lab = &running.lab;
    for (signer, pki, words) in [
        (&fresh, &lab.pki, &["pass"][..]),
        (&expired, &lab.pki, &["policy", "fail"]),
        (&server, &lab.pki, &["policy", "fail"]),
        (&revoked, &lab.pki, &["fail"]),
        (&foreign, &other, &["policy"]),
    ] {
        let openssl = testkit::peers::OpenSsl::new(&lab.workdir, pki).unwrap();
        let sent = letter(lab).carrying(&openssl.sign(CONTENT, signer).unwrap());
        let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
        assert!(words.contains(&verdict(&mail).as_str()), "{}: {mail:?}", signer.name);
        assert_untouched(&mail, &sent);
    }
}

fn a_signed_part_inside_an_unsigned_mail_does_not_pass<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let entity = mime::crlf(&lab.openssl().unwrap().sign(CONTENT, &lab.erin).unwrap());
    let entity = String::from_utf8(entity).unwrap().replace("MIME-Version: 1.0\r\n", "");
    let around = format!(
        "Content-Type: multipart/mixed; boundary=around\r\n\r\n--around\r\nContent-Type: text/plain\r\n\r\n\
         I owe you 1000 euros\r\n--around\r\n{entity}\r\n--around--\r\n"
    );
    let sent = letter(lab).carrying(around.as_bytes());
    let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
    assert!(!our_results(&mail).iter().any(|result| result.contains("smime=pass")), "{mail:?}");
    assert_untouched(&mail, &sent);
}

fn content_inside_a_detached_signature_does_not_pass<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let opaque = lab.openssl().unwrap().sign_with(CONTENT, &lab.erin, &["-nodetach"]).unwrap();
    let object = mime::leaves(&mime::crlf(&opaque)).unwrap().remove(0).octets;
    let shown = String::from_utf8(CONTENT.to_vec()).unwrap().replace("10", "99");
    for content in [CONTENT, shown.as_bytes()] {
        let sent = letter(lab).carrying(&multipart_signed(content, &object));
        let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
        assert_eq!(verdict(&mail), "fail", "{mail:?}");
    }
}

fn a_signature_without_signed_attributes_does_not_pass<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let entity = lab.openssl().unwrap().sign_with(CONTENT, &lab.erin, &["-noattr"]).unwrap();
    let sent = letter(lab).carrying(&entity);
    let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
    assert_eq!(verdict(&mail), "policy", "{mail:?}");
}

fn unsigned_mail_is_told_as_such<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let sent = letter(lab).text("hello");
    let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
    assert_eq!(verdict(&mail), "none", "{mail:?}");
    assert_untouched(&mail, &sent);
}
