//! `hsmime audit check`: whether an audit lacks a line, over all of its files.

use std::{io::Write, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use audit::Found;

use crate::{Done, table::printable};

/// Says of each audit what is in it.
pub(crate) fn check(files: &[PathBuf], out: &mut dyn Write) -> Result<Done> {
    let mut done = Done::All;
    for (name, parts) in audit::sequences(files).context("the folder of an audit cannot be read")? {
        ensure!(!parts.is_empty(), "{}: there is no such file", name.display());
        let found = audit::check_all(&parts)?;
        if matches!(found, Found::Wrong { .. }) {
            done = Done::Partly;
        }
        let count = if parts.len() > 1 { format!(" ({} files)", parts.len()) } else { String::new() };
        writeln!(out, "{}", printable(&format!("{}{count}: {found}", name.display())))?;
    }
    Ok(done)
}
