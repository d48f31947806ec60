//! The queue of a token: two lanes, each with a length; the interactive one is served first.
//!
//! One lock for both, taken once to put a request in and once to take it out. Whoever waits is counted, so
//! that nobody is woken in vain. Room in a full lane goes to those who have waited for it longest. Workers with a request
//! have a slot each; where a token gets fewer calls at a time than it has sessions, so many slots are given out.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crate::{
    line::Line,
    remote::flush_corked,
    request::{Lane, Request},
};

/// How often those who wait for room ask themselves whether to stay.
pub(crate) const RECONSIDER: Duration = Duration::from_millis(100);

/// Requests that wait for a token.
#[derive(Debug)]
pub(crate) struct Lanes {
    state: Mutex<State>,
    /// Workers wait for requests here.
    work: Condvar,
    /// How many may wait in a lane.
    capacity: usize,
    /// How many workers may have a request at a time.
    slots: AtomicUsize,
}

/// A worker's right to have a request. It outlives neither the request nor the time for which the worker is counted on.
#[derive(Debug, Default)]
pub(crate) struct Slot(AtomicBool);

#[derive(Debug, Default)]
struct State {
    interactive: Queue,
    bulk: Queue,
    /// Workers that wait.
    idle: usize,
    /// Slots that are taken.
    taken: usize,
    /// Whether nothing is taken in.
    refuses: bool,
}

/// One lane.
#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<Box<Request>>,
    /// How many are out to look for another token; their room is kept.
    away: usize,
    /// Callers that wait for room.
    line: Line,
}

/// A request that was not taken in.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The lane is full.
    Full(Box<Request>),
    /// The token is out of use.
    Out(Box<Request>),
}

/// What a worker gets.
#[derive(Debug)]
pub(crate) enum Next {
    /// A request, how many wait behind it in its lane, and how many other workers have one.
    Serve(Box<Request>, usize, usize),
    /// Nothing has come for so long.
    Idle,
    /// It is to end.
    Stop,
}

