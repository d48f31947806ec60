//! Copies that were promised to the MTA and are not handed back yet, on disk.
//!
//! The copies of a message are one set (`set.rs`). It is written, synced and sealed before the MTA gets its answer
//! ([`Writing::seal`]), released by one rename just before that ([`Prepared::commit`]), and taken away if there is
//! none. `sender.rs` sends, `server.rs` connects, `smtp.rs` speaks with the server, `notice.rs` tells the sender who did not get it, `entry.rs`
//! says what is in a file, `aside.rs` keeps what nobody can be told of, `again.rs` takes that up once more, `marker.rs` says how a copy of
//! ours is known again.
//!
//! After a crash nobody knows whether the answer to a sealed set reached the MTA; and a milter behind this one may refuse
//! what was answered. Sealed sets are sent, because a copy that is lost is worse than one too many, and `memory.rs`
//! remembers who has a copy of what: if the client sends that message again, those get none, and all others theirs.

mod again;
mod aside;
mod entry;
mod marker;
mod memory;
mod notice;
mod sender;
mod server;
mod set;
mod smtp;

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
    time::{Instant, SystemTime},
};

use agent::{
    Asked, AskedOf, Copy, Envelope, Returned, authres,
    settings::{Listen, Reinject},
};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use smime::{MailAddress, mime::Message};
use tracing::info;

use crate::asked::without_success;

use aside::Aside;
pub use aside::put_aside;
pub(crate) use entry::Entry;
pub(crate) use marker::{FIELD as MARKER, Known, is_like_one};
use marker::{Key, Marked, Results};
use memory::{Memory, Tag};
use set::{Held, Open, Sealed, Sets, identity_of};
pub use smtp::offers_reports;

/// The folder with the copies, and who sends them.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    wake: Sender<()>,
    /// Held as long as this lives: two spools in one folder would send everything twice.
    _lock: File,
}

/// What the spool and the thread that sends have in common.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Since when it is open.
    began: Instant,
    key: Key,
    sets: Sets,
    /// The name in fields of ours.
    name: String,
    memory: Mutex<Memory>,
    /// Who sends copies whose bounces must not hold them, if it is not who sent the message.
    opened_from: Mutex<Option<String>>,
}

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("spool {}: {reason}", path.display())]
pub struct SpoolError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system says.
    pub reason: io::Error,
}

/// What a message is known by when it comes again.
type Identity = String;

/// Copies of one message, written down. They are taken away again unless they are committed.
#[derive(Debug)]
pub struct Prepared {
    spool: Arc<Spool>,
    /// There is none where everybody has a copy already.
    sealed: Option<Sealed>,
    /// Who has a copy with this.
    tags: Vec<Tag>,
}

/// Copies of one message while they are written down, one after the other. They are taken away again unless they are
/// sealed.
#[derive(Debug)]
pub(crate) struct Writing<'e> {
    spool: Arc<Spool>,
    envelope: &'e Envelope,
    original: Identity,
    /// There is none before the first copy.
    set: Option<Open>,
    /// How many recipients have a copy already.
    known: usize,
    /// Who has a copy with this.
    tags: Vec<Tag>,
}

/// How many copies may wait; with more, mail that needs copies is deferred.
const MAX_WAITING: usize = 10_000;

/// What our results are about, or are read with. An MTA adds Date and Message-ID where they are missing, and writes To and Cc
/// anew; these it leaves alone, but for addresses without a domain and those of `canonical_maps` and the like.
const WITH_RESULTS: [&str; 6] =
    ["From", "Sender", "Reply-To", "Subject", "Content-Type", "Content-Transfer-Encoding"];

/// Why copies are not handed to this server, whoever listens there, if they are not.
pub fn why_not_to(server: &Listen) -> Option<String> {
    let Listen::Unix { path, .. } = server else { return None };
    // What is not there yet may come.
    let refused = server::check(path).err().filter(|error| error.kind() == io::ErrorKind::Other);
    refused.map(|error| error.to_string())
}

