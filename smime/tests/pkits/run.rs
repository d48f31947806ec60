//! A test of PKITS run here: its path, and its mail.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use smime::{
    Certificate,
    message::{AuthResult, Finding, Reason, verify},
    mime::{Message, single_originator},
    path::{Crl, LegacySignatures, RevocationMode, Trust, ValidPath, validate},
};

use crate::table::{Case, Part};

pub(crate) fn data(folder: &str, file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/pkits").join(folder).join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn certificate(name: &str) -> Result<Certificate, String> {
    Certificate::from_der(&data("certs", &format!("{name}.crt"))).map_err(|error| error.to_string())
}

/// While all is valid, but for what is not meant to be.
pub(crate) fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn trust(case: &Case, part: &Part) -> Trust {
    let crl = |name: &&str| Crl::from_der(&data("crls", &format!("{name}.crl"))).ok();
    Trust {
        anchors: vec![certificate("TrustAnchorRootCertificate").unwrap()],
        crls: case.crls.iter().filter_map(crl).collect(),
        revocation: RevocationMode::HardFail,
        policies: part.policies.clone(),
        legacy: LegacySignatures::Marked,
        ..Trust::default()
    }
}

/// The path of a case, of its certificates in an order of no use.
pub(crate) fn path(case: &Case, part: &Part) -> Result<ValidPath, String> {
    let leaf = certificate(case.leaf())?;
    let mut surplus: Vec<Certificate> =
        case.certificates.iter().filter_map(|name| certificate(name).ok()).collect();
    surplus.sort_by_key(|certificate| *certificate.fingerprint());
    validate(&leaf, &surplus, &trust(case, part), at()).map_err(|error| error.to_string())
}

/// The verdict on the mail of a case, with the finding on its signer's path.
pub(crate) fn mail(case: &Case, part: &Part) -> (AuthResult, Reason, Finding) {
    let octets = data("smime", &format!("Signed{}.eml", case.name));
    let message = Message::from_stored(&octets);
    let entity = message.entity();
    let (verdict, _) = verify(&entity, single_originator(&entity), &trust(case, part), at());
    let path = verdict.signers().first().map_or(Finding::NotReached, |signer| signer.findings.path.clone());
    (verdict.result(), verdict.reason().clone(), path)
}
