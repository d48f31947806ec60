//! Who is treated next: messages wait here for a worker and for memory, and pass by turns.
//!
//! Worker and memory are given together, so that nobody holds one and waits for the other. Of the clients who wait
//! each has one message passed before anybody has a second one, and so have the senders of one client; a client's
//! thousand messages hold up another's one by a single message.
//!
//! Small and large messages wait in lines of their own, so that a large one that waits for memory, or never ends, stops
//! no small one: a quarter of memory and workers is a reserve that only small ones use. While a large one waits, they
//! use nothing but the reserve: no large message is starved by small ones. Where both could pass, they take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

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

/// Queues with names, who have their turns one after the other. None is empty.
#[derive(Debug)]
struct Turns<Q> {
    order: VecDeque<String>,
    queues: HashMap<String, Q>,
}

/// What has a queue's turn.
trait Queue: Default {
    fn is_empty(&self) -> bool;
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

impl<Q: Queue> Turns<Q> {
    /// The queue of this name.
    fn of(&mut self, name: &str) -> &mut Q {
        if !self.queues.contains_key(name) {
            self.order.push_back(name.to_owned());
        }
        self.queues.entry(name.to_owned()).or_default()
    }

    /// The queue that has its turn.
    fn first(&self) -> Option<&Q> {
        self.queues.get(self.order.front()?)
    }

    /// Takes from the queue that has its turn, which then is the last.
    fn turn<T>(&mut self, take: impl FnOnce(&mut Q) -> Option<T>) -> Option<T> {
        let name = self.order.pop_front()?;
        let queue = self.queues.get_mut(&name)?;
        let taken = take(queue);
        if queue.is_empty() {
            self.queues.remove(&name);
        } else {
            self.order.push_back(name);
        }
        taken
    }

    /// Changes a queue, if there is one of this name.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Q) -> bool) -> bool {
        let Some(queue) = self.queues.get_mut(name) else { return false };
        let changed = change(queue);
        if queue.is_empty() {
            self.queues.remove(name);
            self.order.retain(|known| known != name);
        }
        changed
    }
}

impl<Q> Default for Turns<Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<Q: Queue> Queue for Turns<Q> {
    fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

impl Queue for VecDeque<Waiting> {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
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
mod tests {
    use std::time::Duration;

    use tokio::task::{JoinHandle, yield_now};
    use tokio::time::timeout;

    use super::*;

    /// Somebody who waits, and tells when he passed.
    fn ask(
        gate: &Arc<Gate>,
        client: &'static str,
        sender: &'static str,
        octets: usize,
        passed: &Arc<Mutex<Vec<String>>>,
    ) -> JoinHandle<Pass> {
        let (gate, passed) = (Arc::clone(gate), Arc::clone(passed));
        tokio::spawn(async move {
            let pass = gate.pass(client, sender, octets).await.unwrap();
            passed.lock().unwrap().push(format!("{client} {sender}"));
            pass
        })
    }

    /// Workers, what is for all, and the reserve.
    fn free(state: &State) -> (usize, usize, usize) {
        (state.free_workers, state.free_octets, state.free_reserve)
    }

