//! Messages that are too large for memory, on their way from the archive to the disk, where they are worked on.

use std::{
    io::{self, Cursor, Read, Seek},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::Run;
use crate::{
    digest::{CopyError, Summed},
    done::{Content, Done, Met},
    error::BatchError,
    gate::{LIGHT, WEIGHT},
    scratch::Scratch,
    stored::{Large, Origin, Piece, Stored, TooLarge, UNKNOWN},
    task::Task,
};

/// Brings messages to the disk.
pub(super) struct ByDisk<'r> {
    folders: &'r [PathBuf],
    stop: &'r AtomicBool,
    max_message: u64,
    /// How many times its octets a message takes there.
    weight: u64,
    /// Opened for the first one.
    scratch: Option<Result<Arc<Scratch>, String>>,
}

/// What is to be done with a piece.
pub(super) enum Passed {
    /// It is worked on, on the disk if that is given, or copied, if it is large: then because of that.
    On { piece: Box<Piece>, scratch: Option<Arc<Scratch>>, too_large: TooLarge },
    /// An earlier run has done it.
    Done,
    /// Somebody has stopped the run meanwhile.
    Stopped,
}

/// What became of a large message.
enum Brought {
    /// It is on the disk.
    Message(Box<Stored>, Arc<Scratch>),
    /// It is not to be, or cannot be.
    TooLarge(Box<Large>, TooLarge),
    /// It could not be read.
    Unreadable { origin: Origin, error: io::Error },
    /// Somebody has stopped the run meanwhile.
    Stopped,
}

impl<'r> ByDisk<'r> {
    pub(super) fn new(run: Run<'r>, task: &dyn Task) -> Self {
        let weight = if task.works_on_objects() { LIGHT } else { WEIGHT };
        Self { folders: run.scratch, stop: run.stop, max_message: run.max_message, weight, scratch: None }
    }

    /// Whether one is worked on by way of the disk, as far as that is known before it is read.
    pub(super) fn takes(&self, large: &Large) -> bool {
        let size = large.size();
        size == UNKNOWN || size <= self.max_message
    }

    /// Brings a piece to the disk, if it belongs there. An error where it cannot be told whether it is done.
    pub(super) fn pass(
        &mut self,
        piece: Piece,
        again: &mut Option<PathBuf>,
        done: &mut Done,
    ) -> Result<Passed, BatchError> {
        let mut too_large = TooLarge::Limit;
        let piece = match piece {
            Piece::Large(large) if self.takes(&large) => match self.bring(large) {
                Brought::Message(stored, scratch) => {
                    match met(&stored, done) {
                        Met::New => {}
                        Met::Done => return Ok(Passed::Done),
                        Met::PutBack(folder) => *again = Some(folder),
                    }
                    let piece = Box::new(Piece::Message(*stored));
                    return Ok(Passed::On { piece, scratch: Some(scratch), too_large });
                }
                // An earlier run had the room, perhaps, and knows it by its octets.
                Brought::TooLarge(mut large, why) if why != TooLarge::Limit && done.knows_files() => {
                    match sum(&mut large) {
                        Ok(Some(sum)) => match done.meets(&large.origin, &Content::Sum(&sum)) {
                            Met::New => {}
                            Met::Done => return Ok(Passed::Done),
                            Met::PutBack(folder) => *again = Some(folder),
                        },
                        Ok(None) => {
                            let origin = large.origin.to_string();
                            return Err(BatchError::Read {
                                origin,
                                source: io::Error::other(why.to_string()),
                            });
                        }
                        Err(error) => {
                            let piece = Box::new(Piece::Unreadable { origin: large.origin, error });
                            return Ok(Passed::On { piece, scratch: None, too_large: why });
                        }
                    }
                    too_large = why;
                    Piece::Large(*large)
                }
                Brought::TooLarge(large, why) => {
                    too_large = why;
                    Piece::Large(*large)
                }
                Brought::Unreadable { origin, error } => Piece::Unreadable { origin, error },
                Brought::Stopped => return Ok(Passed::Stopped),
            },
            piece => piece,
        };
        Ok(Passed::On { piece: Box::new(piece), scratch: None, too_large })
    }

