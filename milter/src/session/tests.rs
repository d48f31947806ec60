//! What a session takes and refuses, by its commands.

use crate::budget::Budget;

use super::*;

const LIMIT: usize = 1 << 20;

fn room(max_message_octets: usize) -> Arc<Room> {
    room_of(max_message_octets, 8 << 20)
}

fn room_of(max_message_octets: usize, memory: u64) -> Arc<Room> {
    let storage =
        Storage { folder: std::env::temp_dir(), memory: Budget::new(memory), disk: Budget::new(64 << 20) };
    Arc::new(Room { max_message_octets, storage, places: Places::new(4) })
}

fn arguments(all: &[&str]) -> Vec<CString> {
    all.iter().map(|one| CString::new(*one).unwrap()).collect()
}

fn session_after_mail(sender: &str) -> Session {
    let mut session = Session::new(room(LIMIT));
    session.mail(&arguments(&[sender]), |_| None).unwrap();
    session
}

#[test]
fn addresses_lose_their_brackets_and_parameters() {
    for (given, expected) in [
        (vec!["<a@x.invalid>", "SIZE=7", "BODY=8BITMIME"], "a@x.invalid"),
        (vec!["a@x.invalid"], "a@x.invalid"),
        (vec!["<>"], ""),
        (vec![""], ""),
        (vec![], ""),
        (vec!["<"], "<"),
        (vec!["<\"a>b\"@x.invalid>"], "\"a>b\"@x.invalid"),
    ] {
        assert_eq!(address(&arguments(&given)), expected, "{given:?}");
    }
}

#[test]
fn what_came_by_no_smtp_server_may_be_another_recipient_than_the_mta_wrote_down() {
    let told = |client: &str, queue_id: &str, recipients: &[&str]| {
        let (client, queue_id) = (CString::new(client).unwrap(), CString::new(queue_id).unwrap());
        let mut session = Session::new(room(LIMIT));
        let macros = |name: &CStr| match name.to_bytes() {
            b"{client_addr}" => Some(client.as_c_str()),
            b"i" => Some(queue_id.as_c_str()),
            _ => None,
        };
        session.mail(&arguments(&["<a@x.invalid>"]), macros).unwrap();
        for recipient in recipients {
            session.rcpt(&arguments(&[recipient])).unwrap();
        }
        session.end_of_message().unwrap().envelope.told
    };
    for (recipients, is_bare) in [
        (&["<b@x.invalid>"][..], false),
        (&[" <b@x.invalid> "], false),
        (&["b@x.invalid"], true),
        (&["<b@x.invalid>", "c@x.invalid", "<d@x.invalid>"], true),
        (&["\"<b\"@x.invalid"], true),
        (&["\"b@x.invalid>\"@x.invalid"], true),
        (&[""], true),
    ] {
        for (client, queue_id, expected) in [
            ("127.0.0.1", "4abcXYZ", Told::Rewritten),
            ("::1", "4abcXYZ", Told::Rewritten),
            // Sendmail's server, and Postfix's for QMQP.
            ("203.0.113.9", "4abcXYZ", Told::Unclear),
            ("", "4abcXYZ", Told::Unclear),
            // Postfix's server, to which any client may leave them out.
            ("203.0.113.9", "", Told::AsWritten),
            ("127.0.0.1", "", Told::AsWritten),
        ] {
            let expected = if is_bare { expected } else { Told::AsWritten };
            assert_eq!(told(client, queue_id, recipients), expected, "{client} {queue_id} {recipients:?}");
        }
    }
}

#[test]
fn client_and_login_come_from_macros() {
    for (client, login, expected_client, expected_login) in [
        ("192.0.2.1", "joe", Some("192.0.2.1"), Some("joe")),
        ("2001:db8::1", "", Some("2001:db8::1"), None),
        ("IPv6:2001:db8:0:0:0:0:0:1", "", Some("2001:db8::1"), None),
        ("::ffff:192.0.2.1", "", Some("192.0.2.1"), None),
        ("IPv6:", "", None, None),
        ("unknown", "", None, None),
        ("IPv6é", "", None, None),
        ("", "", None, None),
    ] {
        let (client_macro, login_macro) = (CString::new(client).unwrap(), CString::new(login).unwrap());
        let mut session = Session::new(room(LIMIT));
        session
            .mail(&arguments(&["<a@x.invalid>"]), |name| match name.to_bytes() {
                b"{client_addr}" => Some(client_macro.as_c_str()),
                b"{auth_authen}" => Some(login_macro.as_c_str()),
                _ => None,
            })
            .unwrap();
        let envelope = session.end_of_message().unwrap().envelope;
        assert_eq!(envelope.client, expected_client.map(|a| a.parse().unwrap()), "{client}");
        assert_eq!(envelope.login.as_deref(), expected_login, "{client}");
    }
}

