//! Checks a path whose signatures hold (RFC 5280 section 6.1, RFC 8550 section 4.4).

use std::time::SystemTime;

use const_oid::db::rfc5280::{
    ID_CE_BASIC_CONSTRAINTS, ID_CE_CERTIFICATE_POLICIES, ID_CE_EXT_KEY_USAGE, ID_CE_INHIBIT_ANY_POLICY,
    ID_CE_ISSUER_ALT_NAME, ID_CE_KEY_USAGE, ID_CE_NAME_CONSTRAINTS, ID_CE_POLICY_CONSTRAINTS,
    ID_CE_POLICY_MAPPINGS, ID_CE_SUBJECT_ALT_NAME,
};
use der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, PolicyConstraints};

use super::{Budget, PathError, Revocation, RevocationMode, Trust, ValidPath, constraints, crl};
use crate::Certificate;

/// The extensions that are processed here, so that they may be critical. The policy extensions are
/// processed for the initial policy set anyPolicy without an explicit policy, where only
/// policyConstraints could make a path invalid; that one is refused.
const UNDERSTOOD: [ObjectIdentifier; 9] = [
    ID_CE_BASIC_CONSTRAINTS,
    ID_CE_KEY_USAGE,
    ID_CE_EXT_KEY_USAGE,
    ID_CE_SUBJECT_ALT_NAME,
    ID_CE_ISSUER_ALT_NAME,
    ID_CE_NAME_CONSTRAINTS,
    ID_CE_CERTIFICATE_POLICIES,
    ID_CE_POLICY_MAPPINGS,
    ID_CE_INHIBIT_ANY_POLICY,
];

/// Checks `chain`, leaf first, anchor last.
pub(super) fn check(
    chain: &[Certificate],
    trust: &Trust,
    at: SystemTime,
    budget: &mut Budget,
) -> Result<ValidPath, PathError> {
    for certificate in chain {
        check_validity(certificate, at)?;
        check_extensions(certificate)?;
    }
    let Some((leaf, issuers)) = chain.split_first() else {
        return Err(PathError::NoPath { certificate: String::new() });
    };
    check_leaf(leaf)?;
    for (position, issuer) in issuers.iter().enumerate() {
        // The certificates between this issuer and the leaf, without self-issued ones (RFC 5280 4.2.1.9).
        let between = issuers.iter().take(position).filter(|c| c.subject() != c.issuer()).count();
        check_issuer(issuer, between)?;
        let below = chain.get(..=position).unwrap_or_default();
        constraints::check(issuer, below)?;
    }
    let revocation = match trust.revocation {
        RevocationMode::Off => Revocation::NotChecked,
        RevocationMode::HardFail | RevocationMode::SoftFail => check_revocation(chain, trust, at, budget)?,
    };
    Ok(ValidPath { chain: chain.to_vec(), revocation })
}

fn check_validity(certificate: &Certificate, at: SystemTime) -> Result<(), PathError> {
    let validity = certificate.decoded().tbs_certificate().validity();
    if at < validity.not_before.to_system_time() {
        return Err(PathError::NotYetValid { certificate: certificate.to_string() });
    }
    if at > validity.not_after.to_system_time() {
        return Err(PathError::Expired { certificate: certificate.to_string() });
    }
    Ok(())
}

fn check_extensions(certificate: &Certificate) -> Result<(), PathError> {
    let extensions = certificate.decoded().tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
    let refuse = |oid, reason| PathError::Extension { certificate: certificate.to_string(), oid, reason };
    for (position, extension) in extensions.iter().enumerate() {
        let oid = extension.extn_id;
        if extensions.iter().take(position).any(|earlier| earlier.extn_id == oid) {
            return Err(refuse(oid, "it is there twice"));
        }
        if oid == ID_CE_POLICY_CONSTRAINTS {
            match certificate.extension::<PolicyConstraints>() {
                Ok(Some(constraints)) if constraints.require_explicit_policy.is_none() => {}
                _ => return Err(refuse(oid, "an explicit policy is required, which is not supported")),
            }
        } else if extension.critical && !UNDERSTOOD.contains(&oid) {
            return Err(refuse(oid, "it is critical and not understood"));
        }
    }
    Ok(())
}

fn check_leaf(leaf: &Certificate) -> Result<(), PathError> {
    let refuse = |reason| PathError::Usage { certificate: leaf.to_string(), reason };
    if !leaf.is_for_email() {
        return Err(refuse("extKeyUsage has no emailProtection"));
    }
    Ok(())
}

fn check_issuer(issuer: &Certificate, between: usize) -> Result<(), PathError> {
    let refuse = |reason| PathError::NotAnIssuer { certificate: issuer.to_string(), reason };
    let constraints = match issuer.extension::<BasicConstraints>() {
        Ok(Some(constraints)) if constraints.ca => constraints,
        _ => return Err(refuse("basicConstraints does not make it a CA")),
    };
    if constraints.path_len_constraint.is_some_and(|limit| between > usize::from(limit)) {
        return Err(refuse("the path below it is longer than its pathLenConstraint"));
    }
    match issuer.extension::<KeyUsage>() {
        Ok(None) => {}
        Ok(Some(usage)) if usage.key_cert_sign() => {}
        _ => return Err(refuse("keyUsage has no keyCertSign")),
    }
    if !issuer.is_for_email() {
        return Err(refuse("extKeyUsage has no emailProtection"));
    }
    Ok(())
}

/// Looks every certificate but the anchor up in the CRLs of its issuer.
fn check_revocation(
    chain: &[Certificate],
    trust: &Trust,
    at: SystemTime,
    budget: &mut Budget,
) -> Result<Revocation, PathError> {
    let mut state = Revocation::Good;
    for (certificate, issuer) in chain.iter().zip(chain.iter().skip(1)) {
        match crl::status(certificate, issuer, &trust.crls, at, budget)? {
            crl::Status::Good => {}
            crl::Status::Revoked { since } => {
                return Err(PathError::Revoked { certificate: certificate.to_string(), since });
            }
            crl::Status::Unknown(reason) => {
                let certificate = certificate.to_string();
                if trust.revocation == RevocationMode::HardFail {
                    return Err(PathError::RevocationUnknown { certificate, reason });
                }
                state = Revocation::Unknown(format!("{certificate}: {reason}"));
            }
        }
    }
    Ok(state)
}
