//! Checks a path whose signatures hold (RFC 5280 section 6.1, RFC 8550 section 4.4).

use std::time::SystemTime;

use const_oid::db::rfc5280::{
    ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_BASIC_CONSTRAINTS, ID_CE_CERTIFICATE_POLICIES, ID_CE_EXT_KEY_USAGE,
    ID_CE_INHIBIT_ANY_POLICY, ID_CE_ISSUER_ALT_NAME, ID_CE_KEY_USAGE, ID_CE_NAME_CONSTRAINTS,
    ID_CE_POLICY_CONSTRAINTS, ID_CE_POLICY_MAPPINGS, ID_CE_SUBJECT_ALT_NAME, ID_CE_SUBJECT_KEY_IDENTIFIER,
    ID_KP_OCSP_SIGNING,
};
use der::{Decode, asn1::ObjectIdentifier, oid::AssociatedOid};
use x509_cert::{
    Version,
    ext::pkix::{
        BasicConstraints, CertificatePolicies, ExtendedKeyUsage, InhibitAnyPolicy, KeyUsage, NameConstraints,
        PolicyConstraints, PolicyMappings, SubjectAltName,
    },
};

use super::{
    Budget, PathError, Purpose, Revocation, RevocationMode, Strength, Trust, ValidPath, constraints, policy,
};
use crate::{Certificate, revocation};

/// The extensions that may be critical, because they are processed, or say nothing that could matter.
const UNDERSTOOD: [ObjectIdentifier; 12] = [
    ID_CE_BASIC_CONSTRAINTS,
    ID_CE_KEY_USAGE,
    ID_CE_EXT_KEY_USAGE,
    ID_CE_SUBJECT_ALT_NAME,
    ID_CE_ISSUER_ALT_NAME,
    ID_CE_NAME_CONSTRAINTS,
    ID_CE_CERTIFICATE_POLICIES,
    ID_CE_POLICY_MAPPINGS,
    ID_CE_POLICY_CONSTRAINTS,
    ID_CE_INHIBIT_ANY_POLICY,
    ID_CE_AUTHORITY_KEY_IDENTIFIER,
    ID_CE_SUBJECT_KEY_IDENTIFIER,
];

/// Why a path is not valid.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: PathError,
    /// Which of the chain was found revoked, counted from the leaf.
    pub(crate) revoked: Option<usize>,
}

impl From<PathError> for Refused {
    fn from(error: PathError) -> Self {
        Self { error, revoked: None }
    }
}

/// Checks `chain`, leaf first, anchor last.
pub(super) fn check(
    chain: &[Certificate],
    strength: Strength,
    purpose: Purpose,
    surplus: &[Certificate],
    trust: &Trust,
    at: SystemTime,
    budget: &mut Budget,
) -> Result<ValidPath, Refused> {
    let Some((leaf, issuers)) = chain.split_first() else {
        return Err(PathError::NoPath { certificate: String::new() }.into());
    };
    check_leaf(leaf, purpose, at, budget)?;
    for (position, issuer) in issuers.iter().enumerate() {
        check_issuer(issuer, issuers.get(..position).unwrap_or_default(), purpose, at, budget)?;
        constraints::check(issuer, chain.get(..=position).unwrap_or_default(), budget)?;
    }
    let policies = policy::process(chain, &trust.policies).map_err(|defect| PathError::Policy {
        certificate: chain.get(defect.position).map(ToString::to_string).unwrap_or_default(),
        reason: defect.reason,
    })?;
    if let Some(reason) = trust.distrust.as_ref().and_then(|distrust| distrust.against(chain)) {
        return Err(PathError::Distrusted { certificate: leaf.to_string(), reason }.into());
    }
    let (revocation, of_revocation) = match trust.revocation {
        RevocationMode::Off => (Revocation::NotChecked, Strength::Strong),
        RevocationMode::HardFail | RevocationMode::SoftFail => {
            revocation::check(chain, surplus, trust, at, budget)?
        }
    };
    Ok(ValidPath { chain: chain.to_vec(), revocation, policies, strength: strength.and(of_revocation) })
}

/// Checks what the leaf must be by itself, whoever issued it.
fn check_leaf(
    leaf: &Certificate,
    purpose: Purpose,
    at: SystemTime,
    budget: &mut Budget,
) -> Result<(), PathError> {
    check_certificate(leaf, at, budget)?;
    let refuse = |reason| Err(PathError::Usage { certificate: leaf.to_string(), reason });
    match purpose {
        Purpose::EmailProtection if !leaf.is_for_email() => refuse("extKeyUsage has no emailProtection"),
        Purpose::CrlSigning if !may(leaf, KeyUsage::crl_sign) => refuse("keyUsage has no cRLSign"),
        Purpose::OcspSigning if !is_ocsp_delegate(leaf) => refuse("extKeyUsage has no OCSPSigning"),
        Purpose::EmailProtection | Purpose::CrlSigning | Purpose::OcspSigning => Ok(()),
    }
}

/// Checks what an issuer must be, with the certificates `below` it down to the first issuer, which come first.
pub(super) fn check_issuer(
    issuer: &Certificate,
    below: &[Certificate],
    purpose: Purpose,
    at: SystemTime,
    budget: &mut Budget,
) -> Result<(), PathError> {
    let looked = check_certificate(issuer, at, budget)?;
    let refuse = |reason| PathError::NotAnIssuer { certificate: issuer.to_string(), reason };
    if issuer.subject().is_empty() {
        return Err(refuse("it has no subject"));
    }
    let Some(constraints) = looked.constraints else {
        return Err(refuse("basicConstraints does not make it a CA"));
    };
    // Self-issued certificates do not count (RFC 5280 4.2.1.9).
    let between = below.iter().filter(|certificate| !certificate.is_self_issued()).count();
    if constraints.path_len_constraint.is_some_and(|limit| between > usize::from(limit)) {
        return Err(refuse("the path below it is longer than its pathLenConstraint"));
    }
    if !looked.may_issue {
        return Err(refuse("keyUsage has no keyCertSign"));
    }
    if purpose == Purpose::EmailProtection && !looked.is_for_email {
        return Err(refuse("extKeyUsage has no emailProtection"));
    }
    Ok(())
}

