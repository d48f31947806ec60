//! Copies from the disk to an SMTP server, through crashes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use super::*;

type Arrived = Receiver<(Vec<String>, Vec<u8>)>;

/// An SMTP server that takes everything and tells what it got: the commands and the message.
fn server(listener: TcpListener) -> Arrived {
    server_that(listener, |_| None)
}

/// One that has answers of its own for some commands; `.` stands for the message.
fn server_that(
    listener: TcpListener,
    answer: impl Fn(&str) -> Option<&'static str> + Send + 'static,
) -> Arrived {
    let (got, gets) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            if serve(stream.unwrap(), &got, &answer).is_err() {
                return;
            }
        }
    });
    gets
}

fn serve(
    stream: TcpStream,
    got: &Sender<(Vec<String>, Vec<u8>)>,
    answer: &impl Fn(&str) -> Option<&'static str>,
) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut commands = Vec::new();
    writer.write_all(b"220 here\r\n")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        let own = answer(&line);
        if line == "DATA" && own.is_none() {
            writer.write_all(b"354 go on\r\n")?;
            let mut message = Vec::new();
            while !message.ends_with(b"\r\n.\r\n") {
                reader.read_until(b'\n', &mut message)?;
            }
            if let Some(own) = answer(".") {
                writer.write_all(format!("{own}\r\n").as_bytes())?;
                continue;
            }
            got.send((std::mem::take(&mut commands), message)).map_err(io::Error::other)?;
        } else if line == "EHLO mx.example.org" && own.is_none() {
            writer.write_all(b"250-here\r\n250-8BITMIME\r\n")?;
        } else if own.is_none() {
            commands.push(line);
        }
        writer.write_all(format!("{}\r\n", own.unwrap_or("250 ok")).as_bytes())?;
    }
}

/// Whom a message arrived for.
fn recipients(commands: &[String]) -> Vec<&str> {
    commands
        .iter()
        .filter_map(|line| line.strip_prefix("RCPT TO:<")?.split_once('>'))
        .map(|(of, _)| of)
        .collect()
}

