//! The byte gate: how much may be in flight between the reader and the writer.
//!
//! # Memory
//!
//! A message is charged [`WEIGHT`] times its octets plus [`OVERHEAD`] before it enters the queue, and the
//! charge is given back after it was written. The weight is for all there may be of a message at one time:
//! as stored, with CRLF, the other reading of a quoted mbox, the new entity, its encoded form, as written.
//! Measured: signing base64 takes 5.2 times the message, decrypting 4.4, signing a text of nothing but
//! umlauts, which grows to three times its size, 9.1.
//! A ciphertext of which only the object is looked at is charged [`LIGHT`] times its octets: as stored, the object, and
//! as written, or what is decrypted for proof; what cannot be decoded in the end may be read as a whole besides.
//! Measured: rekeying takes 2.8 times the message.
//! Once it is rendered nothing is left of a message but what will be written, and it is charged no more than
//! that: the next one need not wait for the disk.
//! A message that alone is more than the gate enters when nothing else is inside; so does one that is worked on by way of
//! the disk, whose large buffers are files and no memory ([`scratch`](crate::scratch)). So, with the gate `G` and
//! the largest message kept in memory `M` (`--in-memory`), what a run has in memory of its own is at most
//!
//! ```text
//! program and threads + max(G, WEIGHT × M + OVERHEAD) + 2 × M
//! ```
//!
//! where `2 × M` is the message being read. To that come the pages of such files that were used in the last instants; the
//! kernel can take them back at any time. Measured: 5 MiB for a message of 256 MiB, whatever is done with it, and all of
//! it within a control group of 128 MiB. Neither the size of the archive nor a first message that waits
//! for the token is in it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many times its octets a message may be in memory.
pub const WEIGHT: u64 = 10;

/// The same of a ciphertext of which only the object is looked at.
pub const LIGHT: u64 = 5;

/// What a message needs besides its octets.
pub const OVERHEAD: u64 = 8 * 1024;

/// What a message of this many octets is charged.
pub fn charge(octets: usize) -> u64 {
    WEIGHT.saturating_mul(octets as u64).saturating_add(OVERHEAD)
}

/// The same of a ciphertext of which only the object is looked at.
pub fn light_charge(octets: usize) -> u64 {
    LIGHT.saturating_mul(octets as u64).saturating_add(OVERHEAD)
}

/// What a message of which so many octets are still in memory is charged.
pub fn remainder(octets: usize) -> u64 {
    (octets as u64).saturating_add(OVERHEAD)
}

/// Lets charges in as long as there is room.
#[derive(Debug)]
pub struct Gate {
    limit: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: u64,
    closed: bool,
    /// How many wait for a change.
    waiting: usize,
}

impl Gate {
    /// A gate for charges of `limit` in sum.
    pub fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether there is room now.
    pub fn may_enter(&self, charge: u64) -> bool {
        self.fits(&self.state(), charge)
    }

    /// Waits until there is room. False if the gate was closed: nothing enters any more.
    #[must_use]
    pub fn enter(&self, charge: u64) -> bool {
        let mut state = self.state();
        let mut may_enter = self.fits(&state, charge);
        while !state.closed && !may_enter {
            state = self.wait(state);
            // Whoever has to wait waits for room for several: to be woken costs more than to enter.
            may_enter = self.has_much_room(&state) && self.fits(&state, charge);
        }
        if !state.closed {
            state.inside = state.inside.saturating_add(charge);
        }
        !state.closed
    }

    /// Gives a charge back.
    pub fn leave(&self, charge: u64) {
        let mut state = self.state();
        state.inside = state.inside.saturating_sub(charge);
        let is_waited_for = state.waiting > 0 && self.has_much_room(&state);
        drop(state);
        if is_waited_for {
            self.changed.notify_all();
        }
    }

    fn wait<'s>(&self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.waiting += 1;
        let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    fn fits(&self, state: &State, charge: u64) -> bool {
        state.inside == 0 || state.inside.saturating_add(charge) <= self.limit
    }

    fn has_much_room(&self, state: &State) -> bool {
        state.inside <= self.limit - self.limit / 4
    }

    /// Waits until nothing is inside, or the gate is closed.
    pub fn wait_until_empty(&self) {
        let mut state = self.state();
        while !state.closed && state.inside > 0 {
            state = self.wait(state);
        }
    }

    /// Lets nothing more in.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Whether the gate was closed.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The numbers are right after each statement, so a panic elsewhere has not harmed them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn what_does_not_fit_waits_until_there_is_room() {
        let gate = Gate::new(100);
        assert!(gate.enter(60));
        let (entered, events) = mpsc::channel();
        thread::scope(|scope| {
            let gate = &gate;
            scope.spawn(move || entered.send(gate.enter(50)));
            assert!(events.recv_timeout(Duration::from_millis(50)).is_err());
            gate.leave(60);
            assert_eq!(events.recv_timeout(Duration::from_secs(10)), Ok(true));
        });
    }

    #[test]
    fn a_message_larger_than_the_gate_enters_alone() {
        let gate = Gate::new(100);
        assert!(gate.enter(1000));
        gate.leave(1000);
        assert!(gate.enter(100));
    }

    #[test]
    fn who_waits_enters_at_the_latest_when_nothing_is_inside() {
        let gate = Gate::new(100);
        assert!(gate.enter(40) && gate.enter(40) && gate.enter(20));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(70));
            thread::sleep(Duration::from_millis(20));
            gate.leave(20);
            gate.leave(40);
            thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished(), "there is no room yet");
            gate.leave(40);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn closing_wakes_whoever_waits() {
        let gate = Gate::new(1);
        assert!(gate.enter(1));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(1));
            thread::sleep(Duration::from_millis(20));
            gate.close();
            assert!(!waiting.join().unwrap());
        });
    }
}
