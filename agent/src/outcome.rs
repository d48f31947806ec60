//! What shall become of a message: edits that any front end can apply.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use smime::{MailAddress, message::Verdict, mime::Message};

use crate::harvest::Signed;

/// A header field by name and place among the fields of that name, counted from 1, as milters do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldRef {
    /// The field's name; case does not matter.
    pub name: String,
    /// 1 is the first field of this name from the top.
    pub index: u32,
}

/// Changes to one message. An empty set delivers it untouched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Fields to remove.
    pub remove: Vec<FieldRef>,
    /// Fields (name, value without the space after the colon) to put above all others, topmost first.
    /// Folds in a value are CRLF and white space.
    pub prepend: Vec<(String, String)>,
    /// Fields to put below all others.
    pub append: Vec<(String, String)>,
    /// The new body, with CRLF line ends.
    pub body: Option<Vec<u8>>,
    /// What bounces may hold of it from now on.
    pub returned: Returned,
    /// The new envelope sender, to whom bounces go. The null sender is never bounced
    /// to and stays what it is.
    pub sender: Option<MailAddress>,
    /// Recipients that do not get this message, as they were given: a copy of their own is made for them.
    pub remove_recipients: Vec<String>,
}

/// A message of its own for some of the recipients, who get another form of it than the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// As they were given.
    pub recipients: Vec<String>,
    /// The whole message.
    pub octets: Vec<u8>,
    /// What bounces may hold of it.
    pub returned: Returned,
    /// Its envelope sender, where that is another than the message's.
    pub sender: Option<MailAddress>,
}

/// Takes a copy away as soon as it is made, so that no two are in memory.
pub type Keep<'k> = dyn FnMut(Copy) -> io::Result<()> + 'k;

/// What a bounce may hold of the message: `RET` of RFC 3461, 4.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Returned {
    /// As much as the sender asked for and the MTA does.
    #[default]
    Full,
    /// The header alone: the text is not the sender's, but was opened for the recipients. That it was delivered is reported
    /// to nobody, because such a report would hold our verdict.
    HeadersOnly,
}

impl Edits {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The message with these changes, of which those to the envelope do not show in it. A field that is removed
    /// twice, or is not there, is no matter.
    pub fn apply(&self, message: &Message) -> Message {
        Message::from_owned(self.written(self.body.as_deref(), message))
    }

    /// The same as octets, with no more than two of it in memory at a time.
    pub(crate) fn into_octets(self, message: &Message) -> Vec<u8> {
        let octets = self.written(self.body.as_deref(), message);
        drop(self);
        Message::from_owned(octets).into_octets()
    }

    /// The same with a body that others have too, in the place of its own.
    pub(crate) fn into_octets_with(self, body: Option<Arc<Vec<u8>>>, message: &Message) -> Vec<u8> {
        let octets = self.written(body.as_deref().map(Vec::as_slice), message);
        drop((self, body));
        Message::from_owned(octets).into_octets()
    }

    fn written(&self, body: Option<&[u8]>, message: &Message) -> Vec<u8> {
        let body = body.unwrap_or(message.body());
        let mut octets = self.header_with_room(message, body.len());
        octets.extend_from_slice(b"\r\n");
        octets.extend_from_slice(body);
        octets
    }

    /// The header fields with these changes, each with its CRLF, without the empty line.
    pub fn header(&self, message: &Message) -> Vec<u8> {
        self.header_with_room(message, 0)
    }

    fn header_with_room(&self, message: &Message, more: usize) -> Vec<u8> {
        let removed: HashSet<(String, u32)> =
            self.remove.iter().map(|field| (field.name.to_ascii_lowercase(), field.index)).collect();
        let mut seen: HashMap<String, u32> = HashMap::new();
        let header = message.octets().len().saturating_sub(message.body().len());
        let mut octets = Vec::with_capacity(header.saturating_add(more).saturating_add(4096));
        write_fields(&self.prepend, &mut octets);
        for field in message.entity().header().fields() {
            let name = field.name().to_ascii_lowercase();
            let index = seen.entry(name.clone()).or_default();
            *index += 1;
            if !removed.contains(&(name, *index)) {
                octets.extend_from_slice(field.octets());
            }
        }
        // The last line of a header without a body may have no end.
        if !octets.is_empty() && !octets.ends_with(b"\r\n") {
            octets.extend_from_slice(b"\r\n");
        }
        write_fields(&self.append, &mut octets);
        octets
    }
}

