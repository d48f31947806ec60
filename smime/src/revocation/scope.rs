//! Which certificates and reasons a CRL is about: its issuingDistributionPoint held against the
//! certificate's cRLDistributionPoints (RFC 5280 section 6.3.3 b to d).

use der::Decode;
use x509_cert::{
    ext::pkix::{
        CrlDistributionPoints,
        crl::dp::{DistributionPoint, IssuingDistributionPoint, ReasonFlags},
        name::DistributionPointName,
    },
    name::Name,
};

use super::{
    Crl,
    names::{PointName, is_ca},
};
use crate::Certificate;

/// The reasons for which a certificate may be revoked, as bits of `ReasonFlags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reasons(u16);

impl Reasons {
    pub(super) const NONE: Self = Self(0);
    /// Bits 1 to 8; the bit 0 is unused.
    pub(super) const ALL: Self = Self(0x1FE);

    fn of(flags: Option<ReasonFlags>) -> Self {
        flags.map_or(Self::ALL, |flags| Self(flags.bits() & Self::ALL.0))
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is one that `other` has not.
    pub(super) fn adds_to(self, other: Self) -> bool {
        self.0 & !other.0 != 0
    }
}

/// The issuingDistributionPoint of a CRL, or that there is none.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Its exact octets: a delta CRL's must be the same.
    octets: Option<Vec<u8>>,
    point: Option<IssuingDistributionPoint>,
}

impl Scope {
    /// Reads the extension's value.
    pub(super) fn read(octets: &[u8]) -> Result<Self, &'static str> {
        let point = IssuingDistributionPoint::from_der(octets)
            .map_err(|_| "its issuingDistributionPoint cannot be read")?;
        let kinds = [
            point.only_contains_user_certs,
            point.only_contains_ca_certs,
            point.only_contains_attribute_certs,
        ];
        if kinds.into_iter().filter(|only| *only).count() > 1 {
            return Err("its issuingDistributionPoint contradicts itself");
        }
        Ok(Self { octets: Some(octets.to_vec()), point: Some(point) })
    }

    /// Whether its entries may be of other issuers than the list.
    pub(super) fn is_indirect(&self) -> bool {
        self.point.as_ref().is_some_and(|point| point.indirect_crl)
    }

    /// Whether another list is about the same certificates.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.octets == other.octets
    }

    /// For which reasons the list `crl` with this scope tells of the revocation of `certificate`, by way of
    /// this distribution point.
    pub(super) fn covers(&self, crl: &Crl, point: &Point, certificate: &Certificate) -> Reasons {
        let is_of_issuer = match &point.crl_issuer {
            // b 1: the list is another's, and must say that it is indirect.
            Some(names) => self.is_indirect() && names.contains(&PointName::directory(crl.issuer())),
            None => crl.prepared_issuer().is(certificate.prepared_issuer()),
        };
        if !is_of_issuer {
            return Reasons::NONE;
        }
        let Some(scope) = &self.point else { return point.reasons };
        if let Some(name) = &scope.distribution_point {
            let names = PointName::of_point(name, crl.issuer());
            let wanted = match (&point.names, &point.crl_issuer) {
                (Some(names), _) | (None, Some(names)) => names.as_slice(),
                (None, None) => &[],
            };
            if !names.iter().any(|name| wanted.contains(name)) {
                return Reasons::NONE;
            }
        }
        let is_other_kind = (scope.only_contains_user_certs && is_ca(certificate))
            || (scope.only_contains_ca_certs && !is_ca(certificate))
            || scope.only_contains_attribute_certs;
        if is_other_kind {
            return Reasons::NONE;
        }
        Reasons::of(scope.only_some_reasons).and(point.reasons)
    }
}

/// Where a certificate says that its revocation is told.
#[derive(Debug)]
pub(super) struct Point {
    names: Option<Vec<PointName>>,
    reasons: Reasons,
    crl_issuer: Option<Vec<PointName>>,
}

impl Point {
    /// The distribution points of a certificate, and behind them the one that every certificate has: any list of
    /// its issuer (6.3.3, last paragraph).
    pub(super) fn all_of(certificate: &Certificate) -> Result<Vec<Self>, der::Error> {
        let points: Option<CrlDistributionPoints> = certificate.extension()?;
        let of_issuer = Self {
            names: Some(vec![PointName::directory(certificate.issuer())]),
            reasons: Reasons::ALL,
            crl_issuer: None,
        };
        let read = |point: &DistributionPoint| Self::read(point, certificate.issuer());
        Ok(points.iter().flat_map(|points| &points.0).map(read).chain([of_issuer]).collect())
    }

    fn read(point: &DistributionPoint, issuer: &Name) -> Self {
        let crl_issuer = point.crl_issuer.as_ref().map(PointName::of);
        let names = point.distribution_point.as_ref().map(|name| match (name, crl_issuer.as_deref()) {
            // Relative to the one CRL issuer that is named (4.2.1.13).
            (DistributionPointName::NameRelativeToCRLIssuer(relative), Some([base])) => {
                base.below(relative).into_iter().collect()
            }
            (DistributionPointName::NameRelativeToCRLIssuer(_), Some(_)) => Vec::new(),
            _ => PointName::of_point(name, issuer),
        });
        Self { names, reasons: Reasons::of(point.reasons), crl_issuer }
    }
}
