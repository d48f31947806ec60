//! What a reader is shown: fields and tags of ours, subjects that were protected, and signatures that came off.

use agent::{Agent, AsOf};
use smime::{
    message::{self, AuthResult, SealedMessage},
    mime::Message,
    profile::{Correspondent, Profile, plan},
    protection::{ConfidentialityPolicy, protect_encrypted, protect_signed},
    testing::fixtures::{certificate, data, key, now},
};

use super::{
    HEADER, agent, agent_with, applied, broken, ciphertext, encrypted, encrypted_badly, plain, signed,
    signed_payload, treat, treat_from,
};

#[test]
fn a_signature_that_passes_comes_off_where_a_rule_says_so_and_no_other() {
    let agent = agent("[[incoming]]\nstrip-signature = true\n");
    let stripped = applied(&treat(&agent, &["bob"], &signed()).unwrap(), &signed());
    assert!(stripped.ends_with("Content-Type: text/plain\r\n\r\nHello.\r\n"), "{stripped}");
    assert_eq!(stripped.matches("MIME-Version:").count(), 1, "{stripped}");
    assert!(stripped.contains("smime=pass") && !stripped.contains("pkcs7"), "{stripped}");
    for (kept, to) in [(broken(), "bob"), (plain(), "bob"), (signed().replace("alice@", "eve@"), "bob")] {
        let outcome = treat(&agent, &[to], &kept).unwrap();
        assert!(outcome.edits.body.is_none(), "{kept}");
    }
    let inside = ciphertext(&data("signed.p7m"));
    let opened = applied(&treat(&agent, &["bob"], &inside).unwrap(), &inside);
    assert!(opened.contains("smime=pass") && !opened.contains("pkcs7"), "{opened}");
    assert_eq!(opened.matches("Content-Type:").count(), 1, "{opened}");
}

#[test]
fn a_protected_subject_takes_the_outer_ones_place_only_by_the_list_and_the_same_author() {
    let promotes = agent("[[incoming]]\npromote = [\"Subject\"]\n");
    let written =
        Message::from_stored(plain().replace("The plan", "The true plan\r\nComments: hidden").as_bytes());
    let clear = signed_payload(&protect_signed(&written.entity()).unwrap());
    let cipher = protect_encrypted(&written.entity(), ConfidentialityPolicy::Baseline).unwrap();
    let cipher = signed_payload(&cipher.payload);
    let subject = |agent: &Agent, message: &str| {
        let text = applied(&treat(agent, &["bob"], message).unwrap(), message);
        let header = text.split("\r\n\r\n").next().unwrap().to_owned();
        assert_eq!(header.matches("Subject:").count(), 1, "{header}");
        assert!(!header.contains("hidden"), "{header}");
        let at = header.find("Subject: ").unwrap();
        header.split_at(at + 9).1.lines().next().unwrap().to_owned()
    };
    let both = "[[incoming]]\npromote = [\"Subject\"]\nsubject-tag = true\nstrip-signature = true\n";
    for (name, agent, message, expected) in [
        ("signed", &promotes, clear.clone(), "The true plan"),
        ("as if it had been encrypted", &promotes, cipher, "The true plan"),
        ("no rule", &agent(""), clear.clone(), "The plan"),
        ("no protection", &promotes, signed(), "The plan"),
        ("a broken signature", &promotes, clear.replace("Hello.", "Hullo."), "The plan"),
        ("another author outside", &promotes, clear.replacen("alice@", "eve@", 1), "The plan"),
        ("with a tag", &agent(both), clear, "[S/MIME: signed]"),
    ] {
        assert_eq!(subject(agent, &message), expected, "{name}");
    }
}