/// In characters.
const MAX_REASON: usize = 500;

fn write_fields(fields: &[(String, String)], octets: &mut Vec<u8>) {
    for (name, value) in fields {
        octets.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
}

/// What becomes of a message that is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disposition {
    /// It is delivered.
    #[default]
    Deliver,
    /// It is held until a person decides.
    Quarantine,
    /// It is thrown away, as a rule expressly says.
    Discard,
    /// All of its recipients get copies: what the MTA has of it is thrown away once these are safe.
    Replace,
}

impl Disposition {
    /// Whether copies that were made are for somebody. Of what is held there are some, too: that they could be kept must not
    /// tell what came of ciphertext.
    pub fn sends_copies(self) -> bool {
        matches!(self, Self::Deliver | Self::Replace)
    }
}

/// What was done with a message, and what to do with it now.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The edits to apply before delivery.
    pub edits: Edits,
    /// What was done, in a word for the log.
    pub action: &'static str,
    /// Why, in words, where the action alone does not say it.
    pub reason: String,
    /// What its signature is worth, where that was looked at.
    pub verdict: Option<Verdict>,
    /// What becomes of it now.
    pub disposition: Disposition,
    /// The layers of S/MIME that were found, from outside in, in words for the log.
    pub layers: Option<String>,
    /// What must be sent besides. Whoever cannot send it must not deliver the message.
    pub copies: Vec<Copy>,
    /// What [`crate::Agent::harvest`] may have once the message is answered; only where harvesting is switched on.
    pub signed: Option<Box<Signed>>,
}

impl Outcome {
    /// The outcome of a message that is delivered as it is.
    pub fn unchanged(action: &'static str, reason: String) -> Self {
        Self {
            edits: Edits::default(),
            action,
            reason,
            verdict: None,
            disposition: Disposition::Deliver,
            layers: None,
            copies: Vec::new(),
            signed: None,
        }
        .with_short_reason()
    }

    /// The outcome with a reason that fits into a line of a log: it may quote what a stranger wrote.
    pub(crate) fn with_short_reason(mut self) -> Self {
        if let Some((at, _)) = self.reason.char_indices().nth(MAX_REASON) {
            self.reason.truncate(at);
            self.reason.push('\u{2026}');
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn edits_change_what_they_name_and_nothing_else() {
        let message = Message::from_stored(
            b"X-A: 1\nno field\nx-a: 2\n folded\nSubject: kept\nX-A: 3\nEmpty:\n\nbody\n\nend",
        );
        let edits = Edits {
            remove: vec![
                FieldRef { name: "X-a".into(), index: 2 },
                FieldRef { name: "X-A".into(), index: 3 },
                FieldRef { name: "Subject".into(), index: 2 },
            ],
            prepend: vec![field("First", "1"), field("Second", "2\r\n\tfolded")],
            append: vec![field("Last", "3")],
            ..Edits::default()
        };
        assert_eq!(
            String::from_utf8_lossy(edits.apply(&message).octets()),
            "First: 1\r\nSecond: 2\r\n\tfolded\r\nX-A: 1\r\nno field\r\nSubject: kept\r\nEmpty:\r\nLast: 3\r\n\
             \r\nbody\r\n\r\nend"
        );
    }

    #[test]
    fn no_edits_leave_a_message_as_it_is_and_a_new_body_takes_its_place() {
        for (stored, expected) in [
            ("A: 1\r\n\r\nold\r\n", "A: 1\r\n\r\nnew\r\n"),
            ("\r\nold", "\r\nnew\r\n"),
            ("A: 1", "A: 1\r\n\r\nnew\r\n"),
            ("", "\r\nnew\r\n"),
        ] {
            let message = Message::from_stored(stored.as_bytes());
            let edits = Edits { body: Some(b"new\r\n".to_vec()), ..Edits::default() };
            assert_eq!(edits.apply(&message).octets(), expected.as_bytes(), "{stored:?}");
            let unchanged = Edits::default().apply(&message);
            assert_eq!(
                (unchanged.header(), unchanged.body()),
                (if message.header() == b"A: 1" { b"A: 1\r\n" } else { message.header() }, message.body())
            );
        }
    }
}
