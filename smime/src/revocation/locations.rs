//! Where a certificate says that its revocation can be asked for: http URLs only.
//!
//! Nothing is fetched here, and nobody may before the path of the certificate has reached an anchor
//! (RFC 8550 section 6): the sender of a message chooses what is in its certificates.

use const_oid::db::rfc5280::ID_AD_OCSP;
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, CrlDistributionPoints, FreshestCrl,
    crl::dp::DistributionPoint,
    name::{DistributionPointName, GeneralName},
};

use crate::Certificate;

/// Where the CRLs of a certificate are (RFC 5280 4.2.1.13), in its order.
pub fn crl_urls(certificate: &Certificate) -> Vec<String> {
    let points = certificate.extension::<CrlDistributionPoints>().ok().flatten();
    points.map_or(Vec::new(), |points| urls(&points.0))
}

/// Where the delta CRLs of a certificate are (RFC 5280 4.2.1.15), in its order.
pub fn delta_crl_urls(certificate: &Certificate) -> Vec<String> {
    let points = certificate.extension::<FreshestCrl>().ok().flatten();
    points.map_or(Vec::new(), |points| urls(&points.0))
}

/// Where its OCSP responders are (RFC 5280 4.2.2.1), in its order.
pub fn ocsp_urls(certificate: &Certificate) -> Vec<String> {
    let access = certificate.extension::<AuthorityInfoAccessSyntax>().ok().flatten();
    let access = access.map_or(Vec::new(), |access| access.0);
    let responders = access.iter().filter(|description| description.access_method == ID_AD_OCSP);
    let urls = responders.filter_map(|description| url(&description.access_location));
    urls.take(MAX_LOCATIONS).collect()
}

/// The URLs of distribution points.
pub(super) fn urls(points: &[DistributionPoint]) -> Vec<String> {
    let names = points.iter().filter_map(|point| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        _ => None,
    });
    names.flatten().filter_map(url).take(MAX_LOCATIONS).collect()
}

fn url(name: &GeneralName) -> Option<String> {
    let GeneralName::UniformResourceIdentifier(text) = name else { return None };
    let text = text.as_str();
    let is_http = text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    (is_http && text.len() <= MAX_LOCATION_LEN && text.bytes().all(|octet| octet.is_ascii_graphic()))
        .then(|| text.to_owned())
}

/// How many URLs of a certificate are used.
const MAX_LOCATIONS: usize = 4;
const MAX_LOCATION_LEN: usize = 2048;
