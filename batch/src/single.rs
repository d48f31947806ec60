//! One message: a file, or the standard input.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::Path,
    sync::Arc,
};

use crate::{
    attributes::Attributes,
    compress::{Compression, decoder},
    mbox::{Part, Shape, Splitter, shape},
    own,
    pipeline::Source,
    stored::{Frame, Large, Nature, Origin, Piece, Stored, UNKNOWN, Untouchable, is_compressed},
};

/// Reads one message.
pub struct SingleSource {
    origin: Origin,
    input: Option<Box<dyn Read + Send>>,
    attributes: Option<Attributes>,
    /// Then the file's length is not the message's.
    is_compressed: bool,
    limit: usize,
}

impl SingleSource {
    /// From a file.
    pub fn file(path: &Path, limit: usize) -> io::Result<Self> {
        Self::of(own::open_to_read(path)?, path, limit)
    }

    /// From an open file.
    pub(crate) fn of(file: File, path: &Path, limit: usize) -> io::Result<Self> {
        let attributes = Some(Attributes::of(&file)?);
        let origin = Origin { file: path.into(), offset: None };
        let compression = Compression::of_file(&file)?;
        let input: Box<dyn Read + Send> = match compression {
            Some(compression) => Box::new(decoder(file, compression)?),
            None => Box::new(file),
        };
        let is_compressed = compression.is_some();
        Ok(Self { origin, input: Some(input), attributes, is_compressed, limit })
    }

    /// From any other reader, called `-`.
    pub fn stream(input: Box<dyn Read + Send>, limit: usize) -> Self {
        let origin = Origin { file: Arc::from(Path::new("-")), offset: None };
        Self { origin, input: Some(input), attributes: None, is_compressed: false, limit }
    }
}

impl Source for SingleSource {
    fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let Some(mut input) = self.input.take() else { return Ok(None) };
        let origin = self.origin.clone();
        let attributes = self.attributes.take();
        let from_stream = attributes.is_none();
        let mut octets = Vec::new();
        input.by_ref().take(self.limit as u64 + 1).read_to_end(&mut octets)?;
        if octets.len() > self.limit {
            let known = attributes.as_ref().filter(|_| !self.is_compressed);
            let len = known.map_or(UNKNOWN, |attributes| attributes.metadata().len());
            let octets = Box::new(Cursor::new(octets).chain(input));
            let message = Some((Frame::File, len));
            let nature = Nature::Alone { from_stream };
            return Ok(Some(Piece::Large(Large { attributes, origin, message, octets, file: None, nature })));
        }
        octets.shrink_to_fit();
        Ok(Some(Piece::Message(stored(origin, attributes, octets, from_stream)?)))
    }

    fn path(&self) -> &Path {
        &self.origin.file
    }
}

/// The one message that was given.
pub(crate) fn stored(
    origin: Origin,
    attributes: Option<Attributes>,
    octets: Vec<u8>,
    from_stream: bool,
) -> io::Result<Stored> {
    let frame = if from_stream { frame_of(&octets) } else { Frame::File };
    let untouchable = if is_compressed(&octets) {
        Some(Untouchable::Compressed)
    } else if from_stream && frame == Frame::File {
        // Who gives it says that it is one, and it does not look like an mbox: lines of a patch may look like a From_ line.
        None
    } else {
        second_message(&octets)?.map(Untouchable::TwoInOne)
    };
    Ok(Stored { origin, octets, frame, attributes, untouchable, unquoted: false })
}

/// Some mail systems put a From_ line before a message they give to a program; it stays where it is.
fn frame_of(octets: &[u8]) -> Frame {
    let from_line = memchr::memchr(b'\n', octets).map_or(octets.len(), |at| at + 1);
    match shape(octets.get(..from_line).unwrap_or_default()) {
        Shape::Dated | Shape::Undated => {
            Frame::Mbox { from_line, separator: 0, followed: false, quoting: None }
        }
        Shape::Odd | Shape::Text => Frame::File,
    }
}

/// Where a line begins that in an mbox would begin another message: then this may be an mbox, given as one
/// message or damaged at its beginning.
fn second_message(octets: &[u8]) -> io::Result<Option<u64>> {
    let mut splitter = Splitter::new(BufReader::new(octets), octets, 0);
    while let Some(part) = splitter.next_part()? {
        match part {
            Part::Message(found) if found.offset > 0 => return Ok(Some(found.offset)),
            Part::Message(found) if found.doubt.or(found.hidden).is_some() => {
                return Ok(found.doubt.or(found.hidden));
            }
            _ => {}
        }
    }
    Ok(None)
}
