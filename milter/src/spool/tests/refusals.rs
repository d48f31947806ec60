//! Recipients who are refused, or not served for long, and what their senders are told.

use super::*;

#[test]
fn one_recipient_that_is_refused_keeps_it_from_nobody_else_and_the_sender_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server_that(listener, |line| match line {
        "EHLO mx.example.org" => Some("250-here\r\n250-8BITMIME\r\n250 DSN"),
        "RCPT TO:<gone@example.net>" => Some("550 5.1.1 no such user"),
        _ => None,
    });
    let spool = open(folder.path(), port).unwrap();
    prepare_for(&spool, &[&["b@example.net", "gone@example.net", "c@example.net"]]).commit().unwrap();
    let (commands, octets) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(recipients(&commands), ["b@example.net", "c@example.net"]);
    // The milter sees it come back for those two, and knows it.
    let head = octets.strip_suffix(b"..Hi \xfc\r\n.\r\n").unwrap();
    let back = Message::from_stored(&[head, b".Hi \xfc\r\n"].concat());
    let two = ["b@example.net", "c@example.net"].map(str::to_owned).to_vec();
    assert!(spool.known(&Envelope { recipients: two, ..envelope() }, &back).is_some());
    let (commands, octets) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        commands,
        ["MAIL FROM:<>", "RCPT TO:<a@example.org> NOTIFY=NEVER"],
        "of a notice nobody is notified"
    );
    let notice = String::from_utf8(octets).unwrap();
    for line in [
        "X-Hsmime-Copy: ",
        "Content-Type: multipart/report; report-type=delivery-status;\r\n",
        "Reporting-MTA: dns; mx.example.org\r\n",
        "Final-Recipient: rfc822; gone@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
        "\r\nSubject: x\r\n",
    ] {
        assert!(notice.contains(line), "{line:?} is not in {notice}");
    }
    assert!(!notice.contains("b@example.net") && !notice.contains(".Hi"), "{notice}");
    until("nothing waits", || names(folder.path()).is_empty() && spool.shared.sets.waiting() == 0);
    // Once the mailbox is there again, the message may be sent again; the others have it.
    prepare_for(&spool, &[&["b@example.net", "gone@example.net"]]).commit().unwrap();
    assert_arrive(&arrived, 1, &["a@example.org"]);
}

#[test]
fn who_cannot_be_served_now_is_tried_again_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let tries = AtomicUsize::new(0);
    let arrived = server_that(listener, move |line| match line {
        "RCPT TO:<busy@example.net>" if tries.fetch_add(1, Ordering::Relaxed) < 2 => Some("450 4.2.0 later"),
        _ => None,
    });
    let spool = open(folder.path(), port).unwrap();
    prepare_for(&spool, &[&["b@example.net", "busy@example.net"]]).commit().unwrap();
    let (commands, _) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(recipients(&commands), ["b@example.net"]);
    assert_arrive(&arrived, 1, &["busy@example.net"]);
    until("nothing waits", || names(folder.path()).is_empty() && spool.shared.sets.waiting() == 0);
}

#[test]
fn a_notice_that_nobody_takes_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server_that(listener, |line| (line == ".").then_some("554 5.6.0 not that"));
    let spool = open(folder.path(), port).unwrap();
    assert_eq!(put_aside(folder.path()).unwrap(), 0);
    prepare(&spool).commit().unwrap();
    until("it is put aside", || put_aside(folder.path()).unwrap() == 1);
    until("nothing waits", || names(folder.path()).is_empty() && spool.shared.sets.waiting() == 0);
    assert_arrive(&arrived, 0, &[]);
    let aside = set::files(&folder.path().join("failed")).unwrap();
    let (entry, message) = Entry::read(&aside[0]).unwrap();
    assert_eq!((entry.sender.as_str(), entry.recipients), ("", vec!["a@example.org".to_owned()]));
    assert!(String::from_utf8(message).unwrap().contains("554 5.6.0 not that"));
}

