//! Frames: a length of four octets, little-endian, and so many octets of postcard.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::buffer::{Append, Buffer};

/// No message needs more; whoever announces more is not one of us.
pub(super) const MAX_FRAME: usize = 256 * 1024;

pub(super) const LENGTH: usize = 4;
/// How much is read at a time.
const CHUNK: usize = 16 * 1024;

/// Why a frame could not be written or read. After any of these a connection is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a message of {len} octets is longer than {MAX_FRAME}")]
    TooLong { len: usize },
    #[error("a message cannot be understood: {0}")]
    Garbage(postcard::Error),
    #[error("{0} octets follow a message in its frame")]
    Trailing(usize),
    #[error("the connection ended in the middle of a message")]
    Truncated,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Appends a message as a frame; nothing is appended where that fails.
pub(super) fn append<T: Serialize>(buffer: &mut Buffer, message: &T) -> Result<(), FrameError> {
    let before = buffer.len();
    buffer.extend(&[0; LENGTH]);
    let written = postcard::serialize_with_flavor(message, Append(buffer)).map_err(FrameError::Garbage);
    let len = buffer.len() - before - LENGTH;
    let result = written.and(if len > MAX_FRAME { Err(FrameError::TooLong { len }) } else { Ok(()) });
    if result.is_err() {
        buffer.truncate(before);
    } else if let Some(place) = buffer.as_mut_slice().get_mut(before..before + LENGTH) {
        place.copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    }
    result
}

/// Understands a frame's octets.
pub(super) fn decode<'f, T: Deserialize<'f>>(frame: &'f [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(FrameError::Trailing(rest.len())),
        Err(error) => Err(FrameError::Garbage(error)),
    }
}

/// Takes frames out of a stream, as many with each read as there are.
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: Buffer,
    /// What has been given out.
    start: usize,
    /// What has been read.
    end: usize,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: Buffer::default(), start: 0, end: 0 }
    }

    /// How long the next frame is, as far as that has been read, and whether it is there whole.
    pub(super) fn announced(&self) -> Result<Option<(usize, bool)>, FrameError> {
        let read = self.buffer.as_slice().get(self.start..self.end).unwrap_or_default();
        let Some((length, rest)) = read.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let len = length_of(*length)?;
        Ok(Some((len, rest.len() >= len)))
    }

    /// The next frame that has been read already.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let read = self.buffer.as_slice().get(self.start..self.end).unwrap_or_default();
        let Some((length, rest)) = read.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let len = length_of(*length)?;
        if rest.len() < len {
            return Ok(None);
        }
        let from = self.start + LENGTH;
        self.start = from + len;
        Ok(self.buffer.as_slice().get(from..from + len))
    }

    /// Reads once, and waits for that as long as the stream does. `false`: the stream has ended, and not in
    /// the middle of a frame.
    pub(super) fn fill(&mut self) -> Result<bool, FrameError> {
        // All frames have been used: what they held is wiped.
        self.buffer.consume(self.start);
        self.end -= self.start;
        self.start = 0;
        let wanted = match self.buffer.as_slice().get(..self.end).unwrap_or_default().split_first_chunk() {
            Some((length, _)) => LENGTH + length_of(*length)?,
            None => LENGTH,
        };
        self.buffer.grow_to(wanted.max(self.end + CHUNK / 4).max(CHUNK));
        loop {
            let room = self.buffer.as_mut_slice().get_mut(self.end..).unwrap_or_default();
            match self.stream.read(room) {
                Ok(0) if self.end > 0 => return Err(FrameError::Truncated),
                Ok(0) => return Ok(false),
                Ok(len) => {
                    self.end += len;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads until there is a frame. `None`: the stream has ended.
    pub(super) fn wait(&mut self) -> Result<Option<&[u8]>, FrameError> {
        loop {
            let before = self.start;
            if self.next()?.is_some() {
                // The borrow of a frame that is given back must begin outside of the loop's condition.
                self.start = before;
                return self.next();
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }
}

fn length_of(octets: [u8; LENGTH]) -> Result<usize, FrameError> {
    let len = usize::try_from(u32::from_le_bytes(octets)).unwrap_or(usize::MAX);
    if len > MAX_FRAME { Err(FrameError::TooLong { len }) } else { Ok(len) }
}

/// A socket that is read here and written elsewhere.
pub(super) struct Shared(pub(super) Arc<UnixStream>);

impl Read for Shared {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its octets out a few at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(self.0.len()).min(room.len());
            room[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    fn read_all(octets: &[u8], at_once: usize) -> Result<Vec<String>, FrameError> {
        let mut reader = FrameReader::new(Drip(octets, at_once));
        let mut messages = Vec::new();
        while let Some(frame) = reader.wait()? {
            messages.push(decode::<String>(frame)?);
        }
        Ok(messages)
    }

    #[test]
    fn frames_arrive_as_they_were_written_however_they_are_cut() {
        let messages: Vec<String> =
            [0, 1, 5, 300, 20_000, MAX_FRAME - 3, 7].iter().map(|len| "x".repeat(*len)).collect();
        let mut buffer = Buffer::default();
        for message in &messages {
            append(&mut buffer, message).unwrap();
        }
        for at_once in [1_000_000, 65_536, 4099, 7] {
            assert_eq!(read_all(buffer.as_slice(), at_once).unwrap(), messages, "{at_once}");
        }
        assert_eq!(read_all(&buffer.as_slice()[..400], 1).unwrap_err().to_string(), {
            "the connection ended in the middle of a message"
        });
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_waited_for() {
        let mut buffer = Buffer::default();
        append(&mut buffer, &"before").unwrap();
        let before = buffer.len();
        assert!(matches!(append(&mut buffer, &"x".repeat(MAX_FRAME)), Err(FrameError::TooLong { .. })));
        assert_eq!(buffer.len(), before);
        for announced in [u32::MAX, u32::try_from(MAX_FRAME).unwrap() + 1] {
            let result = read_all(&announced.to_le_bytes(), 4);
            assert!(matches!(result, Err(FrameError::TooLong { .. })), "{result:?}");
        }
    }

    #[test]
    fn octets_that_are_no_message_are_refused() {
        for (octets, what) in [
            (&[0, 0, 0, 0][..], "nothing"),
            (&[2, 0, 0, 0, 1, 0xff], "no UTF-8"),
            (&[3, 0, 0, 0, 1, b'a', b'b'], "more than the text"),
            (&[1, 0, 0, 0, 0x7f], "less than the text"),
        ] {
            let result = read_all(octets, 100);
            assert!(
                matches!(result, Err(FrameError::Garbage(_) | FrameError::Trailing(1))),
                "{what}: {result:?}"
            );
        }
    }
}