#[test]
fn a_second_mail_command_forgets_the_first_message() {
    let mut session = session_after_mail("<a@x.invalid>");
    session.rcpt(&arguments(&["<r@x.invalid>"])).unwrap();
    session.field(b"Subject", b" first");
    session.body(b"first\r\n").unwrap();
    session.mail(&arguments(&["<b@x.invalid>"]), |_| None).unwrap();
    session.field(b"Subject", b" second");
    let received = session.end_of_message().unwrap();
    assert_eq!(received.envelope.sender, "b@x.invalid");
    assert!(received.envelope.recipients.is_empty());
    assert_eq!(received.content.read().unwrap().octets(), b"Subject: second\r\n\r\n");
}

#[test]
fn commands_without_a_transaction_are_refused_and_harm_nothing() {
    let mut session = Session::new(room(LIMIT));
    session.field(b"A", b" b");
    assert_eq!(session.rcpt(&arguments(&["<r@x.invalid>"])), Err(Refusal::NoTransaction));
    assert_eq!(session.end_of_header(), Err(Refusal::NoTransaction));
    assert_eq!(session.body(b"x").unwrap_err(), Refusal::NoTransaction);
    assert_eq!(session.end_of_message().unwrap_err(), Refusal::NoTransaction);
    session.reset();
    assert!(!session.in_transaction());
}

#[test]
fn a_header_too_large_is_refused_at_its_end() {
    let mut session = session_after_mail("<a@x.invalid>");
    let value = vec![b'x'; 60_000];
    for _ in 0..5 {
        session.field(b"X-Long", &value);
    }
    assert_eq!(session.end_of_header(), Err(Refusal::HeaderTooLarge));
    assert!(!session.in_transaction());
}

#[test]
fn a_header_of_more_fields_than_an_mta_can_take_off_is_refused() {
    for (name, most) in [
        (&b"X-Hsmime-A"[..], 1000),
        (b"Received", 1000),
        (b"Content-A", 50),
        (b"mime-version", 50),
        // These stay where ciphertext is opened.
        (b"MIME-Version-X", 1000),
        (b"Content-\xe4", 1000),
        ("Content-\u{e4}".as_bytes(), 1000),
    ] {
        let end = |fields: usize| {
            let mut session = session_after_mail("<a@x.invalid>");
            (0..fields).for_each(|_| session.field(name, b" x"));
            session.end_of_header()
        };
        assert_eq!(end(most), Ok(()), "{name:?}");
        assert_eq!(end(most + 1), Err(Refusal::TooManyFields), "{name:?}");
    }
}

#[test]
fn what_says_to_be_a_copy_of_ours_may_have_twice_as_much_and_is_to_be_known_then() {
    let long = vec![b'x'; 1000];
    for (name, value, most) in
        [(&b"Received"[..], &b" x"[..], 1000), (b"Content-A", b" x", 50), (b"X-Long", &long, 260)]
    {
        let end = |before: usize, behind: usize, marker: &[u8]| {
            let mut session = session_after_mail("<a@x.invalid>");
            (0..before).for_each(|_| session.field(name, value));
            session.field(marker, b" x");
            (0..behind).for_each(|_| session.field(name, value));
            session.end_of_message().map(|received| received.excess.is_some())
        };
        let (copy, other) = (b"x-hsmime-copy", b"X-Other");
        assert!(end(most + 1, 0, other).is_err() && end(0, most + 4, other).is_err(), "{name:?}");
        assert_eq!(end(1, most - 2, copy), Ok(false), "{name:?}");
        assert_eq!(end(1, most + 5, copy), Ok(true), "{name:?}");
        assert_eq!(end(0, 2 * most - 2, copy), Ok(true), "{name:?}");
        assert!(end(0, 2 * most + 8, copy).is_err(), "{name:?}");
        // What came with the message, below the marker, has nobody wait for one.
        assert!(end(most + 4, 0, copy).is_err(), "{name:?}");
    }
}

#[test]
fn a_message_as_large_as_allowed_is_taken_and_one_octet_more_is_not() {
    let header = b"A: b\r\n\r\n".len();
    for (octets, taken) in [(LIMIT - header, true), (LIMIT - header + 1, false)] {
        let mut session = session_after_mail("<a@x.invalid>");
        session.field(b"A", b" b");
        session.end_of_header().unwrap();
        session.body(b"").unwrap();
        for chunk in vec![b'x'; octets].chunks(65_535) {
            match session.body(chunk) {
                Ok(Some(write)) => session.written(write.run()).unwrap(),
                Ok(None) => {}
                Err(refusal) => assert_eq!(refusal, Refusal::MessageTooLarge),
            }
        }
        assert_eq!(session.end_of_message().is_ok(), taken);
    }
}

#[test]
fn recipients_have_a_limit_and_the_transaction_survives_it() {
    let mut session = session_after_mail("<a@x.invalid>");
    let recipient = arguments(&["<somebody@example.invalid>"]);
    let taken = (0..20_000).take_while(|_| session.rcpt(&recipient).is_ok()).count();
    assert!((5_000..20_000).contains(&taken), "{taken}");
    assert_eq!(session.end_of_message().unwrap().envelope.recipients.len(), taken);
}

