//! The originators of a message: the mailboxes of its From field (RFC 5322 3.4, 3.6.2).
//!
//! A signature is worth something only if the address that people see is the one that was checked, so
//! this reads a strict subset of the grammar, and what it does not understand is an error. No address
//! ever comes out of a display name, a comment, a quoted string or an encoded word.

use super::{Header, HeaderField, LONGEST_LINE, MimeEntity, has_blank_line, mailboxes::mailboxes};
use crate::{Fault, MailAddress, address::AddressError};

/// Why the originator of a message is not clear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FromError {
    /// There is no From field.
    #[error("there is no From field")]
    Missing,
    /// A line of the header is no field. Some agents begin the body there, and see no From behind it.
    #[error("a line of the header is no field")]
    HeaderLine,
    /// There are several From fields; agents show this one or that one.
    #[error("there are {count} From fields")]
    SeveralFields {
        /// How many.
        count: usize,
    },
    /// There are several mailboxes in the From field where one is wanted.
    #[error("there are {count} mailboxes in the From field")]
    SeveralMailboxes {
        /// How many.
        count: usize,
    },
    /// The From field is no list of mailboxes.
    #[error("the From field cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A mailbox in the From field has an address that is not taken.
    #[error("an address in the From field cannot be taken")]
    Address(#[from] AddressError),
}

impl FromError {
    /// Whose fault it is: always the message's.
    pub fn fault(&self) -> Fault {
        Fault::Message
    }
}

/// The addresses of all mailboxes in the one From field of a message.
pub fn originators(message: &MimeEntity<'_>) -> Result<Vec<MailAddress>, FromError> {
    let header = message.header();
    if has_bare_line_end(message.header_octets()) {
        return Err(malformed("a bare CR or LF in the header, where some agents see another line"));
    }
    if has_line_without_name(&header) {
        return Err(FromError::HeaderLine);
    }
    if has_blank_line(message.header_octets()) {
        return Err(malformed("a line of blanks in the header, where some agents see its end"));
    }
    if header.all("From").any(|field| has_long_line(field.octets())) {
        return Err(malformed("a line of more than 988 octets, which MTAs break where they like"));
    }
    let mut fields = header.all("From");
    let first = fields.next().ok_or(FromError::Missing)?;
    match fields.count() {
        0 => mailboxes(first.value()),
        more => Err(FromError::SeveralFields { count: more + 1 }),
    }
}

/// The address of the only mailbox in the one From field of a message.
pub fn single_originator(message: &MimeEntity<'_>) -> Result<MailAddress, FromError> {
    let mut addresses = originators(message)?;
    match (addresses.len(), addresses.pop()) {
        (1, Some(address)) => Ok(address),
        (count, _) => Err(FromError::SeveralMailboxes { count }),
    }
}

/// The same, where every MTA hands the field on as it is: whom readers see.
pub fn shown_originator(message: &MimeEntity<'_>) -> Result<MailAddress, FromError> {
    let from = single_originator(message)?;
    if message.header().all("From").any(may_be_cut) {
        return Err(malformed("longer than every MTA hands it on"));
    }
    Ok(from)
}

/// Everybody whom some agent may show as the author: the mailboxes of all From fields. `None` where it may be anybody,
/// because there is no From field, or one of them or the header cannot be read.
pub fn possible_originators(message: &MimeEntity<'_>) -> Option<Vec<MailAddress>> {
    let header = message.header();
    let octets = message.header_octets();
    if has_bare_line_end(octets) || has_line_without_name(&header) || has_blank_line(octets) {
        return None;
    }
    let mailboxes_of = |field: HeaderField<'_>| {
        let is_broken = has_long_line(field.octets()) || may_be_cut(field);
        mailboxes(field.value()).ok().filter(|_| !is_broken)
    };
    let fields = header.all("From").map(mailboxes_of);
    let addresses = fields.collect::<Option<Vec<_>>>()?.concat();
    (!addresses.is_empty()).then_some(addresses)
}

