//! Compressed archives: known by their first octets when read, by their names when written. All of it is streamed,
//! so that what expands a thousandfold takes time, but no memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
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

/// Writes a file, compressed or not.
pub(crate) enum Encoder {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<File>>),
    Xz(XzEncoder<BufWriter<File>>),
}

impl Encoder {
    pub(crate) fn new(file: File, compression: Option<Compression>) -> io::Result<Self> {
        let file = BufWriter::with_capacity(READ_SIZE, file);
        Ok(match compression {
            None => Self::Plain(file),
            Some(Compression::Gzip) => Self::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Some(Compression::Zstd) => {
                let mut encoder = zstd::stream::write::Encoder::new(file, 0)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            Some(Compression::Xz) => Self::Xz(XzEncoder::new(file, XZ_PRESET)),
        })
    }

    /// Ends the compressed stream, and gives the file back; nothing of it is synchronised yet.
    pub(crate) fn finish(self) -> io::Result<File> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Xz(encoder) => encoder.finish()?,
        };
        file.into_inner().map_err(io::IntoInnerError::into_error)
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
            Self::Xz(encoder) => encoder,
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.inner().write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

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
                let mut encoder = Encoder::new(file, compression).unwrap();
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
    fn what_was_cut_off_is_an_error_and_no_end() {
        let folder = tempfile::tempdir().unwrap();
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Xz] {
            let path = folder.path().join(format!("{compression:?}"));
            let mut encoder = Encoder::new(File::create(&path).unwrap(), Some(compression)).unwrap();
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