#[test]
fn what_was_decrypted_takes_a_place_in_the_header_only_if_signed_and_where_no_stranger_hears_of_it() {
    let rule = "[[incoming]]\npromote = [\"Subject\"]\n";
    let (redirects, asks) = (agent(rule), agent_with("", rule));
    let written = Message::from_stored(plain().replace("The plan", "The true plan").as_bytes());
    let payload = protect_encrypted(&written.entity(), ConfidentialityPolicy::Baseline).unwrap().payload;
    let bob = certificate("bob");
    let to_bob = Correspondent { certificate: &bob, capabilities: None, profile: &Profile::COMPATIBLE };
    let plan = plan(&[to_bob]).unwrap();
    let mail = |sealed: SealedMessage| {
        let body = String::from_utf8(sealed.body).unwrap();
        let fields = format!("Content-Type: {}\r\nContent-Transfer-Encoding: base64", sealed.content_type);
        format!("{HEADER}{fields}\r\n\r\n{body}").replace("The plan", "[...]")
    };
    let signed = message::sign(&payload, &key("alice"), &[certificate("ca")], now()).unwrap();
    let signed = mail(message::seal_signed(&signed, &plan).unwrap());
    let unsigned = mail(message::seal(&payload, &plan).unwrap());
    for (agent, sender, message, expected) in [
        (&asks, "alice@example.org", &signed, true),
        (&asks, "ALICE@example.org", &signed, true),
        (&asks, "", &signed, true),
        (&asks, "friend@example.net", &signed, false),
        (&asks, "alice", &signed, false),
        (&redirects, "friend@example.net", &signed, true),
        (&asks, "alice@example.org", &unsigned, false),
        (&asks, "", &unsigned, false),
        (&redirects, "friend@example.net", &unsigned, false),
    ] {
        let outcome = treat_from(sender, agent, &["bob"], message).unwrap();
        let text = applied(&outcome, message);
        assert!(text.contains("decrypted ") && text.contains("\r\n\r\nHello.\r\n"), "{text}");
        let is_promoted = text.split("\r\n\r\n").next().unwrap().contains("Subject: The true plan");
        assert_eq!(is_promoted, expected, "{sender:?}: {text}");
    }
}

#[test]
fn forged_fields_and_tags_are_gone_before_ours_are_written() {
    let agent = agent("[[incoming]]\nsubject-tag = true\ndetails = true\n");
    let forged = |message: String, subject: &str| {
        let header = format!("X-Hsmime-Details: smime=pass\r\nx-hsmime-tag: ok\r\nSubject: {subject}");
        message.replacen("Subject: The plan", &header, 1)
    };
    for (message, expected) in [
        (forged(plain(), "[S/MIME: signed] x"), "Subject: x\r\n"),
        (forged(plain(), "=?utf-8?Q?[S/MIME:_signed]?= x"), "Subject: x\r\n"),
        (forged(broken(), "[S/MIME: signed] x"), "Subject: [S/MIME: signature wrong]\r\n x\r\n"),
        (forged(signed(), "x"), "Subject: [S/MIME: signed]\r\n x\r\n"),
        (forged(encrypted(), "x"), "Subject: [S/MIME: encrypted]\r\n x\r\n"),
        (forged(encrypted_badly(), "x"), "Subject: x\r\n"),
    ] {
        let text = applied(&treat(&agent, &["bob"], &message).unwrap(), &message);
        assert!(text.contains(expected), "{expected}: {text}");
        assert_eq!(text.matches("Subject:").count(), 1, "{text}");
        assert_eq!(text.to_lowercase().matches("x-hsmime-").count(), 1, "{text}");
    }
}

