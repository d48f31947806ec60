//! How a copy of ours is known when it comes back: an HMAC over its envelope and body, with a key that stays in the
//! spool's folder; and another over the fields that say what we found, if there are some, and the fields that such are about.
//! Whoever sees them can do nothing with them but send the same text to the same people; under another header, without what
//! we found, or seem to have found.

use std::{fmt, fs, io, path::Path};

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256},
    rand,
};
use data_encoding::HEXLOWER;

use super::{memory::Tag, write_new};

/// The field that holds the marker.
pub(crate) const FIELD: &str = "X-Hsmime-Copy";

/// Whether a field's value has the form of a marker: of ours, of another's here or elsewhere, or of what somebody made up.
pub(crate) fn is_like_one(value: &str) -> bool {
    let is_tag = |word: &str| word.len() == 64 && word.bytes().all(|octet| octet.is_ascii_hexdigit());
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    words.len() == 2 && words.into_iter().all(is_tag)
}

/// What of a copy is as this spool sent it; both with all of its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The body, the fields that say what was found of the message it was made from, where there are some, and those that
    /// such are about.
    WithResults,
    /// The body alone.
    Body {
        /// Whether it had such fields when it was sent: it is of a message from elsewhere.
        had_results: bool,
    },
}

/// What a marker is about, whatever its header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marked<'m> {
    pub(super) sender: &'m str,
    pub(super) recipients: &'m [String],
    pub(super) body: &'m [u8],
}

/// What stands in a header of what we found, and what that is about, as a marker covers it.
#[derive(Debug)]
pub(super) struct Results {
    /// Whether anything was found.
    pub(super) are_there: bool,
    pub(super) octets: Vec<u8>,
}

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
    pub(super) fn marker(&self, of: Marked<'_>, results: &Results) -> String {
        let body = self.body_tag(of, results.are_there);
        let header = self.results_tag(&body, results);
        // On lines of their own: such are short everywhere.
        format!("{FIELD}: {}\r\n {}\r\n", HEXLOWER.encode(body.as_ref()), HEXLOWER.encode(header.as_ref()))
    }

    /// What of a copy is as a marker says. That of an older version had no second word where there were no results.
    pub(super) fn known(&self, marker: &str, of: Marked<'_>, results: &Results) -> Option<Known> {
        let mut words = marker.split_ascii_whitespace().map(|word| HEXLOWER.decode(word.as_bytes()));
        let is = |expected: &hmac::Tag, given: &[u8]| {
            aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), given).is_ok()
        };
        let first = words.next()?.ok()?;
        let given = words.next().and_then(Result::ok).unwrap_or_default();
        [true, false].into_iter().find_map(|had_results| {
            let body = self.body_tag(of, had_results);
            let is_whole = had_results == results.are_there && is(&self.results_tag(&body, results), &given);
            is(&body, &first).then_some(if is_whole {
                Known::WithResults
            } else {
                Known::Body { had_results }
            })
        })
    }

    /// Of a copy that had results, another than of one that had none: whoever takes them off does not get the other.
    fn body_tag(&self, Marked { sender, recipients, body }: Marked<'_>, has_results: bool) -> hmac::Tag {
        let purpose = if has_results { "copy with results" } else { "copy" };
        self.of(purpose, sender, recipients, body).sign()
    }

    /// Of the results of this body for these people.
    fn results_tag(&self, body: &hmac::Tag, results: &Results) -> hmac::Tag {
        self.of("results", &HEXLOWER.encode(body.as_ref()), &[], &results.octets).sign()
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
