//! What a file has besides octets: owner, mode, times, extended attributes. Read from one file, given to another.

use std::{
    ffi::CString,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::Path,
    time::SystemTime,
};

use rustix::{
    fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr},
    io::Errno,
};

use crate::owner;

/// By what one sees that somebody else has written into a file, or put another in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl State {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn is_of(&self, inode: u64) -> bool {
        self.inode == inode
    }
}

/// What a file has besides octets.
#[derive(Clone, Debug)]
pub struct Attributes {
    metadata: Metadata,
    /// Extended attributes that the owner may set, and access lists.
    extended: Vec<(CString, Vec<u8>)>,
}

impl Attributes {
    /// Those of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Self { metadata: file.metadata()?, extended: extended(file)? })
    }

    /// Size, times and the like.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// When the file was modified, which for a message of its own is when it was received.
    pub fn modified(&self) -> Option<SystemTime> {
        self.metadata.modified().ok()
    }

    /// The extended attribute of this name.
    pub fn extended(&self, name: &str) -> Option<&[u8]> {
        let mut all = self.extended.iter();
        all.find(|(known, _)| known.as_bytes() == name.as_bytes()).map(|(_, value)| &value[..])
    }

    /// Gives a file the same owner, mode, times and extended attributes, as far as may be.
    pub(crate) fn carry_over(&self, file: &File, rights: Rights) -> io::Result<()> {
        self.carry_over_but_times(file, rights)?;
        let from = &self.metadata;
        let times = fs::FileTimes::new().set_accessed(from.accessed()?).set_modified(from.modified()?);
        file.set_times(times)
    }

    /// Gives a file that is to take this one's place the same owner, and group if that has a part in it. Who may not
    /// give it away would take the mailbox away from its owner.
    pub(crate) fn give_owner(&self, file: &File) -> io::Result<()> {
        let (from, to) = (&self.metadata, file.metadata()?);
        let is_for_group = from.mode() & 0o070 != 0;
        if to.uid() == from.uid() && (to.gid() == from.gid() || !is_for_group) {
            return Ok(());
        }
        self.change_owner(file, &to).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => io::Error::new(
                error.kind(),
                format!(
                    "it would not be of user {} and group {} any more, as what it replaces; {}with --output",
                    from.uid(),
                    from.gid(),
                    if nix::unistd::geteuid().is_root() { "run " } else { "run as root, or " }
                ),
            ),
            _ => error,
        })
    }

    /// Why what takes this one's place would not have its owner, where root acts as another: who is neither cannot mend it.
    pub(crate) fn not_ours_to_give(&self) -> Option<String> {
        let (user, ours) = (self.metadata.uid(), owner::user());
        (user != ours && owner::is_acting()).then(|| {
            format!(
                "it belongs to {}, and root works here with the rights of {}: give it to that user (chown)",
                owner::name(user),
                owner::name(ours)
            )
        })
    }

    /// To the same owner and group. Of the owner's own file the group is root's to give: it was the mail's before.
    fn change_owner(&self, file: &File, to: &Metadata) -> io::Result<()> {
        let (user, group) = (self.metadata.uid(), self.metadata.gid());
        if to.uid() == user {
            return owner::as_process(|| fchown(file, None, Some(group)));
        }
        fchown(file, Some(user), Some(group))
    }

    /// The same without times, by which others see that there is something new.
    pub(crate) fn carry_over_but_times(&self, file: &File, rights: Rights) -> io::Result<()> {
        let (from, to) = (&self.metadata, file.metadata()?);
        if (to.uid(), to.gid()) != (from.uid(), from.gid()) {
            // Only root may give files away; for others the new file is theirs, as with cp.
            match self.change_owner(file, &to) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            }
        }
        let is_same_group = rights == Rights::AsFound || file.metadata()?.gid() == from.gid();
        let access_list = self.extended(ACCESS_LIST).is_some();
        let mode = match rights {
            Rights::AsFound => from.mode() & 0o7777,
            // With an access list these bits are the most that anybody has whom it names: it says itself what the group has.
            Rights::NotForOthers if is_same_group && !access_list => from.mode() & 0o770,
            Rights::NotForOthers => from.mode() & 0o700,
        };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        for (name, value) in &self.extended {
            if rights == Rights::NotForOthers && name.as_bytes() == ACCESS_LIST.as_bytes() {
                set_extended(file, name, &without_others(value, is_same_group))?;
            } else {
                set_extended(file, name, value)?;
            }
        }
        Ok(())
    }
}

