//! Size and SHA-256 of octets, at once or while they are copied.

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use serde::Serialize;

/// Size and SHA-256 of octets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summed {
    /// How many octets.
    pub size: u64,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Summed {
    /// Of these octets.
    pub fn of(octets: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(octets);
        Self { size: octets.len() as u64, sha256: HEXLOWER.encode(context.finish().as_ref()) }
    }

    /// Of what is copied through a small buffer. Errors say which side they are from.
    pub fn of_copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<Self, CopyError> {
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; 128 * 1024];
        let mut size = 0;
        loop {
            let read = match from.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CopyError::Read(error)),
            };
            let octets = buffer.get(..read).unwrap_or_default();
            if octets.is_empty() {
                return Ok(Self { size, sha256: HEXLOWER.encode(context.finish().as_ref()) });
            }
            context.update(octets);
            to.write_all(octets).map_err(CopyError::Write)?;
            size += octets.len() as u64;
        }
    }
}

/// On which side copying failed.
#[derive(Debug)]
pub enum CopyError {
    /// Where it comes from.
    Read(io::Error),
    /// Where it goes to.
    Write(io::Error),
}

/// Sums up what is read or written through it.
pub(crate) struct Tally<T> {
    inner: T,
    context: Context,
    size: u64,
}

impl<T> Tally<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, context: Context::new(&SHA256), size: 0 }
    }

    /// The sum of all so far.
    pub(crate) fn sum(self) -> Summed {
        Summed { size: self.size, sha256: HEXLOWER.encode(self.context.finish().as_ref()) }
    }

    fn add(&mut self, octets: &[u8]) {
        self.context.update(octets);
        self.size += octets.len() as u64;
    }
}

impl<R: Read> Read for Tally<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.add(out.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<W: Write> Write for Tally<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(octets)?;
        self.add(octets.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
