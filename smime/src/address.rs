//! Mail addresses: an `addr-spec` (RFC 5321 4.1.2) checked for what may hide in one.
//!
//! Not in here: display names and groups; those belong to the header field that holds them.

use std::{borrow::Cow, fmt, hash, str::FromStr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// An address `local@domain` without white space, controls or a second `@`.
///
/// The exact spelling is kept. Two addresses are equal if their domains are, in A-labels and without regard to case,
/// and their local parts: without regard to case where they are ASCII, as RFC 8550 section 3 asks of receiving
/// agents, and to the letter where they are not, as RFC 9598 section 5 does.
#[derive(Clone, Debug)]
pub struct MailAddress {
    text: String,
    at: usize,
    /// The domain in A-labels and lower case.
    ascii_domain: String,
}

/// Why a text is not a mail address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a mail address: {reason}")]
pub struct AddressError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// RFC 5321 4.5.3.1: 64 octets, `@`, 255 octets.
const MAX_LEN: usize = 320;

impl MailAddress {
    /// Parses `local@domain`, with or without angle brackets around it, as in SMTP commands.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Self::parse_exact(text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text))
    }

    /// Parses `local@domain` and nothing around it, as in certificates: an rfc822Name is a mailbox
    /// without angle brackets (RFC 5280 4.2.1.6). What a CA meant by anything else, nobody knows.
    pub fn parse_exact(bare: &str) -> Result<Self, AddressError> {
        let reject = |reason| AddressError { text: bare.chars().take(MAX_LEN).collect(), reason };
        if bare.len() > MAX_LEN {
            return Err(reject("it is too long"));
        }
        if bare.chars().any(|c| c.is_control() || c.is_whitespace() || is_invisible(c)) {
            return Err(reject("it holds white space or a control character"));
        }
        if bare.contains(['<', '>', ',', ';', ':', '\\', '(', ')', '"', '[', ']']) {
            return Err(reject("quoted local parts, literals and routes are not taken"));
        }
        let Some((local, domain)) = bare.rsplit_once('@') else {
            return Err(reject("there is no @"));
        };
        if local.contains('@') {
            return Err(reject("there is more than one @"));
        }
        if local.is_empty() || domain.is_empty() {
            return Err(reject("a part beside the @ is empty"));
        }
        if domain.split('.').any(str::is_empty) {
            return Err(reject("the domain has an empty label"));
        }
        let ascii_domain = ascii_domain(domain).ok_or_else(|| reject("the domain is no domain name"))?;
        Ok(Self { at: local.len(), text: bare.to_owned(), ascii_domain })
    }

    /// The part before the `@`, as it was spelled.
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The part after the `@`, as it was spelled.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// The domain in A-labels (RFC 5890 2.3.2.1) and lower case, as DNS and certificates have it.
    pub fn ascii_domain(&self) -> &str {
        &self.ascii_domain
    }

    /// Whether the local part has other than ASCII characters: in certificates such an address is an
    /// SmtpUTF8Mailbox, and others are an rfc822Name (RFC 8550 4.4.3).
    pub(crate) fn is_internationalized(&self) -> bool {
        !self.local().is_ascii()
    }

    /// The whole address, as it was spelled.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The form under which equal addresses are the same. Only a local part all of ASCII is in lower case; others keep
    /// their case: U+212A, the Kelvin sign, would become a `k` and make two people one (RFC 9598 section 5).
    pub fn folded(&self) -> String {
        format!("{}@{}", self.folded_local(), self.ascii_domain)
    }

    fn folded_local(&self) -> Cow<'_, str> {
        let local = self.local();
        if local.is_ascii() { local.to_ascii_lowercase().into() } else { local.into() }
    }
}

/// A domain in A-labels and lower case: letters, digits, hyphens, and underscores, which some have.
fn ascii_domain(domain: &str) -> Option<String> {
    if domain.is_ascii() {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        return domain.bytes().all(is_name).then(|| domain.to_ascii_lowercase());
    }
    let mapped =
        Uts46::new().to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify);
    mapped.ok().map(Cow::into_owned)
}

/// Characters that show as nothing, or turn the writing direction.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl PartialEq for MailAddress {
    fn eq(&self, other: &Self) -> bool {
        self.ascii_domain == other.ascii_domain && self.folded_local() == other.folded_local()
    }
}

impl Eq for MailAddress {}

impl hash::Hash for MailAddress {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.folded().hash(state);
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for MailAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_tell_addresses_apart() {
        let one = MailAddress::parse("<Alice@Example.ORG>").unwrap();
        assert_eq!(one, MailAddress::parse("alice@example.org").unwrap());
        assert_eq!(one.as_str(), "Alice@Example.ORG");
        assert_eq!((one.local(), one.domain()), ("Alice", "Example.ORG"));
        let kelvin = MailAddress::parse("\u{212a}arl@example.org").unwrap();
        assert_ne!(kelvin, MailAddress::parse("karl@example.org").unwrap());
    }

    #[test]
    fn domains_are_compared_in_a_labels_and_local_parts_beyond_ascii_to_the_letter() {
        for (one, other, same) in [
            ("a@M\u{dc}NCHEN.example", "a@xn--mnchen-3ya.example", true),
            ("a@mu\u{308}nchen.example", "A@XN--MNCHEN-3YA.example", true),
            ("a@munchen.example", "a@xn--mnchen-3ya.example", false),
            // With Cyrillic letters that look alike.
            ("a@\u{435}xample.org", "a@example.org", false),
            ("a@\u{ff45}xample.org", "a@example.org", true),
            ("a@stra\u{df}e.example", "a@strasse.example", false),
            ("J\u{f6}rg@example.org", "J\u{f6}rg@EXAMPLE.org", true),
            ("J\u{f6}rg@example.org", "j\u{f6}rg@example.org", false),
            ("J\u{f6}rg@example.org", "Jo\u{308}rg@example.org", false),
            ("J\u{f6}rg@example.org", "Jorg@example.org", false),
        ] {
            let [first, second] = [one, other].map(|text| MailAddress::parse(text).unwrap());
            assert_eq!(first == second, same, "{one} {other}");
            assert_eq!(first.folded() == second.folded(), same, "{one} {other}");
            assert_eq!(first.as_str(), one);
        }
    }

    #[test]
    fn angle_brackets_are_part_of_a_path_and_not_of_a_mailbox() {
        for (text, path, mailbox) in [
            ("alice@example.org", true, true),
            ("<alice@example.org>", true, false),
            ("<<alice@example.org>>", false, false),
            ("<alice@example.org", false, false),
            ("alice@example.org>", false, false),
        ] {
            assert_eq!(MailAddress::parse(text).is_ok(), path, "{text}");
            assert_eq!(MailAddress::parse_exact(text).is_ok(), mailbox, "{text}");
        }
    }

    #[test]
    fn hidden_characters_and_extra_parts_are_refused() {
        for text in [
            "",
            "alice",
            "@example.org",
            "alice@",
            "a@b@c",
            "alice @example.org",
            "alice@example.org\0",
            "alice@exa\u{200b}mple.org",
            "alice@example.org\r\nBcc: x@y",
            "alice@example..org",
            "\"a b\"@example.org",
            "<@relay:alice@example.org>",
            "alice@[127.0.0.1]",
            "alice@example.org.",
            "alice@example.org\u{3002}",
            "alice@exam ple.org",
            "alice@exam'ple.org",
            "alice@\u{fc}_.example",
        ] {
            assert!(MailAddress::parse(text).is_err(), "{text:?}");
        }
    }
}
