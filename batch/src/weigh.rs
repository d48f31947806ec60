//! How many octets of mail inputs have, for an estimate of the time that they take.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{archive::Kind, compress::Compression, maildir::Tree, own, tree::Listing};

/// The octets of all inputs; `None` if that cannot be told before they are read, or somebody no longer wants to know.
pub(crate) fn weigh(inputs: &[(PathBuf, Kind)], is_wanted: impl Fn() -> bool) -> Option<u64> {
    let mut sum = 0;
    for (input, kind) in inputs {
        sum += match kind {
            Kind::Stdin => return None,
            Kind::Mbox | Kind::Message => {
                let file = own::open_to_read(input).ok()?;
                // What it will be without compression nobody knows yet.
                Compression::of_file(&file).ok()?.is_none().then_some(file.metadata().ok()?.len())?
            }
            Kind::Maildir => {
                let folders = Tree::of(input).ok()?.folders;
                let parts = folders.iter().flat_map(|folder| ["cur", "new"].map(|part| folder.join(part)));
                let mut sum = 0;
                for part in parts {
                    sum += of_folder(&input.join(part), &is_wanted)?;
                }
                sum
            }
            Kind::Tree => {
                let mut sum = 0;
                for file in Listing::of(input).ok()?.messages {
                    sum += is_wanted().then(|| fs::symlink_metadata(input.join(file)).ok())??.len();
                }
                sum
            }
        };
    }
    Some(sum)
}

fn of_folder(path: &Path, is_wanted: &impl Fn() -> bool) -> Option<u64> {
    let entries = match fs::read_dir(path) {
        // A Maildir may come without `new`.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(0),
        entries => entries.ok()?,
    };
    let mut sum = 0;
    for entry in entries {
        if !is_wanted() {
            return None;
        }
        // Messages are moved and deleted all the time.
        sum += entry.ok()?.metadata().map_or(0, |metadata| metadata.len());
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_archive_is_weighed_without_what_is_not_mail() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("mbox", "From - \nA: 1\n\n"),
            ("mail/cur/1", "A: 1\n\n"),
            ("mail/new/2", "A: 22\n\n"),
            ("mail/dovecot.index", "no mail"),
            ("mail/.Sent/cur/3", "A: 333\n\n"),
            ("tree/a/1.eml", "A: 1\n\n"),
            ("tree/notes", "no mail"),
        ] {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), text).unwrap();
        }
        fs::write(path("mbox.gz"), b"\x1f\x8b\x08\0\0\0\0\0\0\xff").unwrap();
        for (names, expected) in [
            (&[("mbox", Kind::Mbox)][..], Some(14)),
            (&[("mail", Kind::Maildir)], Some(6 + 7 + 8)),
            (&[("tree", Kind::Tree)], Some(6)),
            (&[("mbox", Kind::Mbox), ("tree", Kind::Tree)], Some(20)),
            (&[("mbox", Kind::Mbox), ("mbox.gz", Kind::Mbox)], None),
        ] {
            let inputs: Vec<_> = names.iter().map(|(name, kind)| (path(name), *kind)).collect();
            assert_eq!(weigh(&inputs, || true), expected, "{names:?}");
        }
        assert_eq!(weigh(&[(path("mail"), Kind::Maildir)], || false), None);
    }
}
