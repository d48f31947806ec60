//! What goes over the socket when all is well.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use agent::{Edits, FieldRef, Returned};
use milter::Limits;
use smime::MailAddress;

use crate::mta::{self, ALL_ACTIONS, ALL_OPTIONS, Mta, applied};
use crate::running::{Running, edited, untouched};

#[test]
fn exactly_what_is_needed_is_negotiated() {
    let milter = Running::start(untouched);
    let negotiated = Mta::connect(milter.address).negotiate(ALL_ACTIONS, ALL_OPTIONS).unwrap();
    assert_eq!(negotiated.version, 6);
    let needed = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80;
    assert_eq!(negotiated.actions, needed, "fields, body, quarantine, sender and recipients");
    assert_eq!(
        negotiated.options,
        mta::NO_CONNECT
            | mta::NO_HELO
            | mta::NO_UNKNOWN
            | mta::NO_DATA
            | mta::NOREPLY_MAIL
            | mta::NOREPLY_HEADER
            | mta::NOREPLY_END_OF_HEADER
            | mta::LEADING_SPACE
    );
    let at_mail: Vec<_> = negotiated.macros[&2].split(' ').collect();
    for name in ["i", "{client_addr}", "{client_name}", "{auth_authen}", "{daemon_name}"] {
        assert!(at_mail.contains(&name), "{name} of {at_mail:?}");
    }
    assert_eq!(negotiated.macros[&5], "i", "at the end of the message");
}

#[test]
fn an_mta_that_lacks_what_is_needed_is_refused_and_others_are_served() {
    let milter = Running::start(untouched);
    for (actions, options) in [
        (ALL_ACTIONS & !0x1, ALL_OPTIONS),
        (ALL_ACTIONS & !0x2, ALL_OPTIONS),
        (ALL_ACTIONS & !0x8, ALL_OPTIONS),
        (ALL_ACTIONS & !0x10, ALL_OPTIONS),
        (ALL_ACTIONS & !0x40, ALL_OPTIONS),
        (ALL_ACTIONS & !0x80, ALL_OPTIONS),
        (ALL_ACTIONS, ALL_OPTIONS & !mta::LEADING_SPACE),
        (0, 0),
    ] {
        let refused = Mta::connect(milter.address).negotiate(actions, options);
        assert!(refused.is_err(), "{actions:x} {options:x}");
    }
    assert!(Mta::open(milter.address).message(&[], b"").accepted());
}

#[test]
fn an_mta_that_waits_for_each_reply_is_served() {
    let milter = Running::start(untouched);
    let mut mta = Mta::connect(milter.address);
    let negotiated = mta.negotiate(ALL_ACTIONS, mta::LEADING_SPACE).unwrap();
    assert_eq!(negotiated.options, mta::LEADING_SPACE);
    mta.macros('C', &[("j", "mx.test.invalid")]);
    mta.send('C', b"client.invalid\x006\x00\x19IPv6:0:0:0:0:0:0:0:1\0");
    assert_eq!(mta.receive().unwrap().0, 'c', "Sendmail's prefix must not end the session");
    mta.send('H', b"client.invalid\0");
    assert_eq!(mta.receive().unwrap().0, 'c');
    assert!(mta.message(&[("Subject", " s")], b"x\r\n").accepted());
}

#[test]
fn every_octet_of_the_body_arrives_and_returns() {
    let (saw, seen) = mpsc::channel();
    let milter = Running::start(move |_, message| {
        saw.send(message.clone()).unwrap();
        Ok(edited(Edits { body: Some(message.body().to_vec()), ..Edits::default() }))
    });
    let mut mta = Mta::open(milter.address);
    let mut bodies: Vec<Vec<u8>> = [0, 1, 65_534, 65_535, 65_536, 131_069, 131_070, 131_071, 3_000_000]
        .iter()
        .map(|octets| b"twenty-three octets \xfc\0 ".iter().copied().cycle().take(*octets).collect())
        .collect();
    let mut crlf_over_the_edge = vec![b'x'; 65_534];
    crlf_over_the_edge.extend(b"\r\n.\r\n..\r\n");
    bodies.push(crlf_over_the_edge);
    bodies.push(b"\0\xff\x80 caf\xe9 \r bare CR\r\n".to_vec());
    for body in bodies {
        let answer = mta.message(&[("Subject", "  two\n\tlines")], &body);
        assert!(answer.accepted());
        assert!(seen.recv().unwrap().octets().starts_with(b"Subject:  two\r\n\tlines\r\n\r\n"));
        assert!(applied(&[], b"not replaced", &answer.requests).1 == body, "{} octets", body.len());
    }
}