    fn bring(&mut self, mut large: Large) -> Brought {
        let scratch = self.scratch.get_or_insert_with(|| {
            Scratch::open(self.folders).map(Arc::new).map_err(|error| error.to_string())
        });
        let scratch = match scratch {
            Ok(scratch) => Arc::clone(scratch),
            Err(problem) => {
                let why = TooLarge::Disk(problem.clone());
                return Brought::TooLarge(Box::new(large), why);
            }
        };
        let _working = scratch.enter();
        let size = large.size();
        let known = if size == UNKNOWN { 0 } else { size };
        if let Some(why) = self.no_room(&scratch, known) {
            return Brought::TooLarge(Box::new(large), why);
        }
        // One more, so that its end is seen without more room.
        let mut octets = Vec::with_capacity(usize::try_from(known).unwrap_or(0) + 1);
        let mut asked = known;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Brought::Stopped;
            }
            let read = match large.octets.by_ref().take(AT_ONCE).read_to_end(&mut octets) {
                Ok(read) => read as u64,
                Err(error) => return Brought::Unreadable { origin: large.origin, error },
            };
            let why = if octets.len() as u64 > self.max_message {
                Some(TooLarge::Limit)
            } else if !Scratch::holds(&mut octets) {
                let problem = format!("no room is allotted in {}", scratch.path().display());
                Some(TooLarge::Disk(problem))
            } else if octets.len() as u64 / 2 >= asked {
                asked = octets.len() as u64;
                self.no_room(&scratch, asked)
            } else {
                None
            };
            if let Some(why) = why {
                large.octets = Box::new(Cursor::new(octets).chain(large.octets));
                return Brought::TooLarge(Box::new(large), why);
            }
            if read < AT_ONCE {
                break;
            }
        }
        octets.shrink_to_fit();
        let origin = large.origin.clone();
        match large.into_stored(octets) {
            Ok(stored) => Brought::Message(Box::new(stored), Arc::clone(&scratch)),
            Err(error) => Brought::Unreadable { origin, error },
        }
    }

    /// Why there is too little room on the disk to work on a message of so many octets, if so.
    fn no_room(&self, scratch: &Scratch, octets: u64) -> Option<TooLarge> {
        let needed = self.weight.saturating_mul(octets);
        match scratch.room() {
            Ok(there) if there >= needed => match scratch.reserve(needed.max(1)) {
                Ok(()) => None,
                Err(error) => Some(TooLarge::Disk(format!("{}: {error}", scratch.path().display()))),
            },
            Ok(there) => Some(TooLarge::Room { needed, there, path: scratch.path().to_owned() }),
            Err(error) => Some(TooLarge::Disk(error.to_string())),
        }
    }
}

/// What an earlier run has to do with a message of which all octets are there now.
fn met(stored: &Stored, done: &mut Done) -> Met {
    if !done.knows_files() {
        return Met::New;
    }
    done.meets(&stored.origin, &Content::Sum(&Summed::of(&stored.octets).sha256))
}

/// The SHA-256 of a large message, and then its octets are all there again; `None` where they cannot be read twice.
fn sum(large: &mut Large) -> io::Result<Option<String>> {
    let Some(mut file) = large.file.take() else { return Ok(None) };
    file.rewind()?;
    let summed = Summed::of_copy(&mut file, &mut io::sink())
        .map_err(|(CopyError::Read(error) | CopyError::Write(error))| error)?;
    file.rewind()?;
    large.octets = Box::new(file);
    Ok(Some(summed.sha256))
}

/// How much is read until it is looked whether to go on.
const AT_ONCE: u64 = 16 << 20;
