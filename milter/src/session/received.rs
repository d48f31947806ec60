//! A message that came in completely, and what it may take in memory.

use std::io;

use agent::Envelope;
use smime::mime::{Message, MessageBuilder};

use super::Refusal;
use crate::body::Body;
use crate::budget::Share;
use crate::client::Place;
use crate::reports::Reported;

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
    /// Why it is not taken, unless it is a copy of ours.
    pub(crate) excess: Option<Refusal>,
    /// What it may take in memory to treat it.
    pub(crate) need: Need,
    pub(crate) content: Content,
    pub(crate) place: Place,
}

/// What a message may take in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(super) length: usize,
    /// How many times its length with one form of it.
    pub(super) expansion: usize,
}

/// The octets of a message, which may be on the disk.
#[derive(Debug)]
pub(crate) struct Content {
    pub(super) header: MessageBuilder,
    pub(super) held: Share,
    pub(super) body: Body,
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
pub(super) fn expansion(content_type: &[u8]) -> usize {
    let text = content_type.trim_ascii_start().to_ascii_lowercase();
    // Blanks and comments may stand before the word.
    let is_other = |subtype: &[u8]| {
        subtype.first().is_some_and(u8::is_ascii_alphabetic) && !subtype.starts_with(b"signed")
    };
    let is_plain = text.starts_with(b"text/") || text.strip_prefix(b"multipart/").is_some_and(is_other);
    if is_plain { TEXT } else { smime::room::EXPANSION + 2 }
}

pub(super) const TEXT: usize = 5;

/// How many times its length a copy may take until it is on the disk: what is encrypted, and a message around it.
const COPY: usize = 4;

/// What is counted for the smallest message.
const ALWAYS: usize = smime::room::ALWAYS;
