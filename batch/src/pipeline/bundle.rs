//! Small messages, handed to a thread some at a time.

use rayon::ScopeFifo;

use super::ticket::{CloseAtPanic, Queued, Shared, Ticket};
use crate::worker::Found;

/// Messages that are handed to a thread together.
#[derive(Default)]
pub(super) struct Bundle {
    pub(super) messages: Vec<(Ticket, Found)>,
    pub(super) octets: usize,
}

/// After how many octets or messages a bundle is handed over.
const BUNDLE_OCTETS: usize = 256 * 1024;
const BUNDLE_MESSAGES: usize = 16;
/// From how many octets on a message is handed over by itself.
pub(super) const ALONE: usize = 128 * 1024;

impl Bundle {
    pub(super) fn is_full(&self) -> bool {
        self.octets >= BUNDLE_OCTETS || self.messages.len() >= BUNDLE_MESSAGES
    }

    pub(super) fn hand_over<'scope, 'task: 'scope>(
        &mut self,
        shared: Shared<'scope, 'task>,
        scope: &ScopeFifo<'scope>,
    ) {
        let Self { messages, .. } = std::mem::take(self);
        if messages.is_empty() {
            return;
        }
        scope.spawn_fifo(move |_| {
            let sequences = || messages.iter().map(|(ticket, _)| ticket.sequence);
            let begins = match (sequences().next(), sequences().next_back()) {
                (Some(first), Some(last)) => shared.line.begins(first, last),
                _ => false,
            };
            let begun = messages.into_iter().filter_map(|(ticket, found)| {
                let _closing = CloseAtPanic(shared.gate);
                if begins { ticket.begin(shared, found) } else { Some(ticket.dropped(shared)) }
            });
            let finished: Vec<Queued> = begun.collect();
            shared.finished.put(finished);
        });
    }
}
