//! Name constraints (RFC 5280 section 4.2.1.10, RFC 9598 section 6).
//!
//! Whoever issues below a constraint chooses how names are spelled, so a doubt always counts against the
//! certificate: an excluded subtree holds every name that may mean the same, a permitted one only names that it
//! surely holds. A constraint on a kind of name that is not compared here is such a doubt for every name of its kind.

mod host;
mod mail;

use x509_cert::ext::pkix::{
    NameConstraints, SubjectAltName,
    constraints::name::GeneralSubtree,
    name::{GeneralName, OtherName},
};

use self::{
    host::{HostTree, NetTree, host_of},
    mail::MailTree,
};
use super::{Budget, PathError, name::PreparedName};
use crate::{
    Certificate, MailAddress,
    certificate::{EMAIL_ADDRESS, SMTP_UTF8_MAILBOX, smtp_utf8_mailbox},
};

/// How many pairs of a name and a subtree are compared for one certificate and one issuer.
const MAX_COMPARISONS: usize = 10_000;

/// Whether a subtree holds a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Surely,
    Perhaps,
    No,
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Surely } else { Self::No }
    }
}

/// Checks the names of the certificates below `issuer`, leaf first, against its constraints.
pub(super) fn check(
    issuer: &Certificate,
    below: &[Certificate],
    budget: &mut Budget,
) -> Result<(), PathError> {
    let constraints = match issuer.extension::<NameConstraints>() {
        Ok(Some(constraints)) => constraints,
        Ok(None) => return Ok(()),
        Err(_) => return Err(PathError::NameConstraints { certificate: issuer.to_string() }),
    };
    let trees = |trees: Option<Vec<GeneralSubtree>>| -> Vec<Tree> {
        trees.unwrap_or_default().into_iter().map(Tree::of).collect()
    };
    let (permitted, excluded) = (trees(constraints.permitted_subtrees), trees(constraints.excluded_subtrees));
    budget.compare(issuer, 0)?;
    for (position, certificate) in below.iter().enumerate() {
        // A self-issued certificate is only constrained as the leaf (RFC 5280 6.1.3 (b)).
        if position > 0 && certificate.is_self_issued() {
            continue;
        }
        if !allows(&permitted, &excluded, certificate, budget)? {
            return Err(PathError::NameConstraints { certificate: certificate.to_string() });
        }
    }
    Ok(())
}

fn allows(
    permitted: &[Tree],
    excluded: &[Tree],
    certificate: &Certificate,
    budget: &mut Budget,
) -> Result<bool, PathError> {
    let Some(names) = names(certificate) else { return Ok(false) };
    let comparisons = names.len().saturating_mul(permitted.len() + excluded.len());
    if comparisons > MAX_COMPARISONS {
        return Ok(false);
    }
    budget.compare(certificate, comparisons)?;
    Ok(names.iter().all(|name| {
        let mut permitted = permitted.iter().filter(|tree| tree.is_about(name)).peekable();
        let inside = permitted.peek().is_none() || permitted.any(|tree| tree.holds(name) == Holds::Surely);
        let mut excluded = excluded.iter().filter(|tree| tree.is_about(name));
        inside && !excluded.any(|tree| tree.holds(name) != Holds::No)
    }))
}

/// A name of a certificate, as far as it can be read.
enum Name {
    /// An rfc822Name, an SmtpUTF8Mailbox or the subject's emailAddress.
    Mail(Option<MailAddress>),
    Directory(PreparedName),
    Dns(String),
    Uri(String),
    Ip(Vec<u8>),
    /// One of a kind that is not compared.
    Other(GeneralName),
}

