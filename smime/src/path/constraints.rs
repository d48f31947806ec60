//! Name constraints (RFC 5280 section 4.2.1.10) on mail addresses and directory names.
//!
//! Whoever issues below a constraint chooses how names are spelled, so a doubt always counts against the
//! certificate. An excluded subtree holds every name that may mean the same; a permitted one only names
//! that are spelled alike, as names are where issuers and subjects are linked. A constraint on another
//! kind of name is refused where a certificate below has such a name.

use x509_cert::ext::pkix::{
    NameConstraints, SubjectAltName, constraints::name::GeneralSubtree, name::GeneralName,
};

use super::{PathError, name::PreparedName};
use crate::{Certificate, MailAddress};

/// How many pairs of a name and a subtree are compared for one certificate and one issuer.
const MAX_COMPARISONS: usize = 10_000;

/// Checks the names of the certificates below `issuer`, leaf first, against its constraints.
pub(super) fn check(issuer: &Certificate, below: &[Certificate]) -> Result<(), PathError> {
    let constraints = match issuer.extension::<NameConstraints>() {
        Ok(Some(constraints)) => constraints,
        Ok(None) => return Ok(()),
        Err(_) => return Err(PathError::NameConstraints { certificate: issuer.to_string() }),
    };
    for (position, certificate) in below.iter().enumerate() {
        // A self-issued certificate is only constrained as the leaf (RFC 5280 6.1.3 (b)).
        if position > 0 && certificate.subject() == certificate.issuer() {
            continue;
        }
        if !allows(&constraints, certificate) {
            return Err(PathError::NameConstraints { certificate: certificate.to_string() });
        }
    }
    Ok(())
}

fn allows(constraints: &NameConstraints, certificate: &Certificate) -> bool {
    let mut names: Vec<GeneralName> = match certificate.extension::<SubjectAltName>() {
        Ok(Some(names)) => names.0,
        // Without a subjectAltName the subject's emailAddress counts.
        Ok(None) => {
            let addresses = certificate.addresses();
            let names =
                addresses.iter().map(|a| der::asn1::Ia5String::new(a.as_str()).map(GeneralName::Rfc822Name));
            let Ok(names) = names.collect::<Result<_, _>>() else { return false };
            names
        }
        Err(_) => return false,
    };
    if !certificate.subject().is_empty() {
        names.push(GeneralName::DirectoryName(certificate.subject().clone()));
    }
    let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
    let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
    if names.len().saturating_mul(permitted.len() + excluded.len()) > MAX_COMPARISONS {
        return false;
    }
    let excluded: Vec<_> = excluded.iter().map(|tree| (tree, prepared(&tree.base))).collect();
    names.iter().all(|name| {
        let mut permitted = permitted.iter().filter(|tree| is_same_kind(&tree.base, name)).peekable();
        let inside = permitted.peek().is_none() || permitted.any(|tree| surely_holds(tree, name));
        let prepared = prepared(name);
        let mut excluded = excluded.iter().filter(|(tree, _)| is_same_kind(&tree.base, name));
        inside && !excluded.any(|(tree, base)| may_hold(tree, base.as_ref(), name, prepared.as_ref()))
    })
}

fn is_same_kind(one: &GeneralName, other: &GeneralName) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

fn prepared(name: &GeneralName) -> Option<PreparedName> {
    match name {
        GeneralName::DirectoryName(name) => Some(PreparedName::of(name)),
        _ => None,
    }
}

/// Whether a permitted subtree holds a name beyond doubt.
fn surely_holds(tree: &GeneralSubtree, name: &GeneralName) -> bool {
    if !is_whole(tree) {
        return false;
    }
    match (&tree.base, name) {
        (GeneralName::Rfc822Name(base), GeneralName::Rfc822Name(name)) => {
            match (MailTree::parse(base.as_str()), MailAddress::parse_exact(name.as_str())) {
                (Some(tree), Ok(address)) => tree.surely_holds(&address),
                _ => false,
            }
        }
        (GeneralName::DirectoryName(base), GeneralName::DirectoryName(name)) => {
            let mut relative = name.iter_rdn();
            base.iter_rdn().all(|wanted| relative.next() == Some(wanted))
        }
        _ => false,
    }
}

