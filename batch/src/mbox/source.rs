//! Reads the messages of an mbox file in order; it may be compressed.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use mbox::{Found, Lengths, Part, Splitter, Survey};

use super::{
    lock::{Dotlock, PATIENCE, lock_for_reading, lock_for_replacing},
    survey::{MboxProbe, start, survey},
};
use crate::{
    attributes::State,
    compress::Compression,
    own,
    pipeline::Source,
    stored::{Frame, Large, Nature, Origin, Piece, Stored, Untouchable},
};

/// Reads the messages of an mbox file in order.
pub struct MboxSource {
    path: Arc<Path>,
    file: File,
    compression: Option<Compression>,
    splitter: Splitter<Box<dyn BufRead + Send>, MboxProbe>,
    /// What a first look found of the whole file, or what was found of it so far.
    survey: Survey,
    is_surveyed: bool,
    /// Whether it was not surveyed before the first message was read.
    is_late: bool,
    /// The file at the beginning: an mbox that changes while it is read is not what comes out.
    state: State,
    first: bool,
    /// Reads what is too large for memory, behind the splitter.
    behind: Option<Arc<Mutex<Behind>>>,
    /// Keeps others away from an archive that will be replaced.
    _dotlock: Option<Dotlock>,
}

impl MboxSource {
    /// Opens a file and surveys it. Messages over `limit` octets are not kept in memory. It may have been told whose its lengths are.
    pub fn open(path: &Path, limit: usize, told: Option<Lengths>) -> io::Result<Self> {
        Self::of(own::open_to_read(path)?, path, limit, told)
    }

    /// Reads an open file that is only looked at: it is not surveyed before there is a message for which the rest matters.
    pub(crate) fn of_looked_at(
        file: File,
        path: &Path,
        limit: usize,
        told: Option<Lengths>,
    ) -> io::Result<Self> {
        lock_for_reading(&file, path, PATIENCE)?;
        let probe = MboxProbe::of(&file, told)?;
        // To count how much there is in a compressed one takes as long.
        let survey = (probe.compression().is_none()).then(Survey::default);
        Self::with_survey(file, path, limit, probe, survey)
    }

    /// Reads an open file that is to be replaced, and may be written to: nobody else shall read or write it meanwhile.
    pub(crate) fn of_replaced(
        file: File,
        path: &Path,
        limit: usize,
        told: Option<Lengths>,
    ) -> io::Result<Self> {
        let dotlock = lock_for_replacing(&file, path, PATIENCE)?;
        Ok(Self { _dotlock: Some(dotlock), ..Self::of_locked(file, path, limit, told)? })
    }

    /// Reads an open file.
    pub fn of(file: File, path: &Path, limit: usize, told: Option<Lengths>) -> io::Result<Self> {
        lock_for_reading(&file, path, PATIENCE)?;
        Self::of_locked(file, path, limit, told)
    }

    fn of_locked(file: File, path: &Path, limit: usize, told: Option<Lengths>) -> io::Result<Self> {
        let probe = MboxProbe::of(&file, told)?;
        Self::with_survey(file, path, limit, probe, None)
    }

    /// Begins with a survey that is not complete, or else makes one.
    fn with_survey(
        file: File,
        path: &Path,
        limit: usize,
        probe: MboxProbe,
        begun: Option<Survey>,
    ) -> io::Result<Self> {
        let state = State::of(&file.metadata()?);
        let is_surveyed = begun.is_none();
        let compression = probe.compression();
        let survey = begun.map_or_else(|| survey(&file, &probe), Ok)?;
        let splitter = Splitter::new(start(&file, compression)?, probe, limit);
        Ok(Self {
            path: path.into(),
            file,
            compression,
            splitter,
            survey,
            is_surveyed,
            is_late: !is_surveyed,
            state,
            first: true,
            behind: None,
            _dotlock: None,
        })
    }

    /// What the first look found; of a file that is only looked at, what was found up to here.
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// The file that is read, as it was when it was opened.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How many octets there are in it, when it is unpacked.
    pub fn length(&self) -> u64 {
        if self.is_late { self.state.size() } else { self.survey.octets }
    }

    /// Whether the survey is complete only when all messages were read.
    pub fn is_late(&self) -> bool {
        self.is_late
    }

    /// Notes a message, unless it is known. Where lines in it may be quoted, what they say depends on all others.
    fn note(&mut self, found: &Found) -> io::Result<()> {
        if self.is_surveyed {
            return Ok(());
        }
        if found.quoted > 0 {
            self.survey = survey(&self.file, self.splitter.probe())?;
            self.is_surveyed = true;
        } else {
            self.survey.add(found);
        }
        Ok(())
    }

