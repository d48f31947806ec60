//! The policy as a table: envelope, header, and the plan in one line.

mod encryption;
mod rules;

use std::path::Path;

use smime::{mime::encode_base64, testing::fixtures::data};

use super::*;
use crate::identity::tests::year;

/// alice: signed by rule; bob: when possible; robert is bob's too; carol: required without a certificate.
const CONFIG: &str = "
[[rule]]
from = \"noreply@example.org\"
sign = \"never\"
[[rule]]
from = \"bob@example.org\"
sign = \"when-possible\"
[[rule]]
from = \"dave@example.org\"
sign = \"when-possible\"
[[rule]]
from = \"*@example.org\"
sign = \"required\"
[milter]
listen = \"inet:127.0.0.1:8890\"
authserv-id = \"mx.example.org\"
trusted-networks = [\"192.0.2.0/24\", \"2001:db8::/32\"]
recipient-delimiter = \"+\"
[[identity]]
certificate = \"alice-2024.pem\"
[[identity]]
certificate = \"bob.pem\"
logins = [\"bob\", \"erp\"]
[[token]]
module = \"make.sh\"
label = \"mail\"
pin-credential = \"pin\"
";

fn policy(config: &str) -> Policy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/hsmime.toml");
    Policy::new(&Settings::parse(config, &path).unwrap())
}

/// `LOGIN@CLIENT`, either of them perhaps empty.
fn envelope(origin: &str, sender: &str, recipients: &[&str]) -> Envelope {
    let (login, client) = origin.rsplit_once('@').unwrap();
    Envelope {
        sender: sender.to_owned(),
        recipients: recipients.iter().map(ToString::to_string).collect(),
        client: client.parse().ok(),
        login: (!login.is_empty()).then(|| login.to_owned()),
        listener: None,
        queue_id: None,
        asked: crate::Asked::default(),
        told: crate::Told::AsWritten,
    }
}

fn plan(policy: &Policy, envelope: &Envelope, header: &str) -> String {
    plan_for(policy, envelope, &format!("{header}\n\nHello\n"))
}

fn plan_for(policy: &Policy, envelope: &Envelope, message: &str) -> String {
    let octets = message.replace("\r\n", "\n").replace('\n', "\r\n");
    let plan = policy.plan(envelope, &MimeEntity::parse(octets.as_bytes()), year(2026));
    match &plan {
        Plan::Refuse(reason) => format!("refuse ({}): {plan}", reason.fault()),
        other => format!("{}: {plan}", other.action()),
    }
}

const RECEIVE: &str = "receive: the client has no login and is in no trusted network";

const SIGN_ALICE: &str = "sign: the rule of line 11 requires a signature for alice@example.org";

const SIGN_BOB: &str = "sign: the rule of line 5 wants a signature for bob@example.org";

#[test]
fn who_is_outgoing_and_who_may_sign_as_whom() {
    let policy = policy(CONFIG);
    let foreign = "refuse (policy): a signature is required, but the login";
    for (origin, from, expected) in [
        ("@", "alice@example.org", RECEIVE),
        ("@203.0.113.1", "alice@example.org", RECEIVE),
        ("@2001:db9::1", "alice@example.org", RECEIVE),
        ("@192.0.2.7", "alice@example.org", SIGN_ALICE),
        ("@::ffff:192.0.2.7", "alice@example.org", SIGN_ALICE),
        ("@2001:db8::1", "Alice A <alice@example.org>", SIGN_ALICE),
        ("alice@203.0.113.1", "alice@example.org", SIGN_ALICE),
        ("ALICE@example.org@203.0.113.1", "alice@example.org", SIGN_ALICE),
        // A login counts even in a trusted network.
        (
            "bob@192.0.2.7",
            "alice@example.org",
            &format!("{foreign} \"bob\" may not sign as alice@example.org"),
        ),
        (
            "al@203.0.113.1",
            "alice@example.org",
            &format!("{foreign} \"al\" may not sign as alice@example.org"),
        ),
        (
            "alice@example.net@203.0.113.1",
            "alice@example.org",
            &format!("{foreign} \"alice@example.net\" may not sign as alice@example.org"),
        ),
        ("erp@203.0.113.1", "bob@example.org", SIGN_BOB),
        (
            "bob@example.org@203.0.113.1",
            "bob@example.org",
            "pass: the login \"bob@example.org\" may not sign as bob@example.org",
        ),
        (
            "erp@203.0.113.1",
            "robert@example.org",
            "sign: the rule of line 11 requires a signature for robert@example.org",
        ),
    ] {
        let envelope = envelope(origin, "bounces@example.com", &["x@example.com"]);
        assert_eq!(plan(&policy, &envelope, &format!("From: {from}")), expected, "{origin} {from}");
    }
}

/// What a stranger wrote, and came back by `sendmail` or from a list, is not signed as that of whom it says to be.
#[test]
fn mail_from_elsewhere_that_is_handed_on_is_held_where_a_rule_requires_something_of_its_author() {
    let encrypting =
        CONFIG.replacen("sign = \"when-possible\"", "sign = \"never\"\nencrypt = \"required\"", 1);
    let (policy, encrypting) = (policy(CONFIG), policy(&encrypting));
    let results = "Authentication-Results: mx.example.org; smime=none";
    let signed = "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b";
    let held = "hold: it has our results, so it came from elsewhere, and a rule requires something of mail of whom it says to be";
    let passes = "pass: it has our results, so it came from elsewhere and is handed on";
    for (origin, header, expected) in [
        ("@192.0.2.7", "From: alice@example.org", held),
        ("@192.0.2.7", &format!("From: alice@example.org\n{signed}"), held),
        ("@192.0.2.7", "From: bob@example.org", passes),
        ("@192.0.2.7", "From: noreply@example.org", passes),
        ("@192.0.2.7", "From: erin@partner.example", passes),
        ("@192.0.2.7", "From: x@partner.example, alice@example.org", held),
        ("@192.0.2.7", "From: x@partner.example, y@partner.example", passes),
        // Whoever logs in is asked who he is, and what is not outgoing is received as ever.
        ("alice@203.0.113.1", "From: alice@example.org", SIGN_ALICE),
        ("@203.0.113.1", "From: alice@example.org", RECEIVE),
    ] {
        for sender in ["bounces@example.com", ""] {
            let envelope = envelope(origin, sender, &["x@example.com"]);
            let is_own_notice = sender.is_empty() && expected == SIGN_ALICE;
            let found = plan(&policy, &envelope, &format!("{results}\n{header}"));
            assert!(found == expected || is_own_notice, "{origin} {header}: {found}");
        }
    }
    let envelope = envelope("@192.0.2.7", "bounces@example.com", &["x@example.com"]);
    assert_eq!(plan(&encrypting, &envelope, &format!("{results}\nFrom: bob@example.org")), held);
    // What cannot be opened is held where what was opened is: else it tells which of both it was. Elsewhere our people get it opened.
    let inside = self::envelope("@192.0.2.7", "bounces@example.com", &["bob@example.org"]);
    let plan_of =
        |from: &str| plan_for(&policy, &inside, &format!("{results}\nFrom: {from}\n{}", pkcs7("der.p7m")));
    assert_eq!(plan_of("alice@example.org"), held);
    assert!(plan_of("bob@example.org").starts_with("receive: "), "{}", plan_of("bob@example.org"));
    // Other programs write under the host's name as well, before us.
    for (others, expected) in [
        ("mx.partner.example; smime=pass", SIGN_ALICE),
        ("mx.example.org; dmarc=fail (p=none; smime=none) header.from=example.org", SIGN_ALICE),
        ("mx.example.org; dmarc=pass; smime=none", held),
        ("", SIGN_ALICE),
    ] {
        let header = format!("Authentication-Results: {others}\nFrom: alice@example.org");
        assert_eq!(plan(&policy, &envelope, &header), expected, "{others}");
    }
}

#[test]
fn a_from_in_doubt_is_refused_where_a_signature_may_be_required() {
    let when_possible = CONFIG.replace("\"required\"", "\"when-possible\"");
    let (strict, lenient) = (policy(CONFIG), policy(&when_possible));
    let several = "there are 2 mailboxes in the From field";
    for (sender, header, problem, is_refused) in [
        ("alice@example.org", "Subject: x", "there is no From field", true),
        ("alice@example.net", "Subject: x", "there is no From field", false),
        ("root", "Subject: x", "there is no From field", true),
        ("x@example.net", "From: x@example.net, alice@example.org", several, true),
        ("x@example.net", "From: x@example.net, y@example.net", several, false),
        ("alice@example.org", "From: x@example.net, y@example.net", several, true),
        ("x@example.net", "From: x@example.net\nFrom: y@example.net", "there are 2 From fields", true),
        (
            "x@example.net",
            "From: <x@example.net",
            "the From field cannot be read: an angle bracket is not closed",
            true,
        ),
    ] {
        let envelope = envelope("@192.0.2.7", sender, &["x@example.com"]);
        let passes = format!("pass: {problem}, and no rule requires a signature");
        let refused = format!("refuse (policy): {problem}, and a rule may require a signature");
        let expected = if is_refused { &refused } else { &passes };
        assert_eq!(&plan(&strict, &envelope, header), expected, "{sender} {header}");
        assert_eq!(plan(&lenient, &envelope, header), passes, "{sender} {header}");
    }
}

#[test]
fn special_mail_is_a_defined_case_each() {
    let policy = policy(CONFIG);
    for (header, alice, bob) in [
        (
            "Content-Type: text/calendar; method=REQUEST",
            SIGN_ALICE,
            "pass: it holds an invitation, and nothing is required of it",
        ),
        (
            "Content-Type: application/ms-tnef",
            SIGN_ALICE,
            "pass: it holds TNEF, and nothing is required of it",
        ),
        (
            "List-Id: <friends.example.org>",
            SIGN_ALICE,
            "pass: it is of a mailing list, and nothing is required of it",
        ),
        ("Precedence: Bulk", SIGN_ALICE, "pass: it is of a mailing list, and nothing is required of it"),
        ("Precedence: first-class", SIGN_ALICE, SIGN_BOB),
    ] {
        for (from, expected) in [("alice@example.org", alice), ("bob@example.org", bob)] {
            let envelope = envelope("@192.0.2.7", from, &["x@example.com"]);
            assert_eq!(plan(&policy, &envelope, &format!("From: {from}\n{header}")), expected, "{header}");
        }
    }
}

/// `application/pkcs7-mime` with an object from smime's test data.
fn pkcs7(object: &str) -> String {
    let base64 = String::from_utf8(encode_base64(&data(object))).unwrap();
    format!("Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: base64\n\n{base64}")
}

#[test]
fn cryptography_that_is_only_claimed_is_signed_or_refused_where_a_signature_is_required() {
    let policy = policy(CONFIG);
    let doubtful = "refuse (policy): a signature is required, and what claims to be signed or encrypted cannot be \
                    read as such";
    let says = |what: &str| format!("pass: it says it {what} already, and nothing is required of it");
    let (signed, object, pgp) = (says("is signed"), says("is an S/MIME object"), says("was treated by PGP"));
    for (message, alice, bob) in [
        (pkcs7("opaque.p7m"), "pass: it is signed already", "pass: it is signed already"),
        (pkcs7("der.p7m"), "pass: it is encrypted already", "pass: it is encrypted already"),
        (
            format!("\n{}", pgp::tests::MESSAGE),
            "pass: it was treated by PGP already",
            "pass: it was treated by PGP already",
        ),
        (format!("\n{}\nDear Bob,\n", pgp::tests::KEY), SIGN_ALICE, &pgp),
        ("Content-Type: text/html; name=\"invoice.p7s\"\n\n<p>Dear Bob,\n".to_owned(), SIGN_ALICE, &object),
        (
            "Content-Type: text/plain\nContent-Disposition: inline; filename=x.p7c\n\nDear Bob,\n".to_owned(),
            SIGN_ALICE,
            &object,
        ),
        (
            "Content-Type: application/pkcs7-mime; smime-type=certs-only\n\nDear Bob,\n".to_owned(),
            doubtful,
            &object,
        ),
        ("Content-Type: multipart/signed; boundary=x\n\nDear Bob,\n".to_owned(), doubtful, &signed),
        (
            "Content-Type: multipart/signed; boundary=b\nContent-Type: text/plain\n\nDear Bob,\n".to_owned(),
            doubtful,
            &signed,
        ),
        (
            "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\n\nDear Bob,\n"
                .to_owned(),
            doubtful,
            &pgp,
        ),
    ] {
        for (from, expected) in [("alice@example.org", alice), ("bob@example.org", bob)] {
            // What only claims to be ciphertext is not treated as if it were, even if all have keys here.
            for recipient in ["x@example.com", "bob@example.org"] {
                if expected == "pass: it is encrypted already" && recipient == "bob@example.org" {
                    continue;
                }
                let envelope = envelope("@192.0.2.7", from, &[recipient]);
                let found = plan_for(&policy, &envelope, &format!("From: {from}\n{message}"));
                assert_eq!(found, expected, "{from} {recipient} {message}");
            }
        }
        let incoming = envelope("@203.0.113.1", "x@example.com", &["alice@example.org"]);
        assert_eq!(plan_for(&policy, &incoming, &format!("From: alice@example.org\n{message}")), RECEIVE);
    }
}

/// A report on a message that was not delivered, with more parts.
fn report(more: &str) -> String {
    format!(
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nIt was not.\n\
         --b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n{more}--b--\n"
    )
}

#[test]
fn reports_and_what_calls_itself_automatic_are() {
    for (header, expected) in [
        ("Subject: x", false),
        ("Auto-Submitted: no", false),
        ("Auto-Submitted: NO ", false),
        ("Auto-Submitted: auto-replied", true),
        ("Content-Type: multipart/report; boundary=b", true),
    ] {
        let message = format!("{header}\r\n\r\nhi\r\n");
        assert_eq!(is_automatic(&MimeEntity::parse(message.as_bytes())), expected, "{header}");
    }
}

#[test]
fn notices_from_the_null_sender_pass() {
    let policy = policy(CONFIG);
    for (from, origin) in [("MAILER-DAEMON@example.org", "@192.0.2.7"), ("alice@example.org", "alice@")] {
        let envelope = envelope(origin, "", &["x@example.com"]);
        let found = plan(&policy, &envelope, &format!("From: {from}"));
        assert_eq!(found, "pass: it is a notice from the null sender");
    }
    let incoming = envelope("@203.0.113.1", "", &["alice@example.org"]);
    assert_eq!(plan(&policy, &incoming, "From: MAILER-DAEMON@example.com"), RECEIVE);
}

#[test]
fn outgoing_ciphertext_is_decrypted_only_if_every_recipient_owns_a_key() {
    let policy = policy(CONFIG);
    let ours = "receive: it is encrypted, and all recipients have their keys here";
    let kept = "pass: it is encrypted already";
    for (recipients, expected) in [
        (&["bob@example.org"][..], ours),
        (&["Robert@Example.org", "alice+x@example.org"], ours),
        (&["bob@example.org", "carol@example.org"], kept),
        (&["bob@example.org", "x@example.com"], kept),
        (&["bob@example.org", "\"odd one\"@example.org"], kept),
        (&["bob-x@example.org"], kept),
        (&[], kept),
    ] {
        let envelope = envelope("alice@203.0.113.1", "alice@example.org", recipients);
        let message = format!("From: alice@example.org\n{}", pkcs7("der.p7m"));
        assert_eq!(plan_for(&policy, &envelope, &message), expected, "{recipients:?}");
    }
}

#[test]
fn ciphertext_that_a_rule_wants_encrypted_stays_so_though_it_could_be_opened() {
    let ours = "receive: it is encrypted, and all recipients have their keys here";
    let kept = "pass: it is encrypted already";
    let (_, base) = CONFIG.split_once("[milter]").unwrap();
    for (rule, from, recipients, expected) in [
        ("", "alice@example.org", &["bob@example.org"][..], ours),
        ("encrypt = \"required\"", "alice@example.org", &["bob@example.org"], kept),
        ("encrypt = \"when-possible\"", "alice@example.org", &["bob@example.org"], ours),
        ("to = \"bob@example.org\"\nencrypt = \"required\"", "alice@example.org", &["bob@example.org"], kept),
        // One body goes to all.
        (
            "to = \"bob@example.org\"\nencrypt = \"required\"",
            "alice@example.org",
            &["alice@example.org", "bob@example.org"],
            kept,
        ),
        (
            "to = \"bob@example.org\"\nencrypt = \"required\"",
            "alice@example.org",
            &["alice@example.org"],
            ours,
        ),
        // Who the author is, is in doubt, and it may be one of whom the rule is.
        (
            "from = \"alice@example.org\"\nencrypt = \"required\"",
            "bob@example.org, alice@example.org",
            &["bob@example.org"],
            kept,
        ),
        ("from = \"alice@example.org\"\nencrypt = \"required\"", "x y", &["bob@example.org"], kept),
        (
            "from = \"carol@example.org\"\nencrypt = \"required\"",
            "bob@example.org, alice@example.org",
            &["bob@example.org"],
            ours,
        ),
    ] {
        let rule =
            if rule.is_empty() { String::new() } else { format!("[[rule]]\n{rule}\nsign = \"never\"\n") };
        let policy = policy(&format!("{rule}[milter]{base}"));
        let envelope = envelope("alice@203.0.113.1", "alice@example.org", recipients);
        let message = format!("From: {from}\n{}", pkcs7("der.p7m"));
        assert_eq!(plan_for(&policy, &envelope, &message), expected, "{rule} {from} {recipients:?}");
    }
}

#[test]
fn thousands_of_authors_are_held_against_rules_and_not_against_each_recipient() {
    let (_, base) = CONFIG.split_once("[milter]").unwrap();
    let rule = |at: usize| {
        let from = format!("\"a@x{at}.example\", \"*@*.y{at}.example\"");
        format!("[[rule]]\nfrom = [{from}]\nsign = \"required\"\n")
    };
    let rules: String = (0..100).map(rule).collect();
    let never = "[[rule]]\nfrom = \"a@z.y8.example\"\nsign = \"never\"\n";
    let policy = policy(&format!("{never}{rules}[milter]{base}"));
    let recipients: Vec<String> = (0..1000).map(|at| format!("r{at}@example.com")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let many = envelope("alice@", "alice@example.org", &recipients);
    let mut authors: Vec<String> = (0..5000).map(|at| format!("a@b{at}.example")).collect();
    let plan_from = |authors: &[String]| {
        let message = format!("From: {}\n", authors.join(",\n "));
        let begun = std::time::Instant::now();
        (plan(&policy, &many, &message), begun.elapsed())
    };
    // An earlier rule decides about this one.
    authors.push("a@z.y8.example".to_owned());
    let (found, took) = plan_from(&authors);
    assert!(found.starts_with("pass: "), "{found}");
    // Many times as long where each author is held against each recipient.
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
    authors.push("a@z.y7.example".to_owned());
    let (found, _) = plan_from(&authors);
    assert!(found.starts_with("refuse (policy): "), "{found}");
    // And not where other connections wait.
    let one = envelope("alice@", "alice@example.org", &["bob@example.com"]);
    for (from, is_soon) in [("alice@example.org".to_owned(), true), (authors.join(",\r\n "), false)] {
        let message = format!("From: {from}\r\n\r\n");
        assert_eq!(policy.is_planned_soon(&one, &MimeEntity::parse(message.as_bytes())), is_soon);
    }
}

#[test]
fn a_certificate_signs_only_in_its_time() {
    let policy = policy(CONFIG);
    let envelope = envelope("alice@", "alice@example.org", &["x@example.com"]);
    let message = MimeEntity::parse(b"From: alice@example.org\r\n\r\n");
    for (at, action) in [(2023, "refuse"), (2025, "sign"), (2121, "refuse")] {
        assert_eq!(policy.plan(&envelope, &message, year(at)).action(), action, "{at}");
    }
}