fn open(folder: &Path, port: u16) -> Result<Arc<Spool>, SpoolError> {
    let to = Reinject { host: "127.0.0.1".to_owned(), port, state: folder.to_owned() };
    Spool::open(&to, "mx.example.org")
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port where nobody listens.
fn nobody() -> u16 {
    listener().1
}

fn envelope() -> Envelope {
    Envelope {
        sender: "a@example.org".to_owned(),
        recipients: vec!["b@example.net".to_owned(), "c@example.net".to_owned()],
        ..Envelope::default()
    }
}

fn message() -> Message {
    Message::from_stored(b"Message-ID: <1@x>\nSubject: x\n\nHello.\n")
}

fn copy() -> Copy {
    Copy {
        recipients: vec!["c@example.net".to_owned()],
        octets: b"Subject: x\r\n\r\n.Hi \xfc\r\n".to_vec(),
        returned: Returned::Full,
        sender: None,
    }
}

/// The states of the sets.
fn names(folder: &Path) -> Vec<String> {
    let sets = set::files(folder).unwrap();
    let sets = sets.iter().filter(|path| path.is_dir());
    let mut names: Vec<String> =
        sets.filter_map(|path| Some(path.extension()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

fn written(spool: &Arc<Spool>, identity: &Identity, copies: Vec<Copy>) -> Result<Prepared, SpoolError> {
    let envelope = envelope();
    let mut writing = spool.begin(&envelope, identity.clone());
    for copy in copies {
        writing.add(copy)?;
    }
    writing.seal()
}

fn prepare(spool: &Arc<Spool>) -> Prepared {
    let identity = spool.identify(&envelope(), &message());
    written(spool, &identity, vec![copy()]).unwrap()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}");
}

const PATIENCE: Duration = Duration::from_secs(30);

/// What a crash leaves: the folder as it is now.
fn after_a_crash(folder: &Path) -> tempfile::TempDir {
    let other = tempfile::tempdir().unwrap();
    duplicate(folder, other.path());
    other
}

fn duplicate(from: &Path, to: &Path) {
    for path in set::files(from).unwrap() {
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&to).unwrap();
            duplicate(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

fn copy_for(recipients: &[&str]) -> Copy {
    Copy { recipients: recipients.iter().map(|&one| one.to_owned()).collect(), ..copy() }
}

fn prepare_for(spool: &Arc<Spool>, copies: &[&[&str]]) -> Prepared {
    let identity = spool.identify(&envelope(), &message());
    let copies = copies.iter().map(|recipients| copy_for(recipients)).collect();
    written(spool, &identity, copies).unwrap()
}

/// Whom the next messages arrive for, and that there are no others.
#[track_caller]
fn assert_arrive(arrived: &Arrived, count: usize, expected: &[&str]) {
    let mut all = Vec::new();
    for _ in 0..count {
        let (commands, _) = arrived.recv_timeout(PATIENCE).unwrap();
        all.extend(recipients(&commands).into_iter().map(str::to_owned));
    }
    all.sort();
    assert_eq!(all, expected);
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err(), "one too many");
}

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
        Some(Known::Body),
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
        assert_eq!(spool.known(&alone, &changed), Some(Known::Body), "{of}");
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
fn decrypted_text_is_handed_back_only_where_bounces_can_be_kept_from_it() {
    let opened = Copy {
        octets: b"Authentication-Results: mx.example.org; smime=pass\r\nX-Hsmime-Tag: x\r\n\
                  From: Bob\r\n <b@example.net>\r\nSubject: a  long one\r\nTo: c@example.net\r\n\r\nHi\r\n"
            .to_vec(),
        returned: Returned::HeadersOnly,
        sender: smime::MailAddress::parse("post@example.org").ok(),
        ..copy()
    };
    for (offers_dsn, commands) in
        [(true, &["MAIL FROM:<post@example.org> RET=HDRS", "RCPT TO:<c@example.net>"][..]), (false, &[])]
    {
        let folder = tempfile::tempdir().unwrap();
        let (listener, port) = listener();
        let arrived = server_that(listener, move |command| {
            (offers_dsn && command == "EHLO mx.example.org").then_some("250-here\r\n250 DSN")
        });
        let spool = open(folder.path(), port).unwrap();
        let identity = spool.identify(&envelope(), &message());
        written(&spool, &identity, vec![opened.clone()]).unwrap().commit().unwrap();
        let got = arrived.recv_timeout(if offers_dsn { PATIENCE } else { Duration::from_millis(500) });
        assert_eq!(got.as_ref().map_or(&[][..], |(commands, _)| commands), commands);
        let Ok((_, octets)) = got else { continue };
        let octets = octets.strip_suffix(b".\r\n").unwrap();
        let from = Envelope {
            sender: "post@example.org".to_owned(),
            recipients: copy().recipients,
            ..Envelope::default()
        };
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
        for (of, changed, expected) in [
            // What an MTA may do to a copy that comes back.
            ("folds", text.replace("Bob\r\n <", "Bob <"), Some(Known::WithResults)),
            ("folds", text.replace("a  long one", "a\r\n long one"), Some(Known::WithResults)),
            ("adds", format!("Date: x\r\nMessage-ID: <1@x>\r\n{text}"), Some(Known::WithResults)),
            ("rewrites", text.replace("To: c@example.net", "To: <c@example.net>"), Some(Known::WithResults)),
            // And what whoever saw it may: what we found is then taken off.
            ("verdict", text.replace("smime=pass", "smime=fail"), Some(Known::Body)),
            ("own field", text.replace("Tag: x", "Tag: y"), Some(Known::Body)),
            ("one more", format!("X-Hsmime-Other: x\r\n{text}"), Some(Known::Body)),
            ("author", text.replace("<b@example.net>", "<boss@example.net>"), Some(Known::Body)),
            ("name", text.replace("Bob", "Boss"), Some(Known::Body)),
            ("second author", format!("From: boss@example.net\r\n{text}"), Some(Known::Body)),
            ("subject", text.replace("long", "short"), Some(Known::Body)),
            ("replies", format!("Reply-To: x@example.com\r\n{text}"), Some(Known::Body)),
            ("nothing of ours", stripped.replace("<b@example.net>", "<boss@example.net>"), Some(Known::Body)),
            ("type", format!("Content-Type: text/html\r\n{text}"), Some(Known::Body)),
            (
                "marker cut off",
                text.replace(&format!("{marker}\r\n "), &format!("{marker}\r\nX: ")),
                Some(Known::Body),
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
fn copies_of_a_message_that_was_not_answered_are_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    drop(prepare(&spool));
    assert!(names(folder.path()).is_empty());
    let with_control = Copy { recipients: vec!["c\n@example.net".to_owned()], ..copy() };
    let identity = spool.identify(&envelope(), &message());
    assert!(written(&spool, &identity, vec![copy(), with_control]).is_err());
    assert!(names(folder.path()).is_empty(), "one that cannot be written takes the others along");
    let error = open(folder.path(), 1).unwrap_err().to_string();
    assert!(error.contains("another hsmime-milter has it"), "one process at a time: {error}");
}

#[test]
fn copies_wait_for_a_server_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (closed, port) = listener();
    drop(closed);
    let spool = open(folder.path(), port).unwrap();
    prepare(&spool).commit().unwrap();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(names(folder.path()), [set::READY]);
    let arrived = server(TcpListener::bind(("127.0.0.1", port)).unwrap());
    arrived.recv_timeout(PATIENCE).unwrap();
    until("the entry is gone", || names(folder.path()).is_empty());
}

#[test]
fn a_copy_whose_answer_was_lost_in_a_crash_is_sent_and_the_repetition_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let prepared = prepare(&spool);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(crashed.path(), port).unwrap();
    assert_arrive(&arrived, 1, &["c@example.net"]);
    until("the entry is gone", || names(crashed.path()).is_empty());
    // The client, who had no answer, sends it again; first in vain.
    drop(prepare(&spool));
    prepare(&spool).commit().unwrap();
    assert!(names(crashed.path()).is_empty());
    // It is the same message for whoever else it is for.
    prepare_for(&spool, &[&["c@example.net", "d@example.net"]]).commit().unwrap();
    assert_arrive(&arrived, 1, &["d@example.net"]);
}

#[test]
fn a_copy_in_doubt_that_still_waits_when_the_message_comes_again_is_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let (closed, port) = listener();
    drop(closed);
    let spool = open(folder.path(), port).unwrap();
    let prepared = prepare(&spool);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    let spool = open(crashed.path(), port).unwrap();
    assert_eq!(names(crashed.path()), [set::READY]);
    prepare(&spool).commit().unwrap();
    assert_eq!(names(crashed.path()), [set::READY]);
    let arrived = server(TcpListener::bind(("127.0.0.1", port)).unwrap());
    assert_arrive(&arrived, 1, &["c@example.net"]);
    until("the entry is gone", || names(crashed.path()).is_empty());
}

#[test]
fn a_set_that_a_crash_left_in_part_is_dropped_and_the_repetition_gets_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let prepared = prepare_for(&spool, &[&["b@example.net"], &["c@example.net"]]);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    // The first copy is whole and on the disk, the second is not, and there is no seal.
    let sealed = set::files(crashed.path()).unwrap();
    let sealed = sealed.iter().find(|path| set::has(path, set::SEALED)).unwrap();
    let torn = sealed.with_extension(set::OPEN);
    fs::rename(sealed, &torn).unwrap();
    fs::remove_file(torn.join("1")).unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(crashed.path(), port).unwrap();
    assert!(names(crashed.path()).is_empty());
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err(), "it was not answered");
    prepare_for(&spool, &[&["b@example.net"], &["c@example.net"]]).commit().unwrap();
    assert_arrive(&arrived, 2, &["b@example.net", "c@example.net"]);
}

#[test]
fn a_repetition_that_is_split_otherwise_gets_each_recipient_one_copy() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let prepared = prepare_for(&spool, &[&["b@example.net"]]);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(crashed.path(), port).unwrap();
    assert_arrive(&arrived, 1, &["b@example.net"]);
    // Now it is another's form that stays with the MTA.
    prepare_for(&spool, &[&["a@example.net"], &["b@example.net", "c@example.net"]]).commit().unwrap();
    assert_arrive(&arrived, 2, &["a@example.net", "c@example.net"]);
}

#[test]
fn a_later_milters_refusal_makes_no_second_copies_neither_now_nor_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(folder.path(), port).unwrap();
    for _ in 0..3 {
        prepare(&spool).commit().unwrap();
    }
    assert_arrive(&arrived, 1, &["c@example.net"]);
    until("the entry is gone", || names(folder.path()).is_empty());
    let restarted = after_a_crash(folder.path());
    let spool = open(restarted.path(), port).unwrap();
    prepare(&spool).commit().unwrap();
    assert_arrive(&arrived, 0, &[]);
    // Another message is another.
    let other = Message::from_stored(b"Message-ID: <2@x>\nSubject: x\n\nHello.\n");
    let identity = spool.identify(&envelope(), &other);
    written(&spool, &identity, vec![copy()]).unwrap().commit().unwrap();
    assert_arrive(&arrived, 1, &["c@example.net"]);
}

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
fn without_a_message_id_nothing_is_taken_for_a_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let without = Message::from_stored(b"Subject: x\n\nHello.\n");
    assert_ne!(spool.identify(&envelope(), &without), spool.identify(&envelope(), &without));
    assert_eq!(spool.identify(&envelope(), &message()), spool.identify(&envelope(), &message()));
}