#[test]
fn fields_end_up_where_the_edits_say() {
    let milter = Running::start(|_, _| {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let remove = |name: &str, index| FieldRef { name: name.to_owned(), index };
        Ok(edited(Edits {
            remove: vec![remove("x-old", 1), remove("Content-Type", 1), remove("X-Old", 2)],
            prepend: vec![
                field("Authentication-Results", "mx.test.invalid;\r\n smime=pass"),
                field("X-Second", "2"),
            ],
            append: vec![field("Content-Type", "text/plain;\r\n charset=utf-8"), field("X-Last", "1")],
            body: Some(b"new\r\n".to_vec()),
            ..Edits::default()
        }))
    });
    let fields = [
        ("X-Old", " 1"),
        ("Subject", "no space"),
        ("X-Old", " 2"),
        ("Content-Type", "\ttext/html"),
        ("X-Old", " 3"),
    ];
    let answer = Mta::open(milter.address).message(&fields, b"old\r\n");
    let (fields, body) = applied(&fields, b"old\r\n", &answer.requests);
    assert_eq!(
        fields,
        [
            "Authentication-Results: mx.test.invalid;\n smime=pass",
            "X-Second: 2",
            "Subject:no space",
            "X-Old: 3",
            "Content-Type: text/plain;\n charset=utf-8",
            "X-Last: 1"
        ]
    );
    assert_eq!(body, b"new\r\n");
}

#[test]
fn what_bounces_may_hold_is_said_before_the_text_is_with_the_mta() {
    let milter = Running::start(|_, message| {
        let redirected = message.body().starts_with(b"redirected");
        Ok(edited(Edits {
            append: vec![("Content-Type".to_owned(), "text/plain".to_owned())],
            body: Some(b"opened\r\n".to_vec()),
            returned: Returned::HeadersOnly,
            sender: redirected.then(|| MailAddress::parse("postmaster@mx.test.invalid").unwrap()),
            ..Edits::default()
        }))
    });
    let mut mta = Mta::open(milter.address);
    for (sender, body, letters, expected) in [
        ("<a@x.invalid>", "sealed", "ehb", "<a@x.invalid>\0RET=HDRS\0"),
        ("a@x.invalid", "sealed", "ehb", "<a@x.invalid>\0RET=HDRS\0"),
        ("<a@x.invalid>", "redirected", "ehb", "<postmaster@mx.test.invalid>\0RET=HDRS\0"),
        ("<>", "sealed", "hb", ""),
        ("<>", "redirected", "hb", ""),
    ] {
        mta.envelope(sender, &["<r@x.invalid>"]);
        assert_eq!(mta.end_of_header().0, 'c');
        assert_eq!(mta.chunk(body.as_bytes()).0, 'c');
        let answer = mta.end_of_message().unwrap();
        mta.abort();
        assert!(answer.accepted());
        let sent: String = answer.requests.iter().map(|(letter, _)| *letter).collect();
        assert_eq!(sent, letters, "{sender} {body}");
        let (_, data) = &answer.requests[0];
        assert!(expected.is_empty() || data == expected.as_bytes(), "{sender} {body}: {data:?}");
    }
}

#[test]
fn an_untouched_message_costs_one_reply() {
    let milter = Running::start(untouched);
    let answer = Mta::open(milter.address).message(&[("Subject", " s")], b"x\r\n");
    assert!(answer.accepted() && answer.requests.is_empty() && answer.progress == 0, "{answer:?}");
}

#[test]
fn an_mta_whose_packets_wait_for_each_other_is_not_held_up() {
    let milter = Running::start(untouched);
    let mut mta = Mta::open(milter.address);
    mta.send_one_by_one();
    let times = (0..40).map(|_| {
        let start = Instant::now();
        assert!(mta.message(&[("Subject", " s")], b"x\r\n").accepted());
        start.elapsed()
    });
    let mut times: Vec<_> = times.collect();
    times.sort();
    // The system delays an acknowledgement by 40 ms, and soon does so with each message.
    assert!(times[20] < Duration::from_millis(40), "{times:?}");
}