impl Spool {
    /// Opens the folder, makes it if need be, and begins to send what is in it. `name` is the host's, for notices.
    pub fn open(to: &Reinject, name: &str) -> Result<Arc<Self>, SpoolError> {
        let folder = &to.state;
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |reason| SpoolError { path, reason }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail(folder))?;
        let lock = folder.join("lock");
        let held = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let held = held.map_err(fail(&lock))?;
        flock(&held, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            fail(&lock)(match error {
                Errno::WOULDBLOCK => {
                    io::Error::other("another hsmime-milter has it; each needs its own `state`")
                }
                _ => error.into(),
            })
        })?;
        let key = Key::load(&folder.join("marker.key")).map_err(fail(&folder.join("marker.key")))?;
        let taken = folder.join("taken");
        let memory = Memory::load(&taken, SystemTime::now()).map_err(fail(&taken))?;
        let shared = Shared {
            folder: folder.clone(),
            began: Instant::now(),
            key,
            sets: Sets::new(folder),
            name: name.to_owned(),
            memory: Mutex::new(memory),
            opened_from: Mutex::default(),
        };
        let shared = Arc::new(shared);
        shared.recover().map_err(fail(folder))?;
        let (wake, woken) = channel();
        let sender =
            sender::Sender { shared: Arc::clone(&shared), to: to.server.clone(), name: name.to_owned() };
        std::thread::Builder::new()
            .name("reinject".to_owned())
            .spawn(move || sender.run(&woken))
            .map_err(fail(folder))?;
        Ok(Arc::new(Self { shared, wake, _lock: held }))
    }

    /// Has copies whose bounces must not hold them sent from this address, those too that were written down without one: what
    /// waits for a server with DSN need not wait for it then.
    pub fn send_opened_from(&self, sender: Option<&MailAddress>) {
        let sender = sender.map(|sender| sender.as_str().to_owned());
        *self.shared.opened_from.lock().unwrap_or_else(PoisonError::into_inner) = sender;
        // Without a thread that sends, they wait for the next start.
        let _ = self.wake.send(());
    }

    /// How many copies wait for the MTA.
    pub fn waiting(&self) -> usize {
        self.shared.sets.waiting()
    }

    /// How many copies were put aside because they cannot be delivered.
    pub fn put_aside(&self) -> io::Result<usize> {
        put_aside(&self.shared.folder)
    }

    /// Why no copies can be written down now, if none can.
    pub fn trouble(&self) -> Option<String> {
        if self.waiting() >= MAX_WAITING {
            return Some(format!("{} copies wait", self.waiting()));
        }
        // As a copy is: a full or read-only disk shows only then.
        let tried = try_to_write(&self.shared.folder);
        tried.err().map(|error| format!("{}: {error}", self.shared.folder.display()))
    }

    /// Whether a message is a copy that this spool sent, and what of it is as it was sent.
    pub(crate) fn known(&self, envelope: &Envelope, message: &Message) -> Option<Known> {
        let entity = message.entity();
        let header = entity.header();
        let mut markers = header.all(MARKER);
        match (markers.next(), markers.next()) {
            (Some(marker), None) => {
                let Envelope { sender, recipients, .. } = envelope;
                let of = Marked { sender, recipients, body: message.body() };
                self.shared.key.known(&marker.unfolded(), of, &self.shared.results(message))
            }
            _ => None,
        }
    }

    /// Begins to write copies of a message down.
    pub(crate) fn begin<'e>(self: &Arc<Self>, envelope: &'e Envelope, original: Identity) -> Writing<'e> {
        Writing { spool: Arc::clone(self), envelope, original, set: None, known: 0, tags: Vec::new() }
    }

    /// What a message is known by when it comes again. One that has no Message-ID cannot be told from another that
    /// says the same.
    pub(crate) fn identify(&self, envelope: &Envelope, message: &Message) -> Identity {
        let has_id = message.entity().header().all("Message-ID").next().is_some();
        let salt = if has_id { String::new() } else { self.shared.unique() };
        self.shared.key.identity(&salt, &envelope.sender, message.octets())
    }
}

impl Writing<'_> {
    /// Writes a copy down, for those of its recipients who have none of the message yet. When this returns it is on the
    /// disk.
    pub(crate) fn add(&mut self, copy: Copy) -> Result<(), SpoolError> {
        let (now, shared) = (SystemTime::now(), &self.spool.shared);
        let Copy { mut recipients, mut octets, returned, sender } = copy;
        recipients.retain(|recipient| {
            let tag = shared.key.tag(&self.original, recipient);
            let is_known = shared.memory().knows(&tag, now);
            if is_known {
                self.known += 1;
            } else {
                self.tags.push(tag);
            }
            !is_known
        });
        if recipients.is_empty() {
            return Ok(());
        }
        // What SMTP would add is covered by the marker too.
        if !octets.ends_with(b"\r\n") {
            octets.extend_from_slice(b"\r\n");
        }
        // Bounces that go to somebody of ours may hold all of it, where the server knows no `RET`.
        let headers_only = returned == Returned::HeadersOnly;
        let asked = asked(&self.envelope.asked, &recipients, headers_only);
        let mut entry = Entry { sender: self.envelope.sender.clone(), recipients, headers_only, asked };
        if let Some(other) = sender {
            entry.send_from(other.as_str().to_owned());
        }
        let set = match &mut self.set {
            Some(set) => set,
            none => none.insert(shared.sets.open(&self.original)?),
        };
        if shared.sets.waiting().saturating_add(set.copies()) >= MAX_WAITING {
            let reason = io::Error::other(format!("{MAX_WAITING} copies wait already"));
            return Err(SpoolError { path: shared.folder.clone(), reason });
        }
        set.add(&entry, &octets)
    }

    /// Ends it. When this returns all of them are on the disk, or none is.
    pub(crate) fn seal(self) -> Result<Prepared, SpoolError> {
        if self.known > 0 {
            info!(recipients = self.known, "the message came before, and they have their copies");
        }
        let sealed = self.set.map(Open::seal).transpose()?;
        Ok(Prepared { spool: self.spool, sealed, tags: self.tags })
    }

    /// Takes them away again, with the work of sending: they are removed where others are released. Nor are they sent after a crash.
    pub(crate) fn forget(self) -> Result<(), SpoolError> {
        self.set.map_or(Ok(()), Open::forget)
    }
}

