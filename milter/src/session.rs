//! What one connection has told of the message under way.
//!
//! Pure state, without protocol or clock: the callbacks feed it and carry out what it answers.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use agent::Envelope;
use smime::mime::{Message, MessageBuilder};

use crate::asked;
use crate::body::{Body, NoRoom, Storage, Write};
use crate::budget::Share;
use crate::client::{Full, Place, Places, client};
use crate::reports::Reported;

/// One connection's state between two commands.
#[derive(Debug)]
pub(crate) struct Session {
    room: Arc<Room>,
    transaction: Option<Transaction>,
    /// Why there is none.
    refused: Refusal,
}

/// What all sessions share, and none may have too much of.
#[derive(Debug)]
pub(crate) struct Room {
    /// For each message.
    pub(crate) max_message_octets: usize,
    pub(crate) storage: Storage,
    pub(crate) places: Arc<Places>,
}

/// A mail transaction from `MAIL` on (RFC 5321, 3.3).
#[derive(Debug)]
struct Transaction {
    envelope: Envelope,
    reported: Vec<Reported>,
    envelope_octets: usize,
    header: MessageBuilder,
    /// What the header takes of the memory.
    held: Share,
    body: Body,
    message_id: Option<String>,
    expansion: usize,
    refusal: Option<Refusal>,
    place: Place,
}

/// A message that came in completely. It counts as under way as long as this lives.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) envelope: Envelope,
    /// Recipients of whose success the sender wants to hear.
    pub(crate) reported: Vec<Reported>,
    /// For the log.
    pub(crate) message_id: Option<String>,
    /// Header, empty line and body.
    pub(crate) octets: usize,
    /// What it may take in memory to treat it.
    pub(crate) need: Need,
    pub(crate) content: Content,
    pub(crate) place: Place,
}

/// What a message may take in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    length: usize,
    /// How many times its length with one form of it.
    expansion: usize,
}

/// The octets of a message, which may be on the disk.
#[derive(Debug)]
pub(crate) struct Content {
    header: MessageBuilder,
    held: Share,
    body: Body,
}

/// Why something is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the header is larger than {MAX_HEADER_OCTETS} octets")]
    HeaderTooLarge,
    #[error("the message is larger than the milter's max-message-bytes")]
    MessageTooLarge,
    #[error("the envelope is larger than {MAX_ENVELOPE_OCTETS} octets")]
    TooManyRecipients,
    #[error("the MTA sent no MAIL command before this one")]
    NoTransaction,
    #[error("as many messages are under way as `messages` in [limits] allows")]
    TooManyMessages,
    #[error("half of the messages that `messages` in [limits] allows are this client's")]
    TooManyOfClient,
    #[error("messages that are coming in have all the memory or disk that [limits] allows")]
    NoRoom,
    #[error("a body cannot be written to the folder in [limits]")]
    NotWritten,
}