/// The addresses that the destination fields name, those of To and Cc and of resent mail (RFC 5322 3.6.3, 3.6.6). A
/// field that is not understood names nobody: whoever asks wants to know who is surely seen by all.
pub fn named_recipients(message: &MimeEntity<'_>) -> Vec<MailAddress> {
    let header = message.header();
    let names = ["To", "Cc", "Resent-To", "Resent-Cc"];
    let fields = header.fields().filter(|field| names.iter().any(|name| field.is(name)));
    fields.filter_map(|field| mailboxes(field.value()).ok()).flatten().collect()
}

/// Who the signer of a message may be (RFC 8550 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SenderRule {
    /// The one mailbox in From, which is what readers see.
    #[default]
    From,
    /// That, or the mailbox in Sender, which few readers see: for those who send in the name of others.
    FromOrSender,
}

/// Who a message says it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    from: Result<MailAddress, FromError>,
    sender: Option<MailAddress>,
}

impl Claimed {
    /// What the fields of a message say, as far as the rule asks for them. A Sender field that is there twice, or is not one
    /// mailbox, is none.
    pub fn of(message: &MimeEntity<'_>, rule: SenderRule) -> Self {
        let from = shown_originator(message);
        let header = message.header();
        let mut fields = header.all("Sender");
        let sender = match (rule, fields.next(), fields.next()) {
            (SenderRule::FromOrSender, Some(field), None)
                if !has_long_line(field.octets()) && !may_be_cut(field) =>
            {
                mailboxes(field.value()).ok()
            }
            _ => None,
        };
        let sender = sender.and_then(|addresses| <[MailAddress; 1]>::try_from(addresses).ok());
        Self { from, sender: sender.map(|[address]| address) }
    }

    /// The addresses of which the signer must have one. A message without one clear mailbox in From has none.
    pub fn addresses(&self) -> Result<impl Iterator<Item = &MailAddress>, &FromError> {
        self.from.as_ref().map(|from| std::iter::once(from).chain(&self.sender))
    }
}

impl From<Result<MailAddress, FromError>> for Claimed {
    fn from(from: Result<MailAddress, FromError>) -> Self {
        Self { from, sender: None }
    }
}

pub(super) fn malformed(reason: &'static str) -> FromError {
    FromError::Malformed { reason }
}

/// Whether a line is no field for every MTA, but for the line that mailbox files put in front of a message.
pub(crate) fn has_line_without_name(header: &Header<'_>) -> bool {
    let is_fault = |(at, field): (usize, HeaderField<'_>)| {
        if field.name().is_empty() {
            return !(at == 0 && field.octets().starts_with(b"From "));
        }
        ends_the_header(field.name())
    };
    header.fields().enumerate().any(is_fault)
}

/// Whether the header ends for Sendmail where a field has this name (`isheader`, `chompheader` and `HdrInfo` in 8.17): it
/// writes what follows as text, and adds a From of the envelope's sender if there was none.
fn ends_the_header(name: &str) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    name.len() > 100 || name.starts_with("--") || is("text") || is("message")
}

/// Whether a line is longer than MTAs deliver it (RFC 5321 4.5.3.1.6). Postfix breaks such a line of a header after octet
/// 998, Sendmail before, also within a quoted string or a quoted pair, so that readers see another field than was judged.
pub(crate) fn has_long_line(octets: &[u8]) -> bool {
    let length = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len();
    octets.split(|octet| *octet == b'\n').any(|line| length(line) > LONGEST_LINE)
}

/// Whether Sendmail may write less of an address field than there is (`crackaddr` and `remotename` in 8.17): of 257 octets it
/// drops the last, wherever that leaves the address, of more also all but the address, or the address. Before, it
/// quotes names that it thinks need it, and what is special in them, closes brackets, and marks octets from 128 to 159.
fn may_be_cut(field: HeaderField<'_>) -> bool {
    let value = field.value().trim_ascii();
    let special = value.iter().filter(|octet| !octet.is_ascii() || b"\"\\()".contains(octet)).count();
    value.len() + special > 250
}

