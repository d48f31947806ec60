//! A body while it comes: its first octets in memory, those of a large one in a file without a name.
//!
//! The file goes with the process, however that ends. It holds what the MTA has in its queue at that time as well.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use smime::mime::MessageBuilder;

use crate::budget::{Budget, Share};

/// What all bodies have in common.
#[derive(Debug)]
pub(crate) struct Storage {
    /// For files.
    pub(crate) folder: PathBuf,
    /// Octets of what is not complete yet.
    pub(crate) memory: Arc<Budget>,
    /// Octets in files.
    pub(crate) disk: Arc<Budget>,
}

/// The octets that came so far.
#[derive(Debug)]
pub(crate) struct Body {
    recent: Vec<u8>,
    held: Share,
    file: Option<File>,
    on_disk: Share,
    octets: usize,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// Octets to be written, which may block.
#[derive(Debug)]
pub(crate) struct Write {
    folder: PathBuf,
    file: Option<File>,
    octets: Vec<u8>,
}

/// How much of a body is in memory at most.
pub(crate) const IN_MEMORY: usize = 256 * 1024;

impl Body {
    pub(crate) fn new(storage: &Storage) -> Self {
        Self {
            recent: Vec::new(),
            held: storage.memory.share(),
            file: None,
            on_disk: storage.disk.share(),
            octets: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.octets
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.file.is_none()
    }

    /// Adds octets. What comes back is to be written, and given back by [`Body::written`] before more is added.
    pub(crate) fn add(&mut self, chunk: &[u8], storage: &Storage) -> Result<Option<Write>, NoRoom> {
        self.octets += chunk.len();
        let fits = self.recent.len() + chunk.len() <= IN_MEMORY && self.held.grow(chunk.len());
        if fits {
            self.recent.extend_from_slice(chunk);
            return Ok(None);
        }
        let mut octets = std::mem::take(&mut self.recent);
        octets.extend_from_slice(chunk);
        if !self.on_disk.grow(octets.len()) {
            return Err(NoRoom);
        }
        Ok(Some(Write { folder: storage.folder.clone(), file: self.file.take(), octets }))
    }

    /// Takes the file back after a write.
    pub(crate) fn written(&mut self, file: File) {
        self.file = Some(file);
        self.held.clear();
    }

    /// Adds the whole of it to a message; this may block.
    pub(crate) fn read_into(mut self, message: &mut MessageBuilder) -> io::Result<()> {
        message.reserve(self.octets);
        if let Some(mut file) = self.file.take() {
            file.seek(SeekFrom::Start(0))?;
            let (mut chunk, mut left) = (vec![0; 64 * 1024], self.octets - self.recent.len());
            while left > 0 {
                let read = file.read(&mut chunk)?;
                let octets = chunk.get(..read.min(left)).unwrap_or_default();
                if octets.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                message.body(octets);
                left -= octets.len();
            }
        }
        message.body(&self.recent);
        Ok(())
    }
}

impl Write {
    /// Writes, and gives back the file.
    pub(crate) fn run(self) -> io::Result<File> {
        let mut file = match self.file {
            Some(file) => file,
            None => tempfile::tempfile_in(&self.folder)?,
        };
        file.write_all(&self.octets)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use smime::mime::Message;

    use super::*;

    fn storage(memory: u64, disk: u64) -> (tempfile::TempDir, Storage) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        (folder, Storage { folder: path, memory: Budget::new(memory), disk: Budget::new(disk) })
    }

    /// Adds chunks; gives the body and how often it was written to the disk.
    fn body_of(chunks: &[&[u8]], storage: &Storage) -> Result<(Body, usize), NoRoom> {
        let (mut body, mut writes) = (Body::new(storage), 0);
        for chunk in chunks {
            if let Some(write) = body.add(chunk, storage)? {
                body.written(write.run().unwrap());
                writes += 1;
            }
        }
        Ok((body, writes))
    }

    fn octets_of(body: Body) -> Vec<u8> {
        let mut message = Message::builder();
        body.read_into(&mut message).unwrap();
        message.finish().body().to_vec()
    }

    #[test]
    fn a_body_comes_out_as_it_went_in_from_memory_and_from_the_disk() {
        for (octets, memory, writes) in [
            (0, 1 << 20, 0),
            (1000, 1 << 20, 0),
            (IN_MEMORY, 1 << 20, 0),
            (IN_MEMORY + 1, 1 << 20, 1),
            (3_000_000, 1 << 20, 9),
            (1000, 0, 1),
            (1000, 999, 1),
        ] {
            let (folder, storage) = storage(memory, 1 << 30);
            let sent: Vec<u8> =
                b"twenty-three octets \xfc\0\r".iter().copied().cycle().take(octets).collect();
            let chunks: Vec<&[u8]> = sent.chunks(65_535).collect();
            let (body, written) = body_of(&chunks, &storage).unwrap();
            assert_eq!((body.len(), written), (octets, writes), "{octets} {memory}");
            assert!(storage.memory.taken() <= IN_MEMORY as u64);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
            assert!(octets_of(body) == sent, "{octets} {memory}");
            assert_eq!((storage.memory.taken(), storage.disk.taken()), (0, 0));
        }
    }

    #[test]
    fn what_has_no_room_on_the_disk_is_refused_and_leaves_none_taken() {
        let (_folder, storage) = storage(1 << 20, 500_000);
        let chunk = vec![b'x'; 60_000];
        let chunks: Vec<&[u8]> = vec![&chunk; 9];
        let (first, _) = body_of(&chunks, &storage).unwrap();
        assert_eq!(body_of(&chunks, &storage).unwrap_err(), NoRoom);
        assert_eq!(octets_of(first).len(), 540_000);
        assert_eq!((storage.memory.taken(), storage.disk.taken()), (0, 0));
        assert!(body_of(&chunks, &storage).is_ok());
    }
}
