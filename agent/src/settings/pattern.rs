//! Addresses that a rule is about: all, those of a domain or below one, single ones, or a file or table of them.

use std::{collections::HashSet, fmt, path::PathBuf, sync::Arc};

use smime::MailAddress;

use crate::mailbox::Mailbox;

/// Some addresses, compared as [`MailAddress`] compares them: domains in A-labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressPattern {
    /// `*`.
    Any,
    /// `*@example.org`: this domain, not those below it. In A-labels and lower case.
    Domain(String),
    /// `*@*.example.org`: the domains below this one, not itself. In A-labels and lower case.
    Below(String),
    /// `alice@example.org`.
    Address(MailAddress),
}

impl AddressPattern {
    /// Parses a pattern, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some(domain) = text.strip_prefix("*@") else {
            let address = MailAddress::parse(text).map_err(|error| {
                if text.contains('@') {
                    error.reason.to_owned()
                } else if text.contains(char::is_whitespace) {
                    WHITE_SPACE.to_owned()
                } else {
                    format!("did you mean \"*@{text}\"?")
                }
            })?;
            if text.contains('*') {
                return Err(STAR.to_owned());
            }
            return Ok(Self::Address(address));
        };
        let below = domain.strip_prefix("*.");
        let plain = below.unwrap_or(domain);
        if plain.contains('*') {
            return Err(STAR.to_owned());
        }
        let plain = MailAddress::parse(&format!("x@{plain}")).map_err(|error| error.reason.to_owned())?;
        let plain = plain.ascii_domain().to_owned();
        Ok(if below.is_some() { Self::Below(plain) } else { Self::Domain(plain) })
    }

    /// Whether it is about mail of this address.
    pub fn matches(&self, address: &MailAddress) -> bool {
        match self {
            Self::Any => true,
            Self::Domain(domain) => address.ascii_domain() == domain,
            Self::Below(domain) => is_below(address.ascii_domain(), domain),
            Self::Address(own) => own == address,
        }
    }

    /// Whether it is about all mail that another is about.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Domain(domain), Self::Domain(other)) => domain == other,
            (Self::Below(domain), Self::Below(other)) => domain == other || is_below(other, domain),
            (Self::Below(domain), Self::Domain(other)) => is_below(other, domain),
            (_, Self::Address(address)) => self.matches(address),
            _ => false,
        }
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Domain(domain) => write!(f, "*@{domain}"),
            Self::Below(domain) => write!(f, "*@*.{domain}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Whether a domain is one below another, both in A-labels and lower case.
fn is_below(domain: &str, above: &str) -> bool {
    domain.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'))
}

const WHITE_SPACE: &str = "it holds white space, and an address has an @";
const STAR: &str = "a * stands for a whole local part, for what is below a domain as in \"*@*.example.org\", or alone \
                    for all";
const FOLDED: &str = "postmap makes others of letters beyond ASCII, and nobody knows whose they were; write domains as xn--…, \
                      and people in a file:";

/// Whether a rule is about a message. Of several conditions the least counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum About {
    /// It is about others.
    Others,
    /// Who somebody is, is not clear, and it may be one of those.
    Perhaps,
    /// It is.
    Surely,
}

/// A list of patterns and of files and tables with patterns. An empty list is about all addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressList {
    pub(super) patterns: Vec<AddressPattern>,
    pub(super) files: Vec<Arc<AddressFile>>,
}

/// The patterns of a file, one on each line, or the keys of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressFile {
    path: PathBuf,
    /// Whether it is an LMDB table, whose file has `.lmdb` behind this path.
    is_table: bool,
    /// Whole addresses, folded; there may be very many.
    addresses: HashSet<String>,
    /// In A-labels and lower case.
    domains: HashSet<String>,
    others: Vec<AddressPattern>,
}

