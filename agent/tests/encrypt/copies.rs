//! Copies: who gets one, in which form, and whom the MTA removes for it.

use std::{io, sync::Arc, time::SystemTime};

use agent::{AgentError, Disposition, Edits, Envelope, Told};
use smime::{
    Certificate, MailAddress,
    mime::Message,
    store::{Lookup, RecipientCertificates, StoreError, Waited},
    testing::fixtures::{certificate, now},
};

use super::{REQUIRED, WISHED, agent, agent_alone, envelope, form, forms, letter, treat};

#[test]
fn fields_that_claim_to_be_ours_are_in_no_copy() {
    let forged = format!("Authentication-Results: mx.example.org; smime=pass\n{}", letter(&["p256"], &[]));
    let outcome = treat(&agent(REQUIRED), &envelope(&["p256", "p384"]), &forged).unwrap();
    let copy = String::from_utf8(outcome.copies[0].octets.clone()).unwrap();
    assert!(!copy.contains("Authentication-Results"), "{copy}");
    let kept = outcome.edits.apply(&Message::from_stored(forged.as_bytes()));
    assert!(!String::from_utf8_lossy(kept.octets()).contains("Authentication-Results"));
}

#[test]
fn many_recipients_are_cut_into_messages_that_can_be_read() {
    struct Same(Certificate);
    impl RecipientCertificates for Same {
        fn lookup(&self, _: &MailAddress, _: SystemTime, _: &mut Waited) -> Result<Lookup, StoreError> {
            Ok(Lookup::Found(vec![self.0.clone()]))
        }
    }
    let people: Vec<String> = (0..450).map(|at| format!("p{at}@example.net")).collect();
    let envelope = Envelope { recipients: people.clone(), ..envelope(&[]) };
    let message = format!("From: alice@example.org\nTo: {}\n\nGrüße.\n", people.join(",\n "));
    let agent = agent("sign = \"never\"\nencrypt = \"required\"");
    let agent = agent.with_certificates(Arc::new(Same(certificate("p256"))));
    let outcome = treat(&agent, &envelope, &message).unwrap();
    assert_eq!(outcome.copies.iter().map(|copy| copy.recipients.len()).collect::<Vec<_>>(), [50]);
}

#[test]
fn a_copy_is_given_away_before_the_next_is_made() {
    let agent = agent("sign = \"never\"\nencrypt = \"when-possible\"");
    // Whoever is not named gets one of their own, and nobody has no certificate.
    let (envelope, message) = (envelope(&["p256", "x25519", "nobody"]), letter(&[], &[]));
    let message = Message::from_stored(message.as_bytes());
    for (fails_at, copies) in [(1, 1), (2, 2), (3, 2)] {
        let mut given = 0;
        let mut keep = |_| {
            given += 1;
            if given == fails_at { Err(io::Error::other("full")) } else { Ok(()) }
        };
        let treated = agent.treat_and_keep(&envelope, &message, now(), &mut keep);
        match treated {
            Ok(outcome) => assert!(fails_at == 3 && outcome.copies.is_empty()),
            Err(error) => assert!(fails_at < 3 && matches!(error, AgentError::NotKept(_)), "{error}"),
        }
        assert_eq!(given, copies);
    }
}

/// A form for each who needs one, and nobody is to be removed who may not be.
#[test]
fn who_may_not_be_removed_gets_the_form_that_stays() {
    let agent = agent(WISHED);
    let to = ["p256", "p384"];
    let named = ["p256@example.net", "p384@example.net"];
    for (odd, expected) in [
        // Without him the ciphertext stays.
        ("nobody@example.net", "p256 p384: sealed for p256 p384 (signed); nobody: signed"),
        ("nobody", "nobody: signed; p256 p384: sealed for p256 p384 (signed)"),
        ("\"no body\"@example.net", "\"no body\": signed; p256 p384: sealed for p256 p384 (signed)"),
        ("nobody@example.net.", "nobody: signed; p256 p384: sealed for p256 p384 (signed)"),
        // He is found, and encrypted to.
        (
            "x25519@example.net.",
            "x25519: sealed for x25519 (signed); p256 p384: sealed for p256 p384 (signed)",
        ),
    ] {
        let recipients = [&named[..], &[odd]].concat();
        let envelope = Envelope {
            recipients: recipients.iter().map(|one| (*one).to_owned()).collect(),
            ..envelope(&[])
        };
        assert_eq!(forms(&agent, &envelope, &letter(&to, &[])), expected, "{odd}");
        let two = Envelope {
            recipients: vec!["\"p256\"@example.net".to_owned(), odd.to_owned()],
            ..envelope.clone()
        };
        let refused = forms(&agent, &two, &letter(&["p256"], &[])).starts_with("policy: its 2 groups");
        assert_eq!(refused, odd != "nobody@example.net", "{odd}");
    }
}