    async fn until_waiting(gate: &Gate, count: usize) {
        while gate.waiting() != count {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_thousand_messages_of_one_sender_hold_up_another_ones_by_one() {
        let (gate, order) = (Gate::new(1, 100), Arc::default());
        let held = gate.pass("x", "x", 1).await.unwrap();
        // Whoever passes goes at once.
        let go = |client, sender| {
            let waiting = ask(&gate, client, sender, 1, &order);
            tokio::spawn(async move { drop(waiting.await.unwrap()) })
        };
        let mut waiting: Vec<_> = (0..1000).map(|_| go("many", "a")).collect();
        until_waiting(&gate, 1000).await;
        waiting.extend([go("few", "b"), go("many", "c")]);
        until_waiting(&gate, 1002).await;
        drop(held);
        for waiting in waiting {
            waiting.await.unwrap();
        }
        let order = order.lock().unwrap();
        let place = |of: &str| order.iter().position(|passed| passed == of).unwrap();
        assert_eq!((place("many a"), place("few b"), place("many c")), (0, 1, 2), "{:?}", &order[..5]);
        assert_eq!(order.len(), 1002);
        let state = gate.state();
        for line in [&state.small, &state.large] {
            assert!(line.is_empty() && line.order.is_empty(), "nobody is remembered");
        }
        assert_eq!(free(&state), (1, 75, 25));
    }

    #[tokio::test]
    async fn no_more_pass_than_there_are_workers_and_memory() {
        for (workers, octets, each, expected) in [
            (3, 1000, 10, 3),
            (10, 100, 6, 10),
            (10, 100, 30, 2),
            (10, 100, 75, 1),
            (10, 100, 5000, 1),
            (10, 100, 0, 10),
            // Of ten workers two are for small messages, of two one, and of one none.
            (10, 10_000, 700, 8),
            (2, 10_000, 700, 1),
            (1, 10_000, 700, 1),
            // Small ones use the reserve and what is for all.
            (20, 160, 10, 16),
        ] {
            let (gate, order) = (Gate::new(workers, octets), Arc::default());
            let mut waiting: Vec<_> = (0..20).map(|_| ask(&gate, "c", "s", each, &order)).collect();
            until_waiting(&gate, 20 - expected).await;
            for _ in 0..100 {
                yield_now().await;
            }
            assert_eq!(order.lock().unwrap().len(), expected, "{workers} {octets} {each}");
            for waiting in waiting.drain(..) {
                drop(waiting.await.unwrap());
            }
            let state = gate.state();
            assert_eq!(free(&state), (workers, octets - octets / 4, octets / 4));
        }
    }

    #[tokio::test]
    async fn small_messages_pass_while_a_large_one_hangs_and_others_wait_for_it() {
        let (gate, order) = (Gate::new(4, 160), Arc::default());
        let hangs = gate.pass("large", "l", usize::MAX).await.unwrap();
        let large = ["a", "b", "c"].map(|sender| ask(&gate, "large", sender, 120, &order));
        until_waiting(&gate, 3).await;
        for _ in 0..1000 {
            drop(gate.pass("small", "s", 10).await.unwrap());
        }
        // Four have room in the reserve; here there are workers for three.
        let small: Vec<_> = (0..4).map(|_| ask(&gate, "small", "s", 10, &order)).collect();
        until_waiting(&gate, 4).await;
        while order.lock().unwrap().len() < 3 {
            yield_now().await;
        }
        assert_eq!(*order.lock().unwrap(), ["small s"; 3]);
        drop((hangs, small));
        for large in large {
            drop(large.await.unwrap());
        }
        let order = order.lock().unwrap();
        assert_eq!(order.iter().filter(|passed| passed.starts_with("large")).count(), 3, "{order:?}");
    }

    #[tokio::test]
    async fn small_messages_do_not_starve_a_large_one() {
        let (gate, order) = (Gate::new(40, 160), Arc::default());
        // They use what is for all, too.
        let mut small: VecDeque<_> = (0..16).map(|_| ask(&gate, "small", "s", 10, &order)).collect();
        while order.lock().unwrap().len() < 16 {
            yield_now().await;
        }
        let large = ask(&gate, "large", "l", 120, &order);
        until_waiting(&gate, 1).await;
        // For each that ends another one comes.
        let mut ended = 0;
        while !large.is_finished() {
            drop(small.pop_front().unwrap().await.unwrap());
            small.push_back(ask(&gate, "small", "s", 10, &order));
            for _ in 0..10 {
                yield_now().await;
            }
            ended += 1;
            assert!(ended <= 16, "they overtake it for ever");
        }
        drop(large.await.unwrap());
    }

    #[tokio::test]
    async fn a_large_message_has_its_turn_among_small_ones_that_wait_for_a_worker() {
        let (gate, order) = (Gate::new(1, 160), Arc::default());
        let held = gate.pass("x", "x", 1).await.unwrap();
        let go = |client, octets| {
            let waiting = ask(&gate, client, "s", octets, &order);
            tokio::spawn(async move { drop(waiting.await.unwrap()) })
        };
        let mut waiting: Vec<_> = (0..100).map(|_| go("small", 10)).collect();
        until_waiting(&gate, 100).await;
        waiting.push(go("large", 100));
        until_waiting(&gate, 101).await;
        drop(held);
        for waiting in waiting {
            waiting.await.unwrap();
        }
        let place = order.lock().unwrap().iter().position(|passed| passed == "large s");
        assert!(place.is_some_and(|place| place <= 1), "{place:?}");
    }

    #[tokio::test]
    async fn a_large_message_is_not_overtaken_by_other_large_ones() {
        let (gate, order) = (Gate::new(10, 160), Arc::default());
        let held = gate.pass("x", "x", 50).await.unwrap();
        let larger = ask(&gate, "larger", "l", 100, &order);
        until_waiting(&gate, 1).await;
        let large = ask(&gate, "large", "s", 20, &order);
        until_waiting(&gate, 2).await;
        drop(held);
        let both = (larger.await.unwrap(), large.await.unwrap());
        assert_eq!(*order.lock().unwrap(), ["larger l", "large s"]);
        drop(both);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind_and_lets_others_pass() {
        let gate = Gate::new(10, 100);
        let mut held = gate.pass("x", "x", 65).await.unwrap();
        let short = Duration::from_millis(1);
        for _ in 0..100 {
            assert!(timeout(short, gate.pass("large", "l", 50)).await.is_err());
        }
        assert_eq!(gate.waiting(), 0);
        let (order, small) = (Arc::default(), Arc::clone(&gate));
        let large = ask(&gate, "large", "l", 50, &order);
        until_waiting(&gate, 1).await;
        let small = tokio::spawn(async move { small.pass("smaller", "s", 7).await.unwrap() });
        until_waiting(&gate, 2).await;
        large.abort();
        drop(small.await.unwrap());
        held.memory.shrink_to(20);
        drop(gate.pass("large", "l", 50).await.unwrap());
        drop(held);
        let state = gate.state();
        assert_eq!(free(&state), (10, 75, 25));
    }
}
