//! The PIN: read from its file, wiped when dropped, never printed.

use std::{
    env, fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use cryptoki::types::RawAuthPin;
use serde::{Deserialize, Serialize};
use smime::{
    algorithm::DigestAlgorithm,
    key::{ContentEncryptionKey, Digest},
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{PinSource, PoolError};

/// More than any token's `ulMaxPinLen`; a longer file is not a PIN.
const MAX_LEN: usize = 255;

/// A user PIN.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Pin(Zeroizing<Vec<u8>>);

impl Pin {
    /// Reads a PIN from where it stands. One newline (LF or CRLF) at the end is cut off. A file that everybody on this
    /// machine may read or write is refused: its PIN is no secret any more. So is one of several lines: it would be a
    /// wrong PIN, and tokens count those.
    pub fn read(source: &PinSource) -> Result<Self, PoolError> {
        let path = source.place();
        let failed = |reason: String| PoolError::PinFile { path: path.clone(), reason };
        if let PinSource::Credential(name) = source
            && env::var_os(CREDENTIALS).is_none()
        {
            return Err(failed(without_credentials(name)));
        }
        let file = File::open(&path).map_err(|error| failed(not_opened(&error)))?;
        let mode = file.metadata().map_err(|error| failed(error.to_string()))?.permissions().mode();
        if let Some(reason) = why_not_secret(mode) {
            return Err(failed(reason));
        }
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
        if octets.iter().any(|octet| matches!(octet, b'\n' | b'\r')) {
            let reason = "it has more than one line, so it was not tried: the PIN stands in it alone";
            return Err(failed(reason.into()));
        }
        Ok(Self(octets))
    }

    /// What tells this PIN from others, without telling it to those who do not have it already.
    pub(crate) fn hash(&self, salt: &PinSalt) -> PinHash {
        let digest = Digest::of_segments(DigestAlgorithm::Sha256, [&salt.0[..], &self.0]);
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(digest.as_bytes()) {
            *to = *from;
        }
        PinHash(hash)
    }

    #[cfg(test)]
    pub(crate) fn of(octets: &[u8]) -> Self {
        Self(Zeroizing::new(octets.to_vec()))
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

/// What PINs are hashed with: known to one program, while it runs.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct PinSalt([u8; 32]);

impl PinSalt {
    /// A salt that nobody else has.
    pub(crate) fn random() -> Self {
        let mut salt = Self::default();
        // Without randomness the hash is one without a salt, and still no PIN.
        if let Ok(random) = ContentEncryptionKey::random(salt.0.len()) {
            salt.0.copy_from_slice(random.expose());
        }
        salt
    }
}

/// A PIN's hash. It is never printed: PINs are short.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinHash([u8; 32]);

impl fmt::Debug for PinHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinHash([redacted])")
    }
}

impl PinSource {
    /// Where it is, for messages and for opening.
    pub(crate) fn place(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Credential(name) => {
                Path::new(&env::var_os(CREDENTIALS).unwrap_or_else(|| "$CREDENTIALS_DIRECTORY".into()))
                    .join(name)
            }
        }
    }
}

/// What to do where a program has no credentials because no unit started it, as by hand.
fn without_credentials(name: &str) -> String {
    let program = env::args_os().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().display();
    format!(
        "systemd has set no {CREDENTIALS}: the unit of {program} needs LoadCredential={name}:FILE; by hand: \
         systemd-run --pty -p User=USER -p LoadCredential={name}:FILE {program} …"
    )
}

/// A file of a PIN is there for some users only.
fn not_opened(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let user = rustix::process::geteuid().as_raw();
        return format!(
            "{error}: this program runs as user {user} and logs in itself: that user must be able to read it"
        );
    }
    error.to_string()
}

/// Where systemd puts the credentials of a service (systemd.exec(5), LoadCredential=).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Why a file with these permissions cannot hold a PIN, if it cannot: others than its owner and group may use it.
pub fn why_not_secret(mode: u32) -> Option<String> {
    let others = mode & 0o007 != 0;
    others.then(|| {
        format!(
            "everybody on this machine may use it (mode {:o}): chmod o= it, and change the PIN",
            mode & 0o777
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(content: &[u8]) -> Result<Pin, PoolError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Pin::read(&PinSource::File(path))
    }

    #[test]
    fn a_pin_that_everybody_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        fs::write(&path, "1234").unwrap();
        for (mode, taken) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o644, false),
            (0o604, false),
            (0o602, false),
            (0o666, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = Pin::read(&PinSource::File(path.clone()));
            assert_eq!(read.is_ok(), taken, "{mode:o}");
            if let Err(error) = read {
                assert!(error.to_string().contains(&format!("mode {mode:o}")), "{error}");
            }
        }
    }

    #[test]
    fn only_one_newline_at_the_end_is_cut() {
        for (content, pin) in [
            (&b"1234"[..], &b"1234"[..]),
            (b"1234\n", b"1234"),
            (b"1234\r\n", b"1234"),
            (b" 12 34 ", b" 12 34 "),
        ] {
            assert_eq!(read(content).unwrap().0.as_slice(), pin, "{content:?}");
        }
    }

    #[test]
    fn a_file_of_several_lines_is_not_taken_for_a_pin() {
        for content in [&b"1234\n5678\n"[..], b"1234\n\n", b"1234\r", b"# PIN\r\n1234\r\n", b"\n1234"] {
            let error = read(content).unwrap_err().to_string();
            assert!(error.contains("more than one line") && !error.contains("1234"), "{content:?}: {error}");
        }
    }

    #[test]
    fn whoever_has_no_credentials_learns_how_to_start_the_program() {
        let error = Pin::read(&PinSource::Credential("hsm-pin".into())).unwrap_err().to_string();
        assert!(error.contains("LoadCredential=hsm-pin:FILE") && error.contains("systemd-run"), "{error}");
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
