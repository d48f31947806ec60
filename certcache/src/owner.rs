//! Root opens no cache that somebody else may write to. LMDB believes what it maps, pointers of its locks included: whoever
//! has the files can do in a process that has them open what that process may.

use std::{
    ffi::CString,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgroups, setresgid, setresuid};

use crate::{
    CacheError,
    place::{DATA, LOCK},
};

/// So many places on the way to a file are looked at; with more, links lead in a circle.
const MOST: usize = 256;
/// The group of a user whom the system does not know by name, where the folder's is root's.
const NOGROUP: u32 = 65_534;

/// Who, besides root, has a say in what is in a folder.
#[derive(Debug, PartialEq, Eq)]
enum Other {
    /// A user, and the group of what is that user's.
    User(Uid, Gid),
    /// Whoever is of the group that may write to this.
    Group(PathBuf),
    /// Everybody, who may write to this.
    All(PathBuf),
}

/// Fails where the process is root's and somebody else has a say in what is in the folder.
pub(crate) fn refuse_root(path: &Path) -> Result<(), CacheError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    match other(path)? {
        None => Ok(()),
        Some(Other::User(user, _)) => Err(CacheError::OfAnother { path: path.to_owned(), user: name(user) }),
        Some(Other::Group(file)) => Err(CacheError::WritableByGroup { path: path.to_owned(), file }),
        Some(Other::All(file)) => Err(CacheError::WritableByAll { path: path.to_owned(), file }),
    }
}

/// Where `refuse_root` would name a user: becomes that user, with all threads (the C library sees to that) and for good.
pub(crate) fn become_owner(path: &Path) -> Result<Option<String>, CacheError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let Some(Other::User(user, group)) = other(path)? else {
        return refuse_root(path).map(|()| None);
    };
    let name = name(user);
    let become_them = || {
        let group = if let Some(known) = User::from_uid(user)? {
            initgroups(&CString::new(known.name).unwrap_or_default(), known.gid)?;
            known.gid
        } else {
            setgroups(&[])?;
            if group.as_raw() == 0 { Gid::from_raw(NOGROUP) } else { group }
        };
        // The user last: who is not root any more cannot change groups.
        setresgid(group, group, group)?;
        setresuid(user, user, user)
    };
    let fail = |reason: io::Error| {
        let reason = io::Error::new(reason.kind(), format!("root cannot become its owner {name}: {reason}"));
        CacheError::Folder { path: path.to_owned(), reason }
    };
    become_them().map_err(|error| fail(error.into()))?;
    let root = Uid::from_raw(0);
    if setresuid(root, root, root).is_ok() {
        return Err(fail(io::Error::other("root was not given up")));
    }
    Ok(Some(name))
}

fn name(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name)
}

/// The first, from the folder upwards, then of what is in it, that is not root's alone.
fn other(folder: &Path) -> Result<Option<Other>, CacheError> {
    let fail = |reason| CacheError::Folder { path: folder.to_owned(), reason };
    let path = std::path::absolute(folder).map_err(fail)?;
    let mut seen = Vec::new();
    for start in [path.clone(), path.join(DATA), path.join(LOCK)] {
        let mut ahead = vec![start];
        while let Some(next) = ahead.pop() {
            for place in next.ancestors() {
                if seen.iter().any(|known| known == place) {
                    continue;
                }
                if seen.len() >= MOST {
                    return Err(fail(io::Error::from_raw_os_error(nix::errno::Errno::ELOOP as i32)));
                }
                seen.push(place.to_owned());
                let metadata = match fs::symlink_metadata(place) {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(fail(error)),
                };
                if metadata.uid() != 0 {
                    let (user, group) = (metadata.uid(), metadata.gid());
                    return Ok(Some(Other::User(Uid::from_raw(user), Gid::from_raw(group))));
                }
                if may_change(&metadata, 0o002) {
                    return Ok(Some(Other::All(place.to_owned())));
                }
                if metadata.gid() != 0 && may_change(&metadata, 0o020) {
                    return Ok(Some(Other::Group(place.to_owned())));
                }
                if metadata.is_symlink() {
                    let target = fs::read_link(place).map_err(fail)?;
                    ahead.push(place.parent().unwrap_or(place).join(target));
                }
            }
        }
    }
    Ok(None)
}

