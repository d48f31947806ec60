//! The full files beside an audit: which there are, and what their names say.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// The one name of an audit, whatever links lead to it, and whether it is there or was moved away.
pub(crate) fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Some(name) = path.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file"));
        };
        let folder = fs::canonicalize(folder(&path))?;
        let found = folder.join(name);
        match fs::read_link(&found) {
            Ok(target) => path = folder.join(target),
            Err(_) => return Ok(found),
        }
    }
    Err(io::Error::other("too many links lead to it"))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The name of a file that is full, by the number of its last line.
pub(crate) fn name(path: &Path, last: u64) -> PathBuf {
    with_suffix(path, &format!("{last:0DIGITS$}"))
}

/// The file that whoever writes has locked.
pub(crate) fn lock(path: &Path) -> PathBuf {
    with_suffix(path, "lock")
}

/// The next file, until it is in its place.
pub(crate) fn next(path: &Path) -> PathBuf {
    with_suffix(path, "new")
}

/// The full files of an audit, the oldest first, with the number of their last line.
pub(crate) fn all(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let folder = folder(path);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let sibling = folder.join(entry?.file_name());
        if let Some((base, last)) = parse(&sibling)
            && base.file_name() == path.file_name()
        {
            found.push((last, sibling));
        }
    }
    found.sort();
    Ok(found)
}

/// The audit that a full file is of, and the number of its last line.
pub(crate) fn parse(path: &Path) -> Option<(PathBuf, u64)> {
    let (base, number) = path.file_name()?.to_str()?.rsplit_once('.')?;
    let is_number = number.len() == DIGITS && number.bytes().all(|octet| octet.is_ascii_digit());
    let last = number.parse().ok().filter(|_| is_number && !base.is_empty())?;
    Some((path.with_file_name(base), last))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;
/// Enough for the largest number, so that names sort as numbers do.
const DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_were_given_by_number_are_full_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        for sibling in ["", ".lock", ".new", ".1", ".gz", "-20260101", ".0000000000000000000x"] {
            fs::write(directory.path().join(format!("audit.jsonl{sibling}")), "").unwrap();
        }
        fs::write(directory.path().join("other.jsonl.00000000000000000005"), "").unwrap();
        for last in [100, 7, u64::MAX] {
            fs::write(name(&path, last), "").unwrap();
        }
        let found: Vec<u64> = all(&path).unwrap().into_iter().map(|(last, _)| last).collect();
        assert_eq!(found, [7, 100, u64::MAX]);
        assert_eq!(parse(&name(&path, 7)), Some((path, 7)));
    }
}
