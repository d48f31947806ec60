//! Compressed archives: known by their first octets when read, by their names when written. All of it is streamed,
//! so that what expands a thousandfold takes time, but no memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

use flate2::{bufread::MultiGzDecoder, write::GzEncoder};
use liblzma::{bufread::XzDecoder, stream::Stream, write::XzEncoder};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
    /// xz.
    Xz,
}

impl Compression {
    /// By the first octets of a file.
    pub fn of(octets: &[u8]) -> Option<Self> {
        [(&b"\x1f\x8b"[..], Self::Gzip), (b"\x28\xb5\x2f\xfd", Self::Zstd), (b"\xfd7zXZ\0", Self::Xz)]
            .into_iter()
            .find_map(|(magic, compression)| octets.starts_with(magic).then_some(compression))
    }

    /// By the first octets of an open file, which stays where it is.
    pub fn of_file(file: &File) -> io::Result<Option<Self>> {
        let mut octets = [0; 6];
        let read = std::os::unix::fs::FileExt::read_at(file, &mut octets, 0)?;
        Ok(Self::of(octets.get(..read).unwrap_or_default()))
    }

    /// By the name a file is to have.
    pub fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?;
        [("gz", Self::Gzip), ("zst", Self::Zstd), ("xz", Self::Xz)]
            .into_iter()
            .find_map(|(name, compression)| extension.eq_ignore_ascii_case(name).then_some(compression))
    }
}

/// Reads a file from its beginning as it was before it was compressed. Several streams one after the other are one.
pub(crate) fn decoder(
    file: impl Read + Send + 'static,
    compression: Compression,
) -> io::Result<Box<dyn BufRead + Send>> {
    let file = BufReader::with_capacity(READ_SIZE, file);
    let decoded: Box<dyn Read + Send> = match compression {
        Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            // A frame may ask for a window of up to 2 GiB; the tool itself writes none over 128 MiB.
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(MAX_XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(XzDecoder::new_stream(file, stream))
        }
    };
    Ok(Box::new(BufReader::with_capacity(READ_SIZE, decoded)))
}

/// A file that was made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// How long it is.
    pub length: u64,
    /// Which one it is on its file system.
    pub inode: u64,
}

/// Writes a file, compressed or not.
///
/// What is compressed is a row of frames (gzip calls them members, xz streams), each of which is whole in itself. One ends
/// behind the message with which it has so many octets. So the file can be gone on with behind any of them, and where
/// they end follows from the messages alone: whoever goes on writes the octets that were to be.
pub(crate) struct Encoder {
    to: To,
    compression: Option<Compression>,
    /// How many octets a frame has at least before they are compressed, unless it is the last.
    frame: u64,
    /// How many the one that is open has.
    open: u64,
    /// Whether there is any.
    is_begun: bool,
}

/// Where octets go.
enum To {
    /// Into the file, or no frame is open.
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<File>>),
    Xz(XzEncoder<BufWriter<File>>),
    /// An error has ended it.
    Nowhere,
}

impl Encoder {
    /// Begins a file, or goes on behind what is in it, which must be whole frames.
    pub(crate) fn new(file: File, compression: Option<Compression>, frame: u64) -> io::Result<Self> {
        let is_begun = file.metadata()?.len() > 0;
        let to = To::Plain(BufWriter::with_capacity(READ_SIZE, file));
        Ok(Self { to, compression, frame, open: 0, is_begun })
    }

    /// A message is complete. A frame that has enough ends here.
    pub(crate) fn message_ends(&mut self) -> io::Result<()> {
        if self.open >= self.frame { self.end_frame() } else { Ok(()) }
    }

    /// Whether somebody can go on behind what was written: no frame is open.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.to, To::Plain(_))
    }

    /// Makes what was written durable, and tells how long the file is, and which one. `None` in the middle of a frame.
    pub(crate) fn make_durable(&mut self) -> io::Result<Option<Durable>> {
        let To::Plain(to) = &mut self.to else { return Ok(None) };
        to.flush()?;
        to.get_ref().sync_data()?;
        to.get_ref()
            .metadata()
            .map(|metadata| Some(Durable { length: metadata.len(), inode: metadata.ino() }))
    }

    /// Ends the frame that is open, if there is one.
    pub(crate) fn end_frame(&mut self) -> io::Result<()> {
        self.open = 0;
        self.to = To::Plain(match std::mem::replace(&mut self.to, To::Nowhere) {
            To::Plain(file) => file,
            To::Gzip(encoder) => encoder.finish()?,
            To::Zstd(encoder) => encoder.finish()?,
            To::Xz(encoder) => encoder.finish()?,
            To::Nowhere => return Err(ended()),
        });
        Ok(())
    }

    /// Ends all, and gives the file back; nothing of it is synchronised yet.
    pub(crate) fn finish(mut self) -> io::Result<File> {
        if !self.is_begun {
            // Nothing, compressed, is not nothing.
            self.begin_frame()?;
        }
        self.end_frame()?;
        match self.to {
            To::Plain(file) => file.into_inner().map_err(io::IntoInnerError::into_error),
            _ => Err(ended()),
        }
    }

    fn begin_frame(&mut self) -> io::Result<()> {
        let (To::Plain(_), Some(compression)) = (&self.to, self.compression) else { return Ok(()) };
        let To::Plain(file) = std::mem::replace(&mut self.to, To::Nowhere) else { return Err(ended()) };
        self.is_begun = true;
        self.to = match compression {
            Compression::Gzip => To::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(file, 0)?;
                encoder.include_checksum(true)?;
                To::Zstd(encoder)
            }
            Compression::Xz => To::Xz(XzEncoder::new(file, XZ_PRESET)),
        };
        Ok(())
    }

    fn inner(&mut self) -> io::Result<&mut dyn Write> {
        Ok(match &mut self.to {
            To::Plain(file) => file,
            To::Gzip(encoder) => encoder,
            To::Zstd(encoder) => encoder,
            To::Xz(encoder) => encoder,
            To::Nowhere => return Err(ended()),
        })
    }
}

