//! What has become of notices: a child waits for its parent to have written them down.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};

/// All that are waited for.
#[derive(Default)]
pub(super) struct Receipts(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    last: u64,
    replies: HashMap<u64, Sender<bool>>,
}

/// One that is waited for.
pub(super) struct Receipt<'a> {
    receipts: &'a Receipts,
    number: u64,
    reply: Receiver<bool>,
}

impl Receipts {
    /// The next.
    pub(super) fn expect(&self) -> Receipt<'_> {
        let (sender, reply) = bounded(1);
        let mut waiting = self.lock();
        waiting.last += 1;
        let number = waiting.last;
        waiting.replies.insert(number, sender);
        Receipt { receipts: self, number, reply }
    }

    /// It is there. Whoever waited for it may have gone.
    pub(super) fn arrived(&self, number: u64, kept: bool) {
        if let Some(reply) = self.lock().replies.remove(&number) {
            let _ = reply.send(kept);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipt<'_> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether the notice is kept.
    pub(super) fn wait(self, limit: Duration) -> bool {
        self.reply.recv_timeout(limit).unwrap_or(false)
    }
}

impl Drop for Receipt<'_> {
    fn drop(&mut self) {
        self.receipts.lock().replies.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_counts_as_kept_only_where_that_was_said_of_it() {
        let receipts = Receipts::default();
        let [first, second, third] = [(); 3].map(|()| receipts.expect());
        receipts.arrived(second.number(), true);
        receipts.arrived(first.number(), false);
        assert!(!first.wait(Duration::ZERO) && second.wait(Duration::ZERO));
        assert!(!third.wait(Duration::from_millis(10)), "nothing was said");
        receipts.arrived(3, true);
        assert!(receipts.lock().replies.is_empty());
    }
}
