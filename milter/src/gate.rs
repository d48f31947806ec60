//! Who is treated next: messages wait here for a worker and for memory, and pass by turns.
//!
//! Worker and memory are given together, so that nobody holds one and waits for the other. Of the clients who wait
//! each has one message passed before anybody has a second one, and so have the senders of one client; a client's
//! thousand messages hold up another's one by a single message.
//!
//! Small and large messages wait in lines of their own, so that a large one that waits for memory, or never ends, stops
//! no small one: a quarter of memory and workers is a reserve that only small ones use. While a large one waits, they
//! use nothing but the reserve: no large message is starved by small ones. Where both could pass, they take turns.

mod turns;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use self::turns::{Queue as _, Turns};

/// The gate before the treatment.
#[derive(Debug)]
pub(crate) struct Gate {
    /// What is for all.
    common: usize,
    /// A message that needs more is large.
    small: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free_workers: usize,
    /// Of these, so many are for small messages alone.
    reserved_workers: usize,
    /// Of what is for all.
    free_octets: usize,
    /// Of what is for small messages alone.
    free_reserve: usize,
    /// Numbers those who wait.
    count: u64,
    small: Line,
    large: Line,
    /// Who passes where a small and a large message can.
    small_is_next: bool,
}

/// Clients, and the senders of each.
type Line = Turns<Turns<VecDeque<Waiting>>>;

/// Where memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Common,
    Reserve,
}

/// Who passes, and what he gets.
#[derive(Debug)]
struct Next {
    pass: oneshot::Sender<Pass>,
    source: Source,
    octets: usize,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    octets: usize,
    pass: oneshot::Sender<Pass>,
}

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) worker: Worker,
    pub(crate) memory: Memory,
}

/// The right to a thread, until it is dropped.
#[derive(Debug)]
pub(crate) struct Worker(Arc<Gate>);

/// The right to octets of memory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    gate: Arc<Gate>,
    source: Source,
    octets: usize,
}

/// Takes who gives up out of the line.
struct Waiter<'g> {
    gate: &'g Arc<Gate>,
    number: u64,
    is_small: bool,
    client: &'g str,
    sender: &'g str,
    has_passed: bool,
}

impl Gate {
    pub(crate) fn new(workers: usize, octets: usize) -> Arc<Self> {
        let (workers, octets) = (workers.max(1), octets.max(1));
        let reserve = octets / RESERVED;
        let state = State {
            free_workers: workers,
            // With a single worker there is nothing to keep.
            reserved_workers: (workers / RESERVED).max(1).min(workers - 1),
            free_octets: octets - reserve,
            free_reserve: reserve,
            count: 0,
            small: Line::default(),
            large: Line::default(),
            small_is_next: true,
        };
        Arc::new(Self { common: octets - reserve, small: reserve / SMALL, state: Mutex::new(state) })
    }

    /// Waits for a worker and for so many octets. Who asks for more than there are for all gets all of these, and has
    /// only small messages beside.
    pub(crate) async fn pass(self: &Arc<Self>, client: &str, sender: &str, octets: usize) -> Option<Pass> {
        let octets = octets.min(self.common);
        let is_small = octets <= self.small;
        let (pass, passed) = oneshot::channel();
        let number = self.state().add(is_small, client, sender, octets, pass);
        let mut waiter = Waiter { gate: self, number, is_small, client, sender, has_passed: false };
        self.let_pass();
        let pass = passed.await.ok();
        waiter.has_passed = pass.is_some();
        pass
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        let state = self.state();
        let clients = state.small.queues.values().chain(state.large.queues.values());
        let senders = clients.flat_map(|senders| senders.queues.values());
        senders.map(VecDeque::len).sum()
    }

    /// Lets all pass who can.
    fn let_pass(self: &Arc<Self>) {
        loop {
            let next = self.state().next();
            let Some(Next { pass, source, octets }) = next else { return };
            let memory = Memory { gate: Arc::clone(self), source, octets };
            let granted = Pass { worker: Worker(Arc::clone(self)), memory };
            // Whoever gave up meanwhile gives it back by dropping it, and that looks again who can pass.
            drop(pass.send(granted));
        }
    }

    fn give_back(self: &Arc<Self>, give: impl FnOnce(&mut State)) {
        give(&mut self.state());
        self.let_pass();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of it can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(
        &mut self,
        is_small: bool,
        client: &str,
        sender: &str,
        octets: usize,
        pass: oneshot::Sender<Pass>,
    ) -> u64 {
        let number = self.count;
        self.count += 1;
        self.line(is_small).of(client).of(sender).push_back(Waiting { number, octets, pass });
        number
    }

    fn line(&mut self, is_small: bool) -> &mut Line {
        if is_small { &mut self.small } else { &mut self.large }
    }

    fn free(&mut self, source: Source) -> &mut usize {
        match source {
            Source::Common => &mut self.free_octets,
            Source::Reserve => &mut self.free_reserve,
        }
    }

    /// Whose turn it is, if there is what it waits for.
    fn next(&mut self) -> Option<Next> {
        let (small, large) = (self.for_small(), self.for_large());
        let (is_small, source) = match (small, large) {
            (Some(source), false) => (true, source),
            (Some(source), true) if self.small_is_next => (true, source),
            (_, true) => (false, Source::Common),
            (None, false) => return None,
        };
        let first = self.line(is_small).turn(|senders| senders.turn(VecDeque::pop_front))?;
        self.small_is_next = !is_small;
        self.free_workers -= 1;
        *self.free(source) -= first.octets;
        Some(Next { pass: first.pass, source, octets: first.octets })
    }

    /// Where the memory for the first small message comes from, if it can pass.
    fn for_small(&self) -> Option<Source> {
        let octets = front(&self.small)?;
        if self.free_workers == 0 {
            None
        } else if octets <= self.free_reserve {
            Some(Source::Reserve)
        } else {
            // What a large one waits for is not taken away from it.
            let can_take = self.large.is_empty() && octets <= self.free_octets;
            can_take.then_some(Source::Common)
        }
    }

    /// Whether the first large message can pass.
    fn for_large(&self) -> bool {
        self.free_workers > self.reserved_workers
            && front(&self.large).is_some_and(|octets| octets <= self.free_octets)
    }

    /// Takes somebody out, if he still waits.
    fn remove(&mut self, is_small: bool, client: &str, sender: &str, number: u64) -> bool {
        self.line(is_small).change(client, |senders| {
            senders.change(sender, |queue| {
                let before = queue.len();
                queue.retain(|waiting| waiting.number != number);
                queue.len() < before
            })
        })
    }
}

/// What the first of a line needs.
fn front(line: &Line) -> Option<usize> {
    Some(line.first()?.first()?.front()?.octets)
}

impl Memory {
    /// Gives back what is above so many octets.
    pub(crate) fn shrink_to(&mut self, octets: usize) {
        let more = self.octets.saturating_sub(octets);
        self.octets -= more;
        self.gate.give_back(|state| *state.free(self.source) += more);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.give_back(|state| state.free_workers += 1);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.gate.give_back(|state| *state.free(self.source) += self.octets);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // Whoever gave up may have been the one that all others waited behind.
        let Self { gate, number, is_small, client, sender, has_passed } = *self;
        if !has_passed && gate.state().remove(is_small, client, sender, number) {
            gate.let_pass();
        }
    }
}

/// This part of memory and workers is for small messages alone.
const RESERVED: usize = 4;

/// A message is small if so many have room in the reserve.
const SMALL: usize = 4;

#[cfg(test)]
mod tests;
