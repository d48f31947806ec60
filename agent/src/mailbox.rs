//! An address of the envelope, read as an MTA reads it before it delivers to it.
//!
//! The milter gets what the client wrote: with a source route, a comment, quotes that need not be there, a dot at the end.
//! Postfix and Sendmail take all that off (Postfix: `extract_addr` and `tok822_parse`), and a rule that does not would be
//! about nobody. What they make something else of, by their configuration, is nobody's for sure and perhaps anybody's.

use smime::MailAddress;

/// Whom an address of the envelope means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mailbox {
    /// This one.
    Address(MailAddress),
    /// Nobody of whom an address in a rule can be: there is no recipient, or it is the postmaster of this host, whom RFC 5321,
    /// 4.5.1 lets everybody write to without a domain.
    Nobody,
    /// Perhaps anybody: it has no domain, or is rewritten by MTAs (`user%domain`, `site!user`), or cannot be read.
    Doubtful,
}

impl Mailbox {
    /// Reads what stands between the angle brackets of `MAIL` or `RCPT`.
    pub(crate) fn read(text: &str) -> Self {
        let text = text.trim_matches(BLANKS);
        // The route is over at the first colon, as Postfix has it.
        let text =
            if text.starts_with('@') { text.split_once(':').map_or(text, |(_, text)| text) } else { text };
        let Some(Scanned { local, domain, is_odd: false, .. }) = Scanned::of(text) else {
            return Self::Doubtful;
        };
        let Some(domain) = domain else {
            return if local.eq_ignore_ascii_case("postmaster") { Self::Nobody } else { Self::Doubtful };
        };
        if local.contains(REWRITTEN) {
            return Self::Doubtful;
        }
        let domain = domain.strip_suffix('.').unwrap_or(&domain);
        MailAddress::parse_exact(&format!("{local}@{domain}")).map_or(Self::Doubtful, Self::Address)
    }

    /// The address, where there is a clear one.
    pub(crate) fn address(&self) -> Option<&MailAddress> {
        match self {
            Self::Address(address) => Some(address),
            Self::Nobody | Self::Doubtful => None,
        }
    }

    /// The same.
    pub(crate) fn into_address(self) -> Option<MailAddress> {
        match self {
            Self::Address(address) => Some(address),
            Self::Nobody | Self::Doubtful => None,
        }
    }
}

/// The address of a recipient that has one spelling alone: an MTA that is told to remove it finds it, and what it delivers
/// to is this. Postfix compares octet by octet, after both have lost their quotes and comments (`cleanup_del_rcpt`), and
/// says nothing where it finds none.
pub fn plain(recipient: &str) -> Option<MailAddress> {
    let address = MailAddress::parse_exact(recipient).ok()?;
    let is_atom = |c: char| {
        c.is_ascii_alphanumeric()
            || "#$&'*+-/=?^_`{|}~".contains(c)
            || (!c.is_ascii() && c != char::REPLACEMENT_CHARACTER)
    };
    let is_atom = |part: &str| !part.is_empty() && part.chars().all(is_atom);
    address.local().split('.').all(is_atom).then_some(address)
}

/// Whether a server may take this as the argument of `RCPT`: UTF-8 without control characters, without a route, a group,
/// brackets within brackets, and with an end to whatever is opened. MTAs read these each in their own way, and remove
/// another recipient than they deliver to.
pub fn may_be_recipient(argument: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(argument) else { return false };
    if text.contains(char::is_control) {
        return false;
    }
    let text = text.trim_matches(BLANKS);
    let text = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
    Scanned::of(text).is_some_and(|scanned| !scanned.is_structured)
}

const BLANKS: [char; 2] = [' ', '\t'];

/// Characters by which MTAs find another address in a local part (Postfix: `allow_percent_hack`, `swap_bangpath`).
const REWRITTEN: [char; 3] = ['%', '!', '@'];