impl Lanes {
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = AtomicUsize::new(usize::MAX);
        Self { state: Mutex::default(), work: Condvar::new(), capacity, slots }
    }

    /// Puts a request into its lane. While that is full it waits in line, at most until its deadline; `stay` is
    /// asked, without the lock, before it waits and again every now and then.
    pub(crate) fn push(&self, request: Box<Request>, stay: impl Fn(&Request) -> bool) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.refuses {
            drop(state);
            return Err(Refused::Out(request));
        }
        let queue = state.queue(request.lane);
        if queue.has_room(self.capacity, queue.line.len()) {
            queue.requests.push_back(request);
            self.wake_worker(state);
            return Ok(());
        }
        drop(state);
        // What this thread has to say must not wait with it.
        flush_corked();
        self.wait_in_line(request, stay)
    }

    fn wait_in_line(&self, request: Box<Request>, stay: impl Fn(&Request) -> bool) -> Result<(), Refused> {
        let lane = request.lane;
        let mut state = self.lock();
        let turn = state.queue(lane).line.join();
        let mut stays = true;
        loop {
            let refuses = state.refuses;
            let queue = state.queue(lane);
            let comes_in = !refuses && queue.has_room(self.capacity, queue.line.before(turn));
            if refuses || comes_in || !stays {
                queue.line.leave(turn);
                if comes_in {
                    queue.requests.push_back(request);
                    self.wake_worker(state);
                    return Ok(());
                }
                // Those behind have moved up.
                let next = queue.next_in_line(self.capacity);
                drop(state);
                if let Some(next) = next {
                    next.unpark();
                }
                return Err(if refuses { Refused::Out(request) } else { Refused::Full(request) });
            }
            drop(state);
            stays = stay(&request);
            let left = request.deadline.saturating_duration_since(Instant::now());
            if stays && !left.is_zero() {
                thread::park_timeout(left.min(RECONSIDER));
            } else {
                stays = false;
            }
            state = self.lock();
        }
    }

    /// Puts a request back that has been in before: it has its place already, so there is room, and it stands
    /// before all that came later. Only a request under which more than one connection was lost may be what loses
    /// them; it stands behind the others.
    pub(crate) fn restore(&self, request: Box<Request>) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.refuses {
            drop(state);
            return Err(Refused::Out(request));
        }
        let requests = &mut state.queue(request.lane).requests;
        let at = match request.history.losses {
            0 | 1 => requests.partition_point(|other| other.submitted <= request.submitted),
            _ => requests.len(),
        };
        requests.insert(at, request);
        self.wake_worker(state);
        Ok(())
    }

    fn wake_worker(&self, state: MutexGuard<'_, State>) {
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// The next request for a worker, who is done with his last and waits for it so long and no longer than until
    /// `stop` is set. `before_waiting` is called, without the lock, before he does.
    pub(crate) fn pop(
        &self,
        patience: Duration,
        stop: &AtomicBool,
        slot: &Slot,
        before_waiting: impl FnOnce(),
    ) -> Next {
        let mut state = self.lock();
        state.give_back(slot);
        let mut until = None;
        let mut before_waiting = Some(before_waiting);
        loop {
            if stop.load(Ordering::Acquire) {
                // It may have been woken for a request.
                let pass_on = state.idle > 0 && state.waiting() > 0;
                drop(state);
                if pass_on {
                    self.work.notify_one();
                }
                return Next::Stop;
            }
            let slots = self.slots.load(Ordering::Relaxed);
            if state.taken < slots
                && let Some((request, behind, next)) = state.take(self.capacity)
            {
                let others = state.taken;
                state.taken += 1;
                slot.0.store(true, Ordering::Relaxed);
                // Who was woken for what waits, and found no slot, sleeps again.
                let pass_on =
                    state.taken < slots && slots != usize::MAX && state.idle > 0 && state.waiting() > 0;
                drop(state);
                if pass_on {
                    self.work.notify_one();
                }
                if let Some(next) = next {
                    next.unpark();
                }
                return Next::Serve(request, behind, others);
            }
            if let Some(before_waiting) = before_waiting.take() {
                drop(state);
                before_waiting();
                state = self.lock();
                continue;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + patience);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Idle;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
        }
    }

    /// Lets so many workers have a request at a time from now on.
    pub(crate) fn set_slots(&self, slots: usize) {
        let before = self.slots.load(Ordering::Relaxed);
        if before != slots {
            self.slots.store(slots, Ordering::Relaxed);
        }
        if before < slots {
            self.wake_workers();
        }
    }

    /// A worker ends, or is not counted on any more: another may have a request.
    pub(crate) fn vacate(&self, slot: &Slot) {
        let mut state = self.lock();
        if state.give_back(slot) {
            self.wake_worker(state);
        }
    }

    /// Has those who wait look at their `stop` again.
    pub(crate) fn wake_workers(&self) {
        // With the lock, so that nobody is between looking and waiting.
        drop(self.lock());
        self.work.notify_all();
    }

    /// Takes nothing in from now on, and gives back what waits.
    pub(crate) fn refuse(&self) -> VecDeque<Box<Request>> {
        let mut state = self.lock();
        state.refuses = true;
        state.queues().into_iter().flat_map(Queue::empty).collect()
    }

    /// Takes requests in again.
    pub(crate) fn admit(&self) {
        self.lock().refuses = false;
    }

    /// Gives out what waits, in the order in which it would have been served, and keeps its room until
    /// [`Self::settle`]: nobody gets before those that come back.
    pub(crate) fn drain(&self) -> VecDeque<Box<Request>> {
        let mut state = self.lock();
        let mut out = VecDeque::new();
        for queue in state.queues() {
            queue.away = queue.requests.len();
            out.append(&mut queue.requests);
        }
        out
    }

    /// What was given out has come back, or has found its place elsewhere.
    pub(crate) fn settle(&self) {
        for queue in self.lock().queues() {
            if mem::take(&mut queue.away) > 0 {
                queue.line.wake_all();
            }
        }
    }

    /// Gives back those that nothing needs to be done for any more.
    pub(crate) fn remove_over(&self, now: Instant) -> VecDeque<Box<Request>> {
        let mut over = VecDeque::new();
        for queue in self.lock().queues() {
            if queue.requests.iter().any(|request| request.is_over(now)) {
                let all = mem::take(&mut queue.requests);
                let (out, kept): (VecDeque<_>, _) = all.into_iter().partition(|request| request.is_over(now));
                queue.requests = kept;
                over.extend(out);
                queue.line.wake_all();
            }
        }
        over
    }

    /// How many wait: interactive, bulk.
    pub(crate) fn waiting(&self) -> [usize; 2] {
        self.lock().queues().map(|queue| queue.requests.len())
    }

    /// How many wait, and whether somebody who came to that lane now would have to wait for room.
    pub(crate) fn look(&self, lane: Lane) -> ([usize; 2], bool) {
        let mut state = self.lock();
        let waiting = state.queues().map(|queue| queue.requests.len());
        let queue = state.queue(lane);
        (waiting, !queue.has_room(self.capacity, queue.line.len()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn queues(&mut self) -> [&mut Queue; 2] {
        [&mut self.interactive, &mut self.bulk]
    }

    /// The request that is next, how many are behind it in its lane, and who comes in by its room.
    fn take(&mut self, capacity: usize) -> Option<(Box<Request>, usize, Option<Thread>)> {
        self.queues().into_iter().find_map(|queue| {
            let request = queue.requests.pop_front()?;
            Some((request, queue.requests.len(), queue.next_in_line(capacity)))
        })
    }

    /// `true`: the worker had one.
    fn give_back(&mut self, slot: &Slot) -> bool {
        let had = slot.0.swap(false, Ordering::Relaxed);
        self.taken -= usize::from(had);
        had
    }

    fn waiting(&self) -> usize {
        self.interactive.requests.len() + self.bulk.requests.len()
    }
}

impl Queue {
    /// Whether there is room for one before whom so many wait for it.
    fn has_room(&self, capacity: usize, before: usize) -> bool {
        self.requests.len() + self.away + before < capacity
    }

    /// Who comes in by the room that one has left.
    fn next_in_line(&self, capacity: usize) -> Option<Thread> {
        let room = capacity.saturating_sub(self.requests.len() + self.away);
        self.line.last_of(room)
    }

    /// Gives everything back, as nothing is taken in any more.
    fn empty(&mut self) -> VecDeque<Box<Request>> {
        self.line.wake_all();
        mem::take(&mut self.requests)
    }
}

#[cfg(test)]
mod tests;
