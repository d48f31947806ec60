//! `hsmime audit check`: whether an audit lacks a line, over all of its files.

use std::{io::Write, path::PathBuf};

use anyhow::{Result, ensure};
use audit::{Checked, Found};

use crate::{Done, table::printable};

/// Says of each audit what is in it.
pub(crate) fn check(files: &[PathBuf], out: &mut dyn Write) -> Result<Done> {
    let mut done = Done::All;
    for Checked { name, files, found } in audit::check(files)? {
        ensure!(files > 0, "{}: there is no such file", name.display());
        if matches!(found, Found::Wrong { .. }) {
            done = Done::Partly;
        }
        let count = if files > 1 { format!(" ({files} files)") } else { String::new() };
        writeln!(out, "{}", printable(&format!("{}{count}: {found}", name.display())))?;
    }
    Ok(done)
}
