//! A site's folder and its people's keys, for the agent's tests.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use agent::{Identity, settings::Logins};
use smime::testing::fixtures::{certificate, data, key};
use tempfile::TempDir;

/// The token of [`folder`].
pub(crate) const TOKEN: &str = "[[token]]\nmodule = \"module.so\"\nlabel = \"mail\"\npin-file = \"pin\"\n";

/// A folder with something like a module, a PIN, and these certificates.
pub(crate) fn folder(certificates: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("module.so"), "").unwrap();
    fs::write(at("pin"), "1234").unwrap();
    fs::set_permissions(at("pin"), fs::Permissions::from_mode(0o600)).unwrap();
    for name in certificates {
        let file = format!("{name}.pem");
        fs::write(at(&file), data(&file)).unwrap();
    }
    folder
}

/// Somebody whose key is in memory.
pub(crate) fn identity(name: &str) -> Identity {
    let key = || Arc::new(key(name));
    Identity::new(certificate(name), vec![certificate("ca")], Logins::Address, key(), key())
}