#[test]
fn where_the_mta_may_not_find_whom_it_is_to_remove_all_get_copies() {
    let agent = agent(WISHED);
    let message = letter(&["p256"], &[]);
    let cases = [(&["p256", "nobody", "none"][..], 2), (&["p256"], 0), (&["nobody", "none"], 0)];
    let all = [Told::Rewritten, Told::Unclear].into_iter().flat_map(|told| cases.map(|case| (told, case)));
    for (told, (names, copies)) in all {
        let envelope = Envelope { told, ..envelope(names) };
        let outcome = treat(&agent, &envelope, &message).unwrap();
        assert_eq!((outcome.copies.len(), outcome.edits.remove_recipients.len()), (copies, 0), "{names:?}");
        if copies == 0 {
            assert_eq!(outcome.disposition, Disposition::Deliver, "{names:?}");
            continue;
        }
        assert_eq!((outcome.disposition, outcome.edits), (Disposition::Replace, Edits::default()));
        let mut all: Vec<_> = outcome.copies.iter().flat_map(|copy| copy.recipients.clone()).collect();
        all.sort();
        let mut expected = envelope.recipients.clone();
        expected.sort();
        assert_eq!(all, expected, "everybody gets it once");
        for copy in outcome.copies {
            let is_sealed = copy.recipients == ["p256@example.net"];
            assert_eq!(form(&copy.octets), if is_sealed { "sealed for p256 (signed)" } else { "signed" });
        }
    }
}

#[test]
fn who_is_given_twice_gets_one_message() {
    let agent = agent(REQUIRED);
    let (p256, other) = ("p256@example.net", "p256@EXAMPLE.net");
    for (recipients, to, copies, kept) in [
        // Of one mailbox there is one form, and it needs no copy. Whom the MTA may tell apart both stay.
        (&["p256", "p256"][..], &[][..], &[][..], &[p256, p256][..]),
        (&["p256", other], &[], &[], &[p256, other]),
        (&["bob@example.org", "Bob@example.org"], &[], &[], &["bob@example.org", "Bob@example.org"]),
        (&["p256", other], &["p256"], &[], &[p256, other]),
        // All spellings of those who get the copy are removed.
        (
            &["p384", "x25519", "p256", "p256", other],
            &["p384", "x25519"],
            &[("p256", &[p256, other][..])],
            &["p384@example.net", "x25519@example.net"],
        ),
        (
            &["p384", "p256", "p256", other, "p384"],
            &[],
            &[("p384", &["p384@example.net"])],
            &[p256, p256, other],
        ),
        // Who has other certificates learns nothing of these.
        (&["p384", "P384"], &[], &[("x25519", &["P384@example.net"])], &["p384@example.net"]),
    ] {
        let envelope = envelope(recipients);
        let outcome = treat(&agent, &envelope, &letter(to, &[])).unwrap();
        let mut stay = envelope.recipients.clone();
        stay.retain(|recipient| !outcome.edits.remove_recipients.contains(recipient));
        assert_eq!(stay, kept, "{recipients:?}");
        assert_eq!(outcome.copies.len(), copies.len(), "{recipients:?}");
        let edited = outcome.edits.apply(&Message::from_stored(letter(to, &[]).as_bytes()));
        assert!(form(edited.octets()).starts_with("sealed for "), "{recipients:?}");
        for (copy, (of, names)) in outcome.copies.iter().zip(copies) {
            assert_eq!(copy.recipients, *names, "{recipients:?}");
            assert_eq!(form(&copy.octets), format!("sealed for {of} (signed)"), "{recipients:?}");
        }
    }
    // Nor does it need somebody who sends copies.
    let alone = agent_alone(REQUIRED);
    assert!(treat(&alone, &envelope(&["p256", "p256", other]), &letter(&[], &[])).is_ok());
}

#[test]
fn no_unsigned_form_of_what_was_received_here_loses_the_sign_of_that() {
    let received = "Authentication-Results: mx.example.org; smime=none\n";
    let message = format!("{received}{}", letter(&["p256", "nobody"], &[]));
    for (rule, recipients, expected) in [
        ("sign = \"never\"\nencrypt = \"when-possible\"", &["nobody"][..], [1].as_slice()),
        ("sign = \"never\"\nencrypt = \"when-possible\"", &["p256", "nobody", "x25519"], &[1, 1, 1]),
        ("sign = \"required\"", &["nobody"], &[0]),
    ] {
        let outcome = treat(&agent(rule), &envelope(recipients), &message).unwrap();
        let stays = outcome.edits.apply(&Message::from_stored(message.as_bytes())).octets().to_vec();
        let forms = [stays].into_iter().chain(outcome.copies.into_iter().map(|copy| copy.octets));
        let signs: Vec<_> = forms
            .map(|form| String::from_utf8_lossy(&form).matches("smime=none (what was found before").count())
            .collect();
        assert_eq!(signs, expected, "{rule} {recipients:?}");
    }
}
