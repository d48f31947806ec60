//! Questions about the tokens, answered on a thread of their own: the one that reads a connection's requests must
//! not wait for a token that is slow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    gate::Gate,
    outbox::Outbox,
    report::{Inquiry, Report, WireKey, WireNeed, WireStatus},
    served_keys::MOST_DEFINED,
    server::BACKLOG,
    wire::FromServer,
};
use crate::{
    Pool,
    public_key::{KeyName, key_identifier},
    shortcomings::Need,
};

/// The questions of one connection. The thread begins with the first one, and ends with this.
pub(super) struct Inquiries {
    outbox: Arc<Outbox>,
    gate: Arc<dyn Gate>,
    asked: Option<SyncSender<Asked>>,
}

struct Asked {
    id: u64,
    inquiry: Inquiry,
    pool: Pool,
    room: Room,
}

/// What a question takes of the octets that its user's keys may have.
struct Room {
    octets: usize,
    all: Option<Arc<AtomicUsize>>,
}

impl Room {
    fn of(inquiry: &Inquiry, all: Option<Arc<AtomicUsize>>) -> Option<Self> {
        let octets = inquiry.octets();
        let before = all.as_ref().map_or(0, |all| all.fetch_add(octets, Ordering::Relaxed));
        let room = Self { octets, all };
        (before + octets <= MOST_DEFINED).then_some(room)
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
        Self { outbox: Arc::clone(outbox), gate: Arc::clone(gate), asked: None }
    }

    /// Has a question answered. Of too many at once some get no answer; who asked asks again.
    pub(super) fn take(&mut self, id: u64, inquiry: Inquiry, pool: Pool) {
        if self.asked.is_none() {
            let (asked, questions) = sync_channel(MOST_WAITING);
            let (outbox, gate) = (Arc::clone(&self.outbox), Arc::clone(&self.gate));
            let work = move || answer_all(&questions, &outbox, &*gate);
            match thread::Builder::new().name("inquiries".into()).spawn(work) {
                Ok(_) => self.asked = Some(asked),
                Err(error) => tracing::error!(%error, "no thread to answer what is asked about the tokens"),
            }
        }
        let room = Room::of(&inquiry, self.gate.defined());
        if let (Some(asked), Some(room)) = (&self.asked, room) {
            let _ = asked.try_send(Asked { id, inquiry, pool, room });
        }
    }
}

fn answer_all(questions: &Receiver<Asked>, outbox: &Arc<Outbox>, gate: &dyn Gate) {
    while let Ok(Asked { id, inquiry, pool, room }) = questions.recv() {
        outbox.wait_below(BACKLOG);
        let report = report(&pool, inquiry, gate);
        // Where it does not fit, or the connection has ended, whoever asked finds out by the time.
        let _ = outbox.post(&FromServer::Report { id, report });
        drop(room);
    }
}

fn report(pool: &Pool, inquiry: Inquiry, gate: &dyn Gate) -> Report {
    match inquiry {
        Inquiry::Status => Report::Status(pool.status().iter().map(WireStatus::from).collect()),
        Inquiry::Metrics => Report::Metrics(pool.metrics().into_iter().take(MOST_METRICS).collect()),
        Inquiry::Missing { keys } => {
            let names: Vec<Option<KeyName>> = keys.into_iter().map(|key| shown(key, gate)).collect();
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
                if let Some(name) = shown(key, gate) {
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
            Report::Findings(findings)
        }
    }
}

/// The name by which a key is looked for. `None`: the client may not know of it.
fn shown(mut key: WireKey, gate: &dyn Gate) -> Option<KeyName> {
    if key.public_key_info.len() > LONGEST_INFO {
        return None;
    }
    if !gate.believes_ids() {
        key.ids = key_identifier(&key.public_key_info).into_iter().collect();
    }
    let name = KeyName::from(key);
    gate.shows(&name.sha256()).then_some(name)
}

/// How long an answer is waited for: tokens of this process are seen at once as they are, others must be asked.
fn patience(pool: &Pool) -> Instant {
    let limit = if pool.remotes().is_empty() { Duration::ZERO } else { INQUIRY_LIMIT };
    Instant::now() + limit
}

/// No public key that is of use here is longer.
pub(super) const LONGEST_INFO: usize = 4096;
/// How many questions of a connection may wait.
const MOST_WAITING: usize = 64;
/// Of how many tokens the metrics are told: that many fit into a frame.
const MOST_METRICS: usize = 16;
/// How long a question about tokens in other processes may take.
const INQUIRY_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        public_key::rsa_info,
        remote::gate::{Closing, KeyUse, Open, Told},
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

    fn key(modulus: u8) -> WireKey {
        let public_key_info = rsa_info(&[modulus; 256], &[1, 0, 1]).unwrap();
        WireKey { public_key_info, ids: vec![b"another's".to_vec()], description: "it".into() }
    }

    #[test]
    fn a_client_learns_of_its_own_keys_only_and_does_not_say_which_ids_they_have() {
        let own = KeyName::from(key(0xc5));
        let gate = One(own.sha256());
        assert_eq!(shown(key(0xc5), &gate).unwrap().ids, [key_identifier(&own.info).unwrap()]);
        assert!(shown(key(0xc7), &gate).is_none());
        assert_eq!(shown(key(0xc7), &Open).unwrap().ids, [b"another's"], "a parent is believed");
        let endless = WireKey { public_key_info: vec![0; LONGEST_INFO + 1], ..key(0xc7) };
        assert!(shown(endless, &Open).is_none());
    }

    #[test]
    fn what_is_asked_takes_as_much_as_a_frame_and_of_what_its_user_may_have() {
        let of = |keys: usize, ids: usize, octets: usize| Inquiry::Missing {
            keys: (0..keys)
                .map(|_| WireKey {
                    public_key_info: vec![0; octets],
                    ids: vec![Vec::new(); ids],
                    description: String::new(),
                })
                .collect(),
        };
        for (keys, ids, is_taken) in
            [(2048, 0, true), (2049, 0, false), (87_000, 0, false), (1, 4, true), (1, 5, false)]
        {
            let frame = postcard::to_allocvec(&of(keys, ids, 0)).unwrap();
            assert_eq!(postcard::from_bytes::<Inquiry>(&frame).is_ok(), is_taken, "{keys} {ids}");
        }
        let all = Arc::new(AtomicUsize::new(0));
        let long = of(1000, 1, 4096);
        let rooms: Vec<Room> =
            std::iter::from_fn(|| Room::of(&long, Some(Arc::clone(&all)))).take(100).collect();
        assert!((3..10).contains(&rooms.len()), "{}", rooms.len());
        assert_eq!(all.load(Ordering::Relaxed), rooms.len() * long.octets(), "what found none has none");
        drop(rooms);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
