//! NSS's softokn: a certificate database per token. Labels are no property of the database but part of the
//! parameters that `C_Initialize` gets as `pReserved`; `testmodule` hands them on from a file.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Tokens, said};

/// The numbers below are the module's own slots.
const FIRST_SLOT: usize = 4;

pub(super) fn configure(directory: &Path) -> Result<()> {
    // One slot without a token, as the others have.
    fs::create_dir(directory.join("nss-blank"))?;
    write_parameters(directory, &[])
}

pub(super) fn environment(directory: &Path) -> Vec<(&'static str, OsString)> {
    vec![(testmodule::PARAMETERS, parameters(directory).into())]
}

pub(super) fn init(tokens: &Tokens, labels: &[String], label: &str, pin: &str) -> Result<()> {
    let database = tokens.directory.join(format!("nss-{label}"));
    fs::create_dir(&database)?;
    let pin_file = database.join("pin");
    fs::write(&pin_file, format!("{pin}\n"))?;
    let mut make = tokens.command("certutil")?;
    make.arg("-N").arg("-d").arg(format!("sql:{}", database.display())).arg("-f").arg(&pin_file);
    said("libnss3-tools", &mut make)?;
    let mut labels = labels.to_vec();
    labels.push(label.to_owned());
    write_parameters(&tokens.directory, &labels)
}

pub(super) fn spoil(directory: &Path) -> Result<()> {
    Ok(fs::remove_file(parameters(directory))?)
}

fn write_parameters(directory: &Path, labels: &[String]) -> Result<()> {
    let mut slots = String::new();
    for (number, label) in labels.iter().map(String::as_str).chain(["blank"]).enumerate() {
        write!(
            slots,
            "0x{:x}=[configDir='sql:{}/nss-{label}' tokenDescription='{label}' slotDescription='{label}'] ",
            FIRST_SLOT + number,
            directory.display()
        )?;
    }
    let first = labels.first().map_or("blank", String::as_str);
    let text =
        format!("configDir='sql:{}/nss-{first}' secmod='' flags='' tokens=<{slots}>", directory.display());
    Ok(fs::write(parameters(directory), text)?)
}

fn parameters(directory: &Path) -> PathBuf {
    directory.join("softokn-parameters")
}
