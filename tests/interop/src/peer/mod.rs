//! The peers as the matrix asks them: each takes a form and gives octets, or says in its own words that it cannot.

mod bouncycastle;
mod gpgsm;
mod nss;
mod openssl;

pub use bouncycastle::BouncyCastle;
pub use gpgsm::Gpgsm;
pub use nss::Nss;
pub use openssl::OpenSsl;

use std::{fmt, process::ExitStatus};

use testkit::command::Finished;

use crate::{
    form::{Sealing, Signing, Who},
    mail::Mail,
};

/// Which peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `openssl cms` and `openssl smime`.
    OpenSsl,
    /// GnuPG's.
    Gpgsm,
    /// `cmsutil`, `p7sign` and their like.
    Nss,
    /// Java's.
    BouncyCastle,
}

impl Name {
    /// All of them, in the order of the columns.
    pub const ALL: [Self; 4] = [Self::OpenSsl, Self::Gpgsm, Self::Nss, Self::BouncyCastle];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenSsl => "OpenSSL",
            Self::Gpgsm => "gpgsm",
            Self::Nss => "NSS",
            Self::BouncyCastle => "BouncyCastle",
        }
    }
}

/// What a peer said instead of doing it.
#[derive(Clone, Debug)]
pub struct Said(pub String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim())
    }
}

impl From<anyhow::Error> for Said {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Said {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a peer wrote.
#[derive(Clone, Debug)]
pub enum Written {
    /// A CMS object, to be put into a MIME entity.
    Object(Vec<u8>),
    /// A MIME entity.
    Entity(Vec<u8>),
}

/// S/MIME software that is not ours. Whatever it has no way to do is asked of it all the same: what counts is what
/// it says.
pub trait Peer: Sync {
    /// Which it is.
    fn name(&self) -> Name;

    /// Its version, as far as it matters.
    fn version(&self) -> Result<String, Said>;

    /// Signs.
    fn sign(&self, content: &[u8], signing: &Signing) -> Result<Written, Said>;

    /// Verifies signature and path; gives the content.
    fn verify(&self, mail: &Mail, signing: &Signing) -> Result<Vec<u8>, Said>;

    /// Encrypts.
    fn encrypt(&self, content: &[u8], sealing: &Sealing) -> Result<Written, Said>;

    /// Decrypts with somebody's key.
    fn decrypt(&self, mail: &Mail, who: Who, sealing: &Sealing) -> Result<Vec<u8>, Said>;

    /// Compresses.
    fn compress(&self, content: &[u8], ber: bool) -> Result<Vec<u8>, Said>;

    /// Decompresses.
    fn decompress(&self, mail: &Mail) -> Result<Vec<u8>, Said>;

    /// Writes a message of the certificates of these and nothing else.
    fn certificates_only(&self, of: &[Who]) -> Result<Vec<u8>, Said>;

    /// Reads such a message; whether what is in it is what `of` have is for the caller to see.
    fn certificates(&self, mail: &Mail) -> Result<Vec<Vec<u8>>, Said>;
}

/// What a program said, its arguments left out: a word in them must not pass for one of its own. Where it complains,
/// its output is not of interest.
fn said(finished: &Finished) -> Said {
    let text = finished.text();
    let words = [finished.stderr.trim(), text.trim()].into_iter().find(|words| !words.is_empty());
    Said(words.map_or_else(|| silent(finished.status), str::to_owned))
}

fn silent(status: ExitStatus) -> String {
    format!("ended with {status} and no word")
}

/// What a program must have done.
fn done(finished: testkit::Result<Finished>) -> Result<Finished, Said> {
    let finished = finished?;
    if finished.success() { Ok(finished) } else { Err(said(&finished)) }
}

/// Says that a program's own list of options has none of these words; if it has one by now, the matrix must be
/// looked at again.
fn no_option<T>(list: &str, words: &[&str]) -> Result<T, Said> {
    let list = list.to_ascii_lowercase();
    if list.matches('-').count() < 3 {
        return Err(Said(format!("it lists no options: {list}")));
    }
    match words.iter().find(|word| list.contains(&word.to_ascii_lowercase())) {
        Some(word) => Err(Said(format!("its options speak of {word} now"))),
        None => Err(Said(format!("its options have no {}", words.join(", no ")))),
    }
}
