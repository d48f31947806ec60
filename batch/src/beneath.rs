//! Files below a root, reached without following a link on the way: whoever owns an archive may put one there, also while a
//! run goes on that may read and write more than he.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, mkdirat, open, openat, renameat, renameat_with,
        statat, unlinkat,
    },
    io::Errno,
};

use crate::own;

/// A folder with all that is below it. Paths begin with that of the folder.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: PathBuf,
    open: OwnedFd,
}

impl Beneath {
    /// Who names the root knows where links on the way there lead.
    pub(crate) fn of(root: &Path) -> io::Result<Self> {
        let open = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root: root.to_owned(), open })
    }

    /// Of one that is open.
    pub(crate) fn of_open(root: &Path, open: &File) -> io::Result<Self> {
        Ok(Self { root: root.to_owned(), open: open.try_clone()?.into() })
    }

    /// Whether this is the path that it was opened by.
    pub(crate) fn is_of(&self, root: &Path) -> bool {
        self.root == root
    }

    /// The folder itself.
    pub(crate) fn open_root(&self, flags: OFlags) -> io::Result<File> {
        self.open(&self.root, flags)
    }

    /// Opens a file or a folder.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        self.open_with(path, flags, Mode::empty())
    }

    /// A new file that nobody else may read.
    pub(crate) fn new_file(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)
    }

    /// Opens a file to add to it; one that nobody else may read, if there is none.
    pub(crate) fn append(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
        self.open_with(path, flags, Mode::RUSR | Mode::WUSR)
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.at(path, |folder, name| mkdirat(folder, name, Mode::from_raw_mode(mode)))
    }

    /// Makes a folder, and those above it, where there are none.
    pub(crate) fn make_folders(&self, path: &Path, mode: u32) -> io::Result<()> {
        let above = path.ancestors().take_while(|above| *above != self.root && above.starts_with(&self.root));
        for folder in above.collect::<Vec<_>>().into_iter().rev() {
            match self.make_folder(folder, mode) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// What is told of a file or a folder; of a link, what is told of itself.
    pub(crate) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.open(path, OFlags::PATH)?.metadata()
    }

    /// What a folder has in it: names and inodes.
    pub(crate) fn names(&self, folder: &Path) -> io::Result<Vec<(OsString, u64)>> {
        let open = self.open(folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::new(open)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push((name.to_owned(), entry.ino()));
            }
        }
        Ok(names)
    }

    /// The same with what each is; of a link, that it is one.
    pub(crate) fn kinds(&self, folder: &Path) -> io::Result<Vec<(OsString, FileType)>> {
        let open = self.open(folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut kinds = Vec::new();
        for entry in Dir::read_from(&open)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                let kind = match entry.file_type() {
                    // Not all file systems tell it here.
                    FileType::Unknown => {
                        FileType::from_raw_mode(statat(&open, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
                    }
                    kind => kind,
                };
                kinds.push((name.to_owned(), kind));
            }
        }
        Ok(kinds)
    }

    /// Removes a file.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.at(path, |folder, name| unlinkat(folder, name, AtFlags::empty()))
    }

    /// Renames, but over nothing.
    pub(crate) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let renamed = self.at(from, |folder, name| {
            Ok(self.at(to, |to_folder, to_name| {
                renameat_with(folder, name, to_folder, to_name, RenameFlags::NOREPLACE).or_else(|error| {
                    match error {
                        // The file system does not know the flag.
                        Errno::INVAL | Errno::NOSYS
                            if openat(to_folder, to_name, OFlags::PATH | NOT_FOLLOWED, Mode::empty())
                                .is_err_and(|error| error == Errno::NOENT) =>
                        {
                            renameat(folder, name, to_folder, to_name)
                        }
                        _ => Err(error),
                    }
                })
            }))
        });
        renamed?
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync(&self, folder: &Path) -> io::Result<()> {
        self.open(folder, OFlags::RDONLY | OFlags::DIRECTORY)?.sync_all()
    }

    fn open_with(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
        let open = || self.at(path, |folder, name| openat(folder, name, flags | NOT_FOLLOWED, mode));
        own::patiently(open).map(File::from)
    }

    /// Does something with a name in the folder that a path leads to.
    fn at<T>(
        &self,
        path: &Path,
        act: impl FnOnce(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let outside = || io::Error::other("not below the archive");
        let below = path.strip_prefix(&self.root).map_err(|_| outside())?;
        let mut folder: Option<OwnedFd> = None;
        let mut name = OsStr::new(".");
        for part in below.components() {
            let Component::Normal(part) = part else { return Err(outside()) };
            let is_first = name == ".";
            let above = std::mem::replace(&mut name, part);
            if !is_first {
                let at = folder.as_ref().map_or(self.open.as_fd(), AsFd::as_fd);
                let flags = OFlags::PATH | OFlags::DIRECTORY | NOT_FOLLOWED;
                folder = Some(openat(at, above, flags, Mode::empty()).map_err(told)?);
            }
        }
        act(folder.as_ref().map_or(self.open.as_fd(), AsFd::as_fd), name).map_err(told)
    }
}

const NOT_FOLLOWED: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// What the kernel says of a link where there must be none, in words.
fn told(error: Errno) -> io::Error {
    match error {
        Errno::LOOP | Errno::NOTDIR => io::Error::new(
            io::Error::from(error).kind(),
            "it, or a folder that it is in, is a link or no folder, and not followed",
        ),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_is_reached_by_a_link_below_the_root_whatever_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["real/a/b", "other/b"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("file"), name).unwrap();
        }
        // The root itself may be one.
        let root = folder.path().join("root");
        symlink("real", &root).unwrap();
        symlink("../other", root.join("link")).unwrap();
        symlink("../../../other/b/file", root.join("a/b/link")).unwrap();
        let beneath = Beneath::of(&root).unwrap();
        let path = |name: &str| root.join(name);

        let mut names: Vec<_> = beneath.names(&root).unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["a", "link"]);
        assert_eq!(beneath.metadata(&path("a/b/file")).unwrap().len(), 8);
        assert!(beneath.metadata(&path("a/b/link")).unwrap().is_symlink());
        assert!(beneath.open(&path("a/b/link"), OFlags::RDONLY).is_err());
        for outside in ["link/b/file", "link/b/new", "a/../../other/b/file"] {
            let outside = path(outside);
            let errors = [
                beneath.open(&outside, OFlags::RDONLY).err(),
                beneath.new_file(&outside).err(),
                beneath.make_folder(&outside, 0o700).err(),
                beneath.metadata(&outside).err(),
                beneath.names(outside.parent().unwrap()).err(),
                beneath.remove(&outside).err(),
                beneath.rename_new(&outside, &path("a/b/new")).err(),
                beneath.rename_new(&path("a/b/file"), &outside).err(),
                beneath.sync(outside.parent().unwrap()).err(),
            ];
            for error in errors {
                assert_ne!(error.unwrap().kind(), io::ErrorKind::NotFound, "{}", outside.display());
            }
        }
        assert_eq!(fs::read(folder.path().join("other/b/file")).unwrap(), b"other/b");

        beneath.make_folder(&path("a/new"), 0o700).unwrap();
        drop(beneath.new_file(&path("a/new/file")).unwrap());
        assert!(beneath.rename_new(&path("a/new/file"), &path("a/b/file")).is_err(), "it is over another");
        beneath.rename_new(&path("a/new/file"), &path("a/file")).unwrap();
        beneath.remove(&path("a/file")).unwrap();
        beneath.sync(&path("a")).unwrap();
        assert_eq!(
            beneath.open(&path("a/file"), OFlags::RDONLY).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
