//! Outputs that are one file, or the standard output, and what all sinks have in common that copy what is large.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    os::fd::AsFd,
};

use rustix::fs::OFlags;

use super::{Place, lock, new_file};
use crate::{
    attributes::Attributes,
    compress::{Compression, Durable, Encoder},
    digest::{CopyError, Summed},
    error::BatchError,
    flusher::Flusher,
    own,
    pipeline::{Mark, Outgoing, Sink},
    restore::cut_file,
    stored::Large,
};

/// One file with all that comes, one after the other: an mbox, or a single message.
#[derive(Debug)]
pub struct FileSink {
    place: Place,
    file: Option<Encoder>,
    attributes: Option<Attributes>,
    flusher: Option<Flusher>,
}

impl FileSink {
    /// Begins the file under its partial name. It will get the attributes given here. If it is compressed, a frame has so
    /// many octets at least.
    pub fn create(place: Place, attributes: Option<Attributes>, frame: u64) -> Result<Self, BatchError> {
        place.clear()?;
        let file = new_file(&place.partial)
            .and_then(|file| {
                lock(&file)?;
                match &attributes {
                    Some(from) if place.is_over_input() => from.give_owner(&file)?,
                    _ => {}
                }
                Ok(file)
            })
            .map_err(|source| BatchError::Write { path: place.partial.clone(), source })?;
        let file = place.compression().and_then(|compression| Encoder::new(file, compression, frame));
        let file = file.map_err(|source| BatchError::Write { path: place.partial.clone(), source })?;
        let flusher = Flusher::of(&place.partial);
        Ok(Self { place, file: Some(file), attributes, flusher })
    }

    /// Goes on with the file that an earlier run began, after what is known to be good.
    pub(crate) fn resume(
        place: Place,
        begun: Durable,
        attributes: Option<Attributes>,
        frame: u64,
    ) -> Result<Self, BatchError> {
        let opened = own::open_begun(&place.partial, OFlags::WRONLY, begun.inode).and_then(|mut file| {
            lock(&file)?;
            cut_file(&file, begun.length)?;
            file.seek(SeekFrom::Start(begun.length))?;
            Ok(file)
        });
        let file = opened.map_err(|source| BatchError::Write { path: place.partial.clone(), source })?;
        let file = place.compression().and_then(|compression| Encoder::new(file, compression, frame));
        let file = file.map_err(|source| BatchError::Write { path: place.partial.clone(), source })?;
        let flusher = Flusher::of(&place.partial);
        Ok(Self { place, file: Some(file), attributes, flusher })
    }

    fn failed(&self, source: io::Error) -> BatchError {
        BatchError::Write { path: self.place.partial.clone(), source }
    }
}

impl Sink for FileSink {
    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        let written = self.file.as_mut().map_or(Ok(()), |file| {
            file.write_all(outgoing.octets)?;
            file.message_ends()
        });
        if let Some(flusher) = &mut self.flusher {
            flusher.wrote(outgoing.octets.len() as u64);
        }
        written.map_err(|source| self.failed(source))
    }

    fn copy(&mut self, large: Large) -> Result<Copied, BatchError> {
        let copied = match &mut self.file {
            Some(file) => copy_all(large, file).and_then(|copied| {
                file.message_ends().map_err(Err)?;
                Ok(copied)
            }),
            None => Err(Err(io::ErrorKind::NotFound.into())),
        };
        copied.map_err(|error| error.unwrap_or_else(|source| self.failed(source)))
    }

    fn is_whole(&self) -> bool {
        self.file.as_ref().is_none_or(Encoder::is_whole)
    }

    fn all_came(&mut self) -> Result<(), BatchError> {
        let ended = self.file.as_mut().map_or(Ok(()), Encoder::end_frame);
        ended.map_err(|source| self.failed(source))
    }

    fn checkpoint(&mut self) -> Result<Option<Mark>, BatchError> {
        let durable = self.file.as_mut().map_or(Ok(None), Encoder::make_durable);
        let durable = durable.map_err(|source| self.failed(source))?;
        Ok(durable.map(|durable| Mark::Length { durable, missing: String::new() }))
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        self.flusher = None;
        let finished = self.file.take().map_or(Ok(()), |file| {
            let file = file.finish()?;
            if let Some(from) = &self.attributes {
                // Whoever keeps an index of an archive must see that it is another one.
                let (replaces, rights) = (self.place.is_over_input(), self.place.rights());
                if replaces {
                    from.carry_over_but_times(&file, rights)?;
                } else {
                    from.carry_over(&file, rights)?;
                }
            }
            file.sync_all()
        });
        finished.map_err(|source| self.failed(source))?;
        self.place.put_in_place()
    }
}

/// The standard output, for one message. One that failed is not written: whoever gave it has it still, and may not look
/// at how the program ended before it passes on what comes out.
#[derive(Debug)]
pub struct StdoutSink {
    compression: Option<Compression>,
}

impl StdoutSink {
    /// Compressed, if the message was.
    pub fn new(compression: Option<Compression>) -> Self {
        Self { compression }
    }

    fn write(&self, octets: &[u8]) -> io::Result<()> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mut to = Encoder::new(file, self.compression, u64::MAX)?;
        to.write_all(octets)?;
        to.finish().map(|_| ())
    }
}

impl Sink for StdoutSink {
    fn takes_failed(&self) -> bool {
        false
    }

    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        self.write(outgoing.octets)
            .map_err(|source| BatchError::Write { path: "the standard output".into(), source })
    }

    fn copy(&mut self, large: Large) -> Result<Copied, BatchError> {
        // A message that is too large has failed.
        copy_all(large, &mut io::sink()).map_err(|error| {
            error.unwrap_or_else(|source| BatchError::Write { path: "the standard output".into(), source })
        })
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        Ok(())
    }
}

/// What was copied without being kept in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The sum of what was read.
    pub read: Summed,
    /// The sum of what was written, which another kind of archive may have changed.
    pub written: Summed,
}

impl Copied {
    /// Written as it was read.
    pub(crate) fn as_is(sum: Summed) -> Self {
        Self { read: sum.clone(), written: sum }
    }
}

/// Copies; an error of the writing side is for the caller to name.
pub(crate) fn copy_all(
    mut large: Large,
    to: &mut dyn Write,
) -> Result<Copied, Result<BatchError, io::Error>> {
    let copied = Summed::of_copy(&mut large.octets, to).map_err(|error| match error {
        CopyError::Read(source) => Ok(BatchError::Read { origin: large.origin.to_string(), source }),
        CopyError::Write(source) => Err(source),
    });
    copied.map(Copied::as_is)
}
