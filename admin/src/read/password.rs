//! The password of PKCS#12 files: from a file, from stdin, or asked for at a terminal; never an argument.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Where passwords come from.
#[derive(Debug)]
pub(crate) struct Passwords {
    file: Option<PathBuf>,
    /// Read once, for all files.
    known: Option<Zeroizing<String>>,
}

/// No password is longer.
const MAX: u64 = 4096;

impl Passwords {
    /// From this file; `-` is stdin. Without one, from the terminal.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, known: None }
    }

    /// The password of a file.
    pub(crate) fn of(&mut self, path: &Path) -> Result<Zeroizing<String>, String> {
        if let Some(known) = &self.known {
            return Ok(known.clone());
        }
        let password = match &self.file {
            Some(file) if file == Path::new("-") => first_line(&mut io::stdin().lock()),
            Some(file) => File::open(file).and_then(|file| first_line(&mut BufReader::new(file))),
            None if path != Path::new("-") && io::stdin().is_terminal() => return ask(path),
            None => return Err("it is PKCS#12; say --password-file with the file of its password".to_owned()),
        };
        let password = password.map_err(|error| {
            let file = self.file.as_deref().unwrap_or(Path::new("-"));
            format!("--password-file {}: {error}", file.display())
        })?;
        self.known = Some(password.clone());
        Ok(password)
    }
}

fn first_line(read: &mut dyn BufRead) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(256));
    read.take(MAX).read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

/// Asks at the terminal, without showing what is typed.
fn ask(path: &Path) -> Result<Zeroizing<String>, String> {
    let stdin = io::stdin();
    let fail = |error: io::Error| format!("the terminal: {error}");
    let _ = write!(io::stderr(), "password of {}: ", path.display());
    let before = tcgetattr(&stdin).map_err(|error| fail(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| fail(error.into()))?;
    let line = first_line(&mut stdin.lock());
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    let _ = writeln!(io::stderr());
    restored.map_err(|error| fail(error.into()))?;
    line.map_err(fail)
}