/// What of the rights to a file another one gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// All.
    AsFound,
    /// Those of the owner and of whom an access list names, and those of the group if it is the same: everybody may have
    /// a ciphertext, not the text.
    NotForOthers,
}

/// Whether anybody may read a file of this mode: the folders that it is in let him through.
pub(crate) fn others_may_read(path: &Path, mode: u32) -> bool {
    let lets_through = |folder: &Path| fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o001 != 0);
    mode & 0o004 != 0 && fs::canonicalize(path).is_ok_and(|real| real.ancestors().skip(1).all(lets_through))
}

/// An access list (`linux/posix_acl_xattr.h`: a version, then tag, rights and name of each) without rights for others, nor for
/// the group if it is another one.
fn without_others(list: &[u8], is_same_group: bool) -> Vec<u8> {
    const GROUP: [u8; 2] = 0x04_u16.to_le_bytes();
    const OTHERS: [u8; 2] = 0x20_u16.to_le_bytes();
    let mut list = list.to_vec();
    for entry in list.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        if let [tag_0, tag_1, rights_0, rights_1, ..] = entry {
            let tag = [*tag_0, *tag_1];
            if tag == OTHERS || (tag == GROUP && !is_same_group) {
                (*rights_0, *rights_1) = (0, 0);
            }
        }
    }
    list
}

const ACCESS_LIST: &str = "system.posix_acl_access";

