//! The policy as a table: envelope, header, and the plan in one line.

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

#[test]
fn the_first_rule_for_the_address_in_from_decides() {
    let policy = policy(CONFIG);
    for (from, expected) in [
        ("noreply@example.org", "pass: the rule of line 2 wants no signature"),
        ("dave@example.org", "pass: no certificate can sign for dave@example.org now"),
        (
            "carol@example.org",
            "refuse (operator): a signature is required, but no certificate can sign for carol@example.org now",
        ),
        (
            "alice+tag@example.org",
            "refuse (operator): a signature is required, but no certificate can sign for alice+tag@example.org now",
        ),
        ("alice@example.net", "pass: no rule is about alice@example.net"),
        ("alice@sub.example.org", "pass: no rule is about alice@sub.example.org"),
    ] {
        let envelope = envelope("@192.0.2.7", "alice@example.org", &["x@example.com"]);
        assert_eq!(plan(&policy, &envelope, &format!("From: {from}")), expected, "{from}");
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
            "pass: it holds an invitation, and its signature is not required",
        ),
        (
            "Content-Type: application/ms-tnef",
            SIGN_ALICE,
            "pass: it holds TNEF, and its signature is not required",
        ),
        (
            "List-Id: <friends.example.org>",
            SIGN_ALICE,
            "pass: it is of a mailing list, and its signature is not required",
        ),
        ("Precedence: Bulk", SIGN_ALICE, "pass: it is of a mailing list, and its signature is not required"),
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
    let says = |what: &str| format!("pass: it says it {what} already, and its signature is not required");
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
fn a_certificate_signs_only_in_its_time() {
    let policy = policy(CONFIG);
    let envelope = envelope("alice@", "alice@example.org", &["x@example.com"]);
    let message = MimeEntity::parse(b"From: alice@example.org\r\n\r\n");
    for (at, action) in [(2023, "refuse"), (2025, "sign"), (2121, "refuse")] {
        assert_eq!(policy.plan(&envelope, &message, year(at)).action(), action, "{at}");
    }
}

/// For each recipient of `TO`, by the conditions of one rule: whether the rule decides.
#[test]
fn every_condition_of_a_rule_must_hold() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let header = "X-Class: Secret\nSubject: [sign] it\nFrom: alice@example.org";
    for (conditions, holds) in [
        ("", true),
        ("listener = \"submission\"", true),
        ("listener = [\"smtps\", \"submission\"]", true),
        ("listener = \"smtps\"", false),
        ("network = \"192.0.2.0/28\"", true),
        ("network = \"192.0.2.16/28\"", false),
        ("login = \"ALICE\"", true),
        ("login = \"*\"", true),
        ("login = [\"bob\", \"erp\"]", false),
        ("sender = \"*@bounces.example\"", true),
        ("sender = [\"<>\", \"*@example.org\"]", false),
        ("sender = \"<>\"", false),
        ("from = [\"bob@example.org\", \"alice@example.org\"]", true),
        ("from = \"bob@example.org\"", false),
        ("to = \"x@example.com\"", true),
        ("to = \"*@*.com\"", true),
        ("to = \"*@example.net\"", false),
        ("header = \"x-class: secret\"", true),
        ("header = [\"X-Class: open\", \"Subject: [sign]*\"]", true),
        ("header = \"X-Class: secrets\"", false),
        ("larger-than = 50", true),
        ("larger-than = 5000", false),
        ("smaller-than = 5000", true),
        ("smaller-than = 50", false),
        ("larger-than = 50\nsmaller-than = 60", false),
        ("to = \"*@example.com\"\nlogin = \"alice\"\nfrom = \"*@example.net\"", false),
    ] {
        let policy = policy(&format!("[[rule]]\n{conditions}\nsign = \"required\"\n[milter]{base}"));
        let envelope = Envelope {
            listener: Some("submission".to_owned()),
            ..envelope("alice@192.0.2.7", "x+1@bounces.example", &["x@example.com"])
        };
        let expected = if holds {
            "sign: the rule of line 1 requires a signature for alice@example.org"
        } else {
            "pass: no rule is about alice@example.org"
        };
        assert_eq!(plan(&policy, &envelope, header), expected, "{conditions}");
        // Whoever we do not know cannot pull a trigger.
        let stranger = Envelope { login: None, client: "203.0.113.1".parse().ok(), ..envelope };
        assert_eq!(plan(&policy, &stranger, header), RECEIVE, "{conditions}");
    }
}

