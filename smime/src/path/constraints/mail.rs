//! Subtrees of mail addresses: a mailbox, a host or a domain (RFC 5280 4.2.1.10, RFC 9598 section 6).

use super::Holds;
use crate::MailAddress;

/// The base of a subtree of mail addresses.
#[derive(Debug)]
pub(super) enum MailTree {
    /// Empty: all mail. RFC 5280 gives it no meaning, other software this one where it is excluded.
    All,
    /// `user@host`: one mailbox.
    Mailbox(MailAddress),
    /// `host`: all of one host.
    Host(String),
    /// `.domain`: all hosts below a domain. The dot is part of it.
    Domain(String),
}

impl MailTree {
    pub(super) fn parse(base: &str) -> Option<Self> {
        // The domain as addresses have it.
        let host =
            |host: &str| Some(MailAddress::parse_exact(&format!("x@{host}")).ok()?.ascii_domain().to_owned());
        if base.is_empty() {
            Some(Self::All)
        } else if base.contains('@') {
            MailAddress::parse_exact(base).ok().map(Self::Mailbox)
        } else if let Some(domain) = base.strip_prefix('.') {
            host(domain).map(|domain| Self::Domain(format!(".{domain}")))
        } else {
            host(base).map(Self::Host)
        }
    }

    /// A mailbox holds addresses with the local part to the letter (RFC 5280 7.5), and perhaps those that are the
    /// same for whoever compares them with the sender in From, without regard to case.
    pub(super) fn holds(&self, address: &MailAddress) -> Holds {
        match self {
            Self::Mailbox(mailbox) if mailbox != address => Holds::No,
            Self::Mailbox(mailbox) if mailbox.local() == address.local() => Holds::Surely,
            Self::All | Self::Mailbox(_) => Holds::Perhaps,
            Self::Host(host) => Holds::from(address.ascii_domain() == host),
            Self::Domain(below) => Holds::from(address.ascii_domain().ends_with(below)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_constraints_are_mailboxes_hosts_or_domains_and_a_doubt_counts_against_the_address() {
        let address = MailAddress::parse("Alice@mail.example.org").unwrap();
        for (base, holds) in [
            ("Alice@mail.example.org", Holds::Surely),
            ("Alice@MAIL.example.org", Holds::Surely),
            ("alice@mail.example.org", Holds::Perhaps),
            ("bob@mail.example.org", Holds::No),
            ("mail.EXAMPLE.org", Holds::Surely),
            ("example.org", Holds::No),
            (".Example.org", Holds::Surely),
            (".mail.example.org", Holds::No),
            ("ample.org", Holds::No),
            ("", Holds::Perhaps),
        ] {
            assert_eq!(MailTree::parse(base).unwrap().holds(&address), holds, "{base:?}");
        }
        for base in ["<alice@mail.example.org>", "@example.org", "example.org.", ".", "*.ex ample", "a@b@c"] {
            assert!(MailTree::parse(base).is_none(), "{base:?}");
        }
    }

    #[test]
    fn addresses_beyond_ascii_are_held_by_hosts_and_domains_in_a_labels() {
        let address = MailAddress::parse("b\u{f6}b@m\u{fc}nchen.example").unwrap();
        for (base, holds) in [
            ("xn--mnchen-3ya.example", Holds::Surely),
            ("XN--mnchen-3ya.EXAMPLE", Holds::Surely),
            (".example", Holds::Surely),
            ("munchen.example", Holds::No),
            ("bob@xn--mnchen-3ya.example", Holds::No),
        ] {
            assert_eq!(MailTree::parse(base).unwrap().holds(&address), holds, "{base:?}");
        }
    }
}
