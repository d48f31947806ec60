//! Brings a folder that a run left when it was cut off back to where its journal says it was.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{beneath::Beneath, done::Done, error::BatchError};

/// What lies in these folders of an unfinished output, and in those of which the journal tells, and is not in the
/// journal is removed, and files that had grown since end where the journal says: the run did these messages without
/// noting it, and they are done again. The input may have lost folders since. An error if something is not there of
/// which the journal tells.
pub(crate) fn restore<'a>(
    root: &Path,
    held: &File,
    folders: impl IntoIterator<Item = &'a Path>,
    done: &'a Done,
) -> Result<(), BatchError> {
    let beneath = Beneath::of_open(root, held);
    let beneath = beneath.map_err(|source| BatchError::Write { path: root.to_owned(), source })?;
    let mut found = 0;
    let told = done.outputs.iter().chain(done.lengths.keys());
    let folders: BTreeSet<&Path> = folders.into_iter().chain(told.filter_map(|file| file.parent())).collect();
    for folder in folders {
        let path = root.join(folder);
        let failed = |source| BatchError::Write { path: path.clone(), source };
        let entries = match beneath.names(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for (name, _) in entries {
            let (below, path) = (folder.join(&name), path.join(&name));
            let failed = |source| BatchError::Write { path: path.clone(), source };
            match done.lengths.get(&below) {
                Some(length) => {
                    let file = beneath.open(&path, OFlags::WRONLY | OFlags::NONBLOCK);
                    file.and_then(|file| cut_file(&file, *length)).map_err(failed)?;
                }
                None if done.outputs.contains(&below) => {}
                None if beneath.metadata(&path).map_err(failed)?.is_dir() => continue,
                None => {
                    beneath.remove(&path).map_err(failed)?;
                    continue;
                }
            }
            found += 1;
        }
    }
    let told = done.outputs.len() + done.lengths.len();
    if found == told {
        return Ok(());
    }
    let source = io::Error::other(format!("of {told} files of which its journal tells, {found} are there"));
    Err(BatchError::Write { path: root.to_owned(), source })
}

/// Has a file end where it is known to be good.
pub(crate) fn cut_file(file: &File, length: u64) -> io::Result<()> {
    match file.metadata()?.len() {
        there if there < length => Err(io::Error::other("it is shorter than its journal says")),
        there if there == length => Ok(()),
        _ => file.set_len(length).and_then(|()| file.sync_all()),
    }
}

/// A file of an output that grows, and its length now that it is durable; nothing if there is none.
pub(crate) fn durable_length(
    root: &Path,
    held: &File,
    below: &str,
) -> Result<Option<(PathBuf, u64)>, BatchError> {
    let path = root.join(below);
    let opened = Beneath::of_open(root, held)
        .and_then(|beneath| beneath.open(&path, OFlags::RDONLY | OFlags::NONBLOCK));
    let length = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.and_then(|file| {
            file.sync_all()?;
            Ok(file.metadata()?.len())
        }),
    };
    let length = length.map_err(|source| BatchError::Write { path, source })?;
    Ok(Some((below.into(), length)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn done(outputs: &[&str], lengths: &[(&str, u64)]) -> Done {
        let mut done = Done::default();
        done.outputs.extend(outputs.iter().map(PathBuf::from));
        done.lengths.extend(lengths.iter().map(|(path, length)| (PathBuf::from(path), *length)));
        done
    }

    #[test]
    fn what_no_journal_tells_of_goes_and_what_is_missing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("cur/of-somebody")).unwrap();
        for (name, text) in [("cur/known", "a"), ("cur/unknown", "b"), ("grown", "abcdef")] {
            fs::write(path(name), text).unwrap();
        }
        let folders = || [Path::new(""), Path::new("cur"), Path::new("new")];
        // In one folder nothing is to be written any more,
        fs::create_dir_all(path("of-before/cur")).unwrap();
        for name in ["of-before/cur/known", "of-before/cur/unknown"] {
            fs::write(path(name), "a").unwrap();
        }
        let known = done(&["cur/known", "of-before/cur/known"], &[("grown", 4)]);
        let held = File::open(folder.path()).unwrap();
        restore(folder.path(), &held, folders(), &known).unwrap();
        // and all the same only what is known stays there.
        assert!(path("of-before/cur/known").exists() && !path("of-before/cur/unknown").exists());
        assert_eq!(fs::read_to_string(path("grown")).unwrap(), "abcd");
        assert!(
            path("cur/known").exists() && !path("cur/unknown").exists() && path("cur/of-somebody").exists()
        );
        for short in
            [done(&["cur/known", "cur/gone"], &[("grown", 4)]), done(&["cur/known"], &[("grown", 5)])]
        {
            let refused = restore(folder.path(), &held, folders(), &short).unwrap_err();
            assert!(matches!(refused, BatchError::Write { .. }), "{refused}");
        }
        assert_eq!(fs::read_to_string(path("grown")).unwrap(), "abcd");
    }
}