impl Session {
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self { room, transaction: None, refused: Refusal::NoTransaction }
    }

    /// Whether a message is under way.
    pub(crate) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Begins a transaction; whatever was under way is forgotten. `macros` looks up a macro of the MTA. A refusal is that
    /// of all commands until the next one.
    pub(crate) fn mail<'m>(
        &mut self,
        arguments: &[CString],
        macros: impl Fn(&CStr) -> Option<&'m CStr>,
    ) -> Result<(), Refusal> {
        self.reset();
        let text = |name| macros(name).map(CStr::to_string_lossy).filter(|value| !value.is_empty());
        let envelope = Envelope {
            sender: address(arguments),
            recipients: Vec::new(),
            client: text(c"{client_addr}").and_then(|value| client_address(&value)),
            login: text(c"{auth_authen}").map(Cow::into_owned),
            listener: text(c"{daemon_name}").map(Cow::into_owned),
            // Postfix has none before the first recipient.
            queue_id: None,
            asked: asked::of_mail(arguments),
        };
        let place = self.room.places.take(client(&envelope)).map_err(|full| {
            self.refused = match full {
                Full::All => Refusal::TooManyMessages,
                Full::Client => Refusal::TooManyOfClient,
            };
            self.refused
        })?;
        self.transaction = Some(Transaction {
            envelope_octets: envelope.sender.len(),
            envelope,
            reported: Vec::new(),
            header: Message::builder(),
            held: self.room.storage.memory.share(),
            body: Body::new(&self.room.storage),
            message_id: None,
            expansion: TEXT,
            refusal: None,
            place,
        });
        Ok(())
    }

    /// Adds a recipient. One too many is refused by itself; the transaction goes on.
    pub(crate) fn rcpt(&mut self, arguments: &[CString]) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or(self.refused)?;
        let recipient = address(arguments);
        let reported = Reported::of(&recipient, arguments);
        let asked = asked::of_rcpt(arguments);
        let octets = transaction.envelope_octets
            + size_of::<String>()
            + recipient.len()
            + reported.as_ref().map_or(0, Reported::octets)
            + asked.as_ref().map_or(0, |asked| recipient.len() + asked::octets(asked));
        if octets > MAX_ENVELOPE_OCTETS {
            return Err(Refusal::TooManyRecipients);
        }
        transaction.envelope_octets = octets;
        if let Some(asked) = asked {
            // Of one who is named twice, what was said first.
            transaction.envelope.asked.of_recipients.entry(recipient.clone()).or_insert(asked);
        }
        transaction.envelope.recipients.push(recipient);
        transaction.reported.extend(reported);
        Ok(())
    }

    /// Adds a header field, `value` being all that follows the colon. There is no answer, because the MTA is
    /// told not to wait for one; what is wrong is said to the end of the header, or to whatever the MTA waits for next.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        let Some(transaction) = &mut self.transaction else { return };
        if transaction.refusal.is_some() {
            return;
        }
        let octets = name.len() + value.len();
        if transaction.header.len() + octets > MAX_HEADER_OCTETS {
            transaction.refuse(Refusal::HeaderTooLarge);
            return;
        }
        if !transaction.held.grow(octets) {
            transaction.refuse(Refusal::NoRoom);
            return;
        }
        transaction.header.field(name, value);
        if name.eq_ignore_ascii_case(b"Content-Type") {
            transaction.expansion = transaction.expansion.max(expansion(value));
        }
        if name.eq_ignore_ascii_case(b"Message-ID") && transaction.message_id.is_none() {
            transaction.message_id = Some(loggable(value));
        }
    }

    /// Ends the header. A refusal ends the transaction.
    pub(crate) fn end_of_header(&mut self) -> Result<(), Refusal> {
        let transaction = self.transaction.as_ref().ok_or(self.refused)?;
        match transaction.refusal {
            Some(refusal) => {
                self.reset();
                Err(refusal)
            }
            None => Ok(()),
        }
    }

    /// Adds octets of the body. What comes back is to be written, which may block; [`Session::written`] says how that
    /// ended before more is added. A refusal ends the transaction.
    pub(crate) fn body(&mut self, chunk: &[u8]) -> Result<Option<Write>, Refusal> {
        let transaction = self.transaction.as_mut().ok_or(self.refused)?;
        let refusal = if let Some(refusal) = transaction.refusal {
            refusal
        } else if transaction.octets() + chunk.len() > self.room.max_message_octets {
            Refusal::MessageTooLarge
        } else {
            match transaction.body.add(chunk, &self.room.storage) {
                Ok(write) => return Ok(write),
                Err(NoRoom) => Refusal::NoRoom,
            }
        };
        self.reset();
        Err(refusal)
    }

    /// Says how a write ended. A refusal ends the transaction.
    pub(crate) fn written(&mut self, written: io::Result<File>) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or(self.refused)?;
        if let Ok(file) = written {
            transaction.body.written(file);
            Ok(())
        } else {
            self.reset();
            Err(Refusal::NotWritten)
        }
    }

    /// Ends the message and the transaction.
    pub(crate) fn end_of_message(&mut self) -> Result<Received, Refusal> {
        let transaction = self.transaction.take().ok_or(self.refused)?;
        let octets = transaction.octets();
        let Transaction {
            envelope, reported, header, held, body, message_id, expansion, refusal, place, ..
        } = transaction;
        match refusal {
            Some(refusal) => Err(refusal),
            None if octets > self.room.max_message_octets => Err(Refusal::MessageTooLarge),
            None => Ok(Received {
                need: Need { length: octets, expansion },
                envelope,
                reported,
                message_id,
                octets,
                content: Content { header, held, body },
                place,
            }),
        }
    }

    /// Forgets the message under way, if there is one. Postfix asks for it after each message, too.
    pub(crate) fn reset(&mut self) {
        self.transaction = None;
        self.refused = Refusal::NoTransaction;
    }
}