/// What was asked of the delivery to some of the recipients. A report of success on a text that bounces must not hold would
/// tell what was found of it (see `reports.rs`).
fn asked(of_all: &Asked, recipients: &[String], headers_only: bool) -> Asked {
    let of_recipients = recipients.iter().filter_map(|recipient| {
        let AskedOf { notify, original } = of_all.of_recipients.get(recipient)?.clone();
        let notify = notify.map(|words| if headers_only { without_success(&words) } else { words });
        Some((recipient.clone(), AskedOf { notify, original }))
    });
    let of_recipients = of_recipients.collect();
    let Asked { returned, envelope_id, is_international, .. } = of_all;
    let (returned, envelope_id) = (*returned, envelope_id.clone());
    Asked { returned, envelope_id, is_international: *is_international, of_recipients }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        // No change of it can be left half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aside(&self) -> Aside {
        Aside::since(&self.folder, self.began)
    }

    fn opened_from(&self) -> Option<String> {
        self.opened_from.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tags(&self, identity: &str, recipients: &[String]) -> Vec<Tag> {
        recipients.iter().map(|recipient| self.key.tag(identity, recipient)).collect()
    }

    /// The fields that only we write, if there are some, and those that such are about: a subject may have a tag.
    fn results(&self, message: &Message) -> Results {
        let entity = message.entity();
        let header = entity.header();
        let mut octets = Vec::new();
        let mut cover = |name: &str, value: &str| {
            // However it is folded.
            let words: Vec<&str> = value.split_ascii_whitespace().collect();
            let value = words.join(" ");
            octets.extend_from_slice(
                format!("{}:{}:{value}\n", name.to_ascii_lowercase(), value.len()).as_bytes(),
            );
        };
        let mut ours = authres::forged(&entity, &self.name);
        ours.retain(|field| !field.name.eq_ignore_ascii_case(MARKER));
        let are_there = !ours.is_empty();
        // In one pass: strangers write as many as they like.
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut values: HashMap<(String, u32), String> = HashMap::new();
        for field in header.fields().filter(|_| are_there) {
            let name = field.name().to_ascii_lowercase();
            let index = seen.entry(name.clone()).or_default();
            *index += 1;
            values.insert((name, *index), field.unfolded());
        }
        for field in &ours {
            let value = values.get(&(field.name.to_ascii_lowercase(), field.index));
            cover(&field.name, value.map_or("", String::as_str));
        }
        for name in WITH_RESULTS {
            header.all(name).for_each(|field| cover(name, &field.unfolded()));
        }
        Results { are_there, octets }
    }

    /// Digits that nothing else in this spool has.
    fn unique(&self) -> String {
        self.key.identity(&format!("{:?} {}", SystemTime::now(), self.sets.number()), "", &[])
    }

    /// Finds out what the last process left behind.
    fn recover(&self) -> io::Result<()> {
        let in_doubt = self.sets.recover()?;
        self.aside().recover();
        again::prepare(&self.folder);
        let now = SystemTime::now();
        for path in self.sets.ready()? {
            // One that is damaged is the sender's to report.
            let Ok((entry, _)) = Entry::read(&path) else { continue };
            let tags = self.tags(identity_of(&path), &entry.recipients);
            self.memory().hold_again(&tags, now);
        }
        let waiting = self.sets.waiting();
        if waiting > 0 {
            info!(waiting, in_doubt, "copies of an earlier run are sent");
        }
        Ok(())
    }
}

impl Prepared {
    /// Has the copies sent. To be called when the MTA has all but the answer. After an error they are all sent or
    /// none, and whoever is told to try again gets none twice.
    pub(crate) fn commit(mut self) -> Result<(), SpoolError> {
        let Some(sealed) = self.sealed.take() else { return Ok(()) };
        let shared = &self.spool.shared;
        // Before the thread can find them, which may forget them.
        shared.memory().hold(&self.tags, SystemTime::now());
        let done = shared.sets.release(sealed);
        if let Err(Held::Back(_)) = &done {
            shared.memory().forget(&self.tags);
        }
        // Without a thread that sends, the copies wait for the next start.
        let _ = self.spool.wake.send(());
        done.map_err(Into::into)
    }
}

/// Writes some octets to a file that nobody sees.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?;
    File::from(file).write_all(b"hsmime")
}

/// Writes a new file with its octets on the disk, or leaves the one that is there.
fn write_new(path: &Path, octets: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests;
