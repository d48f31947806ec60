//! Kryoptic: an SQLite file per token. `scripts/prepare` builds it from the crate in `tests/tokens/kryoptic`.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use super::{Tokens, pkcs11_tool};

/// Names another build of Kryoptic.
const MODULE: &str = "HSMIME_TEST_KRYOPTIC";
const SLOTS: usize = 3;

pub(super) fn module() -> Result<PathBuf> {
    let module = match env::var_os(MODULE) {
        Some(module) => module.into(),
        None => target().join("kryoptic/debug/libkryoptic_token.so"),
    };
    ensure!(module.exists(), "{} is missing; run scripts/prepare", module.display());
    Ok(module)
}

/// Cargo's folder, as `scripts/prepare` finds it.
fn target() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    env::var_os("CARGO_TARGET_DIR").map_or_else(default, PathBuf::from)
}

pub(super) fn configure(directory: &Path) -> Result<()> {
    let mut text = String::from("[ec_point_encoding]\nencoding = \"Der\"\n");
    for slot in 0..SLOTS {
        let file = directory.join(format!("slot-{slot}.sql"));
        write!(text, "[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", file.display())?;
    }
    Ok(fs::write(configuration(directory), text)?)
}

pub(super) fn environment(directory: &Path) -> Vec<(&'static str, OsString)> {
    vec![("KRYOPTIC_CONF", configuration(directory).into())]
}

pub(super) fn init(tokens: &Tokens, slot: usize, label: &str, pin: &str) -> Result<()> {
    pkcs11_tool::init(tokens, slot, label, "12345678", pin)
}

pub(super) fn spoil(directory: &Path) -> Result<()> {
    // Without a file, or with one that cannot be read, it starts without slots.
    Ok(fs::write(configuration(directory), "[[slots]]\nslot = 0\ndbtype = \"none\"\n")?)
}

fn configuration(directory: &Path) -> PathBuf {
    directory.join("kryoptic.conf")
}