impl Transaction {
    /// Remembers why, and lets go of the memory.
    fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
        self.header = Message::builder();
        self.held.clear();
    }

    /// With the empty line.
    fn octets(&self) -> usize {
        self.header.len() + 2 + self.body.len()
    }
}

impl Content {
    /// Whether reading it takes no time.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.body.is_in_memory()
    }

    /// The whole message; this may block.
    pub(crate) fn read(self) -> io::Result<Message> {
        let Self { header: mut message, held, body } = self;
        body.read_into(&mut message)?;
        drop(held);
        Ok(message.finish())
    }
}

impl Need {
    /// In octets at most, where so many forms of an S/MIME object are opened, and copies made, one after the other.
    pub(crate) fn octets(self, opened_forms: usize, makes_copies: bool) -> usize {
        let is_opened = self.expansion > TEXT;
        let form = self.length.saturating_mul(smime::room::EXPANSION).max(ALWAYS);
        let others = if is_opened { form.saturating_mul(opened_forms.saturating_sub(1)) } else { 0 };
        let copy = match (makes_copies, is_opened) {
            (false, _) => 0,
            (true, false) => self.length.saturating_mul(COPY),
            // The body of one of those forms, and a header.
            (true, true) => form,
        };
        let one = self.length.saturating_mul(self.expansion).max(ALWAYS);
        one.saturating_add(others).saturating_add(copy)
    }
}

/// How many times its length a message may take, with itself and one form of it, which leaves: S/MIME
/// objects as many times as `smime::room` lets them grow; others are signed and encrypted, which takes four.
fn expansion(content_type: &[u8]) -> usize {
    let text = content_type.trim_ascii_start().to_ascii_lowercase();
    // Blanks and comments may stand before the word.
    let is_other = |subtype: &[u8]| {
        subtype.first().is_some_and(u8::is_ascii_alphabetic) && !subtype.starts_with(b"signed")
    };
    let is_plain = text.starts_with(b"text/") || text.strip_prefix(b"multipart/").is_some_and(is_other);
    if is_plain { TEXT } else { smime::room::EXPANSION + 2 }
}

const TEXT: usize = 5;

/// How many times its length a copy may take until it is on the disk: what is encrypted, and a message around it.
const COPY: usize = 4;

/// What is counted for the smallest message.
const ALWAYS: usize = smime::room::ALWAYS;

/// The address among the arguments of `MAIL` or `RCPT`: the first, with angle brackets from the SMTP server,
/// without them for locally submitted mail. The others are ESMTP parameters.
fn address(arguments: &[CString]) -> String {
    let path = arguments.first().map(|first| first.to_string_lossy()).unwrap_or_default();
    let path = path.trim();
    path.strip_prefix('<').and_then(|path| path.strip_suffix('>')).unwrap_or(path).to_owned()
}

/// `{client_addr}`, which Sendmail gives IPv6 addresses an `IPv6:` in.
fn client_address(value: &str) -> Option<IpAddr> {
    let plain = match value.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => value.get(5..)?,
        _ => value,
    };
    plain.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// At most 200 printable characters of what a stranger wrote.
pub(crate) fn loggable(octets: &[u8]) -> String {
    octets.iter().filter(|octet| octet.is_ascii_graphic()).take(200).map(|octet| char::from(*octet)).collect()
}

/// Field names, values and separators.
const MAX_HEADER_OCTETS: usize = 256 * 1024;

/// Sender and recipients; some 10,000 of usual length.
const MAX_ENVELOPE_OCTETS: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use crate::budget::Budget;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn room(max_message_octets: usize) -> Arc<Room> {
        room_of(max_message_octets, 8 << 20)
    }

    fn room_of(max_message_octets: usize, memory: u64) -> Arc<Room> {
        let storage = Storage {
            folder: std::env::temp_dir(),
            memory: Budget::new(memory),
            disk: Budget::new(64 << 20),
        };
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
}
