//! Whose mail it is that root works on in place, and with whose rights: who may put other things into a mailbox's folder has
//! root do with them, by their names, what root may. So the threads that open, write, rename and remove there act with the
//! rights of the mail's owner; those that ask tokens, and what was opened before, keep root's.

use std::{
    ffi::CString,
    fs, io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist, setfsgid, setfsuid};
use rustix::{
    fs::OFlags,
    process::getgroups,
    thread::{CapabilitySet, capabilities, set_thread_groups},
};

use crate::{beneath::Beneath, error::BatchError, output::parent, seen::Seen};

impl Seen {
    /// With whose rights root works on it in place, if not with its own.
    fn acting(&self) -> Result<Option<Acting>, BatchError> {
        let (user, is_among_roots) = (self.metadata.uid(), self.is_among_roots());
        if !is_among_roots {
            self.check_nobody_exchanges()?;
        }
        // Of a folder, what is in it is its owner's, too.
        let is_others = user != 0 && (self.metadata.is_dir() || !is_among_roots);
        Ok(is_others.then(|| Acting::of(user, self.metadata.gid())))
    }

    /// An error if somebody besides its owner and root may put something else in its place: what he puts there may be mail of the
    /// same owner that is not meant.
    fn check_nobody_exchanges(&self) -> Result<(), BatchError> {
        let user = self.metadata.uid();
        for folder in parent(&self.target).ancestors() {
            let failed = |source| BatchError::Read { origin: folder.display().to_string(), source };
            let metadata = fs::symlink_metadata(folder).map_err(failed)?;
            let (owner, mode) = (metadata.uid(), metadata.mode());
            // In a folder like /tmp it stays where it is. Of a group that its owner lets in, he knows.
            let lets_in = if user == 0 && metadata.gid() != 0 { 0o022 } else { 0o002 };
            let who = match owner {
                owner if ![0, overflow(), user].contains(&owner) => name(owner),
                _ if mode & 0o1000 == 0 && mode & lets_in != 0 => "who may write there".to_owned(),
                _ => continue,
            };
            return Err(BatchError::Owner {
                path: self.target.clone(),
                problem: format!(
                    "it belongs to {}, and {who} may put something else in its place, by the rights to {}; give it to its user, \
                     in a folder of that user's own (chown), or write a new archive with --output",
                    name(user),
                    folder.display()
                ),
            });
        }
        Ok(())
    }
}

/// A user with whose rights this process's threads can act, where it is root's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acting {
    user: Uid,
    group: Gid,
    pub(crate) groups: Vec<rustix::process::Gid>,
}

impl Acting {
    /// The user with whose rights root works on these in place, if not with its own.
    pub(crate) fn on(inputs: &[Seen]) -> Result<Option<Self>, BatchError> {
        let mut first: Option<(&Seen, Option<Self>)> = None;
        for seen in inputs.iter().filter(|_| geteuid().is_root()) {
            let acting = seen.acting()?;
            match &first {
                None => first = Some((seen, acting)),
                Some((_, known)) if *known == acting => {}
                Some((other, _)) => {
                    return Err(BatchError::Owner {
                        path: seen.given.clone(),
                        problem: format!(
                            "it belongs to {}, and {} to {}; in place, root works with the rights of the mail's owner: \
                             give the mail of each a run of its own",
                            name(seen.metadata.uid()),
                            other.given.display(),
                            name(other.metadata.uid())
                        ),
                    });
                }
            }
        }
        Ok(first.and_then(|(_, acting)| acting))
    }

    pub(crate) fn of(user: u32, group: u32) -> Self {
        let known = User::from_uid(Uid::from_raw(user)).ok().flatten();
        let (group, groups) = match known {
            Some(known) => {
                let groups = CString::new(known.name).map(|name| getgrouplist(&name, known.gid));
                (known.gid, groups.map(Result::unwrap_or_default).unwrap_or_default())
            }
            None if group == 0 => (Gid::from_raw(NOGROUP), Vec::new()),
            None => (Gid::from_raw(group), Vec::new()),
        };
        let groups = groups.into_iter().map(|group| rustix::process::Gid::from_raw(group.as_raw())).collect();
        Self { user: Uid::from_raw(user), group, groups }
    }

    /// With whose rights this thread acts, if not with those of the process.
    pub(crate) fn now() -> Option<Self> {
        let (user, group) = current();
        (user != geteuid()).then(|| Self { user, group, groups: getgroups().unwrap_or_default() })
    }

