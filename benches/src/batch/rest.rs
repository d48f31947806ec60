//! What each contender begins with: the disk at rest, and what it will read in memory.
//!
//! A copy that was removed is discarded by the file system for a while yet. What cannot be made the same is whether a virtual
//! machine's free memory is still its own: the host may have taken it back, and whoever writes large pieces through the page
//! cache then waits for it, up to as long as for all else. Rounds in both orders show that.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use testkit::command;

use super::material::Archive;

/// What was written before is on the disk, and does not get into what is measured next.
pub fn settle() -> Result<()> {
    command::succeed("coreutils", &mut Command::new("sync"))?;
    let end = Instant::now() + LONGEST;
    let (mut before, mut since) = (done_by_disks(), Instant::now());
    while since.elapsed() < STILL && Instant::now() < end {
        thread::sleep(EACH);
        let now = done_by_disks();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// The same, and what will be read is in memory, if there is room for it.
pub fn settle_before(input: &Archive) -> Result<()> {
    settle()?;
    if input.octets < available().unwrap_or_default() / 2 {
        read(&input.path)?;
    }
    Ok(())
}

/// Reads all of a file, or of the files of a tree.
fn read(path: &Path) -> Result<u64> {
    if path.is_dir() {
        return fs::read_dir(path)?.map(|entry| read(&entry?.path())).sum();
    }
    Ok(io::copy(&mut File::open(path)?, &mut io::sink())?)
}

/// What all disks have written, discarded or flushed so far; reading is in nobody's way for long.
fn done_by_disks() -> Vec<String> {
    let disks = fs::read_to_string("/proc/diskstats").unwrap_or_default();
    disks.lines().map(after_reads).collect()
}

/// A disk's name and its numbers but for those of reads, and of the time that has passed.
fn after_reads(line: &str) -> String {
    // Documentation/admin-guide/iostats.rst: fields 5 to 8 are of writes, 12 to 17 of discards and flushes.
    let chosen =
        line.split_whitespace().enumerate().filter(|(index, _)| matches!(index, 2 | 7..=10 | 14..=19));
    chosen.map(|(_, field)| field).collect::<Vec<_>>().join(" ")
}

/// The memory that can be had, in octets.
fn available() -> Option<u64> {
    let told = fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

/// How long no disk has written anything before it is at rest,
const STILL: Duration = Duration::from_millis(300);
/// how often to look,
const EACH: Duration = Duration::from_millis(20);
/// and how long to wait for that at most: others may write all the time.
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_not_at_rest_while_it_writes_discards_or_flushes_whatever_it_reads() {
        let line =
            |numbers: [u64; 17]| format!(" 254 0 vda {}", numbers.map(|number| number.to_string()).join(" "));
        let mut numbers = [7; 17];
        let before = after_reads(&line(numbers));
        for (field, counts) in
            [(0, false), (3, false), (4, true), (6, true), (8, false), (11, true), (15, true)]
        {
            numbers[field] += 1;
            let now = after_reads(&line(numbers));
            numbers[field] -= 1;
            assert_eq!(now != before, counts, "{field}");
        }
    }

    #[test]
    fn a_tree_is_read_with_all_that_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("cur")).unwrap();
        fs::write(folder.path().join("cur/1"), "four").unwrap();
        fs::write(folder.path().join("2"), "three").unwrap();
        assert_eq!(read(folder.path()).unwrap(), 9);
        assert!(available().unwrap() > 0);
    }
}
