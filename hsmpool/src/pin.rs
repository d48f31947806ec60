//! The PIN: read from its file, wiped when dropped, never printed.

use std::{fmt, fs::File, io::Read, os::unix::fs::PermissionsExt};

use cryptoki::types::RawAuthPin;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{PinSource, PoolError};

/// More than any token's `ulMaxPinLen`; a longer file is not a PIN.
const MAX_LEN: usize = 255;

/// A user PIN.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Pin(Zeroizing<Vec<u8>>);

impl Pin {
    /// Reads a PIN from where it stands. One newline (LF or CRLF) at the end is cut off.
    pub fn read(source: &PinSource) -> Result<Self, PoolError> {
        let path = source.path();
        let failed = |reason: String| PoolError::PinFile { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        // The buffer never grows, so no copy of the PIN is left behind in the allocator.
        let mut octets = Zeroizing::new(Vec::with_capacity(MAX_LEN + 3));
        let limit = u64::try_from(MAX_LEN + 3).unwrap_or(u64::MAX);
        (&file).take(limit).read_to_end(&mut octets).map_err(|error| failed(error.to_string()))?;
        if octets.last() == Some(&b'\n') {
            octets.pop();
            if octets.last() == Some(&b'\r') {
                octets.pop();
            }
        }
        if octets.is_empty() {
            return Err(failed("it is empty".into()));
        }
        if octets.len() > MAX_LEN {
            return Err(failed(format!("it holds more than {MAX_LEN} octets: that is not a PIN")));
        }
        Ok(Self(octets))
    }

    /// The form that `C_Login` takes; wiped by its own type.
    pub(crate) fn to_auth_pin(&self) -> RawAuthPin {
        RawAuthPin::new(Box::new(self.0.to_vec()))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin([redacted])")
    }
}

/// Whether everybody on this machine may read the PIN.
pub(crate) fn is_world_readable(source: &PinSource) -> bool {
    source.path().metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(content: &[u8]) -> Result<Pin, PoolError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        fs::write(&path, content).unwrap();
        Pin::read(&PinSource::File(path))
    }

    #[test]
    fn only_one_newline_at_the_end_is_cut() {
        for (content, pin) in [
            (&b"1234"[..], &b"1234"[..]),
            (b"1234\n", b"1234"),
            (b"1234\r\n", b"1234"),
            (b"1234\n\n", b"1234\n"),
            (b" 12 34 ", b" 12 34 "),
            (b"1234\r", b"1234\r"),
        ] {
            assert_eq!(read(content).unwrap().0.as_slice(), pin, "{content:?}");
        }
    }

    #[test]
    fn files_that_hold_no_pin_are_named() {
        for content in [&b""[..], b"\n", b"\r\n", &[b'1'; 256], &[b'1'; 10_000]] {
            let error = read(content).unwrap_err();
            assert!(matches!(error, PoolError::PinFile { .. }), "{error:?}");
        }
        assert!(read(&[b'1'; 255]).is_ok());
        let missing = Pin::read(&PinSource::File("/nonexistent/pin".into())).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/pin"), "{missing}");
    }

    #[test]
    fn a_pin_is_never_printed() {
        let pin = read(b"sesame42").unwrap();
        assert_eq!(format!("{pin:?} {pin:#?}"), "Pin([redacted]) Pin([redacted])");
    }
}