#[test]
fn each_message_of_a_connection_has_its_own_envelope() {
    let (saw, seen) = mpsc::channel();
    let milter = Running::start(move |envelope, message| {
        saw.send((envelope.clone(), message.octets().to_vec())).unwrap();
        Ok(edited(Edits::default()))
    });
    let mut mta = Mta::open(milter.address);
    for (sender, client, login, expected_sender) in [
        ("<one@x.invalid>", "192.0.2.1", "joe", "one@x.invalid"),
        ("<>", "IPv6:2001:db8::1", "", ""),
        ("", "127.0.0.1", "", ""),
        ("two@x.invalid", "unknown", "", "two@x.invalid"),
    ] {
        let macros = [("{client_addr}", client), ("{auth_authen}", login), ("{daemon_name}", "mx")];
        assert_eq!(mta.mail(sender, &macros).0, 'c');
        assert_eq!(mta.rcpt("<r1@x.invalid>").0, 'c');
        assert_eq!(mta.rcpt("r2@x.invalid").0, 'c');
        mta.field("From", &format!(" {sender}"));
        assert_eq!(mta.end_of_header().0, 'c');
        assert!(mta.end_of_message().unwrap().accepted());
        mta.abort();
        let (envelope, octets) = seen.recv().unwrap();
        assert_eq!(envelope.sender, expected_sender);
        assert_eq!(envelope.recipients, ["r1@x.invalid", "r2@x.invalid"]);
        assert_eq!(envelope.client, client.trim_start_matches("IPv6:").parse().ok());
        assert_eq!(envelope.login.as_deref(), Some(login).filter(|login| !login.is_empty()));
        assert_eq!(octets, format!("From: {sender}\r\n\r\n").as_bytes());
    }
}

#[test]
fn a_message_given_up_at_any_stage_leaves_nothing_to_the_next() {
    let (saw, seen) = mpsc::channel();
    let milter = Running::start(move |envelope, message| {
        saw.send((envelope.recipients.len(), message.octets().to_vec())).unwrap();
        Ok(edited(Edits::default()))
    });
    let mut mta = Mta::open(milter.address);
    for stages in 0..5 {
        let stage: [&dyn Fn(&mut Mta); 5] = [
            &|mta| assert_eq!(mta.mail("<old@x.invalid>", &[]).0, 'c'),
            &|mta| assert_eq!(mta.rcpt("<old@x.invalid>").0, 'c'),
            &|mta| mta.field("X-Old", " old"),
            &|mta| assert_eq!(mta.end_of_header().0, 'c'),
            &|mta| assert_eq!(mta.chunk(b"old").0, 'c'),
        ];
        for go in &stage[..=stages] {
            go(&mut mta);
        }
        mta.abort();
        mta.abort();
        assert!(mta.message(&[("Subject", " new")], b"new\r\n").accepted());
        assert_eq!(seen.recv().unwrap(), (1, b"Subject: new\r\n\r\nnew\r\n".to_vec()), "after {stages}");
    }
}

#[test]
fn a_body_in_the_end_of_message_command_belongs_to_the_message() {
    let (saw, seen) = mpsc::channel();
    let milter = Running::start(move |_, message| {
        saw.send(message.body().to_vec()).unwrap();
        Ok(edited(Edits::default()))
    });
    let mut mta = Mta::open(milter.address);
    mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    assert_eq!(mta.end_of_header().0, 'c');
    assert_eq!(mta.chunk(b"one\r\n").0, 'c');
    mta.send('E', b"two\r\n");
    assert!(mta.answer().unwrap().accepted());
    assert_eq!(seen.recv().unwrap(), b"one\r\ntwo\r\n");
}

#[test]
fn a_message_above_the_limit_is_refused_for_good_and_the_next_one_taken() {
    let limits = Limits { max_message_octets: 100_000, ..Limits::default() };
    let milter = Running::within(limits, untouched);
    let mut mta = Mta::open(milter.address);
    mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    assert_eq!(mta.end_of_header().0, 'c');
    let chunk = vec![b'x'; 60_000];
    assert_eq!(mta.chunk(&chunk).0, 'c');
    assert!(mta::smtp(&mta.chunk(&chunk)).starts_with("552 5.3.4 "));
    mta.abort();
    assert!(mta.message(&[], b"small\r\n").accepted());
}

#[test]
fn a_header_above_the_limit_is_refused_with_what_the_mta_waits_for_next() {
    let limits = Limits { max_message_octets: 1_000_000, ..Limits::default() };
    let milter = Running::within(limits, untouched);
    let mut answered = Mta::connect(milter.address);
    answered.negotiate(ALL_ACTIONS, mta::LEADING_SPACE).unwrap();
    let header = |mta: &mut Mta| {
        mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
        for _ in 0..6 {
            mta.field("X-Long", &"x".repeat(59_000));
        }
        mta.end_of_header()
    };
    let refused = header(&mut answered);
    assert!(mta::smtp(&refused).starts_with("552 5.3.4 "));
    let mut mta = Mta::open(milter.address);
    assert_eq!(header(&mut mta).0, 'c');
    assert!(mta::smtp(&mta.chunk(b"x\r\n")).starts_with("552 5.3.4 "));
    mta.abort();
    assert_eq!(header(&mut mta).0, 'c');
    assert!(mta.end_of_message().unwrap().smtp().starts_with("552 5.3.4 "), "there is no body");
    for mut mta in [answered, mta] {
        mta.abort();
        assert!(mta.message(&[], b"small\r\n").accepted());
    }
}
