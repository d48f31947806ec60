//! One lane's way to a server: what was asked and is not answered, and what waits for a connection.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;
use smime::key::KeyError;

use super::{
    frame::FrameError,
    outbox::{Outbox, flush_corked},
    report::{Inquiry, Report},
    wire::{Ask, Ids, KeyDefinition, MAX_KEYS, ToServer, WireOperation, micros},
};
use crate::{
    lanes::Refused,
    request::{Lane, Request},
};

/// A lane.
pub(super) struct Link {
    pub(super) lane: Lane,
    /// How many requests may be without an answer, whatever the server takes.
    most: usize,
    /// Whether the server is told what its client calls a key.
    described: bool,
    state: Mutex<State>,
    /// Callers wait here for an answer that makes room.
    room: Condvar,
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    /// A connection that is being made.
    opening: Option<Arc<Outbox>>,
    asked: HashMap<u64, Asked>,
    /// What waits for a connection.
    pending: VecDeque<Box<Request>>,
    reports: HashMap<u64, Sender<Report>>,
    /// Nothing is taken in.
    refuses: bool,
    /// Callers that wait for room.
    blocked: usize,
    next_id: u64,
}

/// A connection that stands.
struct Current {
    outbox: Arc<Outbox>,
    window: usize,
    described: bool,
    /// The numbers of the keys that are defined.
    keys: HashMap<[u8; 32], u32>,
    /// The keys by number.
    numbers: Vec<[u8; 32]>,
    /// The number of the next one, in a circle: the oldest gives its own up.
    next: u32,
}

/// A request that the server has.
enum Asked {
    Wanted(Box<Request>),
    /// Its caller has been answered otherwise, or has gone.
    GivenUp(Instant),
}

/// A request that cannot be put into words.
type Unspeakable = (Box<Request>, KeyError);

/// An answer to something that was not asked.
#[derive(Debug, thiserror::Error)]
#[error("an answer to request {0}, which is not there")]
pub(super) struct Unasked(u64);

impl Link {
    pub(super) fn new(lane: Lane, most: usize, described: bool) -> Self {
        Self { lane, most: most.max(1), described, state: Mutex::default(), room: Condvar::new() }
    }