/// An address without comments, and without quotes around its local part.
#[derive(Default)]
struct Scanned {
    local: String,
    domain: Option<String>,
    /// Whether there is something in it that not all read alike.
    is_odd: bool,
    /// Whether it has what is around an address or between addresses: brackets, a group, a route, a list.
    is_structured: bool,
}

impl Scanned {
    /// `None` where a quote, a comment or a bracket has no end.
    fn of(text: &str) -> Option<Self> {
        let mut scanned = Self::default();
        let mut rest = text.chars();
        // Whether the next character would be joined to one it does not stand beside.
        let mut is_apart = false;
        while let Some(c) = rest.next() {
            match c {
                '(' => {
                    skip_comment(&mut rest)?;
                    is_apart = true;
                }
                ' ' | '\t' => is_apart = true,
                '"' => {
                    scanned.is_odd |= scanned.domain.is_some() || scanned.is_within_atom();
                    let quoted = quoted(&mut rest)?;
                    scanned.part().push_str(&quoted);
                    is_apart = true;
                }
                '[' => {
                    // A literal names a host by number, and which one that is the MTA knows.
                    scanned.is_odd = true;
                    rest.find(|c| *c == ']')?;
                }
                '@' => {
                    scanned.is_structured |= scanned.domain.is_none() && scanned.local.is_empty();
                    scanned.is_odd |= scanned.domain.is_some();
                    scanned.domain = Some(String::new());
                    is_apart = false;
                }
                '<' | '>' | ',' | ';' | ':' => {
                    scanned.is_odd = true;
                    scanned.is_structured = true;
                }
                '\\' => {
                    scanned.is_odd = true;
                    rest.next()?;
                }
                c => {
                    scanned.is_odd |= is_apart && c != '.' && scanned.is_within_atom();
                    scanned.part().push(c);
                    is_apart = false;
                }
            }
        }
        Some(scanned)
    }

    fn part(&mut self) -> &mut String {
        self.domain.as_mut().unwrap_or(&mut self.local)
    }

    fn is_within_atom(&mut self) -> bool {
        let part = self.part();
        !part.is_empty() && !part.ends_with('.')
    }
}

/// What stands up to the closing quote.
fn quoted(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => text.push(rest.next()?),
            c => text.push(c),
        }
    }
}

