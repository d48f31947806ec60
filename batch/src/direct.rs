//! Long octets on their way into a new file, past the page cache.
//!
//! What goes through the page cache takes fresh memory for each octet, and is written by a sync that comes later; what goes
//! past it is with the disk when the call returns, and the sync has only names and lengths to write. That it outlives a
//! cut of the power is known when that sync has said so, as with all else.

use std::{
    fs::File,
    io::{self, ErrorKind, Write as _},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

/// Appends octets to a new file, whose length is a multiple of a block. What is short goes through the page cache, and
/// what is long, too, where the file system knows no other way.
pub(crate) fn write_all(file: &mut File, octets: &[u8]) -> io::Result<()> {
    let written = if octets.len() < LONG { 0 } else { blocks(file, octets)? };
    file.write_all(octets.get(written..).unwrap_or_default())
}

/// Writes as many whole blocks as the file system takes this way, and says how many octets these are.
fn blocks(file: &mut File, octets: &[u8]) -> io::Result<usize> {
    let flags = fcntl_getfl(&*file)?;
    if fcntl_setfl(&*file, flags | OFlags::DIRECT).is_err() {
        return Ok(0);
    }
    let written = aligned(octets, |blocks| file.write(blocks));
    // What is left is not a whole block, and would be refused.
    fcntl_setfl(&*file, flags)?;
    written
}

/// The same from memory that begins with a block.
fn aligned(octets: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    let mut room = Vec::<u8>::with_capacity(CHUNK + BLOCK);
    let before = room.as_ptr().align_offset(BLOCK);
    // What cannot be aligned goes the usual way; the library promises no more.
    if before > BLOCK {
        return Ok(0);
    }
    room.resize(before, 0);
    let mut written = 0;
    loop {
        let left = octets.get(written..).unwrap_or_default();
        let some = left.get(..left.len().min(CHUNK) / BLOCK * BLOCK).unwrap_or_default();
        if some.is_empty() {
            return Ok(written);
        }
        room.truncate(before);
        room.extend_from_slice(some);
        match write(room.get(before..).unwrap_or_default()) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // This file system wants it otherwise.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => return Ok(written),
            Err(error) => return Err(error),
            Ok(0) => return Ok(written),
            Ok(taken) => {
                written += taken;
                // The rest is nowhere on a block.
                if taken % BLOCK != 0 {
                    return Ok(written);
                }
            }
        }
    }
}

/// From how many octets on it is worth it: each call waits for the disk.
pub(crate) const LONG: usize = 1 << 20;

/// How many octets are written at once: more would be memory, and not faster.
const CHUNK: usize = 2 << 20;

/// What memory, lengths and places in a file are to be multiples of: no disk has larger sectors.
const BLOCK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn octets(length: usize) -> Vec<u8> {
        (0..=250).cycle().take(length).collect()
    }

    #[test]
    fn what_is_written_is_what_was_given_whatever_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let lengths = [0, 1, LONG - 1, LONG, LONG + 1, CHUNK, CHUNK + BLOCK, 2 * CHUNK + 5, 5_000_001];
        for (number, length) in lengths.into_iter().enumerate() {
            let path = folder.path().join(number.to_string());
            let octets = octets(length);
            let mut file = File::create_new(&path).unwrap();
            write_all(&mut file, &octets).unwrap();
            file.write_all(b"more").unwrap();
            assert!(fs::read(&path).unwrap() == [&octets[..], b"more"].concat(), "{length}");
        }
    }

    #[test]
    fn what_a_file_system_does_not_take_in_blocks_is_left_for_the_usual_way() {
        let octets = octets(3 * CHUNK + 7);
        let all = 3 * CHUNK;
        let refused = || io::Error::from(Errno::INVAL);
        for (answers, expected) in [
            (vec![], Ok(all)),
            (vec![Err(refused())], Ok(0)),
            (vec![Ok(CHUNK), Err(refused())], Ok(CHUNK)),
            (vec![Ok(BLOCK), Ok(BLOCK)], Ok(all)),
            (vec![Ok(BLOCK + 512)], Ok(BLOCK + 512)),
            (vec![Ok(CHUNK), Ok(0)], Ok(CHUNK)),
            (vec![Err(ErrorKind::Interrupted.into())], Ok(all)),
            (vec![Ok(CHUNK), Err(ErrorKind::StorageFull.into())], Err(ErrorKind::StorageFull)),
        ] {
            let mut answers = answers.into_iter();
            let mut taken = Vec::new();
            let written = aligned(&octets, |blocks| {
                assert_eq!((blocks.as_ptr().addr() % BLOCK, blocks.len() % BLOCK), (0, 0));
                let answer = answers.next().unwrap_or(Ok(blocks.len()))?;
                taken.extend_from_slice(&blocks[..answer]);
                Ok(answer)
            });
            assert_eq!(written.map_err(|error| error.kind()), expected);
            assert!(octets.starts_with(&taken));
            assert_eq!(expected.map_or(taken.len(), |expected| expected), taken.len());
        }
    }
}