/// Whether keyUsage is absent, or as `allows` wants it.
fn may(certificate: &Certificate, allows: fn(&KeyUsage) -> bool) -> bool {
    match certificate.extension::<KeyUsage>() {
        Ok(Some(usage)) => allows(&usage),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// The delegate must be named as one: anyExtendedKeyUsage does not do (RFC 6960 4.2.2.2).
fn is_ocsp_delegate(certificate: &Certificate) -> bool {
    matches!(certificate.extension::<ExtendedKeyUsage>(), Ok(Some(usage)) if usage.0.contains(&ID_KP_OCSP_SIGNING))
}

/// What a certificate says of itself, whatever is around it.
#[derive(Clone, Debug)]
pub(super) struct Looked {
    /// Whether its form and all of its extensions are as they must be.
    form: Result<(), PathError>,
    /// Those of one that they make a CA.
    constraints: Option<BasicConstraints>,
    may_issue: bool,
    is_for_email: bool,
}

impl Looked {
    /// Decodes what there is. A certificate of a message may be long, so this is done once for each.
    pub(super) fn at(certificate: &Certificate) -> Self {
        let constraints = certificate.extension::<BasicConstraints>().ok().flatten();
        Self {
            form: check_form(certificate).and_then(|()| check_extensions(certificate)),
            constraints: constraints.filter(|it| it.ca),
            may_issue: may(certificate, KeyUsage::key_cert_sign),
            is_for_email: certificate.is_for_email(),
        }
    }
}

/// Checks what every certificate of a path must be, the anchor included.
fn check_certificate(
    certificate: &Certificate,
    at: SystemTime,
    budget: &mut Budget,
) -> Result<Looked, PathError> {
    check_validity(certificate, at)?;
    let looked = budget.look_at(certificate);
    looked.form.clone().map(|()| looked)
}

fn check_validity(certificate: &Certificate, at: SystemTime) -> Result<(), PathError> {
    if at < certificate.not_before() {
        return Err(PathError::NotYetValid { certificate: certificate.to_string() });
    }
    if at > certificate.not_after() {
        return Err(PathError::Expired { certificate: certificate.to_string() });
    }
    Ok(())
}

/// RFC 5280 4.1.2.1, 4.1.2.4, 4.1.2.6, 4.1.2.8.
fn check_form(certificate: &Certificate) -> Result<(), PathError> {
    let refuse = |reason| Err(PathError::Malformed { certificate: certificate.to_string(), reason });
    let signed = certificate.decoded().tbs_certificate();
    if signed.version() != Version::V3 && signed.extensions().is_some() {
        return refuse("it has extensions, and is not of version 3");
    }
    let has_identifiers = signed.issuer_unique_id().is_some() || signed.subject_unique_id().is_some();
    if signed.version() == Version::V1 && has_identifiers {
        return refuse("it has a unique identifier, and is of version 1");
    }
    if certificate.issuer().is_empty() {
        return refuse("it has no issuer");
    }
    if certificate.subject().is_empty() {
        let names = signed.extensions().into_iter().flatten().find(|e| e.extn_id == ID_CE_SUBJECT_ALT_NAME);
        if !names.is_some_and(|names| names.critical) {
            return refuse("it has neither a subject nor a critical subjectAltName");
        }
    }
    Ok(())
}

fn check_extensions(certificate: &Certificate) -> Result<(), PathError> {
    let extensions = certificate.decoded().tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
    for (position, extension) in extensions.iter().enumerate() {
        let oid = extension.extn_id;
        let refuse = |reason| Err(PathError::Extension { certificate: certificate.to_string(), oid, reason });
        if extensions.iter().take(position).any(|earlier| earlier.extn_id == oid) {
            return refuse("it is there twice");
        }
        if extension.critical && !UNDERSTOOD.contains(&oid) {
            return refuse("it is critical and not understood");
        }
        if !is_readable(oid, extension.extn_value.as_bytes()) {
            return refuse("it is malformed");
        }
    }
    Ok(())
}

/// Whether an extension that is processed can be decoded.
fn is_readable(oid: ObjectIdentifier, value: &[u8]) -> bool {
    fn decodes<'a, T: Decode<'a> + AssociatedOid>(oid: ObjectIdentifier, value: &'a [u8]) -> Option<bool> {
        (oid == T::OID).then(|| T::from_der(value).is_ok())
    }
    decodes::<BasicConstraints>(oid, value)
        .or_else(|| decodes::<KeyUsage>(oid, value))
        .or_else(|| decodes::<ExtendedKeyUsage>(oid, value))
        .or_else(|| decodes::<SubjectAltName>(oid, value))
        .or_else(|| decodes::<NameConstraints>(oid, value))
        .or_else(|| decodes::<CertificatePolicies>(oid, value))
        .or_else(|| decodes::<PolicyMappings>(oid, value))
        .or_else(|| decodes::<PolicyConstraints>(oid, value))
        .or_else(|| decodes::<InhibitAnyPolicy>(oid, value))
        .unwrap_or(true)
}
