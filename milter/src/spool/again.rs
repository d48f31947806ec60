//! Copies that an administrator has sent once more, of those that were put aside: what he moves into a folder of the spool is taken
//! up there. So they go the way of all copies, and are known by their marker when they come back.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use tracing::{error, info};

use super::{Shared, set::files};

/// The folder in a spool.
const AGAIN: &str = "again";

/// Makes the folder. Without it nothing else is amiss.
pub(super) fn prepare(spool: &Path) {
    let folder = spool.join(AGAIN);
    if let Err(reason) = DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
        error!(path = %folder.display(), %reason, "what is put aside cannot be sent again from here");
    }
}

/// What cannot be sent again, and of which the log tells already: it is looked at whenever a copy is sent.
#[derive(Debug, Default)]
pub(super) struct Told(HashSet<PathBuf>);

impl Told {
    /// Whether it is the first time.
    pub(super) fn is_new(&mut self, path: &Path) -> bool {
        self.0.insert(path.to_owned())
    }
}

/// Has what is in the folder sent, each as a copy of a message that nobody has anything of.
pub(super) fn take_up(shared: &Shared, told: &mut Told) {
    let folder = shared.folder.join(AGAIN);
    let found = match files(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(reason) => {
            if told.is_new(&folder) {
                error!(path = %folder.display(), %reason, "it cannot be seen what is to be sent again");
            }
            return;
        }
        Ok(found) => found,
    };
    // What was taken away, or is sent by now, may come again.
    let there: HashSet<_> = found.iter().collect();
    told.0.retain(|path| there.contains(path));
    for path in found {
        let taken = readable(&path).and_then(|()| shared.sets.take_up(&shared.unique(), &path));
        match taken {
            Ok(()) => info!(path = %path.display(), "a copy that was put aside is sent again"),
            Err(reason) if told.is_new(&path) => {
                error!(path = %path.display(), %reason, "it cannot be sent again");
            }
            Err(_) => {}
        }
    }
}

/// What root copied here, or made a link to, cannot be worked with.
fn readable(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    File::open(path).map(drop)
}
