//! The keys of an LMDB table, as `postmap lmdb:` makes it.
//!
//! LMDB itself believes what it maps: a file that is damaged, cut while it is open, or written by somebody who means harm
//! would end the process, or worse. So the file is read as a whole under the lock that Postfix takes, and its pages are
//! walked here with every place looked at first. Only keys are wanted: the pages of long values are not visited.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, OFlags, fcntl_lock},
    io::Errno,
};

/// How long somebody who writes the table is waited for. `postmap` takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Reads a table, or says why it cannot be used.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let open = || -> io::Result<File> {
        // A pipe would be waited for.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        OpenOptions::new().read(true).custom_flags(flags).open(path)
    };
    let file = open().map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("this is no file".to_owned());
    }
    if found.len() > most {
        return Err(format!("{} octets are too many", found.len()));
    }
    if let Some(reason) = why_not_safe(&found) {
        return Err(reason);
    }
    wait_for_writers(&file, PATIENCE)?;
    // Its states are at the beginning and are read at one moment; what the newest names is there, or behind.
    let failed = |error: io::Error| error.to_string();
    let len = file.metadata().map_err(failed)?.len().min(most);
    let mut octets = vec![0; usize::try_from(len).unwrap_or_default()];
    (&file).read_exact(&mut octets).map_err(failed)?;
    (&file).take(most - len + 1).read_to_end(&mut octets).map_err(failed)?;
    if octets.len() as u64 > most { Err(format!("more than {most} octets are too many")) } else { Ok(octets) }
}

/// Why what is in a file decides nothing, if so: everybody could have mail leave in clear.
pub(super) fn why_not_safe(found: &Metadata) -> Option<String> {
    let is_everybodys = found.permissions().mode() & 0o002 != 0;
    is_everybodys
        .then(|| "everybody may write to it, and it decides what is done with mail: chmod o-w".to_owned())
}

/// Locks the file against whoever begins to write it, for as long as it is open. Postfix's programs let readers in again before
/// they commit, since that leaves the state before it whole; the next but one would write over it.
pub(super) fn wait_for_writers(file: &File, patience: Duration) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match fcntl_lock(file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(()),
            Err(Errno::AGAIN | Errno::ACCESS) if began.elapsed() < patience => thread::sleep(PAUSE),
            Err(Errno::AGAIN | Errno::ACCESS) => {
                let seconds = patience.as_secs();
                return Err(format!(
                    "another program has locked it for more than {seconds} s: does a postmap hang?"
                ));
            }
            Err(error) => return Err(format!("it cannot be locked: {}", io::Error::from(error))),
        }
    }
}

/// All keys of a table, without the NUL that Postfix ends them with, in their order.
pub(super) fn keys(octets: &[u8]) -> Result<Vec<&[u8]>, String> {
    let table = Table::of(octets)?;
    let mut keys = Vec::new();
    if table.root != NOWHERE {
        let mut seen = vec![false; table.pages()];
        table.walk(table.root, table.depth, &mut seen, &mut keys)?;
    }
    if keys.len() as u64 == table.entries {
        Ok(keys.into_iter().map(|key| key.strip_suffix(b"\0").unwrap_or(key)).collect())
    } else {
        Err(format!("it is damaged: it has {} keys, and says {}", keys.len(), table.entries))
    }
}

/// What LMDB 0.9 writes: `MDB_MAGIC`, `MDB_DATA_VERSION`, the place of no page (`P_INVALID`), flags of pages and entries.
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
const NOWHERE: u64 = u64::MAX;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x08;
/// Of an entry: the value has pages of its own (`F_BIGDATA`). Others are of tables in tables.
const LONG: u16 = 0x01;
/// Octets before what is in a page, and before an entry's key.
const PAGE_HEADER: usize = 16;
const ENTRY_HEADER: usize = 8;
/// LMDB's own cursors go no deeper (`CURSOR_STACK`).
const DEEPEST: u16 = 32;

const NO_TABLE: &str = "it is no LMDB table of a machine like this; make it with postmap lmdb:";
const DAMAGED: &str = "it is damaged; make it anew with postmap";
const NOT_POSTMAPS: &str = "it is an LMDB file of another kind than postmap makes";

