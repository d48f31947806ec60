//! Files are opened as the owner of the cache's folder, also by root: what lies there, or where a link leads, is
//! up to that owner, and root would write to or make any file of the system for him.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::{
    process::{Gid, Uid, getegid, geteuid, getgroups},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::CacheError;

/// While it is there, root's thread has the rights of the owner of a folder and no others; files that it opened
/// meanwhile stay open. Other threads are not concerned (setresuid(2), "C library/kernel differences").
#[derive(Debug)]
pub(crate) struct AsOwner {
    /// What to go back to.
    before: Option<(Gid, Vec<Gid>)>,
}

impl AsOwner {
    /// Takes the place of whoever has a say in a folder: its owner, or the first above it who is not root.
    pub(crate) fn of(path: &Path) -> Result<Self, CacheError> {
        let Some((user, group)) = Some(()).filter(|()| geteuid().is_root()).and_then(|()| owner(path)) else {
            return Ok(Self { before: None });
        };
        let fail =
            |error: rustix::io::Errno| CacheError::Folder { path: path.to_owned(), reason: error.into() };
        let groups = getgroups().map_err(fail)?;
        // From here on whatever ends too early is taken back.
        let taken = Self { before: Some((getegid(), groups)) };
        set_thread_groups(&[]).map_err(fail)?;
        set_thread_res_gid(None, group, None).map_err(fail)?;
        set_thread_res_uid(None, user, None).map_err(fail)?;
        Ok(taken)
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        let Some((group, groups)) = self.before.take() else { return };
        // Root is still the saved user, who may always be taken again; if not, the thread may do less, never more.
        let _ = set_thread_res_uid(None, Uid::ROOT, None);
        let _ = set_thread_res_gid(None, group, None);
        let _ = set_thread_groups(&groups);
    }
}

/// The user and group of the first, from the folder upwards, that is not root's.
fn owner(path: &Path) -> Option<(Uid, Gid)> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|path| {
        // A link's owner decides where it leads.
        let found = [fs::symlink_metadata(path), fs::metadata(path)];
        let other = found.into_iter().flatten().find(|metadata| metadata.uid() != 0)?;
        Some((Uid::from_raw(other.uid()), Gid::from_raw(other.gid())))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;
    use crate::{
        Cache, DECIDED,
        place::{DATA, LOCK},
    };

    const STRANGER: u32 = 4711;

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certcache");
        let owner = if geteuid().is_root() { STRANGER } else { geteuid().as_raw() };
        chown(folder.path(), Some(owner), None).unwrap();
        let cache = Cache::open(&path).unwrap();
        cache.keep_decided().unwrap();
        for name in ["", DATA, LOCK, DECIDED] {
            assert_eq!(fs::metadata(path.join(name)).unwrap().uid(), owner, "{name:?}");
        }
        let groups = getgroups().unwrap();
        drop(AsOwner::of(&path).unwrap());
        assert_eq!(getgroups().unwrap(), groups, "the thread is what it was");
    }

    #[test]
    fn root_follows_no_link_for_the_owner_of_the_folder() {
        if !geteuid().is_root() {
            return;
        }
        let (folder, of_root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = folder.path().join("certcache");
        chown(folder.path(), Some(STRANGER), None).unwrap();
        // Both what is there and what root could make.
        for (name, there) in [(DATA, true), (DATA, false), (LOCK, true), (LOCK, false), (DECIDED, true)] {
            fs::create_dir(&path).unwrap();
            chown(&path, Some(STRANGER), None).unwrap();
            let target = of_root.path().join("target");
            if there {
                fs::write(&target, "root's").unwrap();
            }
            symlink(&target, path.join(name)).unwrap();
            let error = Cache::open(&path).unwrap_err();
            let after = fs::read_to_string(&target).ok();
            assert_eq!(after.as_deref(), there.then_some("root's"), "{name}: {error}");
            assert!(geteuid().is_root());
            fs::remove_dir_all(&path).unwrap();
            let _ = fs::remove_file(target);
        }
        let cache = Cache::open(&path).unwrap();
        let target = of_root.path().join("target");
        fs::write(&target, "root's").unwrap();
        symlink(&target, path.join(format!("{DECIDED}.{}", std::process::id()))).unwrap();
        cache.keep_decided().unwrap_err();
        assert_eq!(fs::read_to_string(&target).unwrap(), "root's");
    }

    #[test]
    fn who_owns_what_leads_to_the_folder_has_a_say() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b/c");
        assert_eq!(owner(&below), None);
        chown(folder.path(), Some(STRANGER), Some(STRANGER)).unwrap();
        let stranger = Some((Uid::from_raw(STRANGER), Gid::from_raw(STRANGER)));
        assert_eq!(owner(&below), stranger);
        fs::create_dir_all(&below).unwrap();
        assert_eq!(owner(&below), stranger, "he may put another folder there");
    }
}
