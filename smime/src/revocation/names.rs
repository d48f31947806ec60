//! Names compared, and fields of certificates in their exact octets.

use x509_cert::{
    ext::pkix::{
        BasicConstraints,
        name::{DistributionPointName, GeneralName, GeneralNames},
    },
    name::{Name, RelativeDistinguishedName},
};

use super::tlv::{self, Malformed, Reader};
use crate::{Certificate, path::PreparedName};

/// A name of a distribution point, relative ones completed.
#[derive(Debug)]
pub(super) enum PointName {
    Directory { parts: Vec<RelativeDistinguishedName>, prepared: PreparedName },
    Other(GeneralName),
}

impl PartialEq for PointName {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory { prepared, .. }, Self::Directory { prepared: other, .. }) => prepared.is(other),
            (Self::Other(one), Self::Other(other)) => one == other,
            _ => false,
        }
    }
}

impl PointName {
    pub(super) fn directory(name: &Name) -> Self {
        Self::of_parts(name.iter_rdn().cloned().collect())
    }

    fn of_parts(parts: Vec<RelativeDistinguishedName>) -> Self {
        Self::Directory { prepared: PreparedName::of_relative(parts.iter()), parts }
    }

    /// The name that is `relative` to this one.
    pub(super) fn below(&self, relative: &RelativeDistinguishedName) -> Option<Self> {
        let Self::Directory { parts, .. } = self else { return None };
        Some(Self::of_parts(parts.iter().chain([relative]).cloned().collect()))
    }

    /// The names of a distribution point; `relative_to` is who issues its list.
    pub(super) fn of_point(name: &DistributionPointName, relative_to: &Name) -> Vec<Self> {
        match name {
            DistributionPointName::FullName(names) => Self::of(names),
            DistributionPointName::NameRelativeToCRLIssuer(relative) => {
                Self::directory(relative_to).below(relative).into_iter().collect()
            }
        }
    }

    /// All of these names.
    pub(super) fn of(names: &GeneralNames) -> Vec<Self> {
        let name = |name: &GeneralName| match name {
            GeneralName::DirectoryName(name) => Self::directory(name),
            other => Self::Other(other.clone()),
        };
        names.iter().map(name).collect()
    }
}

/// Fields of a certificate in the octets they have.
pub(super) struct RawFields<'a> {
    /// The content of the INTEGER.
    pub(super) serial: &'a [u8],
    /// The Name.
    pub(super) issuer: &'a [u8],
}

impl<'a> RawFields<'a> {
    pub(super) fn of(certificate: &'a Certificate) -> Result<Self, Malformed> {
        let what = "the certificate cannot be read";
        let mut fields = Reader::new(certificate.der()).any(what)?.inside().any(what)?.inside();
        fields.optional(0xA0, what)?;
        let serial = fields.required(tlv::INTEGER, what)?.content;
        fields.any(what)?;
        let issuer = fields.any(what)?.octets;
        Ok(Self { serial, issuer })
    }
}

/// Whether basicConstraints says that it is a CA.
pub(super) fn is_ca(certificate: &Certificate) -> bool {
    matches!(certificate.extension::<BasicConstraints>(), Ok(Some(constraints)) if constraints.ca)
}
