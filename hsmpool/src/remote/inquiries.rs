//! Questions about the tokens, answered on a thread of their own: the one that reads a connection's requests must
//! not wait for a token that is slow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    frame::decode,
    gate::Gate,
    outbox::Outbox,
    report::{Inquiry, Report, WireKey, WireNeed, WireStatus},
    served_keys::{MOST_DEFINED, shortened},
    server::BACKLOG,
    wire::{AtMost, FromServer, ToServer},
};
use crate::{
    Pool,
    public_key::{KeyName, key_identifier, key_sha256},
    shortcomings::Need,
};

/// The questions of one connection. The thread begins with the first one; with this it ends, which is waited for: what is counted
/// are connections.
pub(super) struct Inquiries {
    outbox: Arc<Outbox>,
    gate: Arc<dyn Gate>,
    thread: Thread,
}

/// Who answers.
enum Thread {
    /// Nothing was asked yet.
    None,
    Answers {
        asked: SyncSender<Asked>,
        ends: Arc<AtomicBool>,
        handle: JoinHandle<()>,
    },
    /// The system had none. That was said.
    Refused,
}

/// A question that waits: not more than its octets.
struct Asked {
    frame: Box<[u8]>,
    pool: Pool,
    room: Room,
}

/// What a question takes of the octets that its user's keys may have.
struct Room {
    octets: usize,
    all: Option<Arc<AtomicUsize>>,
}

impl Room {
    fn of(octets: usize, all: Option<Arc<AtomicUsize>>) -> Option<Self> {
        let take = |taken| Some(taken + octets).filter(|taken| *taken <= MOST_DEFINED);
        let has_room = all
            .as_ref()
            .is_none_or(|all| all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok());
        has_room.then(|| Self { octets, all })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(all) = &self.all {
            all.fetch_sub(self.octets, Ordering::Relaxed);
        }
    }
}

impl Inquiries {
    pub(super) fn new(outbox: &Arc<Outbox>, gate: &Arc<dyn Gate>) -> Self {
        Self { outbox: Arc::clone(outbox), gate: Arc::clone(gate), thread: Thread::None }
    }

    /// Has the question of this frame answered. Of too many at once some get no answer; who asked asks again.
    pub(super) fn take(&mut self, frame: &[u8], pool: Pool) {
        if matches!(self.thread, Thread::None) {
            self.thread = self.begin();
        }
        let room = Room::of(frame.len().max(LEAST), self.gate.defined());
        if let (Thread::Answers { asked, .. }, Some(room)) = (&self.thread, room) {
            let _ = asked.try_send(Asked { frame: frame.into(), pool, room });
        }
    }

    fn begin(&self) -> Thread {
        // A parent asks for all of its clients.
        let (asked, questions) =
            sync_channel(if self.gate.believes_ids() { MOST_OF_PARENT } else { MOST_WAITING });
        let (outbox, gate) = (Arc::clone(&self.outbox), Arc::clone(&self.gate));
        let ends = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&ends);
        let work = move || answer_all(&questions, &outbox, &*gate, &has_ended);
        match thread::Builder::new().name("inquiries".into()).spawn(work) {
            Ok(handle) => Thread::Answers { asked, ends, handle },
            Err(error) => {
                tracing::error!(%error, "no thread to answer what is asked about the tokens");
                Thread::Refused
            }
        }
    }
}

impl Drop for Inquiries {
    fn drop(&mut self) {
        if let Thread::Answers { asked, ends, handle } = std::mem::replace(&mut self.thread, Thread::Refused)
        {
            ends.store(true, Ordering::Relaxed);
            drop(asked);
            // The panic hook has told why.
            let _ = handle.join();
        }
    }
}

fn answer_all(questions: &Receiver<Asked>, outbox: &Arc<Outbox>, gate: &dyn Gate, has_ended: &AtomicBool) {
    while let Ok(Asked { frame, pool, room }) = questions.recv() {
        outbox.wait_below(BACKLOG);
        if outbox.is_closed() || has_ended.load(Ordering::Relaxed) {
            return;
        }
        // Who put it here has seen that it is one.
        let Ok(ToServer::Inquire { id, inquiry }) = decode(&frame) else { continue };
        let report = report(&pool, inquiry, gate);
        // Where it does not fit, or the connection has ended, whoever asked finds out by the time.
        let _ = outbox.post(&FromServer::Report { id, report });
        drop(room);
    }
}