    /// Takes in a request; waits for room until `patience` ends.
    pub(super) fn push(&self, request: Box<Request>, patience: Instant) -> Result<(), Refused> {
        let mut state = self.lock();
        let mut flushed = false;
        loop {
            if state.refuses {
                drop(state);
                return Err(Refused::Out(request));
            }
            if state.in_use() < state.window().min(self.most) {
                place(state, request);
                return Ok(());
            }
            if !flushed {
                // The answers that make room may be to what this thread has not sent yet.
                flushed = true;
                drop(state);
                flush_corked();
                state = self.lock();
                continue;
            }
            let left = patience.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                return Err(Refused::Full(request));
            }
            state.blocked += 1;
            state = self.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.blocked -= 1;
        }
    }

    /// Takes in a request that has been in before, without waiting.
    pub(super) fn restore(&self, request: Box<Request>) -> Result<(), Refused> {
        let state = self.lock();
        if state.refuses {
            drop(state);
            return Err(Refused::Out(request));
        }
        place(state, request);
        Ok(())
    }

    /// What an answer is to. `None`: to somebody who waits no more.
    pub(super) fn answered(&self, id: u64) -> Result<Option<Box<Request>>, Unasked> {
        let mut state = self.lock();
        let asked = state.asked.remove(&id);
        let wake = state.blocked > 0;
        drop(state);
        if wake {
            self.room.notify_one();
        }
        match asked {
            Some(Asked::Wanted(request)) => Ok(Some(request)),
            Some(Asked::GivenUp(_)) => Ok(None),
            None => Err(Unasked(id)),
        }
    }

    /// Asks something else than a private key; tells the question's number. `None`: there is no connection.
    pub(super) fn inquire(&self, inquiry: Inquiry<'_>, reply: Sender<Report>) -> Option<u64> {
        let mut state = self.lock();
        let id = state.next_id();
        let outbox = Arc::clone(&state.current.as_ref()?.outbox);
        outbox.append(&ToServer::Inquire { id, inquiry }).ok()?;
        state.reports.insert(id, reply);
        drop(state);
        outbox.send_soon();
        Some(id)
    }

    /// Answers a notice.
    pub(super) fn acknowledge(&self, number: u64, kept: bool) {
        let outbox = self.lock().current.as_ref().map(|current| Arc::clone(&current.outbox));
        if let Some(outbox) = outbox {
            // So short a message always fits.
            let _ = outbox.post(&ToServer::Noted { number, kept });
        }
    }

    /// Asks a process of ours to let nothing begin any more.
    pub(super) fn begin_no_more(&self) {
        let outbox = self.lock().current.as_ref().map(|current| Arc::clone(&current.outbox));
        if let Some(outbox) = outbox {
            // So short a message always fits.
            let _ = outbox.post(&ToServer::BeginNoMore);
        }
    }

    /// Nobody waits for that answer any more.
    pub(super) fn forget(&self, id: u64) {
        self.lock().reports.remove(&id);
    }

    pub(super) fn reported(&self, id: u64, report: Report) {
        let reply = self.lock().reports.remove(&id);
        // Whoever asked may have gone.
        reply.map(|reply| reply.send(report));
    }

    /// A connection is being made.
    pub(super) fn is_opening(&self, outbox: &Arc<Outbox>) {
        self.lock().opening = Some(Arc::clone(outbox));
    }

    /// A connection stands: what has waited for it goes out.
    pub(super) fn connect(&self, outbox: &Arc<Outbox>, window: usize) {
        let mut state = self.lock();
        state.current = Some(Current {
            outbox: Arc::clone(outbox),
            window: window.max(1),
            described: self.described,
            keys: HashMap::new(),
            numbers: Vec::new(),
            next: 0,
        });
        state.opening = None;
        state.refuses = false;
        let pending = mem::take(&mut state.pending);
        let unspeakable: Vec<Unspeakable> =
            pending.into_iter().filter_map(|request| state.place(request).err()).collect();
        drop(state);
        outbox.send_soon();
        self.room.notify_all();
        answer_all(unspeakable);
    }

    /// The connection has ended: gives back what it leaves without an answer, in the order of asking.
    pub(super) fn disconnect(&self) -> VecDeque<Box<Request>> {
        let mut state = self.lock();
        state.current = None;
        state.reports.clear();
        let asked = mem::take(&mut state.asked);
        drop(state);
        self.room.notify_all();
        let mut left: Vec<_> = asked
            .into_iter()
            .filter_map(|(id, asked)| match asked {
                Asked::Wanted(request) => Some((id, request)),
                Asked::GivenUp(_) => None,
            })
            .collect();
        left.sort_unstable_by_key(|(id, _)| *id);
        left.into_iter().map(|(_, request)| request).collect()
    }

    /// Takes nothing in from now on; gives back what waits for a connection.
    pub(super) fn refuse(&self) -> VecDeque<Box<Request>> {
        let mut state = self.lock();
        state.refuses = true;
        let pending = mem::take(&mut state.pending);
        drop(state);
        self.room.notify_all();
        pending
    }

    /// Takes requests in again, though there is no connection yet.
    pub(super) fn admit(&self) {
        self.lock().refuses = false;
    }

    /// Gives up what is over and gives it back; tells for how long the server has owed an answer to such.
    pub(super) fn expire(&self, now: Instant) -> (VecDeque<Box<Request>>, Option<Duration>) {
        let mut state = self.lock();
        let mut over = VecDeque::new();
        let mut cancelled = Vec::new();
        let mut owed = None;
        for (id, asked) in &mut state.asked {
            match asked {
                Asked::GivenUp(since) => owed = owed.max(Some(now.saturating_duration_since(*since))),
                Asked::Wanted(request) if request.is_over(now) => {
                    if let Asked::Wanted(request) = mem::replace(asked, Asked::GivenUp(now)) {
                        over.push_back(request);
                        cancelled.push(*id);
                    }
                }
                Asked::Wanted(_) => {}
            }
        }
        if state.pending.iter().any(|request| request.is_over(now)) {
            let pending = mem::take(&mut state.pending);
            let (out, kept): (VecDeque<_>, VecDeque<_>) =
                pending.into_iter().partition(|request| request.is_over(now));
            state.pending = kept;
            over.extend(out);
        }
        let outbox = state.current.as_ref().map(|current| Arc::clone(&current.outbox));
        drop(state);
        if let Some(outbox) = outbox.filter(|_| !cancelled.is_empty()) {
            for id in cancelled {
                // So short a message always fits.
                let _ = outbox.append(&ToServer::Cancel { id });
            }
            outbox.send_soon();
        }
        (over, owed)
    }

    /// Requests without an answer.
    pub(super) fn in_use(&self) -> usize {
        self.lock().in_use()
    }

    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.in_use() >= state.window().min(self.most)
    }

    /// Ends the connection, if there is one; its reader finds out.
    pub(super) fn hang_up(&self) {
        let mut state = self.lock();
        let opening = state.opening.take();
        let current = state.current.as_ref().map(|current| Arc::clone(&current.outbox));
        drop(state);
        for outbox in opening.into_iter().chain(current) {
            outbox.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn in_use(&self) -> usize {
        self.asked.len() + self.pending.len()
    }

    fn window(&self) -> usize {
        self.current.as_ref().map_or(WINDOW_WITHOUT_CONNECTION, |current| current.window)
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Puts a request into words, or keeps it for the next connection.
    fn place(&mut self, request: Box<Request>) -> Result<(), Unspeakable> {
        let id = self.next_id();
        let Some(current) = &mut self.current else {
            self.pending.push_back(request);
            return Ok(());
        };
        match current.ask(id, &request) {
            Ok(()) => {
                self.asked.insert(id, Asked::Wanted(request));
                Ok(())
            }
            Err(error) => Err((request, error)),
        }
    }
}

impl Current {
    fn ask(&mut self, id: u64, request: &Request) -> Result<(), KeyError> {
        let name = &request.key;
        let unsupported = |reason: &dyn std::fmt::Display| KeyError::Unsupported {
            certificate: name.description.clone(),
            operation: format!("{:?} through a key server: {reason}", request.operation),
        };
        let Some(operation) = WireOperation::of(&request.operation) else {
            return Err(unsupported(&"it has no words for it"));
        };
        let too_long = |error: FrameError| unsupported(&error);
        let (tag, description) = if self.described {
            (name.tag_with_description, name.description.as_str())
        } else {
            (name.tag, "")
        };
        let key = if let Some(key) = self.keys.get(&tag) {
            *key
        } else {
            let ids = Ids::of(&name.ids);
            let definition = KeyDefinition { public_key_info: &name.info, ids, description };
            self.outbox.append(&ToServer::Define(definition)).map_err(too_long)?;
            self.define(tag)
        };
        let micros = micros(request.deadline.saturating_duration_since(Instant::now()));
        self.outbox.append(&ToServer::Ask(Ask { id, key, micros, operation })).map_err(too_long)
    }

    /// The number of a key that has just been defined.
    fn define(&mut self, tag: [u8; 32]) -> u32 {
        let number = self.next;
        let place = usize::try_from(number).ok().and_then(|number| self.numbers.get_mut(number));
        match place {
            Some(place) => {
                let oldest = mem::replace(place, tag);
                self.keys.remove(&oldest);
            }
            None => self.numbers.push(tag),
        }
        self.keys.insert(tag, number);
        self.next = (number + 1) % MAX_KEYS;
        number
    }
}

/// Puts a request into words, and sends it without the lock.
fn place(mut state: MutexGuard<'_, State>, request: Box<Request>) {
    let outbox = state.current.as_ref().map(|current| Arc::clone(&current.outbox));
    let unspeakable = state.place(request).err();
    drop(state);
    if let Some(outbox) = outbox {
        outbox.send_soon();
    }
    answer_all(unspeakable);
}

fn answer_all(unspeakable: impl IntoIterator<Item = Unspeakable>) {
    for (request, error) in unspeakable {
        request.answer(Err(error));
    }
}

/// How many requests may wait for a connection.
const WINDOW_WITHOUT_CONNECTION: usize = 256;