fn ended() -> io::Error {
    io::Error::other("it could not be written before")
}

impl Write for Encoder {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if !octets.is_empty() {
            self.begin_frame()?;
        }
        let written = self.inner()?.write(octets)?;
        if self.compression.is_some() {
            self.open += written as u64;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner()?.flush()
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

/// How many octets a frame has at least, if nobody says. A run that is cut off loses no more, and what they take
/// compressed is next to nothing more than in one frame.
pub const DEFAULT_FRAME: u64 = 4 << 20;

/// How much is read at once.
const READ_SIZE: usize = 1 << 20;
/// 2^27 octets, the most that `zstd` itself decodes unasked.
const MAX_WINDOW_LOG: u32 = 27;
/// What `xz -9` needs, and some room.
const MAX_XZ_MEMORY: u64 = 128 << 20;
/// The preset of `xz` where nobody says.
const XZ_PRESET: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_also_in_several_streams() {
        let folder = tempfile::tempdir().unwrap();
        let text = b"From here to there\n".repeat(100_000);
        for (name, compression) in [
            ("plain", None),
            ("a.gz", Some(Compression::Gzip)),
            ("a.ZST", Some(Compression::Zstd)),
            ("a.xz", Some(Compression::Xz)),
        ] {
            let path = folder.path().join(name);
            assert_eq!(Compression::of_name(&path), compression);
            for at in [0, 700_000] {
                let part = if at == 0 { &text[..700_000] } else { &text[at..] };
                let file = File::options().append(true).create(true).open(&path).unwrap();
                let mut encoder = Encoder::new(file, compression, DEFAULT_FRAME).unwrap();
                encoder.write_all(part).unwrap();
                encoder.finish().unwrap();
            }
            let file = File::open(&path).unwrap();
            assert_eq!(Compression::of_file(&file).unwrap(), compression);
            let mut read = Vec::new();
            match compression {
                Some(compression) => decoder(file, compression).unwrap().read_to_end(&mut read).unwrap(),
                None => BufReader::new(file).read_to_end(&mut read).unwrap(),
            };
            assert!(read == text, "{name}");
        }
    }

    #[test]
    fn frames_end_behind_messages_and_the_same_octets_come_out_behind_each_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let message = |number: usize| format!("From here to there {number}\n").repeat(number % 7 + 1);
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Xz] {
            let path = folder.path().join(format!("{compression:?}"));
            let open = || File::options().append(true).create(true).open(&path).unwrap();
            let encoder = || Encoder::new(open(), Some(compression), 1_000).unwrap();
            let mut whole = encoder();
            let mut ends = vec![(0, 0)];
            for number in 0..100 {
                whole.write_all(message(number).as_bytes()).unwrap();
                whole.message_ends().unwrap();
                let length = whole.make_durable().unwrap().map(|durable| durable.length);
                assert_eq!(length.is_some(), whole.is_whole());
                ends.extend(length.map(|length| (number + 1, length)));
            }
            whole.finish().unwrap();
            assert!(ends.len() > 5, "{compression:?}: {ends:?}");
            let octets = std::fs::read(&path).unwrap();
            for (done, length) in ends {
                open().set_len(length).unwrap();
                let mut rest = encoder();
                for number in done..100 {
                    rest.write_all(message(number).as_bytes()).unwrap();
                    rest.message_ends().unwrap();
                }
                rest.finish().unwrap();
                assert!(std::fs::read(&path).unwrap() == octets, "{compression:?} from message {done}");
            }
            let mut read = String::new();
            decoder(File::open(&path).unwrap(), compression).unwrap().read_to_string(&mut read).unwrap();
            assert!(read == (0..100).map(message).collect::<String>());
        }
    }

    #[test]
    fn nothing_is_a_frame_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Xz] {
            let path = folder.path().join(format!("{compression:?}"));
            Encoder::new(File::create(&path).unwrap(), Some(compression), 1).unwrap().finish().unwrap();
            let mut read = Vec::new();
            decoder(File::open(&path).unwrap(), compression).unwrap().read_to_end(&mut read).unwrap();
            assert!(read.is_empty() && path.metadata().unwrap().len() > 0);
        }
    }

    #[test]
    fn what_was_cut_off_is_an_error_and_no_end() {
        let folder = tempfile::tempdir().unwrap();
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Xz] {
            let path = folder.path().join(format!("{compression:?}"));
            let mut encoder =
                Encoder::new(File::create(&path).unwrap(), Some(compression), DEFAULT_FRAME).unwrap();
            let mut seed = 1_u64;
            let noise = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                u8::try_from(seed >> 56).unwrap()
            });
            encoder.write_all(&noise.take(300_000).collect::<Vec<_>>()).unwrap();
            let file = encoder.finish().unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
            let mut read = Vec::new();
            let whole = decoder(File::open(&path).unwrap(), compression).unwrap().read_to_end(&mut read);
            assert!(whole.is_err(), "{compression:?}");
        }
    }
}
