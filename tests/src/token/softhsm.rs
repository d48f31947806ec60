//! SoftHSM 2: a folder per token, which it reads anew at every use of an object.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Tokens, said};

pub(super) fn configure(directory: &Path) -> Result<()> {
    fs::create_dir(tokens(directory))?;
    let tokens = tokens(directory);
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        tokens.display()
    );
    Ok(fs::write(configuration(directory), text)?)
}

pub(super) fn environment(directory: &Path) -> Vec<(&'static str, OsString)> {
    vec![("SOFTHSM2_CONF", configuration(directory).into())]
}

pub(super) fn init(tokens: &Tokens, label: &str, pin: &str) -> Result<()> {
    let mut init = tokens.command("softhsm2-util")?;
    init.args(["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", pin]);
    said(PACKAGE, &mut init).map(drop)
}

pub(super) fn import(
    tokens: &Tokens,
    token: &str,
    pin: &str,
    key: &Path,
    key_label: &str,
    id: &str,
) -> Result<()> {
    let mut import = tokens.command("softhsm2-util")?;
    import.arg("--import").arg(key).args(["--token", token, "--label", key_label, "--id", id, "--pin", pin]);
    said(PACKAGE, &mut import).map(drop)
}

pub(super) fn spoil(directory: &Path) -> Result<()> {
    Ok(fs::remove_file(configuration(directory))?)
}

pub(super) fn tokens(directory: &Path) -> PathBuf {
    directory.join("tokens")
}

fn configuration(directory: &Path) -> PathBuf {
    directory.join("softhsm2.conf")
}

const PACKAGE: &str = "softhsm2";
