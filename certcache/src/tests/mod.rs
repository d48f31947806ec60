//! Tests of the cache as a whole, each in a folder of its own; `testdata` is made by agent's `make.sh`.

mod choose;
mod crash;
mod damage;
mod distrust;
mod entries;
mod growth;
mod schema;
mod status;
mod sweep;
mod transfer;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use smime::{Certificate, MailAddress};
use tempfile::TempDir;

use super::*;

pub(crate) fn certificate(name: &str) -> Certificate {
    let path = format!("{}/testdata/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    Certificate::from_pem(&fs::read_to_string(path).unwrap()).unwrap().remove(0)
}

/// The certificate of bob with another serial number, which makes it another certificate.
pub(crate) fn numbered(number: u32) -> Certificate {
    let bob = certificate("bob");
    let mut der = bob.der().to_vec();
    let serial = bob.serial_number();
    let at = der.windows(serial.len()).position(|window| window == serial).unwrap();
    der[at + 1..at + 5].copy_from_slice(&number.to_be_bytes());
    Certificate::from_der(&der).unwrap()
}

pub(crate) fn address(text: &str) -> MailAddress {
    MailAddress::parse(text).unwrap()
}

pub(crate) fn year(year: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_556_952)
}

pub(crate) fn cache() -> (TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("certcache")).unwrap();
    (folder, cache)
}

/// The certificates of an address, the newest first.
pub(crate) fn found(cache: &Cache, text: &str) -> Vec<Certificate> {
    cache.by_address(&address(text)).unwrap().into_iter().map(|entry| entry.certificate).collect()
}

pub(crate) fn assert_good(cache: &Cache) {
    let report = cache.check().unwrap();
    assert!(report.is_good(), "{report:?}");
}

/// Where the process that runs a test finds the cache.
const PATH: &str = "CERTCACHE_TEST_PATH";

/// Starts a test of this program in a process of its own, with the cache in a folder.
pub(crate) fn start(test: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The folder that `start` gave, in the other process.
pub(crate) fn started_path() -> PathBuf {
    std::env::var(PATH).unwrap().into()
}
