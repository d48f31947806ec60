//! Messages that are too large for memory, on their way into an archive of another kind.

use std::{
    fs::{File, FileTimes},
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use crate::{
    attributes::{Attributes, set_extended},
    beneath::Beneath,
    digest::{CopyError, Summed, Tally},
    error::BatchError,
    form::{FROM_LINE, Kept, kept, parts},
    mbox::{Quoting, Requote},
    output::{Copied, copy_all},
    stored::{Frame, Large, Origin},
};

/// A large message, of which the header is in memory.
pub(crate) struct Incoming {
    input: BufReader<Tally<Box<dyn Read + Send>>>,
    pub(crate) origin: Origin,
    pub(crate) attributes: Option<Attributes>,
    pub(crate) frame: Frame,
    len: u64,
    /// The From_ line and the header.
    head: Vec<u8>,
    /// Whether all of the header is there.
    is_whole: bool,
}

impl Incoming {
    /// Reads as far as the header goes, if that is no more than a mebibyte.
    pub(crate) fn open(large: Large, frame: Frame, len: u64) -> Result<Self, BatchError> {
        let Large { origin, attributes, octets, .. } = large;
        let mut input = BufReader::with_capacity(1 << 16, Tally::new(octets));
        let (mut head, mut is_whole) = (Vec::new(), false);
        let (from_line, _) = around(frame);
        // What is read at once may end within a line: a line feed behind that ends no header.
        let mut begins = true;
        while !is_whole && head.len() < 1 << 20 {
            let before = head.len();
            let read = input.by_ref().take(1 << 16).read_until(b'\n', &mut head);
            let read = read.map_err(|source| BatchError::Read { origin: origin.to_string(), source })?;
            let line = head.get(before..).unwrap_or_default();
            is_whole = read == 0 || begins && before > from_line && (line == b"\n" || line == b"\r\n");
            begins = line.ends_with(b"\n");
        }
        Ok(Self { input, origin, attributes, frame, len, head, is_whole })
    }

    /// The From_ line, if there is one.
    pub(crate) fn line_before(&self) -> &[u8] {
        self.head.get(..around(self.frame).0).unwrap_or_default()
    }

    /// The header, as it is stored.
    pub(crate) fn header(&self) -> &[u8] {
        self.head.get(around(self.frame).0..).unwrap_or_default()
    }

    /// Whether that is all of the header.
    pub(crate) fn has_whole_header(&self) -> bool {
        self.is_whole
    }

    /// How many octets the message has without what is around it.
    pub(crate) fn content_len(&self) -> u64 {
        let (from_line, separator) = around(self.frame);
        self.len.saturating_sub((from_line + separator) as u64)
    }

    /// The empty line after it, if there is one.
    pub(crate) fn separator(&self) -> &'static [u8] {
        match around(self.frame).1 {
            0 => b"",
            1 => b"\n",
            _ => b"\r\n",
        }
    }

    /// What an mbox says of it besides its octets.
    pub(crate) fn kept(&self) -> Kept {
        let from_line = around(self.frame).0;
        let before = Frame::Mbox { from_line, separator: 0, followed: true, quoting: None };
        let (before, content, _) = parts(&self.head, before);
        kept(before, content, self.separator(), self.attributes.as_ref())
    }

    /// Writes the message, without what is around it, with another quoting, and with another header if one is given.
    pub(crate) fn write(
        mut self,
        header: Option<&[u8]>,
        to_quoting: Option<Quoting>,
        to: &mut dyn Write,
    ) -> Result<Copied, Result<BatchError, io::Error>> {
        let quoting = match self.frame {
            Frame::File => None,
            Frame::Mbox { quoting, .. } => quoting,
        };
        let origin = self.origin.to_string();
        let read_failed = |source| Ok(BatchError::Read { origin: origin.clone(), source });
        let rest = self.content_len().saturating_sub(self.header().len() as u64);
        let header = header.unwrap_or_else(|| self.head.get(around(self.frame).0..).unwrap_or_default());
        let content = header.chain(self.input.by_ref().take(rest));
        let content = BufReader::with_capacity(1 << 16, content);
        let mut content = Requote::new(content, quoting, to_quoting);
        let written = Summed::of_copy(&mut content, to).map_err(|error| match error {
            CopyError::Read(source) => read_failed(source),
            CopyError::Write(source) => Err(source),
        })?;
        io::copy(&mut self.input, &mut io::sink()).map_err(read_failed)?;
        Ok(Copied { read: self.input.into_inner().sum(), written })
    }
}

/// The lengths of what is around a message.
fn around(frame: Frame) -> (usize, usize) {
    match frame {
        Frame::File => (0, 0),
        Frame::Mbox { from_line, separator, .. } => (from_line, separator),
    }
}

/// Keeps what is before the first message of an mbox in a file beside the messages.
pub(crate) fn beside(root: &Path, held: &File, large: Large) -> Result<Copied, BatchError> {
    let failed = |source| BatchError::Write { path: root.join(PREAMBLE), source };
    let mut file = open_beside(root, held).map_err(failed)?;
    copy_all(large, &mut file).map_err(|error| error.unwrap_or_else(failed))
}

/// The same for a message that is none, but a server's data.
pub(crate) fn beside_octets(root: &Path, held: &File, octets: &[u8]) -> Result<(), BatchError> {
    let failed = |source| BatchError::Write { path: root.join(PREAMBLE), source };
    open_beside(root, held).and_then(|mut file| file.write_all(octets)).map_err(failed)
}

/// In the output's root as it was opened. Nobody else may read it.
fn open_beside(root: &Path, held: &File) -> io::Result<File> {
    Beneath::of_open(root, held)?.append(&root.join(PREAMBLE))
}

/// The name of the file with what was before the first message of an mbox.
pub(crate) const PREAMBLE: &str = "mbox-preamble";

/// Gives a file the time of arrival, and what an mbox had around the message.
pub(crate) fn attach(file: &File, kept: &Kept) -> io::Result<()> {
    if !kept.frame.is_empty()
        && let Ok(name) = std::ffi::CString::new(FROM_LINE)
    {
        set_extended(file, &name, &kept.frame)?;
    }
    kept.arrival.map_or(Ok(()), |at| file.set_times(FileTimes::new().set_modified(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::Nature;

    #[test]
    fn a_header_line_as_long_as_what_is_read_at_once_ends_no_header() {
        for len in [(1 << 16) - 1, 1 << 16, (1 << 16) + 1, 1 << 17] {
            let long = [b"X-Long: ".as_slice(), &vec![b'x'; len - 8], b"\n"].concat();
            let header = [&long[..], b"Content-Length: 5\n\n"].concat();
            let octets = [&header[..], b"Hello"].concat();
            let frame = Frame::Mbox { from_line: 0, separator: 0, followed: true, quoting: None };
            let size = octets.len() as u64;
            let origin = Origin { file: Path::new("in").into(), offset: None };
            let octets = Box::new(io::Cursor::new(octets));
            let nature = Nature::OfMbox { untouchable: None, unquoted: false, is_first: false };
            let large =
                Large { attributes: None, origin, message: Some((frame, size)), octets, file: None, nature };
            let incoming = Incoming::open(large, frame, size).unwrap();
            assert!(incoming.has_whole_header());
            assert!(incoming.header() == header, "{len}");
        }
    }
}
