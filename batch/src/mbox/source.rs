//! Reads the messages of an mbox file in order.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use super::{
    splitter::{Found, Part, Splitter},
    survey::{FileProbe, READ_SIZE, Survey},
};
use crate::{
    pipeline::Source,
    stored::{Frame, Large, Origin, Piece, Stored, Untouchable},
};

/// Reads the messages of an mbox file in order.
#[derive(Debug)]
pub struct MboxSource {
    path: Arc<Path>,
    splitter: Splitter<BufReader<File>, FileProbe<File>>,
    survey: Survey,
    /// Size and time at the beginning: an mbox that changes while it is read is not what comes out.
    state: (u64, SystemTime),
    first: bool,
}

impl MboxSource {
    /// Opens a file and surveys it. Messages over `limit` octets are not kept in memory.
    pub fn open(path: &Path, limit: usize) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let state = state(&file)?;
        let survey = Survey::of(&file)?;
        file.seek(SeekFrom::Start(0))?;
        let probe = FileProbe(file.try_clone()?);
        let splitter = Splitter::new(BufReader::with_capacity(READ_SIZE, file), probe, limit);
        Ok(Self { path: path.into(), splitter, survey, state, first: true })
    }

    /// What the first look found.
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    fn part(&self, offset: u64, len: u64, frame: Option<Frame>) -> io::Result<Large> {
        let origin = Origin { file: Arc::clone(&self.path), offset: Some(offset) };
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        let message = frame.map(|frame| (frame, len));
        Ok(Large { origin, attributes: None, message, octets: Box::new(file.take(len)) })
    }

    fn stored(&mut self, found: Found) -> io::Result<Piece> {
        let origin = Origin { file: Arc::clone(&self.path), offset: Some(found.offset) };
        let first = std::mem::take(&mut self.first);
        let frame = Frame::Mbox {
            from_line: found.from_line,
            separator: found.separator,
            followed: found.followed,
            quoting: Some(self.survey.quoting()),
        };
        let Some(octets) = found.octets else {
            return self.part(found.offset, found.len, Some(frame)).map(Piece::Large);
        };
        let mut stored = Stored { origin, octets, frame, attributes: None, untouchable: None };
        stored.untouchable = match found.doubt {
            _ if first && is_folder_data(stored.content()) => Some(Untouchable::FolderData),
            Some(offset) => Some(Untouchable::MaybeTwo(offset)),
            None if found.cut_short => Some(Untouchable::CutShort),
            None => None,
        };
        Ok(Piece::Message(stored))
    }
}

impl Source for MboxSource {
    fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        match self.splitter.next_part()? {
            Some(Part::Preamble { len }) => self.part(0, len, None).map(|part| Some(Piece::Verbatim(part))),
            Some(Part::Message(found)) => self.stored(*found).map(Some),
            None if state(&self.splitter.probe().0)? != self.state => {
                Err(io::Error::other("the file was changed while it was read"))
            }
            None => Ok(None),
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn state(file: &File) -> io::Result<(u64, SystemTime)> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.modified()?))
}

/// Whether this is the pseudo message in which c-client (UW IMAP, Alpine) keeps a folder's state.
fn is_folder_data(content: &[u8]) -> bool {
    let header = content.split(|&octet| octet == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    let mut lines = header.take(100);
    lines.any(|line| line.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"X-IMAP:")))
}
