//! A [`Rule`]: which mail it is about, and what is done with it.
//!
//! Rules are for outgoing mail, whose client logged in or is in a trusted network: what they find in the header was
//! written by somebody we know.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use smime::{Certificate, mime::Header, profile::Profile};

use super::{About, AddressList};
use crate::{
    Envelope,
    config::{HeaderProtection, Level, Mixed, NoCertificate, SignatureForm, WhenUnknown},
    identity::base_address,
    mailbox::Mailbox,
    words::decode,
};

/// What to do with some mail. For each recipient the first rule that matches counts; where none does, mail is
/// neither signed nor encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands in the file.
    pub line: usize,
    /// Which mail.
    pub conditions: Conditions,
    /// Whether it is signed.
    pub sign: Level,
    /// How a signature is put to it.
    pub form: SignatureForm,
    /// The only certificate of the sender's to sign with; otherwise it is the newest.
    pub identity: Option<Certificate>,
    /// With which algorithms.
    pub profile: Profile,
    /// Whether it is encrypted.
    pub encrypt: Level,
    /// Whether it is encrypted to its sender, too.
    pub to_sender: bool,
    /// Certificates to which it is encrypted, too: an archive's.
    pub also_to: Vec<Certificate>,
    /// What becomes of it if it must be encrypted and somebody has no certificate.
    pub no_certificate: NoCertificate,
    /// What becomes of it if it may leave in clear, and nothing could be found out of somebody's certificates.
    pub unknown: WhenUnknown,
    /// What becomes of it if not all of its recipients can get the same.
    pub mixed: Mixed,
    /// What is done with its header fields.
    pub header_protection: HeaderProtection,
}

/// Which mail a rule is about: all that was given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The MTA's names for the service that took the mail (`{daemon_name}`).
    pub listeners: Vec<String>,
    /// The client's networks.
    pub networks: Vec<IpNet>,
    /// The client's logins; `*` is anybody who logged in.
    pub logins: Vec<String>,
    /// `MAIL FROM`; `<>` is the null sender.
    pub senders: AddressList,
    /// Whether `MAIL FROM:<>` is among the senders.
    pub null_sender: bool,
    /// The one address in `From`.
    pub from: AddressList,
    /// The recipient.
    pub to: AddressList,
    /// Fields of the header, of which one must match.
    pub headers: Vec<HeaderPattern>,
    /// More octets than this.
    pub larger_than: Option<u64>,
    /// Fewer octets than this.
    pub smaller_than: Option<u64>,
}

/// A field and a text that its value must be; `*` in it is any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPattern {
    name: String,
    /// In lower case, between the asterisks.
    pieces: Vec<String>,
}

impl Rule {
    /// Whether another rule does the same, if perhaps with other mail.
    pub(crate) fn does_the_same(&self, other: &Self) -> bool {
        let of = |rule: &Self| Self { line: 0, conditions: Conditions::default(), ..rule.clone() };
        self.line == other.line || of(self) == of(other)
    }
}

impl Conditions {
    /// Whether they hold for what is the same for all recipients, but for `From`.
    pub(crate) fn about(&self, envelope: &Envelope, header: &Header<'_>, octets: usize) -> About {
        let octets = u64::try_from(octets).unwrap_or(u64::MAX);
        let holds = is_any_or(&self.listeners, |all| {
            envelope.listener.as_ref().is_some_and(|own| all.iter().any(|one| one == own))
        }) && is_any_or(&self.networks, |all| {
            envelope.client.is_some_and(|client| contain(all, client))
        }) && is_any_or(&self.logins, |all| {
            envelope
                .login()
                .is_some_and(|own| all.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(own)))
        }) && is_any_or(&self.headers, |all| all.iter().any(|pattern| pattern.matches(header)))
            && self.larger_than.is_none_or(|limit| octets > limit)
            && self.smaller_than.is_none_or(|limit| octets < limit);
        if holds { self.about_sender(&envelope.sender) } else { About::Others }
    }

    /// Whether they hold for `MAIL FROM`.
    fn about_sender(&self, sender: &str) -> About {
        let of = |holds| if holds { About::Surely } else { About::Others };
        if sender.is_empty() {
            return of(self.null_sender || self.senders.is_empty());
        }
        if self.null_sender && self.senders.is_empty() {
            return About::Others;
        }
        self.senders.about(&Mailbox::read(sender))
    }

    /// Whether they hold for a recipient.
    pub(crate) fn about_recipient(&self, recipient: &Mailbox) -> About {
        self.to.about(recipient)
    }

    /// The same for what comes in: who is behind `bob+tag@` is `bob@`, too.
    pub(crate) fn about_recipient_of(&self, recipient: &Mailbox, delimiters: &str) -> About {
        let base = recipient.address().and_then(|recipient| base_address(recipient, delimiters));
        let of_base =
            if base.is_some_and(|base| self.to.matches(&base)) { About::Surely } else { About::Others };
        self.about_recipient(recipient).max(of_base)
    }

    /// Whether they surely hold wherever others hold.
    pub(super) fn cover(&self, others: &Self) -> bool {
        let Self { listeners, networks, logins, senders, null_sender, from, to, headers, .. } = self;
        (listeners.is_empty() || *listeners == others.listeners)
            && (networks.is_empty() || *networks == others.networks)
            && (logins.is_empty() || *logins == others.logins)
            && (headers.is_empty() || *headers == others.headers)
            && (self.larger_than.is_none() || self.larger_than == others.larger_than)
            && (self.smaller_than.is_none() || self.smaller_than == others.smaller_than)
            && ((!null_sender && senders.is_empty())
                || (*null_sender == others.null_sender && *senders == others.senders))
            && from.covers(&others.from)
            && to.covers(&others.to)
    }
}

