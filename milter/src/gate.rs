//! Who is treated next: messages wait here for a worker and for memory, and pass by turns.
//!
//! Worker and memory are given together, so that nobody holds one and waits for the other. Of the clients who wait
//! each has one message passed before anybody has a second one, and so have the senders of one client; a client's
//! thousand messages hold up another's one by a single message. Whose turn it is waits until there is memory enough,
//! and nobody overtakes: a large message is not starved by small ones.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The gate before the treatment.
#[derive(Debug)]
pub(crate) struct Gate {
    octets: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free_workers: usize,
    free_octets: usize,
    /// Numbers those who wait.
    count: u64,
    clients: Turns<Turns<VecDeque<Waiting>>>,
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
    octets: usize,
}

/// Takes who gives up out of the line.
struct Waiter<'g> {
    gate: &'g Arc<Gate>,
    number: u64,
    client: &'g str,
    sender: &'g str,
    has_passed: bool,
}

impl Gate {
    pub(crate) fn new(workers: usize, octets: usize) -> Arc<Self> {
        let (workers, octets) = (workers.max(1), octets.max(1));
        let state = State { free_workers: workers, free_octets: octets, count: 0, clients: Turns::default() };
        Arc::new(Self { octets, state: Mutex::new(state) })
    }

    /// Waits for a worker and for so many octets. Who asks for more than there are gets all of them, and is alone.
    pub(crate) async fn pass(self: &Arc<Self>, client: &str, sender: &str, octets: usize) -> Option<Pass> {
        let octets = octets.min(self.octets);
        let (pass, passed) = oneshot::channel();
        let number = self.state().add(client, sender, octets, pass);
        let mut waiter = Waiter { gate: self, number, client, sender, has_passed: false };
        self.let_pass();
        let pass = passed.await.ok();
        waiter.has_passed = pass.is_some();
        pass
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        let state = self.state();
        let senders = state.clients.queues.values().flat_map(|senders| senders.queues.values());
        senders.map(VecDeque::len).sum()
    }

    /// Lets all pass who can.
    fn let_pass(self: &Arc<Self>) {
        loop {
            let next = self.state().next();
            let Some((pass, octets)) = next else { return };
            let granted =
                Pass { worker: Worker(Arc::clone(self)), memory: Memory { gate: Arc::clone(self), octets } };
            // Whoever gave up meanwhile gives it back by dropping it, and that looks again who can pass.
            drop(pass.send(granted));
        }
    }

    fn give_back(self: &Arc<Self>, workers: usize, octets: usize) {
        let mut state = self.state();
        state.free_workers += workers;
        state.free_octets += octets;
        drop(state);
        self.let_pass();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of it can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, client: &str, sender: &str, octets: usize, pass: oneshot::Sender<Pass>) -> u64 {
        let number = self.count;
        self.count += 1;
        self.clients.of(client).of(sender).push_back(Waiting { number, octets, pass });
        number
    }

    /// Whose turn it is, if there is what it waits for.
    fn next(&mut self) -> Option<(oneshot::Sender<Pass>, usize)> {
        let octets = self.clients.first()?.first()?.front()?.octets;
        if self.free_workers == 0 || self.free_octets < octets {
            return None;
        }
        self.free_workers -= 1;
        self.free_octets -= octets;
        let first = self.clients.turn(|senders| senders.turn(VecDeque::pop_front))?;
        Some((first.pass, octets))
    }

    /// Takes somebody out, if he still waits.
    fn remove(&mut self, client: &str, sender: &str, number: u64) -> bool {
        self.clients.change(client, |senders| {
            senders.change(sender, |queue| {
                let before = queue.len();
                queue.retain(|waiting| waiting.number != number);
                queue.len() < before
            })
        })
    }
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
        self.gate.give_back(0, more);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.give_back(1, 0);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.gate.give_back(0, self.octets);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // Whoever gave up may have been the one that all others waited behind.
        if !self.has_passed && self.gate.state().remove(self.client, self.sender, self.number) {
            self.gate.let_pass();
        }
    }
}

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
        assert!(state.clients.is_empty() && state.clients.order.is_empty(), "nobody is remembered");
        assert_eq!((state.free_workers, state.free_octets), (1, 100));
    }

    #[tokio::test]
    async fn no_more_pass_than_there_are_workers_and_memory() {
        for (workers, octets, each, expected) in
            [(3, 1000, 10, 3), (10, 100, 30, 3), (10, 100, 100, 1), (10, 100, 5000, 1), (10, 100, 0, 10)]
        {
            let (gate, order) = (Gate::new(workers, octets), Arc::default());
            let mut waiting: Vec<_> = (0..12).map(|_| ask(&gate, "c", "s", each, &order)).collect();
            until_waiting(&gate, 12 - expected).await;
            for _ in 0..100 {
                yield_now().await;
            }
            assert_eq!(order.lock().unwrap().len(), expected, "{workers} {octets} {each}");
            for waiting in waiting.drain(..) {
                drop(waiting.await.unwrap());
            }
            let state = gate.state();
            assert_eq!((state.free_workers, state.free_octets), (workers, octets));
        }
    }

    #[tokio::test]
    async fn a_large_message_is_not_overtaken_by_small_ones() {
        let (gate, order) = (Gate::new(10, 100), Arc::default());
        let held = gate.pass("x", "x", 50).await.unwrap();
        let large = ask(&gate, "large", "l", 80, &order);
        until_waiting(&gate, 1).await;
        let small = ask(&gate, "small", "s", 10, &order);
        until_waiting(&gate, 2).await;
        drop(held);
        let (large, small) = (large.await.unwrap(), small.await.unwrap());
        assert_eq!(*order.lock().unwrap(), ["large l", "small s"]);
        drop((large, small));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind_and_lets_others_pass() {
        let gate = Gate::new(10, 100);
        let mut held = gate.pass("x", "x", 90).await.unwrap();
        let short = Duration::from_millis(1);
        for _ in 0..100 {
            assert!(timeout(short, gate.pass("large", "l", 80)).await.is_err());
        }
        assert_eq!(gate.waiting(), 0);
        let (order, small) = (Arc::default(), Arc::clone(&gate));
        let large = ask(&gate, "large", "l", 80, &order);
        until_waiting(&gate, 1).await;
        let small = tokio::spawn(async move { small.pass("small", "s", 5).await.unwrap() });
        until_waiting(&gate, 2).await;
        large.abort();
        drop(small.await.unwrap());
        held.memory.shrink_to(20);
        drop(gate.pass("large", "l", 80).await.unwrap());
        drop(held);
        let state = gate.state();
        assert_eq!((state.free_workers, state.free_octets), (10, 100));
    }
}
