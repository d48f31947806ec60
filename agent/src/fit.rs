//! How large a message may become by being opened.
//!
//! An MTA refuses what is larger than it takes: at once, after our edits (Postfix's `message_size_limit`, 552), or with a bounce
//! where it hands the message on. If it refuses the opened form of a message and takes the closed one, whoever sends captured
//! ciphertext with other octets in it learns which of them were right (RFC 3218). So a message stays closed, as one that does not
//! open, where its opened form were larger than what came, or than MTAs are known to take.
//!
//! Postfix keeps what came, and behind it what is added, in a file that may not become longer and never becomes shorter. A
//! body that is no longer than the one that came takes its place. Fields are added to both forms: results, tags, and to the
//! opened one what describes its content. These differ by some hundred octets in most mail. So with a limit that nobody has
//! named, a message that came within these octets of it may get one answer opened and another closed; a limit that is named
//! leaves mail as close as that closed without asking any key, and both forms of all other mail are below it.

use smime::mime::Message;

use crate::{Edits, Envelope};

/// How large the opened form of a message may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// As large as it likes: no MTA gets it.
    Any,
    /// No larger than what came.
    AsItCame {
        /// The octets of its body.
        body: usize,
    },
    /// So large that MTAs are known to take it.
    Within {
        /// What they take.
        limit: usize,
        /// The octets of the header that came.
        header: usize,
        /// Those of its body.
        body: usize,
        /// What else may be in an MTA's file.
        reserve: usize,
    },
}

impl Fit {
    /// For a message of this envelope and MTAs of this limit, if that is known.
    pub(crate) fn of(message: &Message, envelope: &Envelope, limit: Option<usize>) -> Self {
        let body = message.body().len();
        let header = message.octets().len().saturating_sub(body);
        let reserve = RESERVE + envelope.recipients.len() * RESERVE_FOR_RECIPIENT;
        limit.map_or(Self::AsItCame { body }, |limit| Self::Within { limit, header, body, reserve })
    }

    /// Whether both forms can be below the limit, whatever comes of a key. What is not is not even tried: its sender knows how
    /// large it is.
    pub(crate) fn may_open(&self) -> bool {
        match *self {
            Self::Any | Self::AsItCame { .. } => true,
            // Each of its lines may take one octet more, and each of its fields be written again in encoded words.
            Self::Within { limit, header, body, reserve } => {
                header * MOST_HEADER_GROWTH + body + body / LONG_LINE + reserve <= limit
            }
        }
    }

    /// Whether a form of these edits, which has a new body, may take the message's place.
    pub(crate) fn takes(&self, edits: &Edits) -> bool {
        let Some(new) = &edits.body else { return true };
        let field = |(name, value): &(String, String)| name.len() + value.len() + ": \r\n".len();
        let fields = || edits.append.iter().map(field).sum::<usize>();
        match *self {
            Self::Any => true,
            Self::AsItCame { body } => fields() + kept(new) <= body,
            Self::Within { limit, header, body, reserve } => {
                header + fields() + kept(new).max(body + body / LONG_LINE) + reserve <= limit
            }
        }
    }
}

/// Whether each form of a message, if it is handed back as a copy and comes through the milter again, is surely taken there, whose
/// limit is of so many octets: the opened one is shorter, and has other fields. What may not be is not even tried.
pub(crate) fn may_come_back(message: &Message, limit: Option<usize>) -> bool {
    let octets = message.octets().len();
    let header = octets.saturating_sub(message.body().len());
    header <= MOST_OF_HEADER
        && message.entity().header().fields().nth(MOST_FIELDS).is_none()
        && limit.is_none_or(|limit| octets.saturating_add(RESERVE) <= limit)
}

