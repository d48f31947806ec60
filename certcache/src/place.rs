//! Whether a folder can hold the cache: its file system, who may write to it, and whether the file is whole.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{FallocateFlags, fallocate, statfs},
    io::Errno,
};

use crate::CacheError;

/// LMDB's data file.
pub(crate) const DATA: &str = "data.mdb";
/// LMDB's locks and readers.
pub(crate) const LOCK: &str = "lock.mdb";

/// File systems on which locks and shared memory hold between processes, with the numbers of statfs(2).
const LOCAL: [(u64, &str); 11] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x2FC1_2FC1, "zfs"),
    (0xF2F5_2010, "f2fs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x794C_7630, "overlayfs"),
    (0x8584_58F6, "ramfs"),
    (0x3153_464A, "jfs"),
    (0x5265_4973, "reiserfs"),
];

/// Makes the folder if it is not there, for its owner and group, and looks whether it will do.
pub(crate) fn prepare(path: &Path) -> Result<(), CacheError> {
    let fail = |reason| CacheError::Folder { path: path.to_owned(), reason };
    match DirBuilder::new().mode(0o750).create(path) {
        Err(reason) if reason.kind() != io::ErrorKind::AlreadyExists => return Err(fail(reason)),
        Ok(()) | Err(_) => {}
    }
    let kind = statfs(path).map_err(|error| fail(error.into()))?.f_type;
    // The type of the number differs between architectures.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "the kernel's number has 32 bits")]
    is_local(kind as u64 & 0xFFFF_FFFF)
        .map_err(|kind| CacheError::FileSystem { path: path.to_owned(), kind })?;
    for name in ["", DATA, LOCK] {
        match fs::metadata(path.join(name)) {
            Ok(metadata) if is_open_to_all(&metadata) => {
                let file = path.join(name);
                return Err(CacheError::WritableByAll { path: path.to_owned(), file });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A folder that another user made, such as root.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(CacheError::Permission { path: path.to_owned() });
            }
            Err(error) => return Err(fail(error)),
        }
    }
    Ok(())
}

/// The files of locks that this process has opened, by device and inode.
static RESERVED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// Gives the file of locks its room on the disk before LMDB maps it: on a full disk, what is not there yet would be a
/// signal when it is first touched (SIGBUS), and not an error.
///
/// Once for each file: whoever closes a file lets go of all locks that his process has on it, LMDB's too (fcntl(2)).
pub(crate) fn reserve_locks(path: &Path, readers: u32) -> Result<(), CacheError> {
    /// `MDB_reader` and `MDB_txninfo`, each padded to the processor's cache lines.
    const READER: u64 = 64;
    const INFO: u64 = 192;
    let octets = u64::from(readers.saturating_sub(1)) * READER + INFO;
    let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    let file = path.join(LOCK);
    if fs::metadata(&file).is_ok_and(|metadata| reserved.contains(&identity(&metadata))) {
        return Ok(());
    }
    // Whatever else is wrong with the file, LMDB says.
    let opened = File::options().write(true).create(true).truncate(false).mode(0o600).open(file);
    let Ok(file) = opened else { return Ok(()) };
    // A file system that cannot promise room promises none.
    if let Err(error @ (Errno::NOSPC | Errno::DQUOT)) = fallocate(&file, FallocateFlags::empty(), 0, octets) {
        return Err(CacheError::Folder { path: path.to_owned(), reason: error.into() });
    }
    reserved.extend(file.metadata().ok().as_ref().map(identity));
    Ok(())
}

fn is_local(kind: u64) -> Result<(), u64> {
    if LOCAL.iter().any(|(known, _)| *known == kind) { Ok(()) } else { Err(kind) }
}

fn is_open_to_all(metadata: &Metadata) -> bool {
    metadata.mode() & 0o002 != 0
}

/// How many octets the pages that the last commit knows would have.
fn expected(last_page: usize, page_size: u32) -> u64 {
    u64::try_from(last_page).unwrap_or(u64::MAX).saturating_add(1).saturating_mul(page_size.into())
}

/// Whether the data file is shorter than the map says, and if so makes it so long that reading the map gives
/// zeros, which LMDB takes for damage, and not a signal.
///
/// A file may be a little shorter by right: pages that were given up before they were written. So whoever gets
/// `true` must read everything to know.
pub(crate) fn lengthen(path: &Path, last_page: usize, page_size: u32) -> Result<bool, CacheError> {
    let fail = |reason| CacheError::Folder { path: path.to_owned(), reason };
    let expected = expected(last_page, page_size);
    let file = path.join(DATA);
    let len = fs::metadata(&file).map_err(fail)?.len();
    if len >= expected {
        return Ok(false);
    }
    // Only ever makes it longer, also where another process did so in the meantime.
    let file = File::options().write(true).open(file).map_err(fail)?;
    fallocate(&file, FallocateFlags::empty(), 0, expected).map_err(|error| fail(error.into()))?;
    Ok(true)
}

/// Refuses a data file that begins with something else than LMDB's first page: opening it would fail with words
/// that say nothing.
pub(crate) fn looks_like_lmdb(path: &Path) -> Result<(), CacheError> {
    /// `mm_magic` of the first meta page, behind the page's header of 16 octets.
    const MAGIC: u32 = 0xBEEF_C0DE;
    let Ok(file) = File::open(path.join(DATA)) else { return Ok(()) };
    let fail = |reason| CacheError::Folder { path: path.to_owned(), reason };
    if file.metadata().map_err(fail)?.len() == 0 {
        return Ok(());
    }
    let mut octets = [0; 4];
    let read = file.read_exact_at(&mut octets, 16).is_ok();
    if read && u32::from_ne_bytes(octets) == MAGIC {
        Ok(())
    } else {
        Err(CacheError::Truncated { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn network_file_systems_are_refused_and_local_ones_are_not() {
        for (kind, local) in [
            (0xEF53, true),
            (0x5846_5342, true),
            (0x6969, false),      // nfs
            (0xFE53_4D42, false), // smb2
            (0x6573_5546, false), // fuse
            (0x0102_1997, false), // 9p
            (0x6A65_6A63, false), // virtiofs
            (0, false),
        ] {
            assert_eq!(is_local(kind).is_ok(), local, "{kind:x}");
        }
        let error = CacheError::FileSystem { path: "/mnt".into(), kind: 0x6969 }.to_string();
        assert!(error.contains("0x6969") && error.contains("local disk"), "{error}");
    }

    #[test]
    fn a_folder_that_everybody_may_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certcache");
        prepare(&path).unwrap();
        prepare(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = prepare(&path).unwrap_err();
        assert!(matches!(error, CacheError::WritableByAll { .. }), "{error}");
    }

    #[test]
    fn the_file_of_locks_has_its_room_before_it_is_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(LOCK);
        // Made by a program that gave it no room: all of it is a hole.
        File::create(&file).unwrap().set_len(65_664).unwrap();
        let blocks = |name: &str| fs::metadata(folder.path().join(name)).unwrap().blocks() * 512;
        // What the file system says of a hole, and of one that it was asked to fill.
        File::create(folder.path().join("hole")).unwrap().set_len(65_664).unwrap();
        let filled = File::create(folder.path().join("filled")).unwrap();
        let can_reserve = fallocate(&filled, FallocateFlags::empty(), 0, 65_664).is_ok();
        let tells = can_reserve && blocks("hole") < 65_664 && blocks("filled") >= 65_664;
        reserve_locks(folder.path(), 1024).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), 65_664);
        if tells {
            assert!(blocks(LOCK) >= 65_664, "{}", blocks(LOCK));
        }
    }
}
