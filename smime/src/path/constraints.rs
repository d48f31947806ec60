//! Name constraints (RFC 5280 section 4.2.1.10) on mail addresses and directory names.
//!
//! A constraint on another kind of name is refused where a certificate below has such a name.

use x509_cert::{
    ext::pkix::{NameConstraints, SubjectAltName, constraints::name::GeneralSubtree, name::GeneralName},
    name::Name,
};

use super::PathError;
use crate::{Certificate, MailAddress};

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
    names.iter().all(|name| {
        let of_its_kind = |tree: &&GeneralSubtree| is_same_kind(&tree.base, name);
        let mut permitted = permitted.iter().filter(of_its_kind).peekable();
        let mut excluded = excluded.iter().filter(of_its_kind);
        let inside = permitted.peek().is_none() || permitted.any(|tree| contains(tree, name) == Some(true));
        inside && excluded.all(|tree| contains(tree, name) == Some(false))
    })
}

fn is_same_kind(one: &GeneralName, other: &GeneralName) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// Whether a subtree holds a name; `None` where this is not decided here.
fn contains(tree: &GeneralSubtree, name: &GeneralName) -> Option<bool> {
    if tree.minimum != 0 || tree.maximum.is_some() {
        return None;
    }
    match (&tree.base, name) {
        (GeneralName::Rfc822Name(base), GeneralName::Rfc822Name(name)) => {
            let address = MailAddress::parse_exact(name.as_str()).ok()?;
            Some(contains_address(base.as_str(), &address))
        }
        (GeneralName::DirectoryName(base), GeneralName::DirectoryName(name)) => {
            Some(contains_name(base, name))
        }
        _ => None,
    }
}

/// `user@host` is one mailbox, `host` all of one host, `.domain` all hosts below a domain.
fn contains_address(base: &str, address: &MailAddress) -> bool {
    let domain = address.domain().to_ascii_lowercase();
    let base_folded = base.to_ascii_lowercase();
    if let Some((local, host)) = base.rsplit_once('@') {
        local == address.local() && host.eq_ignore_ascii_case(&domain)
    } else if base_folded.starts_with('.') {
        domain.ends_with(&base_folded)
    } else {
        domain == base_folded
    }
}

fn contains_name(base: &Name, name: &Name) -> bool {
    let mut relative = name.iter_rdn();
    base.iter_rdn().all(|wanted| relative.next() == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_constraints_are_mailboxes_hosts_or_domains() {
        let address = MailAddress::parse("Alice@mail.example.org").unwrap();
        for (base, inside) in [
            ("Alice@mail.example.org", true),
            ("bob@mail.example.org", false),
            ("mail.EXAMPLE.org", true),
            ("example.org", false),
            (".example.org", true),
            (".mail.example.org", false),
            ("", false),
        ] {
            assert_eq!(contains_address(base, &address), inside, "{base:?}");
        }
    }
}
