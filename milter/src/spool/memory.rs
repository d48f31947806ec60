//! Who has a copy of which message: those whose copies wait, and for some days those whose copies were taken. A message
//! that comes again gets them no second one, be it that its answer was lost or that a later milter refused it.
//!
//! On the disk there is a file for each day, with a line for each recipient. Those who wait need none: their copies
//! are there.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use data_encoding::HEXLOWER;

use super::set::{files, sync};

/// A message and a recipient; only the spool's key tells which.
pub(super) type Tag = [u8; 16];

/// What is remembered.
#[derive(Debug)]
pub(super) struct Memory {
    folder: PathBuf,
    known: HashMap<Tag, Known>,
}

/// What is known of a message and a recipient, and the day from which it is remembered.
#[derive(Clone, Copy, Debug)]
struct Known {
    day: u64,
    stage: Stage,
}

/// What became of a copy for a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits.
    Waits,
    /// The server took it, which is not on the disk yet.
    Taken,
    /// The same, and it is.
    Noted,
    /// It was refused, and whoever is to hear of that has.
    Told,
}

/// MTAs give up after five.
const DAYS: u64 = 6;

impl Memory {
    /// Reads what was taken in the last days.
    pub(super) fn load(folder: &Path, now: SystemTime) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut known = HashMap::new();
        for path in files(folder)? {
            let day = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let Some(day) = day.filter(|day| is_kept(*day, now)) else {
                continue;
            };
            for line in fs::read(&path)?.split(|octet| *octet == b'\n') {
                // A crash may have torn the last.
                if let Some(tag) = HEXLOWER.decode(line).ok().and_then(|octets| octets.try_into().ok()) {
                    let known = known.entry(tag).or_insert(Known { day, stage: Stage::Noted });
                    known.day = day.max(known.day);
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), known })
    }

    pub(super) fn knows(&self, tag: &Tag, now: SystemTime) -> bool {
        self.known.get(tag).is_some_and(|known| is_kept(known.day, now) && known.stage != Stage::Told)
    }

    /// Whether nothing is to be sent to the recipient any more, though the copy may still be there.
    pub(super) fn is_settled(&self, tag: &Tag, now: SystemTime) -> bool {
        self.known.get(tag).is_some_and(|known| is_kept(known.day, now) && known.stage != Stage::Waits)
    }

    /// Their copies wait.
    pub(super) fn hold(&mut self, tags: &[Tag], now: SystemTime) {
        self.set(tags, Stage::Waits, now);
    }

    /// Their copies wait since an earlier run; for those who have them, no more than the removal.
    pub(super) fn hold_again(&mut self, tags: &[Tag], now: SystemTime) {
        let waiting: Vec<Tag> = tags.iter().filter(|tag| !self.is_settled(tag, now)).copied().collect();
        self.hold(&waiting, now);
    }

    /// Their copies were refused, and that is told. If the message comes again, they are tried again.
    pub(super) fn told(&mut self, tags: &[Tag], now: SystemTime) {
        self.set(tags, Stage::Told, now);
    }

    /// Their copies are settled, and still there: this is kept in mind for as long, and on the disk as soon as that takes it.
    pub(super) fn remember(&mut self, tags: &[Tag], now: SystemTime) -> io::Result<()> {
        let mut taken = Vec::new();
        for tag in tags {
            match self.known.get_mut(tag) {
                Some(known) if known.stage == Stage::Told => known.day = day(now),
                Some(known) if known.stage == Stage::Noted && known.day == day(now) => {}
                _ => taken.push(*tag),
            }
        }
        if taken.is_empty() { Ok(()) } else { self.record(&taken, now) }
    }

    fn set(&mut self, tags: &[Tag], stage: Stage, now: SystemTime) {
        self.known.extend(tags.iter().map(|tag| (*tag, Known { day: day(now), stage })));
    }

    /// They get none after all.
    pub(super) fn forget(&mut self, tags: &[Tag]) {
        for tag in tags {
            self.known.remove(tag);
        }
    }

    /// Their copies were taken. This is on the disk when it returns; after an error it is known as long as this process lives.
    pub(super) fn record(&mut self, tags: &[Tag], now: SystemTime) -> io::Result<()> {
        self.set(tags, Stage::Taken, now);
        let path = self.folder.join(day(now).to_string());
        let is_new = !path.exists();
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let mut lines = String::from("\n"); // ends a line that a crash has torn
        for tag in tags {
            lines.push_str(&HEXLOWER.encode(tag));
            lines.push('\n');
        }
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        self.set(tags, Stage::Noted, now);
        if is_new {
            self.expire(now)?;
        }
        Ok(())
    }

    /// Once a day.
    fn expire(&mut self, now: SystemTime) -> io::Result<()> {
        self.known.retain(|_, known| is_kept(known.day, now));
        for path in files(&self.folder)? {
            let day = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if !day.is_some_and(|day| is_kept(day, now)) {
                fs::remove_file(&path)?;
            }
        }
        sync(&self.folder)
    }
}

