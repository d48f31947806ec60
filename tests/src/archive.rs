//! mbox files (the reversible mboxrd) and Maildirs: written and read for the batch tool's tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// An mbox of these mails: LF line ends, `From ` lines quoted by one `>` each.
pub fn mbox(mails: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for mail in mails {
        file.extend_from_slice(b"From sender@example.org Fri Nov 20 12:00:00 2026\n");
        for line in crate::mime::lf(mail).split_inclusive(|&octet| octet == b'\n') {
            if is_from_line(line) {
                file.push(b'>');
            }
            file.extend_from_slice(line);
        }
        if !file.ends_with(b"\n") {
            file.push(b'\n');
        }
        file.push(b'\n');
    }
    file
}

/// The mails of an mbox as [`mbox`] writes them, line ends LF, quotes removed.
pub fn read_mbox(file: &[u8]) -> Vec<Vec<u8>> {
    let mut mails: Vec<Vec<u8>> = Vec::new();
    for line in file.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b"From ") {
            mails.push(Vec::new());
        } else if let Some(mail) = mails.last_mut() {
            let quoted = line.first() == Some(&b'>') && is_from_line(line);
            mail.extend_from_slice(if quoted { line.get(1..).unwrap_or_default() } else { line });
        }
    }
    for mail in &mut mails {
        if mail.ends_with(b"\n\n") {
            mail.pop();
        }
    }
    mails
}

/// Makes a Maildir; every second mail is in `new`, the others in `cur` and seen. Line ends are LF.
pub fn write_maildir(directory: &Path, mails: &[Vec<u8>]) -> Result<()> {
    for below in ["tmp", "new", "cur"] {
        fs::create_dir_all(directory.join(below))?;
    }
    for (at, mail) in mails.iter().enumerate() {
        let name = format!("17950000{at:05}.M{at}P1.test");
        let name = if at % 2 == 0 { format!("new/{name}") } else { format!("cur/{name}:2,S") };
        fs::write(directory.join(name), crate::mime::lf(mail))?;
    }
    Ok(())
}

/// All mails of a Maildir with their paths, in the order of their names.
pub fn read_maildir(directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut mails = Vec::new();
    for below in ["new", "cur"] {
        let directory = directory.join(below);
        let entries = fs::read_dir(&directory).with_context(|| format!("no {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            let octets = fs::read(&path)?;
            mails.push((path, octets));
        }
    }
    mails.sort_by(|(a, _), (b, _)| a.file_name().cmp(&b.file_name()));
    Ok(mails)
}

fn is_from_line(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|&&octet| octet == b'>').count();
    line.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::Workdir;

    fn mails() -> Vec<Vec<u8>> {
        ["Subject: 1\n\nFrom here\n>From there\n\n", "Subject: 2\n\n", "Subject: 3\n\nx\n"]
            .map(|mail| mail.as_bytes().to_vec())
            .into()
    }

    #[test]
    fn an_mbox_gives_back_what_was_put_in() {
        assert_eq!(read_mbox(&mbox(&mails())), mails());
    }

    #[test]
    fn a_maildir_gives_back_what_was_put_in() {
        let workdir = Workdir::new("maildir").unwrap();
        write_maildir(workdir.path(), &mails()).unwrap();
        let read: Vec<_> = read_maildir(workdir.path()).unwrap().into_iter().map(|(_, mail)| mail).collect();
        assert_eq!(read, mails());
    }
}