/// The newest of the two states that are in a file.
struct Table<'a> {
    octets: &'a [u8],
    page_size: usize,
    root: u64,
    depth: u16,
    entries: u64,
}

impl<'a> Table<'a> {
    fn of(octets: &'a [u8]) -> Result<Self, String> {
        let first = Meta::read(octets).ok_or(NO_TABLE)?;
        let page_size = usize::try_from(first.page_size).unwrap_or_default();
        if !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() {
            return Err(NO_TABLE.to_owned());
        }
        let second = octets.get(page_size..).and_then(Meta::read).ok_or(DAMAGED)?;
        let newest = if second.transaction > first.transaction { second } else { first };
        if newest.flags != 0 {
            return Err(NOT_POSTMAPS.to_owned());
        }
        if newest.depth > DEEPEST || (newest.depth == 0) != (newest.root == NOWHERE) {
            return Err(DAMAGED.to_owned());
        }
        let Meta { root, depth, entries, .. } = newest;
        Ok(Self { octets, page_size, root, depth, entries })
    }

    fn pages(&self) -> usize {
        self.octets.len() / self.page_size
    }

    /// Collects the keys of a page and of those below it. Each page is there once: so it ends.
    fn walk(
        &self,
        number: u64,
        depth: u16,
        seen: &mut [bool],
        keys: &mut Vec<&'a [u8]>,
    ) -> Result<(), String> {
        let at = usize::try_from(number).map_err(|_| DAMAGED)?;
        let is_new = seen.get_mut(at).is_some_and(|seen| !std::mem::replace(seen, true));
        let start = at.checked_mul(self.page_size).filter(|_| is_new).ok_or(DAMAGED)?;
        let page = self.octets.get(start..start + self.page_size).ok_or(DAMAGED)?;
        let kind = if depth == 1 { LEAF } else { BRANCH };
        if u64_at(page, 0) != Some(number) || u16_at(page, 10) != Some(kind) {
            return Err(DAMAGED.to_owned());
        }
        let end = usize::from(u16_at(page, 12).ok_or(DAMAGED)?);
        let places = page.get(PAGE_HEADER..end).ok_or(DAMAGED)?;
        for place in places.chunks(2) {
            let entry = page.get(usize::from(u16_at(place, 0).ok_or(DAMAGED)?)..).ok_or(DAMAGED)?;
            let [low, high, flags, len] = [0, 2, 4, 6].map(|at| u16_at(entry, at));
            let (flags, len) = (flags.ok_or(DAMAGED)?, usize::from(len.ok_or(DAMAGED)?));
            if kind == BRANCH {
                let [low, high] = [low, high].map(|part| u64::from(part.unwrap_or_default()));
                self.walk(low | high << 16 | u64::from(flags) << 32, depth - 1, seen, keys)?;
                continue;
            }
            if flags & !LONG != 0 {
                return Err(NOT_POSTMAPS.to_owned());
            }
            let key = entry.get(ENTRY_HEADER..ENTRY_HEADER + len).ok_or(DAMAGED)?;
            // So none is there twice, and there are no more than octets.
            if keys.last().is_some_and(|last| *last >= key) {
                return Err(DAMAGED.to_owned());
            }
            keys.push(key);
        }
        Ok(())
    }
}

/// What a page at the beginning says of the file.
struct Meta {
    page_size: u32,
    flags: u16,
    depth: u16,
    entries: u64,
    root: u64,
    transaction: u64,
}

impl Meta {
    fn read(page: &[u8]) -> Option<Self> {
        let is_meta = u16_at(page, 10)? == META
            && u32_at(page, PAGE_HEADER)? == MAGIC
            && u32_at(page, PAGE_HEADER + 4)? == VERSION;
        // Behind address and size: the table of free pages, whose first word is the page size, then the main one.
        is_meta.then_some(Self {
            page_size: u32_at(page, 40)?,
            flags: u16_at(page, 92)?,
            depth: u16_at(page, 94)?,
            entries: u64_at(page, 120)?,
            root: u64_at(page, 128)?,
            transaction: u64_at(page, 144)?,
        })
    }
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|found| u16::from_ne_bytes(*found))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|found| u32::from_ne_bytes(*found))
}

fn u64_at(octets: &[u8], at: usize) -> Option<u64> {
    octets.get(at..)?.first_chunk().map(|found| u64::from_ne_bytes(*found))
}