    /// Does something with this user's rights. Threads that it starts have no others either.
    pub(crate) fn act<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        let _back = Back::to_now()?;
        set_thread_groups(&self.groups)?;
        setfsgid(self.group);
        setfsuid(self.user);
        let is_given_up = !capabilities(None)?.effective.contains(CapabilitySet::DAC_OVERRIDE);
        if current() != (self.user, self.group) || !is_given_up {
            let words = format!("root cannot act with the rights of {}", name(self.user.as_raw()));
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
        }
        Ok(act())
    }

    /// Tells where something may not be done that it is this user who may not.
    pub(crate) fn explained(&self, error: BatchError, inputs: &[Seen]) -> BatchError {
        // What is root's is not for one user of many to own.
        let is_roots = |seen: &Seen| {
            !seen.metadata.is_dir()
                && fs::metadata(parent(&seen.target)).is_ok_and(|folder| folder.uid() == 0)
        };
        let advice = if inputs.iter().any(is_roots) {
            "give the mail a folder of that user's own"
        } else {
            "have that user own the folder and all that is in it (chown)"
        };
        let words = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => io::Error::new(
                source.kind(),
                format!(
                    "{source}; root works there with the rights of the mail's owner, {}: {advice}, or write a new \
                     archive with --output",
                    name(self.user.as_raw())
                ),
            ),
            _ => source,
        };
        match error {
            BatchError::Read { origin, source } => BatchError::Read { origin, source: words(source) },
            BatchError::Write { path, source } => BatchError::Write { path, source: words(source) },
            other => other,
        }
    }
}

/// Does something with the rights of the process, whatever those of this thread are.
pub(crate) fn as_process<T>(act: impl FnOnce() -> T) -> T {
    let process = geteuid();
    if current().0 == process {
        return act();
    }
    let Ok(_back) = Back::to_now() else { return act() };
    setfsgid(nix::unistd::getegid());
    setfsuid(process);
    act()
}

/// Does something with what is left over beside mail. In a folder like `/tmp` the mail's owner removes nothing of others';
/// if it is root's, root does that with its own rights, by a path that leads into this folder whatever is renamed on the way.
pub(crate) fn on_left_over<T>(path: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let done = act(path);
    let is_denied = done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    if !is_denied || !is_acting() {
        return done;
    }
    as_process(|| {
        let folder = Beneath::of(Path::new("/"))?.open(parent(path), OFlags::PATH | OFlags::DIRECTORY)?;
        let metadata = folder.metadata()?;
        match path.file_name() {
            Some(name) if metadata.uid() == 0 && metadata.mode() & 0o1000 != 0 => {
                act(&PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
            }
            _ => done,
        }
    })
}

/// The user by whose rights this thread opens files.
pub(crate) fn user() -> u32 {
    current().0.as_raw()
}

/// Whether this thread has the rights of another than the process.
pub(crate) fn is_acting() -> bool {
    current().0 != geteuid()
}

/// Nobody has this number: asked for it, the kernel tells what is.
fn current() -> (Uid, Gid) {
    (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)))
}

/// Takes a thread back to where it was.
struct Back {
    user: Uid,
    group: Gid,
    groups: Vec<rustix::process::Gid>,
}

impl Back {
    fn to_now() -> io::Result<Self> {
        let (user, group) = current();
        Ok(Self { user, group, groups: getgroups()? })
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        let groups = match getgroups() {
            Ok(there) if there == self.groups => Ok(()),
            _ => set_thread_groups(&self.groups),
        };
        setfsgid(self.group);
        setfsuid(self.user);
        if groups.is_err() || current() != (self.user, self.group) {
            // Nothing shall be done with rights that are not meant for it.
            std::process::abort();
        }
    }
}

/// Whose is what belongs to a user that this process's namespace does not know, where there are such; else one that is nobody.
pub(crate) fn overflow() -> u32 {
    let is_partial = |map: &str| {
        let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
        counts.sum::<u64>() < u64::from(u32::MAX)
    };
    let user = || fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok();
    let is_namespace = fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_partial(&map));
    is_namespace.then(user).flatten().unwrap_or(0)
}

/// How a user is called.
pub(crate) fn name(user: u32) -> String {
    match User::from_uid(Uid::from_raw(user)) {
        Ok(Some(known)) => format!("user {}", known.name),
        _ => format!("user {user}"),
    }
}

/// The group of a user whom the system does not know, where the mail is of root's.
const NOGROUP: u32 = 65_534;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{attributes::State, output::Place, own};

    #[test]
    fn what_was_opened_is_what_was_looked_at_or_it_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [input, other] = ["input", "other"].map(|name| folder.path().join(name));
        for path in [&input, &other] {
            fs::write(path, "Subject: x\n\nbody\n").unwrap();
        }
        let place = Place::over(&Seen::of(&input).unwrap()).unwrap();
        let state = |path| State::of(&own::open_input(path, OFlags::RDONLY).unwrap().metadata().unwrap());
        place.check_opened(state(&input)).unwrap();
        // Though it has its name again afterwards.
        assert!(matches!(place.check_opened(state(&other)), Err(BatchError::Changed { .. })));
        place.check_unchanged().unwrap();
        symlink(&other, folder.path().join("link")).unwrap();
        own::open_input(&folder.path().join("link"), OFlags::RDONLY).unwrap_err();
    }
}
