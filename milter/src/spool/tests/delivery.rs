//! A copy is handed back once, with what was asked of its delivery.

use super::*;

#[test]
fn a_committed_copy_is_handed_back_once_and_known_when_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(folder.path(), port).unwrap();
    let prepared = prepare(&spool);
    assert_eq!(names(folder.path()), [set::SEALED]);
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err(), "nothing leaves before the answer");
    prepared.commit().unwrap();
    let (commands, octets) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(commands, ["MAIL FROM:<a@example.org> BODY=8BITMIME", "RCPT TO:<c@example.net>"]);
    let text = octets.strip_suffix(b".\r\n").unwrap();
    assert!(text.ends_with(b"\r\nSubject: x\r\n\r\n..Hi \xfc\r\n"), "{}", String::from_utf8_lossy(text));
    until("the entry is gone", || names(folder.path()).is_empty());
    // As it comes back, dots unstuffed.
    let back = Message::from_stored(&String::from_utf8_lossy(text).into_owned().into_bytes());
    assert!(spool.known(&envelope(), &back).is_none(), "another text");
    let text = [text.strip_suffix(b"..Hi \xfc\r\n").unwrap(), b".Hi \xfc\r\n"].concat();
    let back = Message::from_stored(&text);
    let alone = Envelope { recipients: copy().recipients, ..envelope() };
    assert_eq!(spool.known(&alone, &back), Some(Known::WithResults));
    let found = [b"X-Hsmime-Tag: x\r\n", back.octets()].concat();
    assert_eq!(
        spool.known(&alone, &Message::from_stored(&found)),
        Some(Known::Body { had_results: false }),
        "it had no field of ours"
    );
    let text = String::from_utf8_lossy(back.octets()).into_owned();
    for (of, changed) in [
        ("a tag", text.replace("Subject: x", "Subject: [S/MIME: signed] x")),
        ("an author", format!("From: boss@example.net\r\n{text}")),
        ("the marker as it was once", text.replacen("\r\n ", "\r\nX: ", 1)),
    ] {
        assert_ne!(changed, text, "{of}");
        let changed = Message::from_stored(
            &[changed.split_once("\r\n\r\n").unwrap().0.as_bytes(), b"\r\n\r\n", back.body()].concat(),
        );
        assert_eq!(spool.known(&alone, &changed), Some(Known::Body { had_results: false }), "{of}");
    }
    assert!(spool.known(&envelope(), &back).is_none(), "other recipients");
    assert!(
        spool.known(&Envelope { sender: "x@example.org".to_owned(), ..alone }, &back).is_none(),
        "another sender"
    );
    assert!(spool.known(&envelope(), &message()).is_none(), "no marker");
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err());
}

#[test]
fn copies_of_what_is_held_are_written_and_taken_away_and_sent_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(folder.path(), port).unwrap();
    let (envelope, identity) = (envelope(), spool.identify(&envelope(), &message()));
    let begun = || {
        let mut writing = spool.begin(&envelope, identity.clone());
        writing.add(copy()).unwrap();
        writing
    };
    let writing = begun();
    assert_eq!(names(folder.path()), [set::OPEN], "what a crash leaves is dropped");
    writing.forget().unwrap();
    assert!(names(folder.path()).is_empty());
    // Where they could not be kept that is said.
    let writing = begun();
    fs::remove_dir_all(folder.path()).unwrap();
    assert!(writing.forget().is_err());
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err());
}

#[test]
fn copies_that_wait_for_dsn_go_once_their_bounces_are_for_somebody_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(folder.path(), port).unwrap();
    let of = |text: &str, sender: &str, returned| {
        let recipients = vec![format!("{text}@example.net")];
        let copy =
            Copy { recipients, octets: format!("Subject: {text}\r\n\r\nx\r\n").into(), returned, ..copy() };
        let envelope = Envelope { sender: sender.to_owned(), ..envelope() };
        let mut writing =
            spool.begin(&envelope, spool.identify(&envelope, &Message::from_stored(text.as_bytes())));
        writing.add(copy).unwrap();
        writing.seal().unwrap().commit().unwrap();
    };
    of("opened", "a@example.org", Returned::HeadersOnly);
    assert!(arrived.recv_timeout(Duration::from_millis(500)).is_err(), "bounces would hold it");
    let office = MailAddress::parse("post@example.org").unwrap();
    spool.send_opened_from(Some(&office));
    let next = || arrived.recv_timeout(PATIENCE).unwrap().0;
    assert_eq!(next(), ["MAIL FROM:<post@example.org>", "RCPT TO:<opened@example.net>"]);
    // Nothing else has another sender.
    of("closed", "a@example.org", Returned::Full);
    assert_eq!(next(), ["MAIL FROM:<a@example.org>", "RCPT TO:<closed@example.net>"]);
    of("answer", "", Returned::HeadersOnly);
    assert_eq!(next(), ["MAIL FROM:<>", "RCPT TO:<answer@example.net>"]);
    until("nothing waits", || names(folder.path()).is_empty());
    // As before, once there is none any more.
    spool.send_opened_from(None);
    of("more", "a@example.org", Returned::HeadersOnly);
    assert!(arrived.recv_timeout(Duration::from_millis(500)).is_err());
}

