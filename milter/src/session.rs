//! What one connection has told of the message under way.
//!
//! Pure state, without protocol or clock: the callbacks feed it and carry out what it answers.

mod received;

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use agent::{Envelope, MOST_CONTENT_FIELDS, Told, is_content_field, may_be_recipient};
use smime::mime::{Message, MessageBuilder};

use crate::asked;
use crate::body::{Body, NoRoom, Storage, Write};
use crate::budget::Share;
use crate::client::{Full, Place, Places, client};
use crate::reports::Reported;
use crate::spool::MARKER;

pub(crate) use self::received::{Content, Received};
use self::received::{Need, TEXT, expansion};

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
    /// How those recipients are told who are told without brackets.
    told_bare: Told,
    reported: Vec<Reported>,
    envelope_octets: usize,
    header: MessageBuilder,
    /// How many fields it has, and how many of them describe the content.
    fields: usize,
    content_fields: usize,
    /// Whether it says to be a copy of ours,
    is_marked: bool,
    /// and why it is not taken if it is none.
    excess: Option<Refusal>,
    /// What the header takes of the memory.
    held: Share,
    body: Body,
    message_id: Option<String>,
    expansion: usize,
    refusal: Option<Refusal>,
    place: Place,
}

/// Why something is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the header is larger than {MAX_HEADER_OCTETS} octets")]
    HeaderTooLarge,
    #[error(
        "the header has more than {MAX_FIELDS} fields, or more than {MOST_CONTENT_FIELDS} about the content"
    )]
    TooManyFields,
    #[error("the message is larger than the milter's max-message-bytes")]
    MessageTooLarge,
    #[error("the envelope is larger than {MAX_ENVELOPE_OCTETS} octets")]
    TooManyRecipients,
    #[error("the envelope sender is not UTF-8")]
    SenderNotUtf8,
    #[error("a recipient is not UTF-8, or has control characters, brackets, a group or a source route in it")]
    OddRecipient,
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
        if arguments.first().is_some_and(|path| path.to_str().is_err()) {
            self.refused = Refusal::SenderNotUtf8;
            return Err(self.refused);
        }
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
            told: Told::AsWritten,
        };
        let is_local = envelope.client.is_some_and(|client| client.is_loopback());
        let told_bare = match text(c"i") {
            None => Told::AsWritten,
            Some(_) if is_local => Told::Rewritten,
            Some(_) => Told::Unclear,
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
            told_bare,
            reported: Vec::new(),
            header: Message::builder(),
            held: self.room.storage.memory.share(),
            body: Body::new(&self.room.storage),
            message_id: None,
            fields: 0,
            content_fields: 0,
            is_marked: false,
            excess: None,
            expansion: TEXT,
            refusal: None,
            place,
        });
        Ok(())
    }

    /// Adds a recipient. One too many, or one that cannot surely be removed again, is refused by itself; the transaction goes
    /// on.
    pub(crate) fn rcpt(&mut self, arguments: &[CString]) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or(self.refused)?;
        if !arguments.first().is_some_and(|path| may_be_recipient(path.to_bytes())) {
            return Err(Refusal::OddRecipient);
        }
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
        if !is_path(arguments) {
            transaction.envelope.told = transaction.told_bare;
        }
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
        transaction.fields += 1;
        // Those alone that are taken off what is opened: what stays would count in that, and not in what stays closed.
        let is_of_content = str::from_utf8(name.trim_ascii_end()).is_ok_and(is_content_field);
        transaction.content_fields += usize::from(is_of_content);
        transaction.is_marked |= name.eq_ignore_ascii_case(MARKER.as_bytes());
        let excess = transaction.excess_beside(octets, 1);
        let refusal = match excess {
            Some(_) if transaction.is_marked => transaction.excess_beside(octets, FOR_COPIES),
            refusal => refusal,
        };
        if let Some(refusal) = refusal {
            transaction.refuse(refusal);
            return;
        }
        transaction.excess = excess;
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
            envelope,
            reported,
            header,
            held,
            body,
            message_id,
            expansion,
            excess,
            refusal,
            place,
            ..
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
                excess,
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

    /// Why so many times what strangers may have is less than it has, with these octets of another field.
    fn excess_beside(&self, octets: usize, times: usize) -> Option<Refusal> {
        let is_over = |has: usize, most: usize| has > most * times;
        if is_over(self.header.len() + octets, MAX_HEADER_OCTETS) {
            Some(Refusal::HeaderTooLarge)
        } else if is_over(self.fields, MAX_FIELDS) || is_over(self.content_fields, MOST_CONTENT_FIELDS) {
            Some(Refusal::TooManyFields)
        } else {
            None
        }
    }

    /// With the empty line.
    fn octets(&self) -> usize {
        self.header.len() + 2 + self.body.len()
    }
}

/// The address among the arguments of `MAIL` or `RCPT`: the first, with angle brackets from the SMTP server,
/// without them for locally submitted mail. The others are ESMTP parameters.
fn address(arguments: &[CString]) -> String {
    let path = arguments.first().map(|first| first.to_string_lossy()).unwrap_or_default();
    let path = path.trim();
    path.strip_prefix('<').and_then(|path| path.strip_suffix('>')).unwrap_or(path).to_owned()
}

/// Whether the address among the arguments of `RCPT` is in angle brackets, as SMTP has it (RFC 5321, 4.1.2). Postfix tells
/// recipients without them where mail came by no SMTP server, as its own rewriting left them (`cleanup_milter_emul_rcpt`), but
/// compares what it is told to remove with what they were before. Its server takes them without from any client, too, and tells
/// them as they came. What no client can choose is that there is a queue id with `MAIL` already, which its server has only later;
/// Sendmail's always has one, so it must be this host's own client as well.
fn is_path(arguments: &[CString]) -> bool {
    let path = arguments.first().map(|first| first.to_bytes().trim_ascii());
    path.is_some_and(|path| path.starts_with(b"<") && path.ends_with(b">"))
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

/// An MTA looks for each field that is to be removed from the header's beginning. With ten thousand of them Postfix's cleanup takes
/// seconds, and then ends.
const MAX_FIELDS: usize = 1000;

/// So many times as much a copy of ours may have: we put fields above it, and so do MTAs and filters until it comes back. Whether
/// it is one is known when all of it is there; its marker stands above the fields that it came with. No ciphertext that was put to a
/// key is near even once as much, opened or closed (`agent::fit`), so that this depends on nothing that a key said.
const FOR_COPIES: usize = 2;

/// Sender and recipients; some 10,000 of usual length.
const MAX_ENVELOPE_OCTETS: usize = 512 * 1024;

#[cfg(test)]
mod tests;
