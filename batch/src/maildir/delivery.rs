//! Writes a new Maildir of messages that come from an mbox or from files: names, times and flags are made for them.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    commit::{Batch, Pending},
    name::{Sizes, hash},
    sink::{make_folders, parts},
};
use crate::{
    direct,
    done::Done,
    error::BatchError,
    form::{Form, Kept},
    large::{Incoming, PREAMBLE, attach, beside, beside_octets},
    output::{Copied, Place, new_file},
    own,
    pipeline::{Mark, Outgoing, Sink},
    restore::{durable_length, restore},
    stored::{Frame, Large},
};

/// Writes a new Maildir of messages from elsewhere.
#[derive(Debug)]
pub struct MaildirDelivery {
    place: Place,
    /// What all names begin with: the input's time, so that a run that is repeated makes the same names, and
    /// servers, which sort by it, keep the order.
    time: u64,
    host: String,
    count: u64,
    batch: Batch,
    /// What was added since somebody asked, below the root.
    added: Vec<PathBuf>,
}

impl MaildirDelivery {
    /// Makes the Maildir under its partial name. The input was modified at `time`.
    pub fn create(place: Place, time: Option<SystemTime>) -> Result<Self, BatchError> {
        place.clear()?;
        make_folders(place.partial(), &[PathBuf::new()])?;
        Self::open(place, time, None)
    }

    /// Goes on with a Maildir that an earlier run began.
    pub(crate) fn resume(place: Place, time: Option<SystemTime>, done: &Done) -> Result<Self, BatchError> {
        let mut sink = Self::open(place, time, done.last.inode)?;
        let root = Path::new("");
        let [cur, new, tmp] = parts(root);
        restore(sink.place.partial(), sink.batch.root(), [root, &cur, &new, &tmp], done)?;
        // The next name is that of an uninterrupted run.
        sink.count = done.outputs.len() as u64;
        Ok(sink)
    }

    fn open(place: Place, time: Option<SystemTime>, inode: Option<u64>) -> Result<Self, BatchError> {
        let batch = Batch::new(place.partial(), inode)?;
        let time = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let time = time.map_or(0, |since| since.as_secs());
        Ok(Self { place, time, host: host(), count: 0, batch, added: Vec::new() })
    }

    /// Writes a message into `tmp`, and gives it the name that its octets lead to.
    fn deliver(
        &mut self,
        write: impl FnOnce(&mut Sized) -> Result<(), Result<BatchError, io::Error>>,
        kept: &Kept,
    ) -> Result<u64, BatchError> {
        self.count += 1;
        let from = self.place.partial().join("tmp").join(format!("{}.{}", self.time, self.count));
        let failed = |source| BatchError::Write { path: from.clone(), source };
        let mut sized = Sized { file: new_file(&from).map_err(failed)?, sizes: Sizes::default() };
        write(&mut sized).map_err(|error| error.unwrap_or_else(failed))?;
        attach(&sized.file, kept).map_err(failed)?;
        let (part, info) =
            if kept.flags.is_new() { ("new", String::new()) } else { ("cur", kept.flags.info()) };
        let size = sized.sizes.stored();
        let unique = hash(format!("{} {} {size}", self.place.target().display(), self.count).as_bytes());
        let name = format!(
            "{}.Q{:010}R{unique:016x}.{},S={size},W={}{info}",
            self.time,
            self.count,
            self.host,
            sized.sizes.wire()
        );
        let below = Path::new(part).join(OsString::from(name));
        let to = self.place.partial().join(&below);
        self.added.push(below);
        if self.batch.add(Pending { from, to }, size) {
            self.batch.commit()?;
        }
        Ok(size)
    }
}

impl Sink for MaildirDelivery {
    fn form(&self) -> Option<Form> {
        Some(Form::File)
    }

    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        let octets = outgoing.octets;
        if outgoing.place.frame != Frame::File {
            return beside_octets(self.place.partial(), self.batch.root(), octets);
        }
        self.deliver(|file| file.write_new(octets).map_err(Err), &outgoing.place.kept).map(|_| ())
    }

    fn copy(&mut self, large: Large) -> Result<Copied, BatchError> {
        let Some((frame, len)) = large.message else {
            return beside(self.place.partial(), self.batch.root(), large);
        };
        let incoming = Incoming::open(large, frame, len)?;
        let kept = incoming.kept();
        let mut written = None;
        self.deliver(
            |file| {
                written = Some(incoming.write(None, None, file)?);
                Ok(())
            },
            &kept,
        )?;
        written.ok_or(BatchError::Incomplete { read: 1, written: 0 })
    }

    fn checkpoint(&mut self) -> Result<Option<Mark>, BatchError> {
        self.batch.commit()?;
        let lengths =
            durable_length(self.place.partial(), self.batch.root(), PREAMBLE)?.into_iter().collect();
        Ok(Some(Mark::Files {
            folder: own::inode(self.batch.root()),
            added: std::mem::take(&mut self.added),
            lengths,
        }))
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        self.batch.commit()?;
        self.batch.sync()?;
        self.place.put_in_place()
    }
}

/// The number in a name that was made here: which of the messages it is.
pub(crate) fn numbered_name(name: &OsStr) -> Option<u64> {
    let (_, after) = name.to_str()?.split_once(".Q")?;
    after.split_once('R')?.0.parse().ok()
}

/// Counts what a name must tell while it is written.
#[derive(Debug)]
struct Sized {
    file: File,
    sizes: Sizes,
}

impl Sized {
    /// Writes all of a new file.
    fn write_new(&mut self, octets: &[u8]) -> io::Result<()> {
        direct::write_all(&mut self.file, octets)?;
        self.sizes.add(octets);
        Ok(())
    }
}

impl Write for Sized {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.file.write(octets)?;
        self.sizes.add(octets.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name of this host, as Maildir wants it written.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = name.replace('/', "\\057").replace(':', "\\072").replace(',', "\\054");
    if name.is_empty() { "localhost".into() } else { name }
}
