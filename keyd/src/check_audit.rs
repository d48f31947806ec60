//! `check-audit`: whether an audit lacks a line.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use agent::output::is_written;
use audit::{Checked, Found};

/// Prints what was found: 0 if no line is missing, 1 if one is, 2 if the files cannot be read.
pub(crate) fn run(path: &Path) -> ExitCode {
    match check(path) {
        Ok((text, is_whole)) => {
            let is_written = is_written("hsmime-keyd", writeln!(io::stdout(), "{text}"));
            ExitCode::from(if is_written { u8::from(!is_whole) } else { 2 })
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "hsmime-keyd: {}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}

fn check(path: &Path) -> io::Result<(String, bool)> {
    let mut text = Vec::new();
    let mut is_whole = true;
    for Checked { name, found, .. } in audit::check(&[path.to_owned()])? {
        is_whole &= !matches!(found, Found::Wrong { .. });
        text.push(format!("{}: {found}", name.display()));
    }
    Ok((text.join("\n"), is_whole))
}