/// All names that constraints may be about; `None` where the extension cannot be read.
fn names(certificate: &Certificate) -> Option<Vec<Name>> {
    let mut names = Vec::new();
    for name in certificate.extension::<SubjectAltName>().ok()?.map(|names| names.0).unwrap_or_default() {
        let name = match name {
            GeneralName::Rfc822Name(text) => Name::Mail(MailAddress::parse_exact(text.as_str()).ok()),
            GeneralName::DirectoryName(name) => Name::Directory(PreparedName::of(&name)),
            GeneralName::DnsName(text) => Name::Dns(text.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(text) => Name::Uri(text.as_str().to_owned()),
            GeneralName::IpAddress(octets) => Name::Ip(octets.as_bytes().to_vec()),
            GeneralName::OtherName(OtherName { type_id: SMTP_UTF8_MAILBOX, ref value }) => {
                // It is of both kinds, so it may be constrained as either.
                names.push(Name::Mail(smtp_utf8_mailbox(value)));
                Name::Other(name)
            }
            name => Name::Other(name),
        };
        names.push(name);
    }
    // RFC 5280 asks for this where there is no subjectAltName; whoever reads the subject does so always.
    let subject = certificate.subject();
    for attribute in subject.iter().filter(|attribute| attribute.oid == EMAIL_ADDRESS) {
        let text = std::str::from_utf8(attribute.value.value()).ok();
        names.push(Name::Mail(text.and_then(|text| MailAddress::parse_exact(text).ok())));
    }
    if !subject.is_empty() {
        names.push(Name::Directory(PreparedName::of(subject)));
    }
    Some(names)
}

/// A subtree with its base prepared. `None` stands for a base that is none of its kind.
struct Tree {
    /// Whether minimum and maximum are as RFC 5280 wants them; others have no meaning.
    is_whole: bool,
    base: Base,
}

enum Base {
    Mail(Option<MailTree>),
    Directory(PreparedName),
    Dns(Option<HostTree>),
    Uri(Option<HostTree>),
    Ip(Option<NetTree>),
    Other(GeneralName),
}

impl Tree {
    fn of(tree: GeneralSubtree) -> Self {
        let is_whole = tree.minimum == 0 && tree.maximum.is_none();
        let base = match tree.base {
            GeneralName::Rfc822Name(base) => Base::Mail(MailTree::parse(base.as_str())),
            GeneralName::DirectoryName(base) => Base::Directory(PreparedName::of(&base)),
            GeneralName::DnsName(base) => Base::Dns(HostTree::of_dns(base.as_str())),
            GeneralName::UniformResourceIdentifier(base) => Base::Uri(HostTree::of_uri(base.as_str())),
            GeneralName::IpAddress(base) => Base::Ip(NetTree::parse(base.as_bytes())),
            base => Base::Other(base),
        };
        Self { is_whole, base }
    }

    fn is_about(&self, name: &Name) -> bool {
        match (&self.base, name) {
            (Base::Mail(_), Name::Mail(_))
            | (Base::Directory(_), Name::Directory(_))
            | (Base::Dns(_), Name::Dns(_))
            | (Base::Uri(_), Name::Uri(_))
            | (Base::Ip(_), Name::Ip(_)) => true,
            (Base::Other(GeneralName::OtherName(base)), Name::Other(GeneralName::OtherName(name))) => {
                base.type_id == name.type_id
            }
            (Base::Other(base), Name::Other(name)) => {
                std::mem::discriminant(base) == std::mem::discriminant(name)
            }
            _ => false,
        }
    }

    fn holds(&self, name: &Name) -> Holds {
        if !self.is_whole {
            return Holds::Perhaps;
        }
        match (&self.base, name) {
            (Base::Mail(Some(tree)), Name::Mail(Some(address))) => tree.holds(address),
            (Base::Directory(base), Name::Directory(name)) if name.is_below(base) => Holds::Surely,
            (Base::Directory(base), Name::Directory(name)) if !name.may_be_below(base) => Holds::No,
            (Base::Dns(Some(tree)), Name::Dns(host)) => tree.holds(host),
            (Base::Uri(Some(tree)), Name::Uri(uri)) => match host_of(uri) {
                Some(host) => tree.holds(host),
                None => Holds::Perhaps,
            },
            (Base::Ip(Some(tree)), Name::Ip(address)) => tree.holds(address),
            _ => Holds::Perhaps,
        }
    }
}