fn report(pool: &Pool, inquiry: Inquiry<'_>, gate: &dyn Gate) -> Report {
    match inquiry {
        Inquiry::Status => Report::Status(pool.status().iter().map(WireStatus::from).collect()),
        Inquiry::Metrics => Report::Metrics(pool.metrics().into_iter().collect()),
        Inquiry::Missing { keys } => {
            let names: Vec<Option<KeyName>> = keys.iter().map(|key| shown(key, gate)).collect();
            let asked: Vec<KeyName> = names.iter().flatten().cloned().collect();
            let lacks = pool.lacks(&asked, patience(pool)).ok().map(|lacks| {
                let mut lacks = lacks.into_iter();
                // What may not be used is not there.
                names.iter().map(|name| name.is_none() || lacks.next().unwrap_or(true)).collect()
            });
            Report::Missing(lacks)
        }
        Inquiry::Needs { needs } => {
            let mut places = Vec::new();
            let mut asked = Vec::new();
            for (place, WireNeed { key, signs, decrypts }) in needs.into_iter().enumerate() {
                if let Some(name) = shown(&key, gate) {
                    places.push(place);
                    asked.push(Need::new(name, signs, decrypts));
                }
            }
            let findings = pool.findings(&asked, patience(pool)).ok().map(|mut findings| {
                findings.retain_mut(|finding| {
                    let place = places.get(finding.need);
                    finding.need = place.copied().unwrap_or_default();
                    place.is_some()
                });
                findings
            });
            Report::Findings(findings.map(AtMost::from_iter))
        }
    }
}

/// The name by which a key is looked for. `None`: the client may not know of it.
fn shown(key: &WireKey<'_>, gate: &dyn Gate) -> Option<KeyName> {
    let info = key.public_key_info;
    if info.len() > LONGEST_INFO || !gate.shows(&key_sha256(info)) {
        return None;
    }
    let ids = if gate.believes_ids() { key.ids.to_vec() } else { key_identifier(info).into_iter().collect() };
    Some(KeyName::of_parts(info, ids, shortened(key.description).to_owned()))
}

/// How long an answer is waited for: tokens of this process are seen at once as they are, others must be asked.
fn patience(pool: &Pool) -> Instant {
    let limit = if pool.remotes().is_empty() { Duration::ZERO } else { INQUIRY_LIMIT };
    Instant::now() + limit
}

/// No public key that is of use here is longer.
pub(super) const LONGEST_INFO: usize = 4096;
/// How many questions of a connection may wait: more than a program has threads that ask.
const MOST_WAITING: usize = 16;
/// And of a parent's, which has a thread that asks for each of its clients.
const MOST_OF_PARENT: usize = 1024;
/// What a question counts for at least: its place here.
const LEAST: usize = 256;
/// How long a question about tokens in other processes may take.
const INQUIRY_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{
        public_key::rsa_info,
        remote::{
            buffer::Buffer,
            frame::{LENGTH, append},
            gate::{Closing, KeyUse, Open, Told},
            wire::Ids,
        },
    };
    use smime::key::KeyError;

    /// Shows one key.
    struct One([u8; 32]);

    impl Gate for One {
        fn begin(&self, _usage: &KeyUse<'_>) -> Result<Closing, KeyError> {
            Ok(Box::new(|_| Ok(Told::AsItIs)))
        }

        fn shows(&self, key: &[u8; 32]) -> bool {
            self.0 == *key
        }
    }

    #[test]
    fn a_client_learns_of_its_own_keys_only_and_does_not_say_which_ids_they_have() {
        let [own, other] = [0xc5, 0xc7].map(|octet| rsa_info(&[octet; 256], &[1, 0, 1]).unwrap());
        let ids = [b"another's".to_vec()];
        let long = "it ".repeat(1000);
        let key = |info| WireKey { public_key_info: info, ids: Ids::of(&ids), description: &long };
        let gate = One(key_sha256(&own));
        let name = shown(&key(&own), &gate).unwrap();
        assert_eq!(name.ids, [key_identifier(&own).unwrap()]);
        assert_eq!(name.description, shortened(&long));
        assert!(shown(&key(&other), &gate).is_none());
        assert_eq!(shown(&key(&other), &Open).unwrap().ids, ids, "a parent is believed");
        assert!(shown(&key(&[0; LONGEST_INFO + 1]), &Open).is_none());
    }

    #[test]
    fn no_thread_of_a_connection_outlives_it() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (outbox, pool) = (Outbox::new(Arc::new(ours)), Pool::start(&[]).unwrap());
        let gate: Arc<dyn Gate> = Arc::new(Open);
        let held = Arc::strong_count(&gate);
        let mut frame = Buffer::default();
        append(&mut frame, &ToServer::Inquire { id: 1, inquiry: Inquiry::Status }).unwrap();
        let mut inquiries = Inquiries::new(&outbox, &gate);
        for _ in 0..MOST_OF_PARENT {
            inquiries.take(&frame.as_slice()[LENGTH..], pool.clone());
        }
        drop(inquiries);
        assert_eq!(Arc::strong_count(&gate), held);
    }

    #[test]
    fn questions_that_wait_take_of_what_their_user_may_have() {
        let all = Arc::new(AtomicUsize::new(0));
        let rooms: Vec<Room> =
            std::iter::from_fn(|| Room::of(200_000, Some(Arc::clone(&all)))).take(1000).collect();
        assert_eq!(rooms.len(), MOST_DEFINED / 200_000);
        assert_eq!(all.load(Ordering::Relaxed), rooms.len() * 200_000, "what found none has none");
        drop(rooms);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