/// A sender of its own for what is in a spool's folder, whose thread finds no server.
fn sender_of(spool: &Spool, port: u16) -> sender::Sender {
    sender::Sender {
        shared: Arc::clone(&spool.shared),
        host: "127.0.0.1".to_owned(),
        port,
        name: "mx.example.org".to_owned(),
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
fn what_is_put_aside_is_bounded_in_number_and_age() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let sender = sender_of(&spool, nobody());
    let failed = spool.shared.failed();
    fs::create_dir(&failed).unwrap();
    let put = |name: &str, hours: u64| {
        let path = failed.join(name);
        fs::write(&path, name).unwrap();
        let at = SystemTime::now() - Duration::from_hours(hours);
        File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    };
    put("old", 31 * 24);
    put("young", 29 * 24);
    sender.aside(Path::new("x-1-1.ready/0")).unwrap();
    assert!(!failed.join("old").exists() && failed.join("young").exists());
    for number in 0..1_002 {
        put(&format!("n{number:04}"), 700 - number / 2);
    }
    let next = sender.aside(Path::new("x-1-1.ready/0")).unwrap();
    fs::write(next, "the newest").unwrap();
    assert!(put_aside(folder.path()).unwrap() <= 1_000);
    assert!(failed.join("n1001").exists() && !failed.join("n0000").exists());
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
