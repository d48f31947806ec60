//! Room for outputs that are longer than the disk is free: what is on it already is taken away again.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::fcntl::{FallocateFlags, fallocate};

/// Does something that writes `output`, under the name that it has until it is complete, and makes holes in what is written.
/// All of it is written to the disk; only nobody can read it afterwards.
pub fn while_written<T>(output: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut partial = output.as_os_str().to_owned();
    partial.push(".hsmime-partial");
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let punching = scope.spawn(|| -> Result<()> {
            let mut file: Option<File> = None;
            while !is_done.load(Ordering::Relaxed) {
                thread::sleep(EACH);
                // What is not there yet will be, and what is not there any more is complete.
                file = file.or_else(|| OpenOptions::new().write(true).open(&partial).ok());
                if let Some(file) = &file {
                    punch(file)?;
                }
            }
            Ok(())
        });
        let done = work();
        is_done.store(true, Ordering::Relaxed);
        punching.join().ok().context("what makes holes panicked")??;
        done
    })
}

fn punch(file: &File) -> Result<()> {
    let len = i64::try_from(file.metadata()?.len())?.saturating_sub(STAYS) / BLOCK * BLOCK;
    if len > 0 {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(file, flags, 0, len).context("no holes can be made in files of this disk")?;
    }
    Ok(())
}

/// How often.
const EACH: Duration = Duration::from_millis(500);
/// How much stays at the end: more than may be in memory only, which would never be written.
const STAYS: i64 = 1 << 30;
/// What holes are made of.
const BLOCK: i64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn what_is_far_behind_the_end_takes_no_room_and_the_length_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = File::create(folder.path().join("long")).unwrap();
        let written = vec![7; 4 << 20];
        file.write_all(&written).unwrap();
        file.set_len(u64::try_from(STAYS).unwrap() + (2 << 20)).unwrap();
        let before = file.metadata().unwrap().blocks();
        punch(&file).unwrap();
        let after = file.metadata().unwrap();
        assert!(after.blocks() < before, "{before} {}", after.blocks());
        assert_eq!(after.len(), u64::try_from(STAYS).unwrap() + (2 << 20));
        assert_eq!(fs::read(folder.path().join("long")).unwrap()[2 << 20..4 << 20], written[2 << 20..]);
    }
}