#[test]
fn what_a_stranger_wrote_is_short_and_printable_in_the_log() {
    assert_eq!(loggable(b" <a\n\x1b[31m@x>"), "<a[31m@x>");
    assert_eq!(loggable(&[b'x'; 999]).len(), 200);
}

#[test]
fn a_message_counts_from_its_first_command_until_nobody_has_it_any_more() {
    let room = room(LIMIT);
    let mut all: Vec<_> = (0..3).map(|_| Session::new(Arc::clone(&room))).collect();
    let mail = |session: &mut Session| session.mail(&arguments(&["<a@x.invalid>"]), |_| None);
    mail(&mut all[0]).unwrap();
    mail(&mut all[0]).unwrap();
    mail(&mut all[1]).unwrap();
    assert_eq!(mail(&mut all[2]), Err(Refusal::TooManyOfClient), "two of four are one client's");
    let received = all[0].end_of_message().unwrap();
    assert_eq!(mail(&mut all[2]), Err(Refusal::TooManyOfClient), "it is being treated");
    drop(received);
    mail(&mut all[2]).unwrap();
    all[1].reset();
    mail(&mut all[0]).unwrap();
}

#[test]
fn a_header_that_finds_no_memory_is_refused_for_now_and_gives_all_back() {
    let room = room_of(LIMIT, 1000);
    let (mut first, mut second) = (Session::new(Arc::clone(&room)), Session::new(Arc::clone(&room)));
    for session in [&mut first, &mut second] {
        session.mail(&arguments(&["<a@x.invalid>"]), |_| None).unwrap();
        session.field(b"X-Long", &[b'x'; 600]);
    }
    first.end_of_header().unwrap();
    assert_eq!(second.end_of_header(), Err(Refusal::NoRoom));
    drop(first.end_of_message().unwrap());
    assert_eq!(room.storage.memory.taken(), 0);
}

#[test]
fn what_a_message_may_take_depends_on_what_may_be_made_of_it() {
    for (content_type, times) in [
        (None, 5),
        (Some(" text/plain"), 5),
        (Some(" Multipart/Mixed; boundary=x"), 5),
        (Some(" multipart/signed; protocol=\"application/pkcs7-signature\""), 10),
        (Some(" multipart/ Signed; protocol=\"application/pkcs7-signature\""), 10),
        (Some(" multipart/(a)signed; protocol=\"application/pkcs7-signature\""), 10),
        (Some(" application/pkcs7-mime"), 10),
        (Some("application/octet-stream; name=smime.p7m"), 10),
        (Some(""), 10),
    ] {
        let mut session = session_after_mail("<a@x.invalid>");
        if let Some(content_type) = content_type {
            session.field(b"content-type", content_type.as_bytes());
        }
        session.end_of_header().unwrap();
        let chunk = vec![b'x'; 60_000];
        for _ in 0..4 {
            assert!(session.body(&chunk).unwrap().is_none());
        }
        let received = session.end_of_message().unwrap();
        let need = |forms, makes_copies| received.need.octets(forms, makes_copies) / received.octets;
        let (copy, other) = if times == 5 { (4, 0) } else { (8, 8) };
        assert_eq!((need(1, false), need(1, true)), (times, times + copy), "{content_type:?}");
        assert_eq!(need(3, true), times + copy + 2 * other, "{content_type:?}");
        // Of the smallest object as much may be made as of one of 128 KiB.
        let small = Need { length: 100, ..received.need };
        assert_eq!(small.octets(1, false), 1 << 20);
        assert_eq!(small.octets(3, false) >> 20, 1 + 2 * other / 8, "{content_type:?}");
    }
}

#[test]
fn a_recipient_that_mtas_read_each_in_their_own_way_is_refused_and_the_transaction_goes_on() {
    let mut session = session_after_mail("<a@x.invalid>");
    for refused in [
        &b"<mallory+\xff@x.invalid>"[..],
        b"<@r.invalid:mallory@x.invalid>",
        b"<Mallory <mallory@x.invalid>>",
        b"<g:mallory@x.invalid;>",
        b"<mallory\x01@x.invalid>",
    ] {
        let argument = CString::new(refused).unwrap();
        assert_eq!(session.rcpt(&[argument]), Err(Refusal::OddRecipient), "{}", refused.escape_ascii());
    }
    session.rcpt(&arguments(&["<postmaster>"])).unwrap();
    session.rcpt(&arguments(&["<b@x.invalid>", "NOTIFY=NEVER"])).unwrap();
    let envelope = session.end_of_message().unwrap().envelope;
    assert_eq!(envelope.recipients, ["postmaster", "b@x.invalid"]);
    let sender = CString::new(&b"<a+\xff@x.invalid>"[..]).unwrap();
    assert_eq!(session.mail(&[sender], |_| None), Err(Refusal::SenderNotUtf8));
    assert_eq!(session.rcpt(&arguments(&["<b@x.invalid>"])), Err(Refusal::SenderNotUtf8));
}
