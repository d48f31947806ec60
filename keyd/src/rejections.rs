//! The file that says how many encrypted keys of whom were rejected: a line for each user, with his number and the second (of
//! Unix) until which they take up time.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

/// What the file says. Nothing where there is none.
pub(crate) fn read(file: &Path) -> io::Result<Vec<(u32, SystemTime)>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let line = |line: &str| {
        let (user, second) = line.split_once(' ')?;
        let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(second.parse().ok()?))?;
        Some((user.parse().ok()?, until))
    };
    let lines: Option<Vec<_>> = text.lines().map(line).collect();
    lines.filter(|_| text.ends_with('\n')).ok_or_else(|| {
        let damaged = "it is damaged. If nobody was out for a signature (the audit has many lines `rejected` then), remove it";
        io::Error::new(io::ErrorKind::InvalidData, damaged)
    })
}

/// Replaces the file as a whole.
pub(crate) fn write(file: &Path, all: impl Iterator<Item = (u32, SystemTime)>) -> io::Result<()> {
    let mut text = Vec::new();
    for (user, until) in all {
        let second = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        writeln!(text, "{user} {second}")?;
    }
    let new = file.with_extension("new");
    let mut options = File::options();
    let mut written = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    written.write_all(&text)?;
    written.sync_all()?;
    fs::rename(new, file)
}
