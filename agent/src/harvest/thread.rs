//! Harvesting beside the mail: on a thread of its own, which no message waits for.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::SystemTime,
};

use certcache::Chooser;
use smime::path::Trust;
use tracing::{debug, error, info, warn};

use super::{Harvested, Signed, harvest};

/// How many messages may wait. A flood of signed mail is not a reason to hold all of it in memory.
const MAX_WAITING: usize = 256;

/// Harvests from messages that were answered, one after the other. The thread ends when this is dropped, after those that
/// wait.
#[derive(Debug)]
pub struct Harvester {
    queue: SyncSender<Signed>,
    /// Whether somebody was told that messages are passed over.
    has_warned: AtomicBool,
}

impl Harvester {
    /// Starts the thread. The chooser's cache is filled, with what leads to an anchor of this trust.
    pub fn start(chooser: Chooser, trust: Trust) -> std::io::Result<Self> {
        Self::start_with(MAX_WAITING, move |signed| one(&chooser, &trust, signed))
    }

    fn start_with(room: usize, work: impl Fn(&Signed) + Send + 'static) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(room);
        thread::Builder::new().name("harvest".into()).spawn(move || run(&waiting, work))?;
        Ok(Self { queue, has_warned: AtomicBool::new(false) })
    }

    /// Leaves a message to the thread. It never waits: with too many there already the message is passed over, and the
    /// sender's next one serves as well.
    pub fn offer(&self, signed: Signed) {
        match self.queue.try_send(signed) {
            Ok(()) => self.has_warned.store(false, Ordering::Relaxed),
            Err(TrySendError::Full(_)) => {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    warn!(waiting = MAX_WAITING, "too much signed mail at once: not all of it is harvested");
                }
            }
            // The thread ended by a defect, which was told.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

fn run(waiting: &Receiver<Signed>, work: impl Fn(&Signed)) {
    for signed in waiting {
        if catch_unwind(AssertUnwindSafe(|| work(&signed))).is_err() {
            error!("harvesting from a message panicked");
        }
    }
}

fn one(chooser: &Chooser, trust: &Trust, signed: &Signed) {
    let mail = signed.mail();
    let message_id = mail.message_id;
    match harvest(chooser, trust, &mail, SystemTime::now()) {
        Ok(Harvested::Kept { state, is_new: true, .. }) => {
            info!(message_id, state = state.name(), "a sender's certificate is kept");
        }
        Ok(Harvested::Kept { .. } | Harvested::Nothing) => {}
        Ok(Harvested::Refused(filter)) => debug!(message_id, %filter, "no certificate is kept"),
        Err(error) => warn!(message_id, %error, "no certificate is kept"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::channel,
        time::{Duration, Instant},
    };

    use smime::{
        MailAddress,
        message::verify,
        mime::{MimeEntity, single_originator},
        path::Trust,
    };

    use super::{super::Origin, *};

    /// A message of this Message-ID.
    fn signed(message_id: usize) -> Signed {
        let entity = MimeEntity::parse(b"From: a@x.invalid\r\n\r\n");
        let (verdict, signers) =
            verify(&entity, single_originator(&entity), &Trust::default(), SystemTime::UNIX_EPOCH);
        Signed {
            verdict,
            signers,
            sender: MailAddress::parse("a@x.invalid").unwrap(),
            message_id: Some(message_id.to_string()),
            origin: Origin::Outside,
        }
    }

    #[test]
    fn whoever_offers_a_message_never_waits_and_what_is_too_much_is_passed_over() {
        let (go, gate) = channel::<()>();
        let (seen, all) = channel();
        let harvester = Harvester::start_with(3, move |signed| {
            // The gate is closed for ever once it is dropped.
            let _ = gate.recv();
            seen.send(signed.message_id.clone().unwrap()).unwrap();
        })
        .unwrap();
        let start = Instant::now();
        for number in 0..1000 {
            harvester.offer(signed(number));
        }
        assert!(harvester.has_warned.load(Ordering::Relaxed));
        assert!(start.elapsed() < Duration::from_mins(1));
        drop((go, harvester));
        let all: Vec<String> = all.iter().collect();
        // Three wait, one is worked on.
        assert!((3..=4).contains(&all.len()), "{all:?}");
        assert_eq!(all[..3], ["0", "1", "2"]);
    }

    #[test]
    fn a_message_that_makes_harvesting_panic_harms_only_itself() {
        let (seen, all) = channel();
        let harvester = Harvester::start_with(3, move |signed| {
            let id = signed.message_id.clone().unwrap();
            assert_ne!(id, "0", "on purpose");
            seen.send(id).unwrap();
        })
        .unwrap();
        for number in 0..3 {
            harvester.offer(signed(number));
        }
        drop(harvester);
        assert_eq!(all.iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}
