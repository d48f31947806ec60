//! The least that signing or decrypting an archive takes with this token on these processors: what each message needs,
//! call by call, and nothing of what keeps mail safe.
//!
//! Each thread takes the next message, asks the token itself, and appends to a file of its own. Nothing is parsed beyond
//! the first empty line, nothing keeps an order, is queued, logged, told or bounded, and no name appears on the disk but
//! at the end. Octets have their places: buffers are used again and again. What goes out is as long as what a program
//! would write, but no CMS: that part is the same for each message.

use std::{
    fs::{self, File},
    io::Write as _,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::{
    cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey},
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64_simd::STANDARD;
use memchr::{memchr_iter, memmem};
use serde::{Deserialize, Serialize};

use super::peers::Deed;
use crate::pool::{
    load::joined,
    operation::{MESSAGE, Operation},
    raw,
    site::{LABEL, Place},
};

/// The command line of the process begins with this.
pub const ARGUMENT: &str = "--least";
/// How much is read at a time to find messages, and how much is kept before it is written.
const BLOCK: usize = 1 << 20;
/// As long as a signature with two certificates and its attributes is in base64, with the header fields around it.
const SIGNATURE: [u8; 3_200] = [b'A'; 3_200];

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Sign or decrypt.
    pub deed: Deed,
    /// With which key.
    pub operation: Operation,
    /// On which token, with a thread for each session.
    pub place: Place,
    /// An mbox.
    pub from: PathBuf,
    /// A folder for what is written.
    pub to: PathBuf,
}

/// The process itself.
pub fn main(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)?;
    let question = job.operation.question(&job.place.certificate(job.operation.key())?)?;
    let key = job.place.certificate(job.operation.key())?.public_key_info();
    let token = raw::Token::open(&job.place.module, LABEL, &job.place.pin()?)?;
    let messages = messages(&job.from)?;
    let next = AtomicUsize::new(0);
    fs::create_dir(&job.to).with_context(|| job.to.display().to_string())?;
    thread::scope(|scope| {
        let spawn = |number: usize| {
            let (job, token, question, messages, next, key) =
                (&job, &token, &question, &messages, &next, &key);
            scope.spawn(move || -> Result<()> {
                let mut worker = Worker {
                    deed: job.deed,
                    operation: job.operation,
                    key,
                    session: token.session(job.operation.key().name, question)?,
                    from: File::open(&job.from)?,
                    to: File::create_new(job.to.join(number.to_string()))?,
                    found: Vec::new(),
                    entity: Vec::new(),
                    out: Vec::with_capacity(2 * BLOCK),
                };
                while let Some(range) = messages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    worker.one(range)?;
                }
                worker.end()
            })
        };
        let threads: Vec<_> = (0..job.place.sessions).map(spawn).collect();
        // Each is joined: a scope's end waits for what a thread does, not for what OpenSSL below the token takes down at the
        // thread's end, and a module that is unloaded meanwhile crashes.
        let ends: Vec<_> = threads.into_iter().map(|thread| joined(thread.join())).collect();
        ends.into_iter().collect()
    })
}

struct Worker<'t> {
    deed: Deed,
    operation: Operation,
    /// SubjectPublicKeyInfo, which signatures are checked against.
    key: &'t [u8],
    session: raw::Session<'t>,
    from: File,
    to: File,
    found: Vec<u8>,
    entity: Vec<u8>,
    out: Vec<u8>,
}

impl Worker<'_> {
    fn one(&mut self, range: &Range<u64>) -> Result<()> {
        self.found.resize(usize::try_from(range.end - range.start)?, 0);
        self.from.read_exact_at(&mut self.found, range.start)?;
        let mut sums = digest(&SHA256, &self.found).as_ref().first().copied().unwrap_or_default();
        let body = 2 + memmem::find(&self.found, b"\n\n").context("a message without a body")?;
        let (head, body) = self.found.split_at(body);
        let begun = self.out.len();
        self.entity.clear();
        match self.deed {
            Deed::Sign => {
                with_crlf(body, &mut self.entity);
                sums ^= digest(&SHA256, &self.entity).as_ref().first().copied().unwrap_or_default();
                self.session.ask()?;
                self.check()?;
                self.out.extend_from_slice(head);
                self.out.extend_from_slice(body);
                self.out.extend_from_slice(&SIGNATURE);
            }
            Deed::Decrypt => {
                without(b'\n', body, &mut self.entity);
                let length =
                    STANDARD.decode_inplace(&mut self.entity).map_err(|error| anyhow!("{error}"))?.len();
                self.entity.truncate(length);
                self.session.ask()?;
                // As much work as CBC is, which is not offered without a look at the padding.
                let cipher = DecryptingKey::ctr(UnboundCipherKey::new(&AES_256, &[7; 32])?)?;
                cipher.decrypt(&mut self.entity, DecryptionContext::Iv128([7; 16].into()))?;
                self.out.extend_from_slice(head);
                without(b'\r', &self.entity, &mut self.out);
            }
        }
        let written = self.out.get(begun..).unwrap_or_default();
        sums ^= digest(&SHA256, written).as_ref().first().copied().unwrap_or_default();
        std::hint::black_box(sums);
        if self.out.len() >= BLOCK { self.write() } else { Ok(()) }
    }

    /// The token's signature, as one from a token has to be before it goes out.
    fn check(&self) -> Result<()> {
        let signature = self.session.answer();
        let checked = match self.operation {
            Operation::P256Sign => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key).verify(MESSAGE, signature)
            }
            _ => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key).verify(MESSAGE, signature),
        };
        checked.map_err(|_| anyhow!("a signature that is none"))
    }

    fn write(&mut self) -> Result<()> {
        self.to.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        self.write()?;
        Ok(self.to.sync_all()?)
    }
}

/// Where the messages of an mbox are.
fn messages(path: &Path) -> Result<Vec<Range<u64>>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let finder = memmem::Finder::new(b"\nFrom ");
    let (mut starts, mut block, mut at) = (vec![0], vec![0; BLOCK], 0);
    while at < length {
        let read = file.read_at(&mut block, at)?;
        ensure!(read > 0, "{} got shorter", path.display());
        let octets = block.get(..read).unwrap_or_default();
        starts.extend(finder.find_iter(octets).map(|found| at + found as u64 + 1));
        // What lies across the end is found in the next block.
        at += if read > 5 && at + (read as u64) < length { read as u64 - 5 } else { read as u64 };
    }
    starts.push(length);
    Ok(starts.windows(2).filter_map(|pair| Some(*pair.first()?..*pair.last()?)).collect())
}

fn with_crlf(text: &[u8], out: &mut Vec<u8>) {
    let mut begun = 0;
    for end in memchr_iter(b'\n', text) {
        out.extend_from_slice(text.get(begun..end).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
        begun = end + 1;
    }
    out.extend_from_slice(text.get(begun..).unwrap_or_default());
}

fn without(octet: u8, text: &[u8], out: &mut Vec<u8>) {
    let mut begun = 0;
    for end in memchr_iter(octet, text) {
        out.extend_from_slice(text.get(begun..end).unwrap_or_default());
        begun = end + 1;
    }
    out.extend_from_slice(text.get(begun..).unwrap_or_default());
}
