//! What a path that was given leads to: whoever may put a link on the way, or something else in its place, shall have root read
//! nothing that is not his.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
};

use nix::unistd::{Group, geteuid};
use rustix::{
    fs::{Mode, OFlags, open, readlinkat},
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

    /// For root, fails where a link on the way is of somebody who has no say in what it leads to, as the kernel has it in `/tmp`
    /// (`fs.protected_symlinks`). In a folder where only root puts links, it is root's, whoever it belongs to. Who is not root
    /// has no rights that others could make use of.
    pub(crate) fn of(input: &Path) -> Result<Self, BatchError> {
        let failed = |source| BatchError::Read { origin: input.display().to_string(), source };
        let (target, links) = way(input).map_err(failed)?;
        let at = Beneath::of(Path::new("/")).and_then(|root| root.open(&target, OFlags::PATH));
        let metadata = at.and_then(|at| at.metadata()).map_err(failed)?;
        let may = [0, overflow(), metadata.uid()];
        let is_strange = |(link, user): &(PathBuf, u32)| !may.contains(user) && !is_only_roots(parent(link));
        match links.into_iter().filter(|_| geteuid().is_root()).find(is_strange) {
            None if metadata.is_symlink() => Err(BatchError::Changed { path: target }),
            None => Ok(Self { given: input.to_owned(), target, metadata }),
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
fn is_only_roots(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|folder| {
        folder.is_dir()
            && folder.uid() == 0
            && folder.mode() & 0o002 == 0
            && (folder.mode() & 0o020 == 0 || folder.gid() == 0)
    })
}

/// What a path leads to, and the links that it leads through, each with its owner.
fn way(path: &Path) -> io::Result<(PathBuf, Vec<(PathBuf, u32)>)> {
    let mut ahead = Vec::new();
    let put = |ahead: &mut Vec<OsString>, path: &Path| {
        ahead.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
    };
    put(&mut ahead, &std::path::absolute(path)?);
    let (mut at, mut links) = (PathBuf::from("/"), Vec::new());
    while let Some(part) = ahead.pop() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(part)) => {
                let next = at.join(part);
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let open = File::from(open(&next, flags, Mode::empty())?);
                let metadata = open.metadata()?;
                if metadata.is_symlink() {
                    if links.len() >= MOST {
                        return Err(Errno::LOOP.into());
                    }
                    let target = readlinkat(&open, "", Vec::new())?.into_bytes();
                    put(&mut ahead, Path::new(&OsString::from_vec(target)));
                    links.push((next, metadata.uid()));
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
    use std::os::unix::fs::symlink;

    use super::*;

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
