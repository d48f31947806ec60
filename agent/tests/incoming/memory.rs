//! What the forms of an opened message take together.

use std::fs;

use std::sync::Arc;

use agent::{Agent, Disposition, Envelope, Identities, Identity, Returned, settings::Logins};
use smime::{
    cipher::ContentCipher,
    cms::{self, RecipientKey},
    message,
    mime::{Canonical, Message, encode_base64},
    profile::{Correspondent, Profile, plan},
    testing::{
        MemoryKey,
        authority::{Authority, Wanted},
        fixtures::{certificate, now},
    },
};

use super::{HEADER, settings, support::identity};

/// The most memory of this process since the last time, in octets.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    // proc(5): 5 forgets it.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn an_opened_content_is_held_once_however_many_forms_have_it() {
    const TEXT_OCTETS: usize = 1 << 20;
    let kinds = ["details = true", "subject-tag = true", "on-unsigned = \"tag\""];
    let rule = |number: usize| {
        let has = |(at, line): (usize, &&'static str)| (number >> at & 1 == 1).then_some(*line);
        let lines: Vec<_> = kinds.iter().enumerate().filter_map(has).collect();
        format!("[[incoming]]\nto = \"bob+{number}@example.org\"\n{}\n", lines.join("\n"))
    };
    let rules: String = (0..8).map(rule).collect();
    let settings = settings("recipient-delimiter = \"+\"\n", &rules);
    let identities = Identities::from_parts([identity("bob")], "+");
    let agent = Agent::with_identities(&settings, identities).with_copies();
    let to = certificate("bob");
    let to = Correspondent { certificate: &to, capabilities: None, profile: &Profile::STANDARD };
    let text = format!("Content-Type: text/plain\r\n\r\n{}", "Sixteen octets\r\n".repeat(TEXT_OCTETS / 16));
    let text = Message::from_stored(text.as_bytes());
    let sealed =
        message::seal(&Canonical::from_entity(&text.entity()).unwrap(), &plan(&[to]).unwrap()).unwrap();
    let mut mail =
        format!("{HEADER}Content-Type: {}\r\nContent-Transfer-Encoding: base64\r\n\r\n", sealed.content_type)
            .into_bytes();
    mail.extend_from_slice(&sealed.body);
    let message = Message::from_owned(mail);
    drop((text, sealed));
    let memory_for = |recipients: usize| {
        let envelope = Envelope {
            sender: "friend@example.net".to_owned(),
            recipients: (0..recipients).map(|number| format!("bob+{number}@example.org")).collect(),
            ..Envelope::default()
        };
        let mut copies = 0;
        let mut keep = |copy: agent::Copy| {
            copies += 1;
            assert!(copy.octets.len() > TEXT_OCTETS);
            Ok(())
        };
        peak();
        let outcome = agent.treat_and_keep(&envelope, &message, now(), &mut keep).unwrap();
        assert_eq!((copies, outcome.edits.remove_recipients.len()), (recipients - 1, recipients - 1));
        assert!(outcome.edits.body.is_some_and(|body| body.len() >= TEXT_OCTETS));
        peak()
    };
    // The first fills what the allocator keeps.
    let two = memory_for(2).max(memory_for(2));
    let eight = memory_for(8);
    assert!(eight < two + TEXT_OCTETS, "{two} for two forms, {eight} for eight");
}

/// How many people there are for whom one layer more opens than for the one before.
const PEOPLE: u32 = 5;

/// Somebody of these.
fn person(number: u32) -> MemoryKey {
    let address = format!("u{number}@example.org");
    Authority::root("Root", "alice").issue_key(&Wanted {
        name: &address,
        addresses: &[&address],
        serial: number,
        ..Wanted::default()
    })
}

/// A layer for these and all after them; with an octet changed it does not open.
fn sealed(entity: &str, from: u32, is_changed: bool) -> String {
    let keys: Vec<_> = (from..PEOPLE)
        .map(|number| {
            let person = person(number);
            RecipientKey::new(smime::key::Decryptor::certificate(&person).clone()).unwrap()
        })
        .collect();
    let inside = message::compress(&Canonical::from_signed_part(entity.as_bytes())).unwrap();
    let inside = format!(
        "Content-Type: {}\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        inside.content_type,
        String::from_utf8(inside.body).unwrap()
    );
    let mut object = cms::seal(&[inside.as_bytes()], ContentCipher::Aes256Gcm, &keys).unwrap();
    if is_changed {
        // The tag's last octet.
        *object.last_mut().unwrap() ^= 1;
    }
    format!(
        "Content-Type: application/pkcs7-mime; smime-type=authEnveloped-data; name=smime.p7m\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}",
        String::from_utf8(encode_base64(&object)).unwrap()
    )
}

#[test]
fn forms_for_which_there_is_no_room_stay_closed_and_the_reply_tells_nobody() {
    // Each does something else, or they were as good as one.
    let rule = |number: u32| {
        let [details, tag, strip] = [1, 2, 4].map(|bit| number & bit != 0);
        format!(
            "[[incoming]]\nto = \"u{number}@example.org\"\n\
             details = {details}\nsubject-tag = {tag}\nstrip-signature = {strip}\n"
        )
    };
    let rules: String = (0..PEOPLE).map(rule).collect();
    let settings = settings("mta-message-bytes = 104857600\n", &rules);
    let identities = (0..PEOPLE).map(|number| {
        let key = Arc::new(person(number));
        let certificate = smime::key::Decryptor::certificate(&*key).clone();
        Identity::new(certificate, Vec::new(), Logins::Address, Arc::clone(&key) as _, key)
    });
    let agent = Agent::with_identities(&settings, Identities::from_parts(identities, "")).with_copies();
    let envelope = Envelope {
        sender: "friend@example.net".to_owned(),
        recipients: (0..PEOPLE).map(|number| format!("u{number}@example.org")).collect(),
        ..Envelope::default()
    };
    let text = format!("Content-Type: text/plain\r\n\r\n{}", "The last.\r\n".repeat(20_000));
    let mut replies = Vec::new();
    for is_changed in [true, false] {
        let innermost = sealed(&text, PEOPLE - 1, is_changed);
        // Each of the others finds a layer that stays closed and so many empty lines that four of these fill all room.
        let mail = (0..PEOPLE - 1).rev().fold(innermost, |inside, number| {
            sealed(&format!("{inside}{}", "\r\n".repeat(225_000)), number, false)
        });
        let mail = Message::from_owned(format!("{HEADER}{mail}").into_bytes());
        let mut copies = Vec::new();
        let mut keep = |copy: agent::Copy| {
            copies.push((copy.recipients, copy.octets.len(), copy.returned));
            Ok(())
        };
        let outcome = agent.treat_and_keep(&envelope, &mail, now(), &mut keep).unwrap();
        replies.push((outcome.disposition, outcome.action));
        let last = copies.iter().find(|(recipients, ..)| recipients.iter().any(|to| to == "u4@example.org"));
        let is_closed = last.is_some_and(|(_, octets, returned)| {
            assert_eq!(*returned, Returned::HeadersOnly);
            *octets < mail.octets().len() + 2_000
        });
        // Else it has what the one before has.
        assert_eq!(is_closed, !is_changed, "{copies:?}");
        assert!(copies.iter().filter(|(_, octets, _)| *octets > 400_000).count() >= 3, "{copies:?}");
    }
    assert_eq!(replies, [(Disposition::Deliver, "opened"); 2]);
}
