//! What a path that was given leads to: whoever may put a link on the way, or something else in its place, shall have root read
//! nothing that is not his.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::unistd::{Group, geteuid};
use rustix::{
    fs::{Mode, OFlags, openat, readlinkat},
    io::Errno,
};

use crate::{
    beneath::Beneath,
    error::BatchError,
    output::parent,
    owner::{Acting, name, overflow},
};

/// What a path that was given leads to, looked at once.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) given: PathBuf,
    /// Without links.
    pub(crate) target: PathBuf,
    pub(crate) metadata: Metadata,
}

impl Seen {
    /// The inputs of a run, before anything is done with one.
    pub(crate) fn all(inputs: &[PathBuf], in_place: bool) -> Result<Vec<Self>, BatchError> {
        let mut seen = Vec::new();
        for input in inputs.iter().filter(|input| *input != Path::new("-")) {
            match Self::of(input) {
                // What is only read may have no name.
                Err(BatchError::Read { .. }) if !in_place => {}
                one => seen.push(one?),
            }
        }
        Ok(seen)
    }

    /// Of one, see [`reach`].
    pub(crate) fn of(input: &Path) -> Result<Self, BatchError> {
        let (at, target) = reach(input, OFlags::PATH)?;
        let failed = |source| BatchError::Read { origin: input.display().to_string(), source };
        Ok(Self { given: input.to_owned(), target, metadata: at.metadata().map_err(failed)? })
    }

    /// Whether only root can put something into the folder that it is in, or something else in its place.
    pub(crate) fn is_among_roots(&self) -> bool {
        let mail = Group::from_name("mail").ok().flatten().map(|group| group.gid.as_raw());
        let groups = Acting::of(self.metadata.uid(), self.metadata.gid()).groups;
        let holder = parent(&self.target);
        holder.ancestors().all(|folder| {
            let Ok(metadata) = fs::symlink_metadata(folder) else { return false };
            let (mode, group) = (metadata.mode(), metadata.gid());
            // What is root's in a folder like /tmp stays there. The group of a spool is of those who deliver to it.
            let is_kept = folder != holder && mode & 0o1000 != 0;
            let is_of_mail = Some(group) == mail && groups.iter().all(|known| known.as_raw() != group);
            metadata.uid() == 0
                && (is_kept || mode & 0o002 == 0 && (mode & 0o020 == 0 || group == 0 || is_of_mail))
        })
    }
}

/// Whether only root puts anything into a folder.
fn is_only_roots(folder: &Metadata) -> bool {
    folder.is_dir()
        && folder.uid() == 0
        && folder.mode() & 0o002 == 0
        && (folder.mode() & 0o020 == 0 || folder.gid() == 0)
}

/// Opens what a path leads to, and tells where that is: looked at is what was opened, whatever somebody puts there meanwhile.
/// For root, fails where a link on the way is of somebody who has no say in what it leads to, as the kernel has it in `/tmp`
/// (`fs.protected_symlinks`). In a folder where only root puts links, it is root's, whoever it belongs to. Who is not root
/// has no rights that others could make use of.
pub(crate) fn reach(input: &Path, flags: OFlags) -> Result<(File, PathBuf), BatchError> {
    let failed = |source| BatchError::Read { origin: input.display().to_string(), source };
    let (target, links) = way(input).map_err(failed)?;
    let root = Beneath::of(Path::new("/")).map_err(failed)?;
    let at = root.open(&target, flags).map_err(failed)?;
    let metadata = at.metadata().map_err(failed)?;
    let may = [0, overflow(), metadata.uid()];
    let is_strange = |(_, user): &(PathBuf, u32)| !may.contains(user);
    match links.into_iter().filter(|_| geteuid().is_root()).find(is_strange) {
        None if metadata.is_symlink() => Err(BatchError::Changed { path: target }),
        None => Ok((at, target)),
        Some((link, user)) => Err(BatchError::Owner {
            path: link,
            problem: format!(
                "this is a link of {} to what belongs to {}; name {} itself, or have the link belong to root",
                name(user),
                name(metadata.uid()),
                target.display()
            ),
        }),
    }
}

/// Opens an input by its name. For root see [`reach`]; what has no name is what this process was given open.
pub(crate) fn open_input(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC;
    let by_name = || Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?));
    if !geteuid().is_root() || is_given_open(path) {
        return by_name();
    }
    reach(path, flags).map(|(file, _)| file).map_err(|error| match error {
        BatchError::Read { source, .. } => source,
        other => io::Error::other(other.to_string()),
    })
}

/// The folder of an input, with all that is below it, opened in the same way.
pub(crate) fn beneath(path: &Path) -> io::Result<Beneath> {
    let folder = open_input(path, OFlags::PATH | OFlags::DIRECTORY)?;
    Beneath::of_open(path, &folder)
}