impl HeaderPattern {
    /// Parses `Name: value`, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| "it is written \"Name: value\", with * for any text in the value".to_owned())?;
        if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err("a field's name is printable US-ASCII without spaces".to_owned());
        }
        let pieces = value.trim().to_lowercase().split('*').map(str::to_owned).collect();
        Ok(Self { name: name.to_owned(), pieces })
    }

    /// Whether a field of the header matches, as it is written or as a reader shows it (RFC 2047): a mail program that has to
    /// encode one letter of a subject encodes all of it.
    pub fn matches(&self, header: &Header<'_>) -> bool {
        header.all(&self.name).any(|field| {
            self.matches_value(&field.unfolded())
                || shown(field.value()).is_some_and(|shown| self.matches_value(&shown))
        })
    }

    fn matches_value(&self, value: &str) -> bool {
        let value = value.trim().to_lowercase();
        let (Some((first, others)), Some(last)) = (self.pieces.split_first(), self.pieces.last()) else {
            return false;
        };
        let Some(mut rest) = value.strip_prefix(first.as_str()) else {
            return false;
        };
        let Some((_, between)) = others.split_last() else {
            return rest.is_empty(); // no asterisk
        };
        for piece in between {
            match rest.split_once(piece.as_str()) {
                Some((_, behind)) => rest = behind,
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

/// The text that a reader shows, where that is another than what is written.
fn shown(value: &[u8]) -> Option<String> {
    let is_written = memchr::memmem::find(value, b"=?").is_none() && std::str::from_utf8(value).is_ok();
    if is_written {
        return None;
    }
    let unfolded: Vec<u8> = value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
    Some(decode(&unfolded))
}

fn is_any_or<T>(listed: &[T], holds: impl FnOnce(&[T]) -> bool) -> bool {
    listed.is_empty() || holds(listed)
}

/// Whether an address is in one of the networks. A socket for both protocols shows an IPv4 client as
/// `::ffff:192.0.2.1`.
pub(crate) fn contain(networks: &[IpNet], client: IpAddr) -> bool {
    let client = client.to_canonical();
    networks.iter().any(|network| network.contains(&client))
}

impl fmt::Display for HeaderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.pieces.join("*"))
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.from)?;
        let mut also = |name: &str, text: String| {
            if text.is_empty() { Ok(()) } else { write!(f, ", {name} {text}") }
        };
        if !self.to.is_empty() {
            also("to", self.to.to_string())?;
        }
        let null = if self.null_sender { "<>" } else { "" };
        let senders = if self.senders.is_empty() { String::new() } else { self.senders.to_string() };
        also("sender", [null, &senders].join(if senders.is_empty() { "" } else { " " }).trim().to_owned())?;
        also("listener", self.listeners.join(" "))?;
        also("network", joined(&self.networks))?;
        also("login", self.logins.join(" "))?;
        also("header", joined(&self.headers))?;
        also("larger than", self.larger_than.map_or_else(String::new, |limit| limit.to_string()))?;
        also("smaller than", self.smaller_than.map_or_else(String::new, |limit| limit.to_string()))
    }
}