    fn part(&mut self, offset: u64, len: u64, message: Option<(Frame, Nature)>) -> io::Result<Large> {
        let origin = Origin { file: Arc::clone(&self.path), offset: Some(offset) };
        if self.behind.is_none() {
            let input = start(&self.file, self.compression)?;
            self.behind = Some(Arc::new(Mutex::new(Behind { input, at: 0, file: self.file.try_clone()? })));
        }
        let Some(behind) = self.behind.clone() else { return Err(io::ErrorKind::NotFound.into()) };
        let compressed = self.compression.is_some();
        let octets = Box::new(Passage { behind, compressed, at: offset, end: offset.saturating_add(len) });
        let plain = Nature::OfMbox { untouchable: None, unquoted: false, is_first: false };
        let nature = message.map_or(plain, |(_, nature)| nature);
        let message = message.map(|(frame, _)| (frame, len));
        Ok(Large { origin, attributes: None, message, octets, file: None, nature })
    }

    fn stored(&mut self, found: Found) -> io::Result<Piece> {
        self.note(&found)?;
        let origin = Origin { file: Arc::clone(&self.path), offset: Some(found.offset) };
        let first = std::mem::take(&mut self.first);
        let frame = Frame::Mbox {
            from_line: found.from_line,
            separator: found.separator,
            followed: found.followed,
            quoting: self.survey.quoting(),
        };
        let unquoted = found.quoted == 0;
        let untouchable = match found.doubt {
            Some(offset) => Some(Untouchable::MaybeTwo(offset)),
            None if let Some(offset) = found.hidden => Some(Untouchable::Hidden(offset)),
            None if let Some(offset) = found.disputed => Some(Untouchable::Disputed(offset)),
            None if found.cut_short => Some(Untouchable::CutShort),
            None => None,
        };
        let Some(octets) = found.octets else {
            let nature = Nature::OfMbox { untouchable, unquoted, is_first: first };
            return self.part(found.offset, found.len, Some((frame, nature))).map(Piece::Large);
        };
        let stored = Stored { origin, octets, frame, attributes: None, untouchable, unquoted };
        Ok(Piece::Message(if first { stored.or_folder_data() } else { stored }))
    }
}

impl Source for MboxSource {
    fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        match self.splitter.next_part()? {
            Some(Part::Preamble { len, is_blank }) => {
                if !self.is_surveyed {
                    (self.survey.preamble, self.survey.octets) = (len, len);
                }
                let large = self.part(0, len, None)?;
                Ok(Some(Piece::Verbatim { large, is_doubtful: !is_blank }))
            }
            Some(Part::Message(found)) => self.stored(*found).map(Some),
            None if State::of(&self.file.metadata()?) != self.state => {
                Err(io::Error::other("the file was changed while it was read"))
            }
            None => Ok(None),
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn late_survey(&self) -> Option<&Survey> {
        self.is_late.then_some(&self.survey)
    }
}

/// A second reader, which goes where the splitter was. The parts are asked for in their order.
struct Behind {
    input: Box<dyn BufRead + Send>,
    at: u64,
    file: File,
}

/// A part of the archive.
struct Passage {
    behind: Arc<Mutex<Behind>>,
    compressed: bool,
    at: u64,
    end: u64,
}

impl Read for Passage {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(out.len());
        let out = out.get_mut(..room).unwrap_or_default();
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        let read = if self.compressed {
            let skip = self.at.checked_sub(behind.at);
            let skip =
                skip.ok_or_else(|| io::Error::other("a part of a compressed file is asked for again"))?;
            let skipped = io::copy(&mut behind.input.by_ref().take(skip), &mut io::sink())?;
            behind.at += skipped;
            let read = behind.input.read(out)?;
            behind.at += read as u64;
            read
        } else {
            std::os::unix::fs::FileExt::read_at(&behind.file, out, self.at)?
        };
        if read == 0 && room > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// Whether this is the pseudo message in which c-client (UW IMAP, Alpine) and Dovecot keep a folder's state. Anybody can send the
/// field that tells it, so all that they write is asked for: a message that looks like it says nothing else, and what is
/// encrypted does not look like it.
pub(crate) fn is_folder_data(content: &[u8]) -> bool {
    let header: Vec<&[u8]> = content
        .split(|&octet| octet == b'\n')
        .map(<[u8]>::trim_ascii_end)
        .take_while(|line| !line.is_empty())
        .take(100)
        .collect();
    let has = |beginning: &[u8]| {
        let begins =
            |line: &[u8]| line.get(..beginning.len()).is_some_and(|is| is.eq_ignore_ascii_case(beginning));
        header.iter().any(|line| begins(line))
    };
    has(b"X-IMAP:")
        && has(b"From: Mail System Internal Data <MAILER-DAEMON@")
        && has(b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA")
        && !has(b"MIME-Version:")
        && !has(b"Content-Type:")
}
