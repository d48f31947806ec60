//! Header fields that are signed and encrypted with the content (RFC 9788), there and back, and as OpenSSL finds them.

use testkit::mail::Letter;
use testkit::mta::Mta;
use testkit::sink::Offer;
use testkit::smtp::Origin;
use testkit::{Lab, mime};

use crate::common::{verdict, with_every_mta};

with_every_mta! {
    an_encrypted_subject_is_in_the_ciphertext_only_and_comes_out_again_where_ours_open_it
}

fn an_encrypted_subject_is_in_the_ciphertext_only_and_comes_out_again_where_ours_open_it<M: Mta>() {
    let mut lab = Lab::new("header").unwrap();
    lab.config.anchors.push(lab.pki.issuing());
    lab.config.cache = Some(lab.workdir.join("cache"));
    let further = "sign = \"required\"\nencrypt = \"when-possible\"\nheader-protection = \"hcp-baseline\"\n";
    lab.config.first_rules = format!("\n[[rule]]\n{further}\n[[incoming]]\npromote = [\"Subject\"]\n");
    let imported = lab.admin(&["cert", "import", lab.erin.certificate.to_str().unwrap()]).unwrap();
    assert!(imported.success(), "{imported:?}");
    let running = M::start(lab, Offer::EightBit).unwrap();
    let lab = &running.lab;
    let (alice, openssl) = (&lab.alice, lab.openssl().unwrap());
    let letter = |to: &str| Letter { from: &alice.address, to, subject: "The plan" }.text("Hello");

    let mail = running.outgoing(alice, &lab.erin.address, &letter(&lab.erin.address)).unwrap();
    assert_eq!(mime::values(&mail.octets, "subject"), ["[...]"]);
    assert!(!String::from_utf8_lossy(&mail.octets).contains("The plan"), "{mail:?}");
    let signed = openssl.decrypt(&mail.octets, &lab.erin).unwrap();
    let payload = String::from_utf8(openssl.verify(&signed).unwrap()).unwrap();
    for part in ["Subject: The plan\r\n", "HP-Outer: Subject: [...]\r\n", "hp=\"cipher\""] {
        assert!(payload.contains(part), "{part}: {payload}");
    }

    // To somebody without a certificate it is signed only, with its subject on both sides.
    let mail = running.outgoing(alice, "nobody@else.example", &letter("nobody@else.example")).unwrap();
    assert_eq!(mime::values(&mail.octets, "subject"), ["The plan"]);
    let payload = String::from_utf8(openssl.verify(&mail.octets).unwrap()).unwrap();
    assert!(payload.contains("Subject: The plan\r\n") && payload.contains("hp=\"clear\""), "{payload}");

    // Bob's comes back to his own milter.
    let sent = running.outgoing(alice, &lab.bob.address, &letter(&lab.bob.address)).unwrap();
    assert_eq!(mime::values(&sent.octets, "subject"), ["[...]"]);
    let to = [lab.bob.address.as_str()];
    let opened = running.deliver(&Origin::remote(), &alice.address, &to, &sent.octets).unwrap();
    assert_eq!(mime::values(&opened.octets, "subject"), ["The plan"], "{opened:?}");
    assert_eq!(verdict(&opened), "pass");
}