/// How much of Postfix's file a body takes, at most: each line is a record with its type and length in place of its line end, or
/// several where it is long.
fn kept(body: &[u8]) -> usize {
    let mut begin = 0;
    let mut more = 0;
    for at in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
        let line = body.get(begin..at).unwrap_or_default();
        if at == body.len() && line.is_empty() {
            break;
        }
        if line.len() > LONG_LINE || !line.ends_with(b"\r") {
            more += 2 + line.len() / 512;
        }
        begin = at + 1;
    }
    body.len() + more
}

/// The milter takes 256 KiB of header and 1000 fields.
const MOST_OF_HEADER: usize = 128 << 10;
const MOST_FIELDS: usize = 800;
/// The length of a line takes two octets from here on.
const LONG_LINE: usize = 127;
/// For fields of ours and for those of MTAs, for what Postfix writes between them, and for the sender.
const RESERVE: usize = 64 << 10;
/// An address, as it is and as it was, with what is to be reported to whom.
const RESERVE_FOR_RECIPIENT: usize = 1024;
/// Subjects may be written again: as UTF-8, in base64.
const MOST_HEADER_GROWTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_come_back_is_known_by_what_came() {
        let message = |fields: usize, length: usize, body: usize| {
            let field = format!("X: {}\r\n", "x".repeat(length));
            Message::from_owned(format!("{}\r\n{}", field.repeat(fields), "x".repeat(body)).into_bytes())
        };
        for (fields, length, body, limit, may) in [
            (800, 1, 1, None, true),
            (801, 1, 1, None, false),
            (1, 130_000, 1, None, true),
            (1, 132_000, 1, None, false),
            (1, 1, 34_000, Some(100_000), true),
            (1, 1, 35_000, Some(100_000), false),
        ] {
            let message = message(fields, length, body);
            assert_eq!(may_come_back(&message, limit), may, "{fields} {length} {body} {limit:?}");
        }
    }

    fn opened(body: &[u8], field: &str) -> Edits {
        let append = vec![("X".to_owned(), field.to_owned())];
        Edits { append, body: Some(body.to_vec()), ..Edits::default() }
    }

    #[test]
    fn no_line_of_an_opened_body_takes_more_than_there_was() {
        let body = |line: usize| [vec![b'x'; line], b"\r\n".to_vec()].concat();
        for (body, octets) in [
            (body(76), 78),
            (body(126), 128),
            (body(127), 131),
            (body(998), 1003),
            (b"\n\n\n".to_vec(), 9),
            (body(5000), 5013),
            (b"x".to_vec(), 3),
            (Vec::new(), 0),
        ] {
            assert_eq!(kept(&body), octets);
        }
    }

    #[test]
    fn what_is_opened_is_no_larger_than_what_came_or_than_what_is_known_to_be_taken() {
        let message =
            |body: usize| Message::from_owned([b"A: b\r\n\r\n".to_vec(), vec![b'x'; body]].concat());
        let envelope = Envelope { recipients: vec!["bob@example.org".to_owned()], ..Envelope::default() };
        let fit = |body, limit| Fit::of(&message(body), &envelope, limit);
        let line = [vec![b'y'; 98], b"\r\n".to_vec()].concat();
        // "X: z\r\n" and the line.
        for (came, is_taken) in [(106, true), (105, false)] {
            assert_eq!(fit(came, None).takes(&opened(&line, "z")), is_taken, "{came}");
            assert!(Fit::Any.takes(&opened(&line, "z")));
            assert!(fit(came, Some(100_000)).takes(&opened(&line, "z")));
        }
        assert!(!fit(106, None).takes(&opened(&line, "zz")));
        let is_tried = |body| fit(body, Some(100_000)).may_open();
        assert!(is_tried(33_000) && !is_tried(34_000) && fit(34_000, None).may_open());
        let takes = |body: usize| fit(1000, Some(100_000)).takes(&opened(&line.repeat(body / 100), "z"));
        assert!(takes(33_000) && !takes(34_000), "it may grow up to there");
        assert!(fit(1, None).takes(&Edits { body: None, ..opened(b"", "z") }), "it keeps its body");
    }
}