#[test]
fn decrypted_text_is_handed_back_only_where_bounces_can_be_kept_from_it() {
    let opened = Copy {
        octets: b"Authentication-Results: mx.example.org; smime=pass\r\nX-Hsmime-Tag: x\r\n\
                  From: Bob\r\n <b@example.net>\r\nSubject: a  long one\r\nTo: c@example.net\r\n\r\nHi\r\n"
            .to_vec(),
        returned: Returned::HeadersOnly,
        sender: MailAddress::parse("post@example.org").ok(),
        ..copy()
    };
    let rcpt = "RCPT TO:<c@example.net>";
    for (offers_dsn, sender, commands) in [
        (true, "post@example.org", &["MAIL FROM:<post@example.org> RET=HDRS", rcpt][..]),
        // Bounces of it go to nobody else.
        (false, "post@example.org", &["MAIL FROM:<post@example.org>", rcpt]),
        (true, "a@example.org", &["MAIL FROM:<a@example.org> RET=HDRS", rcpt]),
        (false, "a@example.org", &[]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (listener, port) = listener();
        let arrived = server_that(listener, move |command| {
            (offers_dsn && command == "EHLO mx.example.org").then_some("250-here\r\n250 DSN")
        });
        let spool = open(folder.path(), port).unwrap();
        let identity = spool.identify(&envelope(), &message());
        let other = MailAddress::parse(sender).ok().filter(|_| sender != envelope().sender);
        let opened = Copy { sender: other, ..opened.clone() };
        written(&spool, &identity, vec![opened]).unwrap().commit().unwrap();
        let is_taken = !commands.is_empty();
        let got = arrived.recv_timeout(if is_taken { PATIENCE } else { Duration::from_millis(500) });
        assert_eq!(got.as_ref().map_or(&[][..], |(commands, _)| commands), commands);
        let Ok((_, octets)) = got else { continue };
        let octets = octets.strip_suffix(b".\r\n").unwrap();
        let from =
            Envelope { sender: sender.to_owned(), recipients: copy().recipients, ..Envelope::default() };
        let known = |text: &str| spool.known(&from, &Message::from_stored(text.as_bytes()));
        let text = String::from_utf8_lossy(octets);
        assert_eq!(known(&text), Some(Known::WithResults));
        assert_eq!(
            known(&format!("Received: by x\r\nAuthentication-Results: y; a=b\r\n{text}")),
            Some(Known::WithResults)
        );
        let marker = text.lines().find(|line| line.starts_with("X-Hsmime-Copy: ")).unwrap();
        let ours =
            |line: &&str| line.starts_with("Authentication-Results: ") || line.starts_with("X-Hsmime-Tag: ");
        let stripped: String = text.split_inclusive('\n').filter(|line| !ours(line)).collect();
        let had_results = true;
        for (of, changed, expected) in [
            // What an MTA may do to a copy that comes back.
            ("folds", text.replace("Bob\r\n <", "Bob <"), Some(Known::WithResults)),
            ("folds", text.replace("a  long one", "a\r\n long one"), Some(Known::WithResults)),
            ("adds", format!("Date: x\r\nMessage-ID: <1@x>\r\n{text}"), Some(Known::WithResults)),
            ("rewrites", text.replace("To: c@example.net", "To: <c@example.net>"), Some(Known::WithResults)),
            // And what whoever saw it may: what we found is then taken off.
            ("verdict", text.replace("smime=pass", "smime=fail"), Some(Known::Body { had_results })),
            ("own field", text.replace("Tag: x", "Tag: y"), Some(Known::Body { had_results })),
            ("one more", format!("X-Hsmime-Other: x\r\n{text}"), Some(Known::Body { had_results })),
            (
                "author",
                text.replace("<b@example.net>", "<boss@example.net>"),
                Some(Known::Body { had_results }),
            ),
            ("name", text.replace("Bob", "Boss"), Some(Known::Body { had_results })),
            ("second author", format!("From: boss@example.net\r\n{text}"), Some(Known::Body { had_results })),
            ("subject", text.replace("long", "short"), Some(Known::Body { had_results })),
            ("replies", format!("Reply-To: x@example.com\r\n{text}"), Some(Known::Body { had_results })),
            (
                "nothing of ours",
                stripped.replace("<b@example.net>", "<boss@example.net>"),
                Some(Known::Body { had_results }),
            ),
            ("type", format!("Content-Type: text/html\r\n{text}"), Some(Known::Body { had_results })),
            (
                "marker cut off",
                text.replace(&format!("{marker}\r\n "), &format!("{marker}\r\nX: ")),
                Some(Known::Body { had_results }),
            ),
            ("text", text.replace("Hi", "Ho"), None),
        ] {
            assert_ne!(changed, text, "{of}");
            assert_eq!(known(&changed), expected, "{of}: {changed}");
        }
    }
}

#[test]
fn what_was_asked_of_delivery_goes_with_a_copy_as_far_as_the_server_offers_it() {
    let asked_of = |notify: &str, original: &str| AskedOf {
        notify: Some(notify.to_owned()),
        original: Some(original.to_owned()),
    };
    let all = Asked {
        returned: Some(Returned::Full),
        envelope_id: Some("QQ+2B1".to_owned()),
        is_international: true,
        of_recipients: [
            ("b@example.net".to_owned(), asked_of("NEVER", "rfc822;other@x")),
            ("c@example.net".to_owned(), asked_of("SUCCESS,DELAY", "utf-8;\u{fc}@x")),
        ]
        .into(),
    };
    let plain = || b"Subject: x\r\n\r\nHi\r\n".to_vec();
    let eight_bit = || copy().octets;
    let (full, headers) = (Returned::Full, Returned::HeadersOnly);
    let everything = "250-DSN\r\n250-8BITMIME\r\n250-DSN\r\n250 SMTPUTF8";
    for (offer, asked, octets, returned, mail, rcpt) in [
        (
            everything,
            &all,
            plain(),
            full,
            " RET=FULL ENVID=QQ+2B1 SMTPUTF8",
            " NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\u{fc}@x",
        ),
        (
            everything,
            &all,
            eight_bit(),
            full,
            " BODY=8BITMIME RET=FULL ENVID=QQ+2B1 SMTPUTF8",
            " NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\u{fc}@x",
        ),
        // What bounces must not hold is not reported either.
        (
            everything,
            &all,
            plain(),
            headers,
            " RET=HDRS ENVID=QQ+2B1 SMTPUTF8",
            " NOTIFY=DELAY ORCPT=utf-8;\u{fc}@x",
        ),
        ("250-here\r\n250 dsn", &all, plain(), full, " RET=FULL ENVID=QQ+2B1", " NOTIFY=SUCCESS,DELAY"),
        // That is its name, and a parameter of something else.
        ("250-DSN\r\n250 AUTH DSN 8BITMIME", &all, eight_bit(), full, "", ""),
        ("250-here\r\n250-SMTPUTF8\r\n250 8BITMIME", &all, plain(), full, " SMTPUTF8", ""),
        (everything, &Asked::default(), eight_bit(), full, " BODY=8BITMIME", ""),
        (everything, &Asked { returned: Some(headers), ..Asked::default() }, plain(), full, " RET=HDRS", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (listener, port) = listener();
        let arrived = server_that(listener, move |command| command.starts_with("EHLO ").then_some(offer));
        let spool = open(folder.path(), port).unwrap();
        let envelope = Envelope { asked: asked.clone(), ..envelope() };
        let mut writing = spool.begin(&envelope, spool.identify(&envelope, &message()));
        writing.add(Copy { octets, returned, ..copy() }).unwrap();
        writing.seal().unwrap().commit().unwrap();
        let (commands, _) = arrived.recv_timeout(PATIENCE).unwrap();
        let expected = [format!("MAIL FROM:<a@example.org>{mail}"), format!("RCPT TO:<c@example.net>{rcpt}")];
        assert_eq!(commands, expected, "{offer}");
    }
}

#[test]
fn a_header_beyond_ascii_waits_for_nobody_who_cannot_take_it_and_its_sender_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(folder.path(), port).unwrap();
    let asked = Asked { is_international: true, ..Asked::default() };
    let envelope = Envelope { asked, ..envelope() };
    let mut writing = spool.begin(&envelope, spool.identify(&envelope, &message()));
    let octets = "Subject: \u{fc}\r\n\r\nHi\r\n".as_bytes().to_vec();
    writing.add(Copy { octets, ..copy() }).unwrap();
    writing.seal().unwrap().commit().unwrap();
    let (commands, notice) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(recipients(&commands), ["a@example.org"]);
    assert!(String::from_utf8_lossy(&notice).contains("5.6.7"));
}

#[test]
fn copies_of_older_versions_are_read_and_those_of_later_ones_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x-1-1.ready").join("0");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let written = |head: &str| {
        fs::write(&path, format!("{head}\n\nSubject: x\r\n\r\nHi\r\n\r\nend of copy\n")).unwrap();
        Entry::read(&path).map(|(entry, message)| {
            assert_eq!(message, b"Subject: x\r\n\r\nHi\r\n");
            entry
        })
    };
    let people = || vec!["b@example.net".to_owned(), "c@example.net".to_owned()];
    let plain = Entry::plain("a@example.org".to_owned(), people());
    let old = "hsmime copy 1\nfrom a@example.org\nto b@example.net\nto c@example.net";
    assert_eq!(written(old).unwrap(), plain);
    let old_of_opened = old.replace("example.org\n", "example.org\nret HDRS\n");
    assert_eq!(written(&old_of_opened).unwrap(), Entry { headers_only: true, ..plain.clone() });
    // What older programs can read is written so that they do.
    let first_line = |entry: &Entry| {
        let mut octets = Vec::new();
        entry.write(b"Subject: x\r\n\r\nHi\r\n", &mut octets).unwrap();
        let text = String::from_utf8(octets).unwrap();
        let (head, _) = text.split_once("\n\n").unwrap();
        assert_eq!(written(head).unwrap(), *entry);
        head.lines().next().unwrap().to_owned()
    };
    assert_eq!(first_line(&plain), "hsmime copy 1");
    let of_b = |asked: AskedOf| [("b@example.net".to_owned(), asked)].into();
    for asked in [
        Asked { returned: Some(Returned::Full), ..Asked::default() },
        Asked { returned: Some(Returned::HeadersOnly), ..Asked::default() },
        Asked { envelope_id: Some("QQ".to_owned()), ..Asked::default() },
        Asked { is_international: true, ..Asked::default() },
        Asked {
            of_recipients: of_b(AskedOf { notify: Some("NEVER".to_owned()), original: None }),
            ..Asked::default()
        },
        Asked {
            of_recipients: of_b(AskedOf { notify: None, original: Some("rfc822;x@y".to_owned()) }),
            ..Asked::default()
        },
    ] {
        assert_eq!(first_line(&Entry { asked, ..plain.clone() }), "hsmime copy 2");
    }
    for damaged in [
        "hsmime copy 1\nfrom a@example.org\nenvid QQ\nto b@example.net",
        "hsmime copy 2\nfrom a@example.org\nnotify NEVER\nto b@example.net",
        "hsmime copy x\nfrom a@example.org\nto b@example.net",
        "hsmime copy\nfrom a@example.org\nto b@example.net",
    ] {
        assert_eq!(written(damaged).unwrap_err().kind(), io::ErrorKind::InvalidData, "{damaged}");
    }
    let later = "hsmime copy 3\nfrom a@example.org\nwhat this one does not know\nto b@example.net";
    assert_eq!(written(later).unwrap_err().kind(), io::ErrorKind::Unsupported);
    // It is neither sent nor put aside, and the log tells why.
    let spool = open(folder.path(), nobody()).unwrap();
    assert_eq!(spool.waiting(), 1);
    let Err(sender::Wait::Copy(reason)) = sender_of(&spool, nobody()).send(&path, SystemTime::now()) else {
        panic!("it does not wait")
    };
    assert!(reason.contains("format 3"), "{reason}");
    assert!(path.exists() && put_aside(folder.path()).unwrap() == 0);
}