fn day(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / (24 * 60 * 60)
}

fn is_kept(since: u64, now: SystemTime) -> bool {
    since.saturating_add(DAYS) >= day(now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_settled_is_kept_in_mind_for_as_long_as_its_copy_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 20_000);
        let later = |days: u64| now + Duration::from_hours(24 * days);
        let mut memory = Memory::load(folder.path(), now).unwrap();
        let (taken, told) = ([1; 16], [2; 16]);
        // The disk takes nothing.
        fs::remove_dir(folder.path()).unwrap();
        memory.record(&[taken], now).unwrap_err();
        memory.told(&[told], now);
        assert!(memory.is_settled(&taken, now) && memory.knows(&taken, now));
        assert!(memory.is_settled(&told, now) && !memory.knows(&told, now), "it may be tried again");
        memory.remember(&[taken, told], later(5)).unwrap_err();
        fs::create_dir(folder.path()).unwrap();
        memory.remember(&[taken, told], later(5)).unwrap();
        assert!([taken, told].iter().all(|tag| memory.is_settled(tag, later(11))));
        let again = Memory::load(folder.path(), later(11)).unwrap();
        assert!(again.is_settled(&taken, later(11)) && !again.is_settled(&told, later(11)));
    }

    #[test]
    fn what_was_taken_is_remembered_for_days_and_through_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 20_000 + 23);
        let later = |days: u64| now + Duration::from_hours(24 * days);
        let mut memory = Memory::load(folder.path(), now).unwrap();
        memory.record(&[[1; 16]], now).unwrap();
        memory.hold(&[[2; 16]], now);
        // The power went while a line was written.
        let path = folder.path().join(day(now).to_string());
        let torn = [fs::read(&path).unwrap(), b"0303".to_vec()].concat();
        fs::write(&path, torn).unwrap();
        memory.record(&[[4; 16]], now).unwrap();
        let again = Memory::load(folder.path(), now).unwrap();
        for (tag, running, restarted) in
            [(1, true, true), (2, true, false), (3, false, false), (4, true, true)]
        {
            assert_eq!(memory.knows(&[tag; 16], now), running, "{tag}");
            assert_eq!(again.knows(&[tag; 16], now), restarted, "{tag}");
        }
        assert!(again.knows(&[1; 16], later(6)));
        assert!(!again.knows(&[1; 16], later(7)));
        memory.record(&[[5; 16]], later(7)).unwrap();
        assert_eq!(memory.known.len(), 1, "what is over is dropped");
        assert_eq!(files(folder.path()).unwrap().len(), 1);
        memory.hold_again(&[[5; 16], [6; 16]], later(7));
        assert!(memory.is_settled(&[5; 16], later(7)) && !memory.is_settled(&[6; 16], later(7)));
        // Sent again for good: the message came again when it was known no more.
        memory.hold(&[[5; 16]], later(7));
        assert!(!memory.is_settled(&[5; 16], later(7)));
        memory.forget(&[[5; 16]]);
        assert!(!memory.knows(&[5; 16], later(7)));
    }
}
