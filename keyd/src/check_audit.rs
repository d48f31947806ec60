//! `check-audit`: whether an audit lacks a line.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use audit::{Checked, Found};

/// Prints what was found: 0 if no line is missing, 1 if one is, 2 if the files cannot be read.
pub(crate) fn run(path: &Path) -> ExitCode {
    match check(path) {
        Ok((text, is_whole)) => {
            // A reader that has gone has seen enough.
            match writeln!(io::stdout(), "{text}") {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    let _ = writeln!(io::stderr(), "hsmime-keyd: cannot write the output: {error}");
                    ExitCode::from(2)
                }
                _ => ExitCode::from(u8::from(!is_whole)),
            }
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
