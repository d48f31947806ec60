//! What must be encrypted, and what is not though a rule says so.

use super::*;
use crate::policy::pgp::tests::{MESSAGE, clearsigned};

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
            format!("\n{}", clearsigned()),
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
            format!("\n{MESSAGE}"),
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
            pass("it holds an invitation, and nothing is required of it"),
        ),
        (
            "a list's mail",
            "a@example.org",
            format!("List-Id: <x.example.org>\n{text}"),
            alone("requires"),
            pass("it is of a mailing list, and nothing is required of it"),
        ),
        (
            "a claim",
            "a@example.org",
            "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nHello\n".to_owned(),
            "refuse (policy): a signature is required, and what claims to be signed or encrypted cannot be read as \
             such"
                .to_owned(),
            pass("it says it is an S/MIME object already, and nothing is required of it"),
        ),
    ] {
        let envelope = envelope("alice@", sender, &["x@example.com"]);
        let message = format!("From: alice@example.org\n{message}");
        assert_eq!(plan_for(&required, &envelope, &message), if_required, "{name}");
        assert_eq!(plan_for(&wished, &envelope, &message), if_wished, "{name}");
    }
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
fn mail_that_passes_is_told_the_reason_of_what_was_wanted_of_it() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let invitation = "From: alice@example.org\nContent-Type: text/calendar\n";
    let envelope = envelope("alice@", "alice@example.org", &["friend@example.net"]);
    for (sign, encrypt, reason) in [
        ("never", "when-possible", "pass: it holds an invitation, and nothing is required of it"),
        ("when-possible", "never", "pass: it holds an invitation, and nothing is required of it"),
        ("never", "never", "pass: the rule of line 1 wants no signature"),
    ] {
        let rule = format!("[[rule]]\nsign = \"{sign}\"\nencrypt = \"{encrypt}\"\n[milter]{base}");
        assert_eq!(plan(&policy(&rule), &envelope, invitation), reason, "{sign} {encrypt}");
    }
}

#[test]
fn stored_mail_is_open_unless_it_is_ciphertext_or_in_doubt() {
    let text = |text: &str| format!("Content-Type: text/plain\n\n{text}");
    let pgp_mime = format!(
        "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\n\n--b\n\
         Content-Type: application/pgp-encrypted\n\nVersion: 1\n--b\n\
         Content-Type: application/octet-stream\n\n{MESSAGE}\n--b--\n"
    );
    for (name, message, expected) in [
        ("text", text("hi"), Secrecy::Open),
        ("signed", pkcs7("opaque.p7m"), Secrecy::Open),
        ("signed by PGP", text(&clearsigned()), Secrecy::Open),
        ("encrypted", pkcs7("der.p7m"), Secrecy::Ciphertext),
        ("encrypted by PGP", text(MESSAGE), Secrecy::Ciphertext),
        ("encrypted by PGP/MIME", pgp_mime, Secrecy::Ciphertext),
        ("a claim", "Content-Type: application/pkcs7-mime\n\nhi".to_owned(), Secrecy::Doubtful),
    ] {
        let message = message.replace("\r\n", "\n").replace('\n', "\r\n");
        assert_eq!(Secrecy::of(&MimeEntity::parse(message.as_bytes())), expected, "{name}");
    }
}
