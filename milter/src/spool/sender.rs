//! The thread that hands copies back to the MTA, one after the other, each until all of its recipients have it or will not
//! get it for good. Of these the sender is told.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};

use agent::settings::Listen;
use rustix::io::Errno;
use tracing::{error, info, warn};

use smime::mime::Message;

use crate::asked;

use super::{
    Entry, Shared, again,
    marker::Marked,
    notice::Notice,
    server,
    set::{Held, Sets, age, identity_of},
    smtp::{self, Report, Trouble},
    try_to_write,
};

/// Sends what is in the spool.
pub(super) struct Sender {
    pub(super) shared: Arc<Shared>,
    /// Where copies go.
    pub(super) to: Listen,
    /// The host's name in notices and in EHLO.
    pub(super) name: String,
}

/// What is not tried now.
#[derive(Default)]
struct Pauses {
    copies: HashMap<PathBuf, Pause>,
    /// While there is no server, nothing is.
    server: Option<Pause>,
    /// What cannot be sent again.
    told: again::Told,
}

#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    len: Duration,
}

/// Why a copy has to wait.
pub(super) enum Wait {
    /// For its own sake.
    Copy(String),
    /// There is no server for any.
    Server(String),
}

impl Pause {
    fn after(last: Option<&Self>, longest: Duration) -> Self {
        let len = last.map_or(FIRST_PAUSE, |last| (last.len * 2).min(longest));
        Self { until: Instant::now() + len, len }
    }