/// Sets an extended attribute. A file system that has none, or has no room for it, keeps the file without.
pub(crate) fn set_extended(file: &File, name: &std::ffi::CStr, value: &[u8]) -> io::Result<()> {
    match fsetxattr(file, name, value, XattrFlags::empty()) {
        Ok(())
        | Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::TOOBIG | Errno::RANGE | Errno::NOSPC) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn extended(file: &File) -> io::Result<Vec<(CString, Vec<u8>)>> {
    // Nearly all files have none, and then this is one call.
    let names = match grown(|buffer| flistxattr(file, buffer)) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|&octet| octet == 0).filter(|name| is_carried(name)) {
        let Ok(name) = CString::new(name) else { continue };
        match grown(|buffer| fgetxattr(file, &name, buffer)) {
            Ok(value) => found.push((name, value)),
            // Somebody removed it, or it is not ours to read.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Labels of the kernel's (`security.`, `trusted.`) belong to the file and are given anew.
fn is_carried(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == ACCESS_LIST.as_bytes()
}

fn grown(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 512];
    loop {
        match read(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            // The kernel has nothing longer than 64 KiB.
            Err(Errno::RANGE) if buffer.len() <= 1 << 16 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_the_mode_the_times_and_the_extended_attributes_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| File::create(folder.path().join(name)).unwrap());
        let large = vec![7; 3000];
        for (name, value) in [(c"user.small", &b"x"[..]), (c"user.large", &large)] {
            set_extended(&from, name, value).unwrap();
        }
        from.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        from.set_times(fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
        let attributes = Attributes::of(&from).unwrap();
        attributes.carry_over(&to, Rights::AsFound).unwrap();
        let carried = Attributes::of(&to).unwrap();
        assert_eq!(carried.extended, attributes.extended);
        assert_eq!(carried.modified(), Some(SystemTime::UNIX_EPOCH));
        assert_eq!(carried.metadata.mode(), attributes.metadata.mode());
        if attributes.extended("user.small").is_some() {
            assert_eq!(carried.extended("user.large"), Some(&large[..]));
        }
    }

    #[test]
    fn without_rights_for_others_a_group_has_its_own_only_where_it_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, of_same, of_another) in
            [(0o644, 0o640, 0o600), (0o4777, 0o770, 0o700), (0o607, 0o600, 0o600)]
        {
            let [from, same, other] =
                ["from", "same", "other"].map(|name| File::create(folder.path().join(name)).unwrap());
            from.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
            let attributes = Attributes::of(&from).unwrap();
            attributes.carry_over(&same, Rights::NotForOthers).unwrap();
            assert_eq!(same.metadata().unwrap().mode() & 0o7777, of_same);
            fchown(&other, Some(NOBODY), Some(NOBODY)).unwrap();
            let mode = std::thread::spawn(move || {
                // Of this thread only.
                set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
                attributes.carry_over(&other, Rights::NotForOthers).unwrap();
                other.metadata().unwrap().mode() & 0o7777
            });
            assert_eq!(mode.join().unwrap(), of_another);
        }
    }

    #[test]
    fn without_rights_for_others_an_access_list_gives_them_none_and_those_whom_it_names_theirs() {
        const NAME: u32 = u32::MAX;
        // A version; then the owner, user 7, the group, the mask and others.
        let list = |group: u16, others: u16| {
            let entries = [(1, 6, NAME), (2, 4, 7), (4, group, NAME), (16, 4, NAME), (32, others, NAME)];
            let entries = entries.map(|(tag, rights, name): (u16, u16, u32)| {
                [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &name.to_le_bytes()].concat()
            });
            [&2_u32.to_le_bytes()[..], &entries.concat()].concat()
        };
        assert_eq!(without_others(&list(4, 4), true), list(4, 0));
        assert_eq!(without_others(&list(4, 4), false), list(0, 0));
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| File::create(folder.path().join(name)).unwrap());
        set_extended(&from, c"system.posix_acl_access", &list(0, 4)).unwrap();
        let attributes = Attributes::of(&from).unwrap();
        attributes.carry_over(&to, Rights::NotForOthers).unwrap();
        let carried = Attributes::of(&to).unwrap();
        // Not every file system has them.
        if attributes.extended(ACCESS_LIST).is_some() {
            assert_eq!(carried.extended(ACCESS_LIST), Some(&list(0, 0)[..]));
        }
        assert_eq!(carried.metadata.mode() & 0o007, 0);
        // Of a mask that no list is behind, the group has nothing.
        let listed =
            Attributes { extended: vec![(c"system.posix_acl_access".into(), Vec::new())], ..carried };
        let bare = File::create(folder.path().join("bare")).unwrap();
        listed.carry_over(&bare, Rights::NotForOthers).unwrap();
        assert_eq!(bare.metadata().unwrap().mode() & 0o077, 0);
    }

    #[test]
    fn who_may_not_give_a_file_its_owner_back_does_not_replace_it() {
        let folder = tempfile::tempdir().unwrap();
        let shared = File::create(folder.path().join("shared")).unwrap();
        shared.set_permissions(fs::Permissions::from_mode(0o660)).unwrap();
        let attributes = Attributes::of(&shared).unwrap();
        let own = File::create(folder.path().join("own")).unwrap();
        attributes.give_owner(&own).unwrap();
        let replacement = File::create(folder.path().join("replacement")).unwrap();
        fchown(&replacement, Some(NOBODY), Some(NOBODY)).unwrap();
        let refused = std::thread::spawn(move || {
            // Of this thread only.
            set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
            (attributes.give_owner(&replacement), replacement.metadata().unwrap().uid())
        });
        let (refused, owner) = refused.join().unwrap();
        assert!(refused.unwrap_err().to_string().contains("user 0 and group 0"));
        assert_eq!(owner, NOBODY);
    }

    const NOBODY: u32 = 65534;

    use rustix::thread::{Uid, set_thread_uid};
}
