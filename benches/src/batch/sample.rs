//! One message of an output, looked at by somebody else: that a report calls it signed is our own word.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use memchr::memmem;
use testkit::{command, pki::Person};

/// The first message of an mbox of ours, or of a Maildir, as it is stored.
pub fn first_of(archive: &Path) -> Result<Vec<u8>> {
    if archive.is_dir() {
        let mut names =
            fs::read_dir(archive.join("cur"))?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        names.sort();
        return Ok(fs::read(names.first().context("an empty Maildir")?)?);
    }
    let mut octets = Vec::new();
    File::open(archive)?.take(MOST).read_to_end(&mut octets)?;
    let start = memchr::memchr(b'\n', &octets).context("an empty mbox")? + 1;
    let message = octets.split_off(start);
    let end = memmem::find(&message, b"\nFrom ").map_or(message.len(), |at| at + 1);
    // The empty line is the archive's.
    Ok(message
        .get(..end)
        .map(|message| message.strip_suffix(b"\n").unwrap_or(message))
        .unwrap_or_default()
        .to_vec())
}

/// Has OpenSSL verify the first message.
pub fn is_signed(archive: &Path, root: &Path, folder: &Path) -> Result<()> {
    let message = folder.join("sample.eml");
    fs::write(&message, first_of(archive)?)?;
    let mut openssl = Command::new("openssl");
    openssl.args(["cms", "-verify", "-out", "/dev/null", "-CAfile"]).arg(root).arg("-in").arg(&message);
    command::succeed("openssl", &mut openssl).map(drop)
}

/// Has OpenSSL open the first message with the key of `person`.
pub fn is_encrypted_to(archive: &Path, person: &Person, folder: &Path) -> Result<()> {
    let message = folder.join("sample.eml");
    fs::write(&message, first_of(archive)?)?;
    let mut openssl = Command::new("openssl");
    openssl.args(["cms", "-decrypt", "-out", "/dev/null", "-in"]).arg(&message);
    openssl.arg("-recip").arg(&person.certificate).arg("-inkey").arg(&person.key);
    command::succeed("openssl", &mut openssl).map(drop)
}

/// Looks whether the first message has the body of the first one of another archive.
pub fn has_body_of(archive: &Path, other: &Path) -> Result<()> {
    let [ours, theirs] = [first_of(archive)?, first_of(other)?];
    let body =
        |message: &[u8]| memmem::find(message, b"\n\n").and_then(|at| message.get(at..).map(<[u8]>::to_vec));
    let (ours, theirs) = (body(&ours), body(&theirs));
    ensure!(ours.is_some() && ours == theirs, "{} has another message first", archive.display());
    Ok(())
}

/// More than any message has.
const MOST: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_of_an_mbox_ends_where_the_next_begins() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        fs::write(&one, "From a@b Mon\nA: 1\n\nx\n\nFrom a@b Mon\nA: 2\n\ny\n\n").unwrap();
        assert_eq!(first_of(&one).unwrap(), b"A: 1\n\nx\n");
        fs::write(&other, "From c@d Tue\nB: 1\n\nx\n\n").unwrap();
        has_body_of(&one, &other).unwrap();
        fs::write(&other, "From c@d Tue\nB: 1\n\nz\n\n").unwrap();
        has_body_of(&one, &other).unwrap_err();
    }
}
