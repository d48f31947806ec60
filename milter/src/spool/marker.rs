//! How a copy of ours is known when it comes back: an HMAC over its envelope and body, with a key that stays in the
//! spool's folder. Whoever sees one can do nothing with it but send the same text to the same people.

use std::{fmt, fs, io, path::Path};

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256},
    rand,
};
use data_encoding::HEXLOWER;

use super::{memory::Tag, write_new};

/// The field that holds the marker.
pub(crate) const FIELD: &str = "X-Hsmime-Copy";

/// The key; it shows as nothing.
pub(super) struct Key(hmac::Key);

impl Key {
    /// Reads the key from a file; where there is none, one is drawn and written.
    pub(super) fn load(path: &Path) -> io::Result<Self> {
        let octets = match fs::read(path) {
            Ok(octets) if octets.len() == 32 => octets,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no key of 32 octets")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut octets = vec![0; 32];
                rand::fill(&mut octets).map_err(|_| io::Error::other("no random octets from the system"))?;
                write_new(path, &octets)?;
                octets
            }
            Err(error) => return Err(error),
        };
        Ok(Self(hmac::Key::new(HMAC_SHA256, &octets)))
    }

    /// The whole field.
    pub(super) fn marker(&self, sender: &str, recipients: &[String], body: &[u8]) -> String {
        let tag = self.of("copy", sender, recipients, body).sign();
        format!("{FIELD}: {}\r\n", HEXLOWER.encode(tag.as_ref()))
    }

    pub(super) fn verifies(&self, marker: &str, sender: &str, recipients: &[String], body: &[u8]) -> bool {
        let Ok(octets) = HEXLOWER.decode(marker.as_bytes()) else {
            return false;
        };
        let expected = self.of("copy", sender, recipients, body).sign();
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), &octets).is_ok()
    }

    /// What a message is known by, fit for a file's name. Its recipients do not count: a client may try again for
    /// some of them.
    pub(super) fn identity(&self, salt: &str, sender: &str, octets: &[u8]) -> String {
        let tag = self.of(&format!("identity {salt}"), sender, &[], octets).sign();
        HEXLOWER.encode(tag.as_ref().get(..16).unwrap_or_default())
    }

    /// What a recipient's copy of a message is remembered by.
    pub(super) fn tag(&self, identity: &str, recipient: &str) -> Tag {
        let tag = self.of("recipient", identity, &[recipient.to_owned()], &[]).sign();
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// Every part with its length, so that none can be taken for two.
    fn of(&self, purpose: &str, sender: &str, recipients: &[String], octets: &[u8]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        let mut recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        recipients.sort_unstable();
        let texts = [purpose, sender].into_iter().chain(recipients);
        for part in texts.map(str::as_bytes).chain([octets]) {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        context
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
