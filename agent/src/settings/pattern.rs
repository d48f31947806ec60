//! Whose mail a rule is about: everybody's, a domain's, an address's.

use std::fmt;

use smime::MailAddress;

/// The senders of a rule. Case never matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderPattern {
    /// `*`.
    Any,
    /// `*@example.org`: this domain, not those below it. In lower case.
    Domain(String),
    /// `alice@example.org`.
    Address(MailAddress),
}

impl SenderPattern {
    /// Parses the value of `from`, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some(domain) = text.strip_prefix("*@") else {
            let address = MailAddress::parse(text).map_err(|error| {
                if text.contains('@') {
                    error.reason.to_owned()
                } else {
                    format!("did you mean \"*@{text}\"?")
                }
            })?;
            if text.contains('*') {
                return Err("a * stands for a whole local part, or alone for all senders".to_owned());
            }
            return Ok(Self::Address(address));
        };
        if domain.contains('*') {
            return Err("a * stands for a whole local part, or alone for all senders".to_owned());
        }
        MailAddress::parse(&format!("x@{domain}")).map_err(|error| error.reason.to_owned())?;
        Ok(Self::Domain(domain.to_ascii_lowercase()))
    }

    /// Whether it is about mail of this address.
    pub fn matches(&self, address: &MailAddress) -> bool {
        match self {
            Self::Any => true,
            Self::Domain(domain) => address.domain().to_ascii_lowercase() == *domain,
            Self::Address(own) => own == address,
        }
    }

    /// Whether it is about all mail that another is about.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Domain(domain), Self::Domain(below)) => domain == below,
            (_, Self::Address(address)) => self.matches(address),
            _ => false,
        }
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Domain(domain) => write!(f, "*@{domain}"),
            Self::Address(address) => write!(f, "{address}"),
        }
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
            ("*@example.org", "alice@example.org.evil.net", false),
            ("alice@example.org", "ALICE@example.org", true),
            ("alice@example.org", "malice@example.org", false),
        ] {
            let address = MailAddress::parse(address).unwrap();
            assert_eq!(
                SenderPattern::parse(pattern).unwrap().matches(&address),
                expected,
                "{pattern} {address}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_reason() {
        for (pattern, expected) in [
            ("example.org", "did you mean \"*@example.org\"?"),
            ("*@*.example.org", "a * stands for a whole local part, or alone for all senders"),
            ("al*@example.org", "a * stands for a whole local part, or alone for all senders"),
            ("*@", "a part beside the @ is empty"),
            ("*@example..org", "the domain has an empty label"),
            ("a@b@c", "there is more than one @"),
        ] {
            assert_eq!(SenderPattern::parse(pattern).unwrap_err(), expected, "{pattern}");
        }
    }
}