#[test]
fn the_null_sender_is_a_sender_of_its_own() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let rules =
        "[[rule]]\nsender = \"<>\"\nsign = \"never\"\n[[rule]]\nsign = \"never\"\nencrypt = \"required\"\n";
    let policy = policy(&format!("{rules}[milter]{base}"));
    let sealed = "encrypt: the rule of line 4 requires encryption of alice@example.org's mail";
    for (origin, sender, expected) in [
        ("@192.0.2.7", "", "pass: it is a notice from the null sender"),
        ("@192.0.2.7", "alice@example.org", sealed),
    ] {
        let message = format!("From: alice@example.org\n{}", report(""));
        assert_eq!(plan_for(&policy, &envelope(origin, sender, &["x@example.com"]), &message), expected);
    }
}

#[test]
fn each_recipient_has_the_first_rule_that_is_about_it() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let rules = "[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"required\"\n\
                 [[rule]]\nto = \"*@broken.example\"\nsign = \"never\"\n\
                 [[rule]]\nto = \"*@other.example\"\nsign = \"required\"\n\
                 [[rule]]\nfrom = \"alice@example.org\"\nsign = \"required\"\n";
    let policy = policy(&format!("{rules}[milter]{base}"));
    let signed = "the rule of line 8 requires a signature for alice@example.org";
    let sealed = "the rule of line 1 requires a signature for alice@example.org and requires encryption";
    let broken = "the rule of line 5 wants no signature";
    for (recipients, expected) in [
        (&["a@partner.example", "b@partner.example"][..], format!("sign and encrypt: {sealed}")),
        (&["a@other.example"], format!("sign: {signed}")),
        // Two rules that mean the same need no copy.
        (&["a@other.example", "x@y.example"], format!("sign: {signed}")),
        (
            &["x@y.example", "a@partner.example", "z@y.example"],
            format!(
                "split: for x@y.example, z@y.example: the rule of line 11 requires a signature for \
                 alice@example.org; for a@partner.example: {sealed}"
            ),
        ),
        (
            &["a@broken.example", "a@other.example", "\"odd one\"@broken.example"],
            format!(
                "split: for a@broken.example: {broken}; for a@other.example, \"odd one\"@broken.example: {signed}"
            ),
        ),
    ] {
        let envelope = envelope("alice@", "alice@example.org", recipients);
        assert_eq!(plan(&policy, &envelope, "From: alice@example.org"), expected, "{recipients:?}");
    }
    // One share that cannot be is enough to refuse it all.
    let bob = envelope("alice@", "bob@example.org", &["a@broken.example", "a@other.example"]);
    let expected =
        "refuse (policy): a signature is required, but the login \"alice\" may not sign as bob@example.org";
    assert_eq!(plan(&policy, &bob, "From: bob@example.org"), expected);
}

