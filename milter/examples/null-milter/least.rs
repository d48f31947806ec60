//! The least that signing or opening a message takes: the digests or the cipher that are due, and the token's operation, on
//! as many threads as there are sessions. Nothing is parsed, checked, decided, logged, bounded or kept safe, and what
//! the token says is thrown away.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, bail};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{self, SHA256, digest};
use base64_simd::STANDARD;
use cryptoki_sys::{CKM_ECDSA, CKM_RSA_PKCS};
use data_encoding::HEXLOWER;
use tokio::task::spawn_blocking;

use crate::token::{self, Session};

/// What is done with each message.
pub(crate) struct Least {
    deed: Deed,
    /// As many as threads that use them.
    sessions: Mutex<Vec<Session>>,
    /// By how much what goes out is longer (or shorter) than what is signed, or what was decrypted.
    longer: isize,
}

/// What kind of work.
#[derive(Debug)]
enum Deed {
    /// The digest is what is signed.
    SignEcdsa,
    /// DigestInfo is.
    SignRsa,
    /// This is what the token decrypts for each message.
    Open(Vec<u8>),
}

/// What is known of a message's body so far.
pub(crate) enum Body {
    /// How long it is.
    Octets(usize),
    /// Its digest.
    Signed(usize, Box<digest::Context>),
    /// All of it.
    Closed(Vec<u8>),
}

impl Body {
    /// The next octets of it.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        match self {
            Self::Octets(octets) => *octets += chunk.len(),
            Self::Signed(octets, digest) => {
                *octets += chunk.len();
                digest.update(chunk);
            }
            Self::Closed(body) => body.extend_from_slice(chunk),
        }
    }
}

impl Least {
    /// As the command line says: `DEED LONGER MODULE PIN-FILE KEY [HEX]`.
    pub(crate) fn new(arguments: &[&str], sessions: usize) -> Result<Self> {
        let (deed, longer, module, pin, key) = match *arguments {
            ["ecdsa", longer, module, pin, key] => (Deed::SignEcdsa, longer, module, pin, key),
            ["rsa", longer, module, pin, key] => (Deed::SignRsa, longer, module, pin, key),
            ["open", longer, module, pin, key, encrypted] => {
                (Deed::Open(HEXLOWER.decode(encrypted.as_bytes())?), longer, module, pin, key)
            }
            _ => bail!("what is to be done?"),
        };
        let mechanism = if matches!(deed, Deed::SignEcdsa) { CKM_ECDSA } else { CKM_RSA_PKCS };
        let pin = fs::read_to_string(pin).with_context(|| pin.to_owned())?;
        let sessions = token::sessions(Path::new(module), pin.trim_end(), key, mechanism, sessions)?;
        Ok(Self { deed, sessions: Mutex::new(sessions), longer: longer.parse()? })
    }

    /// A message begins.
    pub(crate) fn begin(&self) -> Body {
        match self.deed {
            Deed::SignEcdsa | Deed::SignRsa => Body::Signed(0, Box::new(digest::Context::new(&SHA256))),
            Deed::Open(_) => Body::Closed(Vec::new()),
        }
    }

    /// Does its work; tells how many octets go out.
    pub(crate) async fn end(self: Arc<Self>, body: Body) -> Result<usize> {
        spawn_blocking(move || {
            let session = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut session = session.context("more threads than sessions")?;
            let done = self.work(&mut session, body);
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
            done
        })
        .await?
    }

    fn work(&self, session: &mut Session, body: Body) -> Result<usize> {
        let octets = match (&self.deed, body) {
            (Deed::Open(encrypted), Body::Closed(mut body)) => {
                session.decrypt(encrypted)?;
                body.retain(|octet| !matches!(octet, b'\r' | b'\n'));
                let octets = STANDARD.decode_inplace(&mut body).map_err(|error| anyhow!("{error}"))?.len();
                body.truncate(octets);
                // As much work as opening it is.
                let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32])?);
                let nonce = Nonce::assume_unique_for_key([7; 12]);
                let _tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut body)?;
                octets
            }
            (deed, Body::Signed(octets, body)) => {
                let mut attributes = [0; ATTRIBUTES];
                let place = attributes.first_chunk_mut::<32>().context("32 octets")?;
                place.copy_from_slice(body.finish().as_ref());
                let digest = digest(&SHA256, &attributes);
                match deed {
                    Deed::SignRsa => session.sign(&[&DIGEST_INFO[..], digest.as_ref()].concat())?,
                    _ => session.sign(digest.as_ref())?,
                };
                octets
            }
            _ => bail!("a message that was begun otherwise"),
        };
        octets.checked_add_signed(self.longer).context("a body is too short")
    }
}

/// As long as signed attributes are.
const ATTRIBUTES: usize = 220;

/// DigestInfo of SHA-256 in DER (RFC 8017 9.2 note 1), before the digest.
const DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];