#[test]
fn what_claims_to_be_found_by_us_comes_off_where_it_means_something() {
    let mail = "Authentication-Results: mx.example.org; smime=pass\r\nAuthentication-Results: x; spf=pass\r\n\
                X-Hsmime-Tag: x\r\nSubject: [S/MIME: signed] hello\r\n\r\nHi\r\n";
    let message = Message::from_stored(mail.as_bytes());
    for (rules, subject) in [
        ("[[incoming]]\nsubject-tag = true\n", "Subject: hello\r\n"),
        ("[[incoming]]\ndetails = true\n", "Subject: [S/MIME: signed] hello\r\n"),
    ] {
        let agent = agent(rules);
        let without = |message: &Message, had_results| {
            let left = agent.without_results(message, had_results).apply(message);
            String::from_utf8_lossy(left.octets()).into_owned()
        };
        let left = without(&message, false);
        // It stays known as what came from elsewhere, also once more, and where others had taken them off before.
        let known = "Authentication-Results: mx.example.org;\r\n smime=none (what was found before was taken off; not \
                     looked at again)\r\n";
        let rest = "Authentication-Results: x; spf=pass\r\n";
        assert!(left.starts_with(&format!("{known}{rest}")), "{left}");
        assert_eq!(without(&Message::from_stored(left.as_bytes()), false), left);
        let stripped = Message::from_stored(left.strip_prefix(known).unwrap().as_bytes());
        assert_eq!(without(&stripped, true), left);
        // Nor is that said of our own people's mail, with a field of our name by another program.
        let others = format!("Authentication-Results: mx.example.org; dmarc=pass\r\n{rest}\r\nHi\r\n");
        let others = without(&Message::from_stored(others.as_bytes()), false);
        assert_eq!(others, format!("{rest}\r\nHi\r\n"));
        assert!(left.contains(subject) && left.ends_with("\r\n\r\nHi\r\n"), "{left}");
        assert!(!left.contains("smime=pass") && !left.contains("X-Hsmime-Tag"), "{left}");
    }
}

#[test]
fn details_and_the_log_name_every_layer() {
    let agent = agent("[[incoming]]\ndetails = true\n");
    let inside = ciphertext(&data("signed.p7m"));
    let outcome = treat(&agent, &["bob"], &inside).unwrap();
    let layers = outcome.layers.clone().unwrap();
    assert!(
        layers.starts_with("encrypted AES-") && layers.ends_with("multipart/signed pass (decides)"),
        "{layers}"
    );
    let text = applied(&outcome, &inside);
    let details = text.split_once("X-Hsmime-Details:").unwrap().1;
    for part in
        ["smime=pass;", "encryption=\"decrypted ", "layers=\"encrypted AES-", "signer=\"", "serial=\""]
    {
        assert!(details.contains(part), "{part}: {details}");
    }
    assert_eq!(treat(&agent, &["bob"], &plain()).unwrap().layers, None);
}

#[test]
fn what_is_stripped_can_be_verified_no_more_and_what_stays_can() {
    let stays = agent("[[incoming]]\ndetails = true\nsubject-tag = true\non-fail = \"reject\"\n");
    let text = applied(&treat(&stays, &["bob"], &signed()).unwrap(), &signed());
    let verdict = stays.verify_stored(&Message::from_stored(text.as_bytes()), AsOf::Time(now()));
    assert_eq!(verdict.result(), AuthResult::Pass, "{text}");
}

#[test]
fn a_subject_as_long_as_a_field_may_be_tells_nobody_whether_ciphertext_opened() {
    // Lines as Postfix lets them through; a tag, and folds at 78 characters, make it longer.
    let line = ["x".repeat(60).as_str(); 15].join(" ");
    let subject = [line.as_str(); 66].join("\r\n ");
    let subject = subject.get(..59_980).unwrap();
    // The tagged subject alone makes mail larger than what came, so that it opens only where there is room for that.
    let (room, none) = ("mta-message-bytes = 1_000_000\n", "");
    for (milter, mail, opens) in [
        (room, encrypted(), true),
        (room, encrypted_badly(), false),
        (room, signed(), false),
        (none, encrypted(), false),
        (none, encrypted_badly(), false),
    ] {
        let agent = agent_with(milter, "[[incoming]]\nsubject-tag = true\n");
        let mail = mail.replace("The plan", subject);
        let outcome = treat(&agent, &["bob"], &mail).unwrap();
        assert_eq!(outcome.action == "opened", opens);
        for (name, value) in outcome.edits.prepend.iter().chain(&outcome.edits.append) {
            assert!(agent::field_value(value).is_ok(), "{name} has {} octets", value.len());
        }
        let text = applied(&outcome, &mail);
        assert_eq!(text.matches("\r\nSubject:").count(), 1);
    }
}