    fn left(self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
const LONGEST_OF_SERVER: Duration = Duration::from_secs(30);
/// How often what is put aside is looked at for its age.
const LOOK_ASIDE: Duration = Duration::from_hours(1);
/// How long a recipient is tried that a server does not take (RFC 5321 4.5.4.1).
const MAX_AGE: Duration = Duration::from_hours(5 * 24);

impl Sender {
    /// Sends until the spool is dropped.
    pub(super) fn run(self, woken: &Receiver<()>) {
        let mut pauses = Pauses::default();
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= LOOK_ASIDE {
                self.shared.aside().forget_due(SystemTime::now());
                looked = Instant::now();
            }
            let next = self.send_due(&mut pauses);
            match woken.recv_timeout(next) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => while woken.try_recv().is_ok() {},
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Tries what is due. Returns when to look again.
    fn send_due(&self, all: &mut Pauses) -> Duration {
        if let Some(left) = all.server.and_then(Pause::left) {
            return left;
        }
        again::take_up(&self.shared, &mut all.told);
        let paths = match self.shared.sets.ready() {
            Ok(paths) => paths,
            Err(reason) => {
                error!(%reason, "the spool cannot be read");
                return LONGEST_PAUSE;
            }
        };
        let listed: HashSet<&PathBuf> = paths.iter().collect();
        all.copies.retain(|path, _| listed.contains(path));
        for path in &paths {
            if all.copies.get(path).copied().and_then(Pause::left).is_some() {
                continue;
            }
            match self.send(path, SystemTime::now()) {
                Ok(()) => {
                    all.server = None;
                    all.copies.remove(path);
                }
                Err(Wait::Copy(reason)) => {
                    all.server = None;
                    let pause = Pause::after(all.copies.get(path), LONGEST_PAUSE);
                    let pause_s = pause.len.as_secs();
                    warn!(path = %path.display(), reason, pause_s, "a copy is not taken yet");
                    all.copies.insert(path.clone(), pause);
                }
                Err(Wait::Server(reason)) => {
                    let pause = Pause::after(all.server.as_ref(), LONGEST_OF_SERVER);
                    let (waiting, pause_s) = (self.shared.sets.waiting(), pause.len.as_secs());
                    warn!(reason, waiting, pause_s, "no copies are taken yet");
                    all.server = Some(pause);
                    return pause.len;
                }
            }
        }
        // Notices have been added meanwhile.
        let ready = self.shared.sets.ready().unwrap_or_default();
        if ready.iter().any(|path| !all.copies.contains_key(path)) {
            return Duration::ZERO;
        }
        all.copies.values().map(|pause| pause.left().unwrap_or_default()).min().unwrap_or(LONGEST_PAUSE)
    }

    pub(super) fn send(&self, path: &Path, now: SystemTime) -> Result<(), Wait> {
        let (mut entry, message) = match Entry::read(path) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                error!(path = %path.display(), "a copy is damaged, and is put aside");
                let moved = self.shared.aside().take_over(&self.shared.sets, path, now);
                return moved.map_err(|error| Wait::Copy(error.to_string()));
            }
            Err(error) => return Err(Wait::Copy(error.to_string())),
        };
        if let Some(sender) = self.shared.opened_from() {
            entry.send_from(sender);
        }
        let written = entry.recipients.len();
        self.leave_out_settled(path, &mut entry, now);
        if entry.recipients.is_empty() {
            return self.finish(path);
        }
        self.check_spool()?;
        let message = smtp::with_plain_line_ends(&message);
        let parsed = Message::from_stored(&message);
        let results = self.shared.results(&parsed);
        let marker = |recipients: &[String]| {
            let of = Marked { sender: &entry.sender, recipients, body: parsed.body() };
            self.shared.key.marker(of, &results)
        };
        let mut report = match smtp::send(&self.to, &self.name, &entry, &message, marker) {
            Ok(report) => report,
            // No recipient's fault: what waits for the server waits for as long as it takes.
            Err(Trouble::Away(error)) => {
                return Err(Wait::Server(format!("{}: {error}", server::name(&self.to))));
            }
            Err(Trouble::Lost(error)) => {
                let later = entry.recipients.iter().map(|one| (one.clone(), error.to_string()));
                Report { later: later.collect(), ..Report::default() }
            }
        };
        if age(path, now) > MAX_AGE {
            let expired =
                |(one, reply)| (one, format!("551 5.4.7 not taken for five days, at last: {reply}"));
            report.refused.extend(report.later.drain(..).map(expired));
        }
        self.settle(path, (entry, written), &message, report, now)
    }

    /// Leaves out those who have the copy, or will not get it, where that could not be written into it.
    fn leave_out_settled(&self, path: &Path, entry: &mut Entry, now: SystemTime) {
        let identity = identity_of(path);
        let mut memory = self.shared.memory();
        let mut settled = Vec::new();
        entry.recipients.retain(|recipient| {
            let tag = self.shared.key.tag(identity, recipient);
            let is_settled = memory.is_settled(&tag, now);
            settled.extend(is_settled.then_some(tag));
            !is_settled
        });
        if let Err(reason) = memory.remember(&settled, now) {
            warn!(%reason, "it is remembered who has a copy only until the milter stops");
        }
    }

    /// Sends nothing whose end could not be written down. A full disk is no reason: what is sent makes room.
    fn check_spool(&self) -> Result<(), Wait> {
        match try_to_write(&self.shared.folder) {
            Err(error) if forgets(&error) => {
                let folder = self.shared.folder.display();
                Err(Wait::Server(format!("{folder}: {error}: nobody could write down who has a copy")))
            }
            _ => Ok(()),
        }
    }

    /// Takes a copy away with which nothing is left to do.
    fn finish(&self, path: &Path) -> Result<(), Wait> {
        let done = self.shared.sets.finish(path);
        done.map_err(|error| Wait::Copy(format!("it is done, and cannot be removed: {error}")))
    }

    /// Does what the server's answer asks for, of an entry that is `written` with so many recipients. What cannot be done now is
    /// left for the next time.
    fn settle(
        &self,
        path: &Path,
        (entry, written): (Entry, usize),
        message: &[u8],
        report: Report,
        now: SystemTime,
    ) -> Result<(), Wait> {
        let identity = identity_of(path);
        let Report { taken, refused, later } = report;
        if !taken.is_empty() {
            info!(recipients = taken.len(), octets = message.len(), "a copy was handed back");
            if let Err(reason) = self.shared.memory().record(&self.shared.tags(identity, &taken), now) {
                warn!(%reason, "it is not remembered who has a copy");
            }
        }
        let mut reason = later.first().map(|(_, reply)| reply.clone());
        let mut left: Vec<String> = later.into_iter().map(|(recipient, _)| recipient).collect();
        if !refused.is_empty() {
            let recipients: Vec<String> = refused.iter().map(|(recipient, _)| recipient.clone()).collect();
            match self.give_up(path, &entry, message, &refused, now) {
                Ok(()) => self.shared.memory().told(&self.shared.tags(identity, &recipients), now),
                Err(error) => {
                    reason = Some(error);
                    left.extend(recipients);
                }
            }
        }
        if left.is_empty() {
            return self.finish(path);
        }
        if left.len() < written
            && let Err(error) = Sets::replace(path, &Entry { recipients: left, ..entry }, message)
        {
            reason = Some(format!("some have it, and this cannot be written: {error}"));
        }
        Err(Wait::Copy(reason.unwrap_or_default()))
    }

    /// Tells the sender who will not get it, but for those of whom he did not ask to be told. Where nobody can be told, it is
    /// kept for the operator; and where that would tell what came of a key: what a server thinks of a copy may depend on whether
    /// that was opened (RFC 3218), by a check of its header or body, another milter, or its size.
    fn give_up(
        &self,
        path: &Path,
        entry: &Entry,
        message: &[u8],
        refused: &[(String, String)],
        now: SystemTime,
    ) -> Result<(), String> {
        let (first, reply) = first_of(refused);
        let recipients = refused.len();
        if entry.sender.is_empty() || entry.headers_only {
            let names = refused.iter().map(|(recipient, _)| recipient.clone()).collect();
            let kept = Entry { recipients: names, ..entry.clone() };
            let put = self.shared.aside().put(path, kept, message, now);
            let aside = put.map_err(|error| format!("it was refused, and cannot be put aside: {error}"))?;
            let why = if entry.sender.is_empty() {
                "it has no sender"
            } else {
                "its sender must not learn whether it opened; with `opened-mail-sender` in [milter] you are told"
            };
            error!(recipients, first, reply, path = %aside.display(), why, "a copy was refused, and is put aside");
            return Ok(());
        }
        let wants_it = |(recipient, _): &(String, String)| {
            asked::wants_failures(entry.asked.of_recipients.get(recipient))
        };
        let (refused, untold): (Vec<_>, Vec<_>) = refused.iter().cloned().partition(wants_it);
        if !untold.is_empty() {
            let (first, reply) = first_of(&untold);
            let recipients = untold.len();
            warn!(recipients, first, reply, "a copy was refused; its sender asked not to be told");
        }
        if refused.is_empty() {
            return Ok(());
        }
        let (first, reply) = first_of(&refused);
        let recipients = refused.len();
        let id = self.shared.unique();
        let notice = Notice { reporter: &self.name, id: &id, at: now, refused: &refused };
        let to = Entry::notice_to(entry.sender.clone());
        let sealed = self.shared.sets.open(&id).and_then(|mut set| {
            set.add(&to, &notice.write(entry, message))?;
            set.seal()
        });
        match sealed.map(|sealed| self.shared.sets.release(sealed)) {
            Err(error) | Ok(Err(Held::Back(error))) => return Err(error.to_string()),
            Ok(Err(Held::Unsynced(_)) | Ok(())) => {}
        }
        warn!(recipients, first, reply, "a copy was refused; its sender is told");
        Ok(())
    }
}

/// Whether a folder that cannot be written to for this reason lets nothing be removed either.
fn forgets(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
        || Errno::from_io_error(error) == Some(Errno::IO)
}

/// The first of those who are refused, and why.
fn first_of(refused: &[(String, String)]) -> (Option<&str>, Option<&str>) {
    refused.first().map(|(first, reply)| (first.as_str(), reply.as_str())).unzip()
}