impl AddressFile {
    /// Reads the text of a file. Empty lines and what follows a `#` are nothing. On a mistake the line and the
    /// reason.
    pub(super) fn parse(path: PathBuf, text: &str) -> Result<Self, String> {
        let mut file = Self { path, ..Self::default() };
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            file.add(AddressPattern::parse(line).map_err(|reason| format!("line {}: {reason}", at + 1))?);
        }
        Ok(file)
    }

    /// Takes the keys of a table. On a mistake the key and the reason: with one left out, a rule would be about less mail
    /// than was meant.
    pub(super) fn of_table(path: PathBuf, keys: &[&[u8]]) -> Result<Self, String> {
        let mut table = Self { path, is_table: true, ..Self::default() };
        for key in keys {
            let shown = || String::from_utf8_lossy(key).into_owned();
            table.add(of_key(key).map_err(|reason| format!("the key {:?}: {reason}", shown()))?);
        }
        Ok(table)
    }

    fn add(&mut self, pattern: AddressPattern) {
        match pattern {
            AddressPattern::Address(address) => drop(self.addresses.insert(address.folded())),
            AddressPattern::Domain(domain) => drop(self.domains.insert(domain)),
            other => self.others.push(other),
        }
    }

    /// Whether another is of the same file.
    fn is_of(&self, other: &Self) -> bool {
        self.is_table == other.is_table && self.path == other.path
    }

    fn matches(&self, address: &MailAddress) -> bool {
        self.addresses.contains(&address.folded())
            || self.domains.contains(address.ascii_domain())
            || self.others.iter().any(|pattern| pattern.matches(address))
    }
}

/// The pattern that a key of a table stands for: `@domain` is what Postfix writes for all of a domain.
fn of_key(key: &[u8]) -> Result<AddressPattern, String> {
    if !key.is_ascii() {
        return Err(FOLDED.to_owned());
    }
    let key = std::str::from_utf8(key).map_err(|error| error.to_string())?;
    if !key.contains('@') || key.contains('*') {
        return Err("keys are whole addresses, and @domain for all of a domain".to_owned());
    }
    if let Some(domain) = key.strip_prefix('@') {
        return AddressPattern::parse(&format!("*@{domain}"));
    }
    let address = MailAddress::parse(key).map_err(|error| error.reason.to_owned())?;
    if address.as_str() == key {
        Ok(AddressPattern::Address(address))
    } else {
        Err("it is no plain address".to_owned())
    }
}

impl AddressList {
    /// Whether it is about all addresses, and even about what is none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.files.is_empty()
    }

    /// Whether it is about this address.
    pub fn matches(&self, address: &MailAddress) -> bool {
        self.is_empty()
            || self.patterns.iter().any(|pattern| pattern.matches(address))
            || self.files.iter().any(|file| file.matches(address))
    }

    /// Whether it is about an address of the envelope.
    pub(crate) fn about(&self, mailbox: &Mailbox) -> About {
        let is_so = match mailbox {
            Mailbox::Address(address) => self.matches(address),
            Mailbox::Nobody => self.matches_what_is_none(),
            Mailbox::Doubtful if self.matches_what_is_none() => true,
            Mailbox::Doubtful => return About::Perhaps,
        };
        if is_so { About::Surely } else { About::Others }
    }

    /// Whether it is about what is no address.
    pub fn matches_what_is_none(&self) -> bool {
        self.is_empty() || self.patterns.contains(&AddressPattern::Any)
    }

    /// Those patterns that are about whole domains, whoever has an address there.
    pub(super) fn of_domains(&self) -> Vec<AddressPattern> {
        if self.is_empty() {
            return vec![AddressPattern::Any];
        }
        let is_wide = |pattern: &&AddressPattern| !matches!(pattern, AddressPattern::Address(_));
        let mut wide: Vec<_> = self.patterns.iter().filter(is_wide).cloned().collect();
        for file in &self.files {
            let mut domains: Vec<_> = file.domains.iter().cloned().map(AddressPattern::Domain).collect();
            domains.sort_by_key(ToString::to_string);
            wide.extend(domains);
            wide.extend(file.others.iter().cloned());
        }
        wide
    }

    /// Whether it is surely about all that another is about.
    pub(super) fn covers(&self, other: &Self) -> bool {
        if self.matches_what_is_none() {
            return true;
        }
        let covered = |pattern| self.patterns.iter().any(|own| own.covers(pattern));
        !other.is_empty()
            && other.patterns.iter().all(covered)
            && other.files.iter().all(|file| self.files.iter().any(|own| own.is_of(file)))
    }
}