/// Whether it cannot be ruled out that an excluded subtree holds a name.
fn may_hold(
    tree: &GeneralSubtree,
    base: Option<&PreparedName>,
    name: &GeneralName,
    prepared: Option<&PreparedName>,
) -> bool {
    if !is_whole(tree) {
        return true;
    }
    match (&tree.base, name, base, prepared) {
        (GeneralName::Rfc822Name(base), GeneralName::Rfc822Name(name), ..) => {
            match (MailTree::parse(base.as_str()), MailAddress::parse_exact(name.as_str())) {
                (Some(tree), Ok(address)) => tree.may_hold(&address),
                _ => true,
            }
        }
        (_, _, Some(base), Some(name)) => name.may_be_below(base),
        _ => true,
    }
}

/// Whether minimum and maximum are as RFC 5280 wants them; others have no meaning.
fn is_whole(tree: &GeneralSubtree) -> bool {
    tree.minimum == 0 && tree.maximum.is_none()
}

/// The base of a subtree of mail addresses.
#[derive(Debug)]
enum MailTree<'a> {
    /// Empty: all mail. RFC 5280 gives it no meaning, other software this one where it is excluded.
    All,
    /// `user@host`: one mailbox.
    Mailbox(MailAddress),
    /// `host`: all of one host.
    Host(&'a str),
    /// `.domain`: all hosts below a domain. The dot is part of it.
    Domain(&'a str),
}

impl<'a> MailTree<'a> {
    fn parse(base: &'a str) -> Option<Self> {
        let is_host = |host: &str| MailAddress::parse_exact(&format!("x@{host}")).is_ok();
        if base.is_empty() {
            Some(Self::All)
        } else if base.contains('@') {
            MailAddress::parse_exact(base).ok().map(Self::Mailbox)
        } else if let Some(domain) = base.strip_prefix('.') {
            is_host(domain).then_some(Self::Domain(base))
        } else {
            is_host(base).then_some(Self::Host(base))
        }
    }

    /// With the local part to the letter (RFC 5280 7.5).
    fn surely_holds(&self, address: &MailAddress) -> bool {
        match self {
            Self::All => false,
            Self::Mailbox(mailbox) => mailbox == address && mailbox.local() == address.local(),
            Self::Host(_) | Self::Domain(_) => self.may_hold(address),
        }
    }

    /// With addresses compared as they are with the sender in From, without regard to case.
    fn may_hold(&self, address: &MailAddress) -> bool {
        let domain = address.domain().to_ascii_lowercase();
        match self {
            Self::All => true,
            Self::Mailbox(mailbox) => mailbox == address,
            Self::Host(host) => domain == host.to_ascii_lowercase(),
            Self::Domain(below) => domain.ends_with(&below.to_ascii_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_constraints_are_mailboxes_hosts_or_domains_and_a_doubt_counts_against_the_address() {
        let address = MailAddress::parse("Alice@mail.example.org").unwrap();
        // (base, permits, excludes)
        for (base, permits, excludes) in [
            ("Alice@mail.example.org", true, true),
            ("Alice@MAIL.example.org", true, true),
            ("alice@mail.example.org", false, true),
            ("bob@mail.example.org", false, false),
            ("mail.EXAMPLE.org", true, true),
            ("example.org", false, false),
            (".Example.org", true, true),
            (".mail.example.org", false, false),
            ("ample.org", false, false),
            ("", false, true),
        ] {
            let tree = MailTree::parse(base).unwrap();
            assert_eq!(tree.surely_holds(&address), permits, "{base:?}");
            assert_eq!(tree.may_hold(&address), excludes, "{base:?}");
        }
        for base in ["<alice@mail.example.org>", "@example.org", "example.org.", ".", "*.ex ample", "a@b@c"] {
            assert!(MailTree::parse(base).is_none(), "{base:?}");
        }
    }
}