/// Whether those who have a right may put something else in the place of what is there.
fn may_change(metadata: &Metadata, right: u32) -> bool {
    let mode = metadata.mode();
    // In a folder like /tmp they cannot.
    let is_kept = metadata.is_dir() && mode & 0o1000 != 0;
    mode & right != 0 && !metadata.is_symlink() && !is_kept
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, chown, symlink},
    };

    use super::*;
    use crate::Cache;

    const STRANGER: u32 = 4711;

    fn stranger() -> Other {
        Other::User(Uid::from_raw(STRANGER), Gid::from_raw(STRANGER))
    }

    fn give(path: &Path) {
        chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    }

    #[test]
    fn root_opens_no_cache_that_another_may_write_to() {
        if !geteuid().is_root() {
            return;
        }
        for given in ["", "certcache", "certcache/data.mdb", "certcache/lock.mdb"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("certcache");
            drop(Cache::open(&path).unwrap());
            assert!(!Cache::is_of_another(&path));
            give(&folder.path().join(given));
            let error = Cache::open(&path).unwrap_err();
            assert!(matches!(error, CacheError::OfAnother { .. }), "{given}: {error}");
            assert!(error.to_string().contains("runuser -u 4711 -- "), "{error}");
            assert!(Cache::is_of_another(&path));
        }
    }

    #[test]
    fn root_makes_nothing_in_the_folder_of_another() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        give(folder.path());
        let path = folder.path().join("certcache");
        let mut errors = vec![Cache::open(&path).unwrap_err()];
        errors.push(crate::BackupFile::create(&path).unwrap_err());
        // Nor where a link in it leads.
        let of_root = tempfile::tempdir().unwrap();
        symlink(of_root.path().join("target"), &path).unwrap();
        errors.push(Cache::open(&path).unwrap_err());
        errors.push(crate::BackupFile::create(&path).unwrap_err());
        assert!(errors.iter().all(|error| matches!(error, CacheError::OfAnother { .. })), "{errors:?}");
        assert_eq!(fs::read_dir(of_root.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn root_opens_no_cache_that_a_group_or_everybody_may_write_to() {
        if !geteuid().is_root() {
            return;
        }
        for (shared, gid, mode, refused) in [
            ("", 0, 0o757, true),
            ("certcache", STRANGER, 0o770, true),
            ("certcache/lock.mdb", STRANGER, 0o660, true),
            ("", STRANGER, 0o770, true),
            ("certcache", STRANGER, 0o750, false),
            ("certcache/lock.mdb", STRANGER, 0o640, false),
            // Root's own group; and who may add to a folder, but not take another's away.
            ("certcache", 0, 0o770, false),
            ("", STRANGER, 0o1777, false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("certcache");
            drop(Cache::open(&path).unwrap());
            let shared = folder.path().join(shared);
            chown(&shared, None, Some(gid)).unwrap();
            fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            let opened = Cache::open(&path);
            let is_refused =
                matches!(opened, Err(CacheError::WritableByGroup { .. } | CacheError::WritableByAll { .. }));
            assert!(is_refused == refused && opened.is_ok() != refused, "{shared:?} {mode:o}: {opened:?}");
        }
    }

    #[test]
    fn who_owns_what_leads_to_the_folder_has_a_say() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b/c");
        assert_eq!(other(&below).unwrap(), None);
        give(folder.path());
        assert_eq!(other(&below).unwrap(), Some(stranger()));
        fs::create_dir_all(&below).unwrap();
        assert_eq!(other(&below).unwrap(), Some(stranger()), "he may put another folder there");
        // So has who owns what root's links lead through.
        let of_root = tempfile::tempdir().unwrap();
        let target = of_root.path().join("target");
        fs::create_dir(&target).unwrap();
        let way = folder.path().join("way");
        symlink(&target, &way).unwrap();
        chown(folder.path(), Some(0), None).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let link = of_root.path().join("link");
        symlink(&way, &link).unwrap();
        assert_eq!(other(&link).unwrap(), None);
        give(folder.path());
        assert_eq!(other(&link).unwrap(), Some(stranger()));
        // What leads in a circle leads nowhere.
        let circle = of_root.path().join("circle");
        symlink(
            "../".to_owned() + of_root.path().file_name().unwrap().to_str().unwrap() + "/circle/x",
            &circle,
        )
        .unwrap();
        other(&circle).unwrap_err();
    }
}