/// Whether this names something that this process was given open, where nobody else puts anything.
fn is_given_open(path: &Path) -> bool {
    let is_number = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let is_in = |folder: &str| path.parent() == Some(Path::new(folder));
    let is_numbered =
        || (is_in("/dev/fd") || is_in("/proc/self/fd")) && path.file_name().is_some_and(is_number);
    path == Path::new("/dev/stdin") || is_numbered()
}

/// What a path leads to, and the links that it leads through, each with its owner: root, where only root puts links.
fn way(path: &Path) -> io::Result<(PathBuf, Vec<(PathBuf, u32)>)> {
    let mut ahead = Vec::new();
    let put = |ahead: &mut Vec<OsString>, path: &Path| {
        ahead.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
    };
    put(&mut ahead, &std::path::absolute(path)?);
    let root = Beneath::of(Path::new("/"))?;
    let (mut at, mut links) = (PathBuf::from("/"), Vec::new());
    while let Some(part) = ahead.pop() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(part)) => {
                let next = at.join(part);
                // What is said of the folder is so of that in which the link is.
                let folder = root.open(&at, OFlags::PATH | OFlags::DIRECTORY)?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let open = File::from(openat(&folder, part, flags, Mode::empty())?);
                let metadata = open.metadata()?;
                if metadata.is_symlink() {
                    if links.len() >= MOST {
                        return Err(Errno::LOOP.into());
                    }
                    let target = readlinkat(&open, "", Vec::new())?.into_bytes();
                    put(&mut ahead, Path::new(&OsString::from_vec(target)));
                    let user = if is_only_roots(&folder.metadata()?) { 0 } else { metadata.uid() };
                    links.push((next, user));
                } else {
                    at = next;
                }
            }
            _ => {}
        }
    }
    Ok((at, links))
}

/// So many links may be on a way, as the kernel has it.
const MOST: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;
    use crate::{
        archive::Kind,
        maildir::{MaildirSource, Tree},
        own,
        tree::{Listing, TreeSource},
    };

    #[test]
    fn root_opens_nothing_by_a_link_of_somebody_who_has_no_say_in_it_whenever_he_puts_it_there() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for made in ["mail/cur", "mail/new", "home"] {
            fs::create_dir_all(path(made)).unwrap();
        }
        fs::write(path("mail/cur/1.host"), "Subject: x\n\nbody\n").unwrap();
        fs::write(path("mail/1.eml"), "Subject: x\n\nbody\n").unwrap();
        for (name, user) in [("home/mail", 0), ("home/deep", 4711)] {
            symlink("../mail", path(name)).unwrap();
            lchown(path(name), Some(user), Some(user)).unwrap();
        }
        lchown(path("home"), Some(4711), Some(4711)).unwrap();
        let none = Tree::default();
        for (name, is_opened) in [("mail", true), ("home/mail", true), ("home/deep", false)] {
            let root = path(name);
            let opened = [
                own::open_to_read(&root.join("1.eml")).is_ok(),
                Kind::of(&root).is_ok(),
                Tree::of(&root).is_ok(),
                Listing::of(&root).is_ok(),
                MaildirSource::new(&root, &none, 1).is_ok(),
                TreeSource::new(&root, &Listing::default(), 1).is_ok(),
                beneath(&root).is_ok(),
            ];
            assert_eq!(opened, [is_opened; 7], "{name}");
        }
        let error = own::open_to_read(&path("home/deep/1.eml")).unwrap_err().to_string();
        assert!(error.contains("link of user 4711"), "{error}");
        // What it was given open has no name that is anybody's.
        assert!(is_given_open(Path::new("/dev/fd/63")) && !is_given_open(Path::new("/dev/fd/../x")));
    }

    #[test]
    fn a_way_leads_where_the_kernel_goes_and_tells_of_each_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        for (target, link) in
            [("a/b", "relative"), ("../relative/..", "a/up"), ("round", "round"), ("/proc/self", "absolute")]
        {
            symlink(target, root.join(link)).unwrap();
        }
        for (path, links) in [("a/b", 0), ("relative", 1), ("a/up/b/./..", 2), ("relative/../up", 3)] {
            let (target, met) = way(&root.join(path)).unwrap();
            assert_eq!(target, fs::canonicalize(root.join(path)).unwrap(), "{path}");
            assert_eq!(met.len(), links, "{path}: {met:?}");
        }
        assert_eq!(way(&root.join("absolute")).unwrap().0, fs::canonicalize("/proc/self").unwrap());
        way(&root.join("round")).unwrap_err();
        way(&root.join("none")).unwrap_err();
    }
}