#[test]
fn whoever_sent_ciphertext_that_was_tried_is_not_told_that_a_copy_of_it_was_refused() {
    for (at, reply) in [
        (".", "550 5.7.1 executable attachments are not taken"),
        ("RCPT TO:<c@example.net>", "550 5.1.1 no such user"),
        ("MAIL FROM:<a@example.org> BODY=8BITMIME RET=HDRS", "555 5.5.4 not that"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (listener, port) = listener();
        let arrived = server_that(listener, move |line| match line {
            "EHLO mx.example.org" => Some("250-here\r\n250-8BITMIME\r\n250 DSN"),
            line => (line == at).then_some(reply),
        });
        let spool = open(folder.path(), port).unwrap();
        let tried = Copy { returned: Returned::HeadersOnly, ..copy() };
        let identity = spool.identify(&envelope(), &message());
        written(&spool, &identity, vec![tried]).unwrap().commit().unwrap();
        until("it is put aside", || put_aside(folder.path()).unwrap() == 1);
        until("nothing waits", || names(folder.path()).is_empty() && spool.shared.sets.waiting() == 0);
        assert_arrive(&arrived, 0, &[]);
        let aside = set::files(&folder.path().join("failed")).unwrap();
        let (entry, message) = Entry::read(&aside[0]).unwrap();
        assert_eq!((entry.sender.as_str(), entry.recipients), ("a@example.org", copy().recipients), "{at}");
        assert!(entry.headers_only && message == copy().octets, "{at}");
        // Somebody of ours may know.
        let ours = MailAddress::parse("post@example.org").unwrap();
        spool.send_opened_from(Some(&ours));
        let tried = Copy { returned: Returned::HeadersOnly, ..copy() };
        written(&spool, &identity, vec![tried]).unwrap().commit().unwrap();
        // This server takes no text, not even that of a notice.
        let (told, kept) = match at.get(..4) {
            None => (None, 2),
            Some("MAIL") => (Some("c@example.net"), 1),
            Some(_) => (Some("post@example.org"), 1),
        };
        assert_arrive(&arrived, told.iter().len(), told.as_slice());
        until("nothing waits", || names(folder.path()).is_empty() && spool.shared.sets.waiting() == 0);
        assert_eq!(put_aside(folder.path()).unwrap(), kept, "{at}");
    }
}

#[test]
fn a_recipient_who_is_not_served_for_five_days_is_given_up_and_the_sender_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server_that(listener, |line| {
        line.starts_with("RCPT TO:<c@").then_some("450 4.2.0 the mailbox is busy")
    });
    let spool = open(folder.path(), nobody()).unwrap();
    prepare(&spool).commit().unwrap();
    let sender = sender_of(&spool, port);
    let path = spool.shared.sets.ready().unwrap().remove(0);
    let days = |days: u64| SystemTime::now() + Duration::from_hours(24 * days);
    for day in [0, 1, 4] {
        assert!(sender.send(&path, days(day)).is_err(), "on day {day} it still waits");
        assert_eq!(spool.shared.sets.waiting(), 1);
    }
    assert!(sender.send(&path, days(6)).is_ok());
    // What waits now is the notice alone.
    let ready = spool.shared.sets.ready().unwrap();
    assert_eq!((ready.len(), spool.shared.sets.waiting()), (1, 1));
    assert!(sender.send(&ready[0], days(6)).is_ok());
    let (commands, octets) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(commands, ["MAIL FROM:<>", "RCPT TO:<a@example.org>"]);
    let notice = String::from_utf8(octets).unwrap();
    for line in [
        "Final-Recipient: rfc822; c@example.net\r\n",
        "not taken for five days",
        "450 4.2.0 the mailbox is busy",
    ] {
        assert!(notice.contains(line), "{line:?} is not in {notice}");
    }
    assert_eq!(spool.shared.sets.waiting(), 0);
}

#[test]
fn a_sender_is_told_of_those_refused_unless_he_asked_not_to_be_and_by_the_names_he_gave() {
    let asked_of = |notify: Option<&str>, original: Option<&str>| AskedOf {
        notify: notify.map(str::to_owned),
        original: original.map(str::to_owned),
    };
    let people = [
        ("never", Some("NEVER"), false),
        ("success", Some("SUCCESS"), false),
        ("delay", Some("SUCCESS,DELAY"), false),
        ("failure", Some("FAILURE"), true),
        ("all", Some("SUCCESS,FAILURE,DELAY"), true),
        ("nothing", None, true),
    ];
    let address = |name: &str| format!("{name}@example.net");
    let alias = |name: &str| format!("rfc822;{name}+2Bx@alias.example");
    let of_recipients =
        people.iter().map(|(name, notify, _)| (address(name), asked_of(*notify, Some(&alias(name)))));
    let asked = Asked {
        envelope_id: Some("QQ+2B1".to_owned()),
        of_recipients: of_recipients.collect(),
        ..Asked::default()
    };
    let all: Vec<String> = people.iter().map(|(name, ..)| address(name)).collect();
    let unwanted: Vec<String> =
        people.iter().filter(|(.., told)| !told).map(|(name, ..)| address(name)).collect();
    for (recipients, is_told) in [(all, true), (unwanted, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (listener, port) = listener();
        let arrived =
            server_that(listener, |line| line.contains("@example.net>").then_some("550 5.1.1 no such user"));
        let spool = open(folder.path(), port).unwrap();
        let envelope = Envelope { asked: asked.clone(), ..envelope() };
        let mut writing = spool.begin(&envelope, spool.identify(&envelope, &message()));
        writing.add(Copy { recipients, ..copy() }).unwrap();
        writing.seal().unwrap().commit().unwrap();
        if is_told {
            let (commands, octets) = arrived.recv_timeout(PATIENCE).unwrap();
            assert_eq!(commands, ["MAIL FROM:<>", "RCPT TO:<a@example.org>"]);
            let notice = String::from_utf8(octets).unwrap();
            assert!(notice.contains("Original-Envelope-Id: QQ+1\r\nReporting-MTA: dns;"), "{notice}");
            for (name, _, told) in people {
                let lines = format!(
                    "\r\n\r\nOriginal-Recipient: rfc822; {name}+x@alias.example\r\n\
                     Final-Recipient: rfc822; {name}@example.net\r\nAction: failed\r\n"
                );
                assert_eq!(notice.contains(&lines), told, "{name}: {notice}");
                assert_eq!(notice.contains(&address(name)), told, "{name}: {notice}");
            }
        }
        until("nothing waits", || names(folder.path()).is_empty() && spool.shared.sets.waiting() == 0);
        assert_arrive(&arrived, 0, &[]);
        assert_eq!(put_aside(folder.path()).unwrap(), 0);
    }
}