/// Comments may be in comments.
fn skip_comment(rest: &mut std::str::Chars<'_>) -> Option<()> {
    let mut depth = 1;
    while depth > 0 {
        match rest.next()? {
            '(' => depth += 1,
            ')' => depth -= 1,
            '\\' => drop(rest.next()?),
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_the_mta_reads_it() {
        for (text, expected) in [
            ("nobody@partner.example", Some("nobody@partner.example")),
            (" nobody@partner.example\t", Some("nobody@partner.example")),
            ("nobody@PARTNER.example.", Some("nobody@PARTNER.example")),
            ("\"nobody\"@partner.example", Some("nobody@partner.example")),
            ("\"no\\body\"@partner.example", Some("nobody@partner.example")),
            ("no.\"body\"@partner.example", Some("no.body@partner.example")),
            ("\"no\".body@partner.example", Some("no.body@partner.example")),
            ("\"no.body\"@partner.example", Some("no.body@partner.example")),
            ("@r.invalid:nobody@partner.example", Some("nobody@partner.example")),
            ("@r.invalid,@s.invalid:nobody@partner.example", Some("nobody@partner.example")),
            ("nobody@partner.example(x)", Some("nobody@partner.example")),
            ("(x(y\\))) nobody (z)@ partner . example", Some("nobody@partner.example")),
            ("no . body@partner.example", Some("no.body@partner.example")),
            ("nobody+x@m\u{fc}nchen.example", Some("nobody+x@m\u{fc}nchen.example")),
            // What another MTA, or another configuration, makes something else of.
            ("nobody", None),
            ("\"no body\"@partner.example", None),
            ("\"\"@partner.example", None),
            ("no body@partner.example", None),
            ("no(x)body@partner.example", None),
            ("\"no\"body@partner.example", None),
            ("no\"body\"@partner.example", None),
            ("no\\body@partner.example", None),
            ("nobody@\"partner.example\"", None),
            ("nobody%partner.example", None),
            ("nobody%partner.example@example.org", None),
            ("partner.example!nobody", None),
            ("partner.example!nobody@example.org", None),
            ("\"nobody@partner.example\"@example.org", None),
            ("nobody@partner.example@example.org", None),
            ("nobody@[192.0.2.1]", None),
            ("nobody@partner.example..", None),
            ("nobody@", None),
            ("@r.invalid:", None),
            ("@r.invalid", None),
            ("@r.invalid:@s.invalid:nobody@partner.example", None),
            ("<nobody@partner.example>", None),
            ("Nobody <nobody@partner.example>", None),
            ("g:nobody@partner.example;", None),
            ("nobody@partner.example,x@y.example", None),
            ("\"nobody@partner.example", None),
            ("nobody(@partner.example", None),
            ("no\u{200b}body@partner.example", None),
            ("postmaster%partner.example", None),
            ("", None),
        ] {
            let read = Mailbox::read(text);
            assert_eq!(read.address().map(MailAddress::as_str), expected, "{text}");
            assert!(expected.is_some() || read == Mailbox::Doubtful, "{text}");
        }
        for text in ["postmaster", "Postmaster", "\"POSTMASTER\"", "postmaster(x)"] {
            assert_eq!(Mailbox::read(text), Mailbox::Nobody, "{text}");
        }
    }

    #[test]
    fn a_plain_address_has_one_spelling() {
        for text in [
            "bob@example.org",
            "Bob.Smith+x=y@Example.ORG",
            "prvs=1234=bob@example.org",
            "J\u{f6}rg@m\u{fc}nchen.example",
            "b/c=de/o'neill@sub_1.example",
        ] {
            assert!(plain(text).is_some(), "{text}");
        }
        for text in [
            "bob",
            " bob@example.org",
            "<bob@example.org>",
            "\"bob\"@example.org",
            "bob@example.org.",
            "bob@example.org(x)",
            "bob\\@example.org",
            ".bob@example.org",
            "bob..smith@example.org",
            "bob.@example.org",
            "bob%x@example.org",
            "x!bob@example.org",
            "@r.invalid:bob@example.org",
            "Bob <bob@example.org>",
            "g:bob@example.org;",
            "mallory+\u{fffd}@example.org",
            "bob@[192.0.2.1]",
            "postmaster",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    #[test]
    fn what_mtas_read_each_in_their_own_way_is_no_recipient() {
        for argument in [
            "<bob@example.org>",
            "bob@example.org",
            "< bob@example.org >",
            "<\"b <o> b:;,\"@example.org>",
            "<bob(<:;,>)@example.org>",
            "<bob@[IPv6:2001:db8::1]>",
            "<bob@example.org.>",
            "<bob%x>",
            "<x!bob@example.org>",
            "<J\u{f6}rg@m\u{fc}nchen.example>",
            "<postmaster>",
        ] {
            assert!(may_be_recipient(argument.as_bytes()), "{argument}");
        }
        for argument in [
            &b"<bob+\xff@example.org>"[..],
            b"<bob\x01@example.org>",
            b"<\"bob\x7f\"@example.org>",
            b"<bob\xc2\x85@example.org>",
            b"<bob@example.org\n>",
            b"<@relay.invalid:mallory@example.org>",
            b"< @relay.invalid:mallory@example.org>",
            b"<(x)@relay.invalid:mallory@example.org>",
            b"<@relay.invalid>",
            b"<Mallory <mallory@example.org>>",
            b"Mallory <mallory@example.org>",
            b"<<mallory@example.org>>",
            b"<mallory@example.org",
            b"<g:mallory@example.org;>",
            b"<bob@example.org,mallory@example.org>",
            b"<\"bob@example.org>",
            b"<bob(@example.org>",
            b"<bob@[192.0.2.1>",
            b"<bob\\>",
        ] {
            assert!(!may_be_recipient(argument), "{}", String::from_utf8_lossy(argument));
        }
    }
}
