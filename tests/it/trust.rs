//! What `[trust]` asks of certificates beyond a path: a policy, and signatures on them that are not of the past.

use testkit::Lab;
use testkit::mail::Letter;
use testkit::pki::{Key, Profile};
use testkit::smtp::Origin;

use crate::common::{our_results, verdict};

const POLICY: &str = "1.3.6.1.4.1.32473.1";

#[test]
fn a_certificate_without_the_policy_and_one_of_the_past_neither_pass_nor_are_encrypted_to() {
    let mut lab = Lab::new("trust").unwrap();
    let of_policy = format!("certificatePolicies = {POLICY}\n");
    let other = "certificatePolicies = 1.3.6.1.4.1.32473.2\n".to_owned();
    let profile = |name: &str| Profile::new(name, &format!("{name}@partner.example"), Key::Rsa2048);
    let with = |name: &str, further: &str| Profile { further: further.to_owned(), ..profile(name) };
    let legacy = |name: &str| Profile { digest: "sha1".to_owned(), ..with(name, &of_policy) };
    let people = [
        (with("dora", &of_policy), "pass", None),
        (profile("fred"), "policy", Some("policies")),
        (with("gina", &other), "policy", Some("policies")),
        (legacy("hugo"), "policy", Some("weak")),
    ];
    let people = people.map(|(profile, result, why)| (lab.pki.issue(&profile).unwrap(), result, why));
    lab.config.anchors = vec![lab.pki.issuing()];
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.trust = format!("policies = [\"{POLICY}\"]\nlegacy = \"marked\"\n");
    lab.config.first_rules =
        "\n[[rule]]\nto = \"*@partner.example\"\nsign = \"never\"\nencrypt = \"required\"\n".to_owned();
    let files = people.iter().map(|(person, ..)| person.certificate.to_str().unwrap());
    let imported = lab.admin(&["cert", "import"].into_iter().chain(files).collect::<Vec<_>>()).unwrap();
    assert!(imported.success(), "{imported:?}");
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let (alice, openssl) = (lab.alice.address.as_str(), lab.openssl().unwrap());
    for (person, result, why) in &people {
        let from = person.address.as_str();
        let signed = openssl.sign(b"Content-Type: text/plain\r\n\r\nhello\r\n", person).unwrap();
        let sent = Letter { from, to: alice, subject: "Trust" }.carrying(&signed);
        let mail = running.deliver(&Origin::remote(), from, &[alice], &sent).unwrap();
        assert_eq!(verdict(&mail), *result, "{from}: {mail:?}");
        if let Some(why) = why {
            assert!(our_results(&mail)[0].contains(why), "{from}: {mail:?}");
        }
        let sent = Letter { from: alice, to: from, subject: "Trust" }.text("the plan");
        let (reply, mail) = running.attempt(&Origin::login(alice), alice, &[from], &sent).unwrap();
        assert_eq!(reply.code, if why.is_none() { 250 } else { 550 }, "{from}: {reply:?}");
        if let Some(mail) = mail {
            assert!(!String::from_utf8_lossy(&mail.octets).contains("the plan"), "{mail:?}");
        }
    }
}
