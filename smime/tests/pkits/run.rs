//! A test of PKITS run here: its path, and its mail.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use smime::{
    Certificate,
    message::{AuthResult, Findings, Reason, verify},
    mime::{Message, single_originator},
    path::{Crl, LegacySignatures, PathError, RevocationMode, Trust, ValidPath, validate},
};

use crate::table::{Case, Part};

pub(crate) fn data(folder: &str, file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/pkits").join(folder).join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn certificate(name: &str) -> Result<Certificate, String> {
    Certificate::from_der(&data("certs", &format!("{name}.crt"))).map_err(|error| error.to_string())
}

/// While all is valid, but for what is not meant to be.
pub(crate) fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

pub(crate) fn crl(name: &str) -> Option<Crl> {
    Crl::from_der(&data("crls", &format!("{name}.crl"))).ok()
}

fn trust(case: &Case, part: &Part) -> Trust {
    Trust {
        anchors: vec![certificate("TrustAnchorRootCertificate").unwrap()],
        crls: case.crls.iter().filter_map(|name| crl(name)).collect(),
        revocation: RevocationMode::HardFail,
        policies: part.policies.clone(),
        legacy: LegacySignatures::Marked,
        ..Trust::default()
    }
}

/// The path of a case, of its certificates in an order of no use.
pub(crate) fn path(case: &Case, part: &Part) -> Result<ValidPath, String> {
    let found = path_with(case, part, RevocationMode::HardFail, LegacySignatures::Marked)?;
    found.map_err(|error| error.to_string())
}

/// The same, with other modes. The outer error is that of a leaf that cannot be read.
pub(crate) fn path_with(
    case: &Case,
    part: &Part,
    revocation: RevocationMode,
    legacy: LegacySignatures,
) -> Result<Result<ValidPath, PathError>, String> {
    let leaf = certificate(case.leaf())?;
    let mut surplus: Vec<Certificate> =
        case.certificates.iter().filter_map(|name| certificate(name).ok()).collect();
    surplus.sort_by_key(|certificate| *certificate.fingerprint());
    let trust = Trust { revocation, legacy, ..trust(case, part) };
    Ok(validate(&leaf, &surplus, &trust, at()))
}

/// The verdict on the mail of a case, with what was found of its signer.
pub(crate) fn mail(case: &Case, part: &Part) -> (AuthResult, Reason, Option<Findings>) {
    let octets = data("smime", &format!("Signed{}.eml", case.name));
    let message = Message::from_stored(&octets);
    let entity = message.entity();
    let (verdict, _) = verify(&entity, single_originator(&entity), &trust(case, part), at());
    let findings = verdict.signers().first().map(|signer| signer.findings.clone());
    (verdict.result(), verdict.reason().clone(), findings)
}