/// Whether there is a CR or an LF that is no part of a CRLF.
pub(crate) fn has_bare_line_end(octets: &[u8]) -> bool {
    let (Some(first), Some(last), Some(next)) = (octets.first(), octets.last(), octets.get(1..)) else {
        return false;
    };
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "without branches many octets are looked at in one step"
    )]
    let is_bare = |bare, (one, next): (&u8, &u8)| bare | ((*one == b'\r') ^ (*next == b'\n'));
    *first == b'\n' || *last == b'\r' || octets.iter().zip(next).fold(false, is_bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(header: &str) -> Result<Vec<String>, FromError> {
        let octets = format!("Subject: x\r\n{header}\r\n\r\nbody");
        originators(&MimeEntity::parse(octets.as_bytes()))
            .map(|addresses| addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn crs_and_lfs_are_bare_wherever_they_are_no_pair() {
        for length in 0..8 {
            for number in 0..3_usize.pow(length) {
                let digit = |at: u32| b"x\r\n"[number / 3_usize.pow(at) % 3];
                let octets: Vec<u8> = (0..length).map(digit).collect();
                let text = String::from_utf8(octets.clone()).unwrap().replace("\r\n", "");
                assert_eq!(has_bare_line_end(&octets), text.contains(['\r', '\n']), "{octets:?}");
            }
        }
    }

    #[test]
    fn only_addresses_are_addresses() {
        for (header, addresses) in [
            ("From: alice@example.org", &["alice@example.org"][..]),
            ("from : <alice@example.org>", &["alice@example.org"]),
            ("From: Alice A. Adams <alice@example.org> (home)", &["alice@example.org"]),
            ("From: \"bob@example.org\" <alice@example.org>", &["alice@example.org"]),
            ("From: \"x\\\" <bob@example.org>\" <alice@example.org>", &["alice@example.org"]),
            ("From: (bob@example.org, \\) (<c@d>)) alice@example.org", &["alice@example.org"]),
            ("From: =?utf-8?q?bob=40example.org=3E?=\r\n <alice@example.org>", &["alice@example.org"]),
            ("From: a@x.org, \"B, b\" <b@x.org>", &["a@x.org", "b@x.org"]),
            ("From: J\u{fc}rgen <j\u{fc}rgen@example.org>", &["j\u{fc}rgen@example.org"]),
            ("From: < alice@example.org >", &["alice@example.org"]),
        ] {
            assert_eq!(from(header).unwrap(), addresses, "{header}");
        }
    }

    #[test]
    fn what_agents_show_differently_is_refused() {
        for header in [
            "From:",
            "From: Alice",
            "From: <>",
            "From: ,alice@example.org",
            "From: alice@example.org,",
            "From: alice@example.org bob@example.org",
            "From: bob@example.org <alice@example.org>",
            "From: <bob@example.org> <alice@example.org>",
            "From: <alice@example.org> bob",
            "From: <bob@example.org,alice@example.org>",
            "From: <<alice@example.org>",
            "From: <alice@example.org",
            "From: alice@example.org>",
            "From: friends: alice@example.org;",
            "From: undisclosed-recipients:;",
            "From: <@relay.example:alice@example.org>",
            "From: \"alice\"@example.org",
            "From: alice@[127.0.0.1]",
            "From: alice @example.org",
            "From: alice(c)@example.org",
            "From: alice@example.org@evil.example",
            "From: a..b@example.org",
            "From: =?utf-8?q?alice?=@example.org",
            "From: alice@example.org\0",
            "From: alice@example.org (",
            "From: Bob <(bob@example.org) alice@example.org>",
            "From: <alice@example.org (bob@example.org)>",
            "From: \"alice <alice@example.org>",
            "From: \"a\0\" <alice@example.org>",
            "From: alice\\@example.org",
        ] {
            let parsed = from(header);
            assert!(
                matches!(parsed, Err(FromError::Malformed { .. } | FromError::Address(_))),
                "{header}: {parsed:?}"
            );
        }
    }

    /// "Johnny, you are fired" (USENIX Security 2019), classes I1 to I3.
    #[test]
    fn the_single_originator_is_never_in_doubt() {
        let single = |header: &str| {
            let octets = format!("Sender: mallory@evil.example\r\n{header}\r\n\r\nbody");
            single_originator(&MimeEntity::parse(octets.as_bytes())).map(|address| address.to_string())
        };
        assert_eq!(
            single("From: \"alice@example.org\" <mallory@evil.example>"),
            Ok("mallory@evil.example".to_owned())
        );
        assert_eq!(single("To: bob@example.org"), Err(FromError::Missing));
        assert_eq!(
            single("From: alice@example.org\r\nFROM : mallory@evil.example"),
            Err(FromError::SeveralFields { count: 2 })
        );
        assert_eq!(
            single("From: alice@example.org, mallory@evil.example"),
            Err(FromError::SeveralMailboxes { count: 2 })
        );
        assert!(matches!(
            single("Subject: x\rFrom: alice@example.org\r\nFrom: mallory@evil.example"),
            Err(FromError::Malformed { .. })
        ));
        assert!(matches!(
            single("Subject: x\nFrom: alice@example.org\r\nFrom: mallory@evil.example"),
            Err(FromError::Malformed { .. })
        ));
    }

    /// Some programs take a line that is no field for the first of the body, or go on behind it.
    #[test]
    fn no_originator_is_named_around_a_line_that_is_no_field() {
        let from = "From: alice@example.org\r\n";
        for (name, header, is_clear) in [
            ("none", from.to_owned(), true),
            ("behind", format!("{from}no field\r\n"), false),
            ("in front", format!("no field\r\n{from}"), false),
            ("a name with a blank in it", format!("{from}no field: x\r\n"), false),
            ("a name beyond ASCII", format!("{from}\u{fc}: x\r\n"), false),
            ("nothing but a blank", format!(" \r\n{from}"), false),
            ("no name", format!("{from}: x\r\n"), false),
            ("a name that Sendmail takes", format!("{}: x\r\n{from}", "a".repeat(100)), true),
            ("a longer one", format!("{}: x\r\n{from}", "a".repeat(101)), false),
            ("one like a delimiter", format!("--a: x\r\n{from}"), false),
            ("one like half of it", format!("-a: x\r\n{from}"), true),
            ("one that ends Sendmail's header", format!("Text: x\r\n{from}"), false),
            ("the other, with a blank behind it", format!("mESSAGE : x\r\n{from}"), false),
            ("what begins like them", format!("Message-ID: x\r\nTextual: x\r\n{from}"), true),
            ("a continuation", format!("{from} (no field)\r\n"), true),
            ("the line of a mailbox file", format!("From x@y Mon Jan  1 00:00:00 2024\r\n{from}"), true),
            ("the same further down", format!("{from}From x@y Mon Jan  1 00:00:00 2024\r\n"), false),
            ("two of them", format!("From x\r\nFrom y\r\n{from}"), false),
            ("quoted", format!(">From x@y Mon Jan  1 00:00:00 2024\r\n{from}"), false),
        ] {
            let octets = format!("{header}\r\nbody");
            let found = originators(&MimeEntity::parse(octets.as_bytes())).map(|addresses| addresses.len());
            assert_eq!(found, if is_clear { Ok(1) } else { Err(FromError::HeaderLine) }, "{name}");
        }
    }

    #[test]
    fn who_may_be_shown_as_the_author_is_known_or_may_be_anybody() {
        for (header, expected) in [
            ("From: a@x.example", Some(&["a@x.example"][..])),
            (
                "From: a@x.example\r\nfrom: b@x.example, c@x.example",
                Some(&["a@x.example", "b@x.example", "c@x.example"]),
            ),
            ("Subject: x", None),
            ("From: a@x.example\r\nFrom: group: b@x.example;", None),
            ("From: a@x.example\r\nno field", None),
            ("From: a@x.example\r\nX: y\rFrom: b@x.example", None),
        ] {
            let octets = format!("{header}\r\n\r\nbody");
            let found = possible_originators(&MimeEntity::parse(octets.as_bytes()));
            let found = found.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(
                found,
                expected.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
                "{header:?}"
            );
        }
    }

    #[test]
    fn no_originator_is_in_a_line_that_mtas_break() {
        // Postfix puts a fold behind octet 998 of a line: between the backslash and the quote, so that the quoted string ends
        // there and readers see alice alone.
        let start = "From: (";
        let padding = "A".repeat(998 - start.len() - ") \"Alice\\".len());
        let broken =
            format!("{start}{padding}) \"Alice\\\" <alice@example.org> (\" <mallory@evil.example>\r\n");
        assert!(broken.len() > 1000 && broken.as_bytes()[997] == b'\\');
        for (header, is_clear) in [
            (broken, false),
            (format!("From: {}<alice@example.org>\r\n", "a".repeat(988 - 25)), true),
            (format!("From: {}<alice@example.org>\r\n", "a".repeat(989 - 25)), false),
            (format!("From: {}\r\n <alice@example.org>\r\n", "a".repeat(988 - 6)), true),
            (format!("Subject: {}\r\nFrom: alice@example.org\r\n", "a".repeat(2000)), true),
        ] {
            let octets = format!("{header}\r\n");
            let entity = MimeEntity::parse(octets.as_bytes());
            assert_eq!(single_originator(&entity).is_ok(), is_clear, "{header}");
        }
        for (length, count) in [(250, 2), (251, 1)] {
            let name = "a".repeat(length - "<carol@example.org>".len());
            let octets = format!("From: bob@example.org\r\nSender: {name}<carol@example.org>\r\n\r\n");
            let claimed = Claimed::of(&MimeEntity::parse(octets.as_bytes()), SenderRule::FromOrSender);
            assert_eq!(claimed.addresses().unwrap().count(), count, "{length}");
        }
    }

    #[test]
    fn no_originator_that_is_shown_is_in_a_field_that_sendmail_cuts() {
        let named = |name: &str, at: &str| format!("From: {name}{at}<alice@example.org>\r\n");
        let room = 250 - "<alice@example.org>".len();
        for (header, is_clear) in [
            (named(&"a".repeat(room), ""), true),
            (named(&"a".repeat(room + 1), ""), false),
            // Folded or not.
            (named(&"a".repeat(room - 4), "\r\n  "), true),
            (named(&"a".repeat(room - 3), "\r\n  "), false),
            // It writes a quote within a name as two octets.
            (named(&"\"\"".repeat(room / 4), ""), true),
            (named(&"\"\"".repeat(room / 4 + 1), ""), false),
            // And an octet of UTF-8 within itself as two.
            (named(&"\u{400}".repeat(room / 4), ""), true),
            (named(&"\u{400}".repeat(room / 4 + 1), ""), false),
            (format!("Subject: {}\r\nFrom: alice@example.org\r\n", "a".repeat(300)), true),
        ] {
            let octets = format!("{header}\r\n");
            let entity = MimeEntity::parse(octets.as_bytes());
            assert!(single_originator(&entity).is_ok(), "{header}");
            assert_eq!(shown_originator(&entity).is_ok(), is_clear, "{header}");
            assert_eq!(possible_originators(&entity).is_some(), is_clear, "{header}");
            assert_eq!(Claimed::of(&entity, SenderRule::From).addresses().is_ok(), is_clear, "{header}");
        }
    }

    #[test]
    fn only_the_header_names_originators() {
        let entity = MimeEntity::parse(b"Subject: x\r\n\r\nFrom: alice@example.org\r\n");
        assert_eq!(originators(&entity), Err(FromError::Missing));
    }
}