fn joined<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: sign {}", self.conditions, self.sign.as_str())?;
        if self.sign != Level::Never && self.form != SignatureForm::default() {
            write!(f, " {}", self.form.as_str())?;
        }
        if self.encrypt != Level::Never {
            write!(f, ", encrypt {}", self.encrypt.as_str())?;
            f.write_str(if self.to_sender { ", to the sender too" } else { "" })?;
            for certificate in &self.also_to {
                write!(f, ", to {certificate} too")?;
            }
            write!(f, ", without certificate {}", self.no_certificate.as_str())?;
            if self.encrypt == Level::WhenPossible {
                write!(f, ", unknown {}", self.unknown.as_str())?;
            }
            write!(f, ", mixed {}", self.mixed.as_str())?;
        }
        if self.header_protection != HeaderProtection::Off {
            write!(f, ", header-protection {}", self.header_protection.as_str())?;
        }
        if self.profile.name == Profile::STANDARD.name {
            Ok(())
        } else {
            write!(f, ", profile {}", self.profile.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_pattern_matches_whole_values_without_regard_to_case() {
        let header = b"Subject: [Secure] the\r\n  plan\r\nX-Sign:yes\r\nX-Many: a\r\nX-Many: b\r\n";
        for (pattern, expected) in [
            ("subject: [secure]*", true),
            ("Subject: *plan", true),
            ("Subject: *the*plan*", true),
            ("Subject: *", true),
            ("Subject: [secure]", false),
            ("Subject: *plan*the*", false),
            ("Subject: *n*n", false),
            ("X-Sign: YES", true),
            ("X-Sign: no", false),
            ("X-Many: b", true),
            ("X-Gone: *", false),
        ] {
            let parsed = HeaderPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(&Header::parse(header)), expected, "{pattern}");
        }
        assert!(HeaderPattern::parse("Subject").is_err());
        assert!(HeaderPattern::parse("Sub ject: x").is_err());
    }

    #[test]
    fn a_header_pattern_matches_what_a_reader_shows() {
        for (pattern, value, expected) in [
            ("[secure]*", "[secure] plan", true),
            ("[secure]*", "=?UTF-8?Q?[secure]_Gr=C3=BC=C3=9Fe?=", true),
            ("[secure]*", "=?utf-8?b?W1NFQ1VSRV0gR3LDvMOfZQ==?=", true),
            ("[secure]*", "=?UTF-8?Q?[sec?=\r\n =?UTF-8?Q?ure]_Gr=C3=BC=C3=9Fe?=", true),
            ("[secure]*", "=?iso-8859-1?q?=5Bsecure=5D_Gr=FC=DFe?=", true),
            ("[secure]*", "=?windows-1251?q?[Secure]_=EF=EB=E0=ED?=", true),
            ("[secure]*", "=?utf-8?q?_[secure]?= plan", true),
            ("[secure]*", "Re: =?UTF-8?Q?[secure]_Gr=C3=BC=C3=9Fe?=", false),
            ("*[secure]*", "Re: =?UTF-8?Q?[secure]_Gr=C3=BC=C3=9Fe?=", true),
            ("[secure]*", "=?UTF-8?Q?secure_Gr=C3=BC=C3=9Fe?=", false),
            ("[secure]*", "=?UTF-8?Q?[secure] never ends", false),
            ("*gr\u{dc}\u{df}e", "=?UTF-8?Q?[secure]_Gr=C3=BC=C3=9Fe?=", true),
            ("*gr\u{dc}\u{df}e", "=?iso-8859-1?q?Gr=FC=DFe?=", true),
            // Who wrote a pattern for what is written means that.
            ("=?utf-8?q?*", "=?UTF-8?Q?[secure]_Gr=C3=BC=C3=9Fe?=", true),
        ] {
            for name in ["Subject", "X-Class"] {
                let header = format!("{name}: {value}\r\n");
                let parsed = HeaderPattern::parse(&format!("{name}: {pattern}")).unwrap();
                assert_eq!(parsed.matches(&Header::parse(header.as_bytes())), expected, "{pattern} {value}");
            }
        }
        let latin = HeaderPattern::parse("Subject: *gr\u{fc}\u{df}e").unwrap();
        assert!(latin.matches(&Header::parse(b"Subject: [secure] Gr\xfc\xdfe\r\n")));
    }
}