impl fmt::Display for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = self.patterns.iter().map(ToString::to_string);
        let files = self.files.iter().map(ToString::to_string);
        let all: Vec<String> = patterns.chain(files).collect();
        f.write_str(if all.is_empty() { "*" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

impl fmt::Display for AddressFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", if self.is_table { "lmdb" } else { "file" }, self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_addresses_and_whole_domains() {
        for (pattern, address, expected) in [
            ("*", "alice@example.org", true),
            ("*@example.org", "alice@example.org", true),
            ("*@Example.ORG", "alice@eXample.org", true),
            ("*@example.org", "alice@sub.example.org", false),
            ("*@example.org", "alice@badexample.org", false),
            ("*@*.example.org", "alice@a.b.Example.org", true),
            ("*@*.example.org", "alice@example.org", false),
            ("*@*.example.org", "alice@badexample.org", false),
            ("*@example.org", "alice@example.org.evil.net", false),
            ("alice@example.org", "ALICE@example.org", true),
            ("alice@example.org", "malice@example.org", false),
        ] {
            let address = MailAddress::parse(address).unwrap();
            assert_eq!(
                AddressPattern::parse(pattern).unwrap().matches(&address),
                expected,
                "{pattern} {address}"
            );
        }
    }

    #[test]
    fn a_domain_is_one_however_it_is_spelled() {
        let spellings = [
            "m\u{fc}nchen.example",
            "M\u{dc}NCHEN.Example",
            "mu\u{308}nchen.example",
            "xn--mnchen-3ya.example",
            "XN--MNCHEN-3YA.EXAMPLE",
        ];
        let address = |domain: &str| MailAddress::parse(&format!("x@{domain}")).unwrap();
        for pattern in spellings {
            let [of, below, one] = ["*@", "*@*.", "X@"]
                .map(|start| AddressPattern::parse(&format!("{start}{pattern}")).unwrap());
            let text = format!("*@{pattern}\n*@*.{pattern}\n");
            let file = AddressFile::parse("partners".into(), &text).unwrap();
            for domain in spellings {
                let sub = address(&format!("b\u{fc}ro.{domain}"));
                for (pattern, own, its) in [(&of, true, false), (&below, false, true), (&one, true, false)] {
                    assert_eq!(pattern.matches(&address(domain)), own, "{pattern} {domain}");
                    assert_eq!(pattern.matches(&sub), its, "{pattern} {domain}");
                }
                assert!(file.matches(&address(domain)) && file.matches(&sub), "{pattern} {domain}");
                let parsed = AddressPattern::parse(&format!("*@*.b\u{dc}ro.{domain}")).unwrap();
                assert!(below.covers(&parsed) && below.covers(&AddressPattern::Address(sub)), "{parsed}");
            }
            let other = address("munchen.example");
            assert!(![of, below, one].iter().any(|pattern| pattern.matches(&other)) && !file.matches(&other));
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_reason() {
        for (pattern, expected) in [
            ("example.org", "did you mean \"*@example.org\"?"),
            ("alice example.org", WHITE_SPACE),
            ("*@*.*.example.org", STAR),
            ("al*@example.org", STAR),
            ("*@", "a part beside the @ is empty"),
            ("*@example..org", "the domain has an empty label"),
            ("a@b@c", "there is more than one @"),
            // No A-labels.
            ("*@m\u{fc}n_chen.example", "the domain is no domain name"),
            ("*@*.xn--\u{fc}.example", "the domain is no domain name"),
            ("a@m\u{fc}n_chen.example", "the domain is no domain name"),
        ] {
            assert_eq!(AddressPattern::parse(pattern).unwrap_err(), expected, "{pattern}");
        }
    }

    #[test]
    fn a_file_is_read_line_by_line_and_its_mistakes_have_a_line() {
        let text =
            "# partners\n*@partner.example # all of it\n\nCarol@elsewhere.example\n*@*.group.example\n";
        let file = AddressFile::parse("partners".into(), text).unwrap();
        let list = AddressList { patterns: Vec::new(), files: vec![Arc::new(file)] };
        for (address, expected) in [
            ("x@PARTNER.example", true),
            ("carol@elsewhere.example", true),
            ("x@elsewhere.example", false),
            ("x@de.group.example", true),
            ("x@group.example", false),
        ] {
            assert_eq!(list.matches(&MailAddress::parse(address).unwrap()), expected, "{address}");
        }
        assert!(!list.matches_what_is_none());
        let wrong = AddressFile::parse("partners".into(), "a@b.example\npartner.example\n").unwrap_err();
        assert_eq!(wrong, "line 2: did you mean \"*@partner.example\"?");
    }
}
