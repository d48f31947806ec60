//! Keys, certificates and objects from `src/testing/data`, made by OpenSSL (see `make.sh` there).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a missing fixture ends the test, as it should"
)]

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::MemoryKey;
use crate::{
    Certificate,
    path::{RevocationMode, Trust},
    revocation::Crl,
};

/// The octets of a file in `src/testing/data`.
pub fn data(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/testing/data").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The certificate `NAME.pem`.
pub fn certificate(name: &str) -> Certificate {
    let pem = String::from_utf8(data(&format!("{name}.pem"))).unwrap();
    Certificate::from_pem(&pem).unwrap().remove(0)
}

/// The private key `NAME.p8` with its certificate.
pub fn key(name: &str) -> MemoryKey {
    MemoryKey::from_pkcs8(&data(&format!("{name}.p8")), certificate(name)).unwrap()
}

/// The root as anchor, without CRLs.
pub fn trust() -> Trust {
    Trust { anchors: vec![certificate("root")], revocation: RevocationMode::Off, ..Trust::default() }
}

/// The root as anchor, with the CRLs of root and issuing CA.
pub fn trust_with_crls(revocation: RevocationMode) -> Trust {
    let crls = ["root.crl", "ca.crl"].map(|name| Crl::from_der(&data(name)).unwrap()).to_vec();
    Trust { crls, revocation, ..trust() }
}

/// A time at which everything in `src/testing/data` is valid: a day after `make.sh` ran.
pub fn now() -> SystemTime {
    let not_before = certificate("revoked").decoded().tbs_certificate().validity().not_before;
    not_before.to_system_time() + Duration::from_hours(24)
}