#[test]
fn what_must_be_encrypted_is_but_for_ciphertext_and_notices() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let rule = |sign: &str, encrypt: &str| {
        policy(&format!("[[rule]]\nsign = \"{sign}\"\nencrypt = \"{encrypt}\"\n[milter]{base}"))
    };
    let (required, wished) = (rule("when-possible", "required"), rule("when-possible", "when-possible"));
    let alone =
        |verb: &str| format!("encrypt: the rule of line 1 {verb} encryption of alice@example.org's mail");
    let both = |verb: &str| {
        format!(
            "sign and encrypt: the rule of line 1 wants a signature for alice@example.org and {verb} encryption"
        )
    };
    let pass = |reason: &str| format!("pass: {reason}");
    let notice = "it is a notice from the null sender";
    let text = "\nHello\n".to_owned();
    for (name, sender, message, if_required, if_wished) in [
        ("text", "a@example.org", text.clone(), both("requires"), both("wants")),
        ("signed by S/MIME", "a@example.org", pkcs7("opaque.p7m"), alone("requires"), alone("wants")),
        (
            "signed by PGP",
            "a@example.org",
            format!("\n{}", pgp::tests::clearsigned()),
            alone("requires"),
            alone("wants"),
        ),
        (
            "ciphertext",
            "a@example.org",
            pkcs7("der.p7m"),
            pass("it is encrypted already"),
            pass("it is encrypted already"),
        ),
        (
            "PGP ciphertext",
            "a@example.org",
            format!("\n{}", pgp::tests::MESSAGE),
            pass("it was treated by PGP already"),
            pass("it was treated by PGP already"),
        ),
        ("a bounce by somebody with a login", "", report(""), alone("requires"), pass(notice)),
        (
            "an answer by a machine",
            "",
            format!("Auto-Submitted: auto-replied\n{text}"),
            alone("requires"),
            pass(notice),
        ),
        ("a person without a sender", "", format!("Auto-Submitted: no\n{text}"), alone("requires"), pass(notice)),
        (
            "an invitation",
            "a@example.org",
            "Content-Type: text/calendar; method=REQUEST\n\nx\n".to_owned(),
            alone("requires"),
            pass("it holds an invitation, and its signature is not required"),
        ),
        (
            "a list's mail",
            "a@example.org",
            format!("List-Id: <x.example.org>\n{text}"),
            alone("requires"),
            pass("it is of a mailing list, and its signature is not required"),
        ),
        (
            "a claim",
            "a@example.org",
            "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nHello\n".to_owned(),
            "refuse (policy): a signature is required, and what claims to be signed or encrypted cannot be read as \
             such"
                .to_owned(),
            pass("it says it is an S/MIME object already, and its signature is not required"),
        ),
    ] {
        let envelope = envelope("alice@", sender, &["x@example.com"]);
        let message = format!("From: alice@example.org\n{message}");
        assert_eq!(plan_for(&required, &envelope, &message), if_required, "{name}");
        assert_eq!(plan_for(&wished, &envelope, &message), if_wished, "{name}");
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
fn what_must_be_encrypted_does_not_leave_in_clear_by_calling_itself_a_notice() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let policy = policy(&format!("[[rule]]\nsign = \"never\"\nencrypt = \"required\"\n[milter]{base}"));
    let (pass, sealed) = (
        "pass: it is a notice from the null sender",
        "encrypt: the rule of line 1 requires encryption of alice@example.org's mail",
    );
    let part = |media_type: &str| format!("--b\nContent-Type: {media_type}\n\nSubject: x\n\n");
    let machine = "@192.0.2.7";
    for (name, origin, sender, message, expected) in [
        ("a bounce", machine, "", report(""), pass),
        ("with the header of the mail", machine, "", report(&part("text/rfc822-headers")), pass),
        ("a receipt", machine, "", report("").replace("/delivery-status", "/disposition-notification"), pass),
        ("from a login", "alice@192.0.2.7", "", report(""), sealed),
        ("with a sender", machine, "alice@example.org", report(""), sealed),
        ("with the whole mail", machine, "", report(&part("message/rfc822")), sealed),
        ("with a file", machine, "", report(&part("application/pdf")), sealed),
        (
            "with more than a header",
            machine,
            "",
            report(&(part("text/rfc822-headers") + &part("text/rfc822-headers"))),
            sealed,
        ),
        ("of nothing", machine, "", report("").replace("message/delivery-status", "text/plain"), sealed),
        (
            "in name only",
            machine,
            "",
            "Content-Type: multipart/report; boundary=b\n\nHello\n".to_owned(),
            sealed,
        ),
        (
            "automatic by its own word",
            machine,
            "",
            "Auto-Submitted: auto-replied\n\nHello\n".to_owned(),
            sealed,
        ),
        ("and with a login", "alice@", "", "Auto-Submitted: x\n\nHello\n".to_owned(), sealed),
    ] {
        let message = format!("From: alice@example.org\n{message}");
        assert_eq!(
            plan_for(&policy, &envelope(origin, sender, &["x@example.com"]), &message),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_from_in_doubt_is_refused_where_encryption_may_be_required() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let rules = "[[rule]]\nto = \"*@partner.example\"\nsign = \"never\"\nencrypt = \"required\"\n";
    let policy = policy(&format!("{rules}[milter]{base}"));
    for (recipient, expected) in [
        ("a@partner.example", "refuse (policy): there is no From field, and a rule may require a signature"),
        ("a@other.example", "pass: there is no From field, and no rule requires a signature"),
    ] {
        let envelope = envelope("alice@", "alice@example.org", &[recipient]);
        assert_eq!(plan(&policy, &envelope, "Subject: x"), expected, "{recipient}");
    }
}

#[test]
fn a_rule_may_choose_among_a_senders_certificates_and_no_others() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let identities = "[[identity]]\ncertificate = \"alice-2025.pem\"\n";
    for (only, expected) in
        [("alice-2024", Some("alice-2024")), ("alice-2025", Some("alice-2025")), ("bob", None)]
    {
        let rule = format!("[[rule]]\nsign = \"when-possible\"\nidentity = \"{only}.pem\"\n");
        let policy = policy(&format!("{rule}[milter]{base}{identities}"));
        let message = MimeEntity::parse(b"From: alice@example.org\r\n\r\n");
        let plan =
            policy.plan(&envelope("alice@", "alice@example.org", &["x@y.example"]), &message, year(2026));
        let signer = match plan {
            Plan::Protect(protect) => protect.signer,
            _ => None,
        };
        assert_eq!(signer, expected.map(crate::identity::tests::certificate), "{only}");
    }
}
