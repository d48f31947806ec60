//! Which token a request goes to, and where it goes when that one fails it.
//!
//! The least loaded of the tokens that work and are known to have the key is asked, and one with room before all
//! others. A request that met a
//! lost token, or an error that may be that token's own, goes to another that has not answered it yet;
//! where there is none, a lost token's requests wait for its next connection. No request is answered
//! twice, none gets lost, none waits for longer than its deadline.

use std::{
    collections::VecDeque,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use smime::key::KeyError;

use crate::{
    PoolError,
    lanes::{RECONSIDER, Refused},
    public_key::KeyName,
    remote::Remote,
    request::{Lane, Outcome, Request},
    token::Token,
};

/// How many lost connections one request may meet before it is held for their cause.
const MOST_LOSSES: u32 = 8;

/// All tokens of a pool.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) backends: Vec<Backend>,
    closed: AtomicBool,
    /// The process that started it: threads do not outlive a fork.
    process: u32,
}

/// Something that carries out requests.
#[derive(Debug)]
pub(crate) enum Backend {
    /// A token of this process.
    Token(Arc<Token>),
    /// A server of keys.
    Remote(Arc<Remote>),
}

/// How a backend stands to a key, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It works, and has the key.
    Ready,
    /// It is expected to work soon, and has the key.
    Coming,
    /// It works, or will soon; whether it has the key is not known.
    Unsure,
    /// It is out of use.
    Out,
}

/// How busy a backend is, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load {
    /// Whether the lane has no room.
    pub(crate) is_full: bool,
    /// Requests that are served before a new one, times a thousand, for each session.
    pub(crate) before: usize,
}

impl Backend {
    pub(crate) fn label(&self) -> &str {
        match self {
            Self::Token(token) => token.label(),
            Self::Remote(remote) => remote.label(),
        }
    }

    fn standing(&self, key: &KeyName) -> Standing {
        match self {
            Self::Token(token) => token.standing(key),
            Self::Remote(remote) => remote.standing(key),
        }
    }

    /// What a new request of that lane would stand behind there.
    fn load(&self, lane: Lane) -> Load {
        match self {
            Self::Token(token) => token.load(lane),
            Self::Remote(remote) => remote.load(lane),
        }
    }

    /// Takes in a request. While there is no room it waits, as long as `stay` is true.
    fn push(&self, request: Box<Request>, stay: impl Fn(&Request) -> bool) -> Result<(), Refused> {
        match self {
            Self::Token(token) => token.lanes.push(request, stay),
            Self::Remote(remote) => {
                let patience = request.deadline.min(Instant::now() + RECONSIDER);
                remote.push(request, patience)
            }
        }
    }

    /// Takes in a request if there is room.
    fn push_at_once(&self, request: Box<Request>) -> Result<(), Refused> {
        match self {
            Self::Token(token) => token.lanes.push(request, |_| false),
            Self::Remote(remote) => remote.push(request, Instant::now()),
        }
    }

    /// Takes a request that has been taken in before: never for want of room refused, never waiting.
    fn restore(&self, request: Box<Request>) -> Result<(), Refused> {
        match self {
            Self::Token(token) => token.lanes.restore(request),
            Self::Remote(remote) => remote.restore(request),
        }
    }

    /// Why it is out of use.
    fn reason(&self) -> Option<PoolError> {
        match self {
            Self::Token(token) => token.reason(),
            Self::Remote(remote) => remote.reason(),
        }
    }

    /// Ends what is over: gives back what waits, answers what runs.
    fn expire(&self, now: Instant, error: &dyn Fn(usize, Duration) -> KeyError) -> VecDeque<Box<Request>> {
        match self {
            Self::Token(token) => token.expire(now, error),
            Self::Remote(remote) => remote.expire(now),
        }
    }
}

/// What became of a request at a backend.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It was answered with an error; this backend is not asked again.
    Refused(KeyError),
    /// The connection was lost under it; the next one may carry it out.
    Lost(KeyError),
    /// It had not begun yet.
    NotBegun,
}

impl Router {
    pub(crate) fn new(backends: Vec<Backend>) -> Self {
        Self { backends, closed: AtomicBool::new(false), process: process::id() }
    }

    /// As a child of a fork sees it.
    #[cfg(test)]
    pub(crate) fn of_another_process() -> Self {
        Self { process: 0, ..Self::new(Vec::new()) }
    }

    /// Takes in a request. Blocks only while all lanes are full, at most until the request's deadline.
    pub(crate) fn submit(&self, mut request: Box<Request>) {
        loop {
            let Some((number, backend)) = self.choose(&request, None) else {
                return self.give_up(request);
            };
            request.is_at(number);
            request = match backend.push(request, |request| self.stays(request, number)) {
                Ok(()) => return,
                Err(Refused::Full(request)) if request.is_over(Instant::now()) => {
                    let (token, waiting) = (backend.label().to_owned(), self.waiting(number, &request));
                    return request.answer(Err(KeyError::QueueFull { token, waiting }));
                }
                // Meanwhile another may have room, or this one be out of use.
                Err(Refused::Full(request) | Refused::Out(request)) => request,
            }
        }
    }

    /// Takes in a request where it needs not wait for room; else gives it back.
    pub(crate) fn submit_at_once(&self, request: Box<Request>) -> Result<(), Box<Request>> {
        let Some((number, backend)) = self.choose(&request, None) else {
            return Err(request);
        };
        request.is_at(number);
        backend.push_at_once(request).map_err(|refused| match refused {
            Refused::Full(request) | Refused::Out(request) => request,
        })
    }

    /// Whether a request does well to wait for room at backend `number`: another may have some meanwhile.
    fn stays(&self, request: &Request, number: usize) -> bool {
        let is_best =
            |(best, backend): (usize, &Backend)| best == number || backend.load(request.lane).is_full;
        !request.is_over(Instant::now()) && self.choose(request, None).is_some_and(is_best)
    }

    /// Takes back a request that backend `number` did not carry out. Never blocks.
    pub(crate) fn take_back(&self, mut request: Box<Request>, number: usize, failed: Failed) {
        let lost = match failed {
            Failed::Refused(error) => {
                request.history.refused.push(number);
                request.history.remember(number, error);
                None
            }
            Failed::Lost(error) => {
                request.history.losses += 1;
                request.history.remember(number, error);
                if request.history.losses >= MOST_LOSSES {
                    return self.give_up(request);
                }
                Some(number)
            }
            Failed::NotBegun => None,
        };
        loop {
            if request.is_over(Instant::now()) {
                let error = self.deadline(request.backend(), request.allowed());
                return request.answer(Err(error));
            }
            let Some((number, backend)) = self.choose(&request, lost) else {
                return self.give_up(request);
            };
            request.is_at(number);
            request = match backend.restore(request) {
                Ok(()) => return,
                Err(Refused::Full(request) | Refused::Out(request)) => request,
            }
        }
    }

    /// Answers what is over, wherever it is. Called every few milliseconds.
    pub(crate) fn expire(&self, now: Instant) {
        for backend in &self.backends {
            let error = |number, allowed| self.deadline(number, allowed);
            for request in backend.expire(now, &error) {
                let error = self.deadline(request.backend(), request.allowed());
                request.answer(Err(error));
            }
        }
    }

    /// From now on everything is turned away.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The same, and what waits is answered. What runs goes on.
    pub(crate) fn begin_no_more(&self) {
        self.close();
        for backend in &self.backends {
            match backend {
                Backend::Token(token) => {
                    token.lanes.refuse().into_iter().for_each(|request| self.give_up(request));
                }
                Backend::Remote(remote) => remote.begin_no_more(),
            }
        }
    }

    /// Why nothing can be asked in this process, if so: after a fork only the thread that forked is left,
    /// and locks may be held by threads that are not there. So this comes before any lock.
    pub(crate) fn forked(&self) -> Result<(), PoolError> {
        let (started_by, here) = (self.process, process::id());
        if here == started_by { Ok(()) } else { Err(PoolError::Forked { started_by, here }) }
    }

    /// The same for who asks for a key.
    pub(crate) fn usable(&self) -> Result<(), KeyError> {
        let unavailable =
            |reason: PoolError| KeyError::Unavailable { token: self.label(0), reason: reason.to_string() };
        self.forked().map_err(unavailable)
    }

    pub(crate) fn deadline(&self, backend: usize, allowed: Duration) -> KeyError {
        KeyError::Deadline { token: self.label(backend), deadline: allowed }
    }

    /// The best backend for a request. `lost`: the one that has just lost its connection under it.
    fn choose(&self, request: &Request, lost: Option<usize>) -> Option<(usize, &Backend)> {
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        if let [only] = self.backends.as_slice() {
            let usable = request.history.refused.is_empty() && !only.is_out();
            return usable.then_some((0, only));
        }
        let candidates = self.backends.iter().enumerate().filter_map(|(number, backend)| {
            if request.history.refused.contains(&number) {
                return None;
            }
            let standing = match backend.standing(&request.key) {
                Standing::Out => return None,
                Standing::Ready if lost == Some(number) => Standing::Coming,
                standing => standing,
            };
            Some((standing, backend.load(request.lane), number, backend))
        });
        let best = candidates.min_by_key(|(standing, load, number, _)| (*standing, *load, *number))?;
        Some((best.2, best.3))
    }

    /// No backend is left: answers with the error that says most. "I could not look" outweighs "I have
    /// looked, there is none".
    fn give_up(&self, mut request: Box<Request>) {
        if self.closed.load(Ordering::Acquire) {
            let closed = || KeyError::Unavailable {
                token: self.label(request.backend()),
                reason: PoolError::Closed.to_string(),
            };
            // What a token said of it counts also then: who is told that it is closed asks elsewhere. But that one
            // token has no such key, or cannot do it, says nothing of those that were not asked.
            let known = request.history.error.as_ref().map(|(_, error)| error.clone());
            let known = known.filter(|_| request.history.says_enough() || self.have_all_refused(&request));
            let outcome = Err(known.unwrap_or_else(closed));
            return request.answer(outcome);
        }
        for (number, backend) in self.backends.iter().enumerate() {
            if !request.history.refused.contains(&number) {
                let reason = match backend.reason() {
                    Some(reason) => reason.to_string(),
                    None if request.history.says_enough() => continue,
                    // It has come back since it was looked at.
                    None => "it was out of use a moment ago".to_owned(),
                };
                let token = backend.label().to_owned();
                request.history.remember(number, KeyError::Unavailable { token, reason });
            }
        }
        let certificate = request.key.description.clone();
        let nowhere = || KeyError::NoSuchKey { token: "(none configured)".to_owned(), certificate };
        let known = request.history.error.as_ref().map(|(_, error)| error.clone());
        let outcome: Outcome = Err(known.unwrap_or_else(nowhere));
        request.answer(outcome);
    }

    fn have_all_refused(&self, request: &Request) -> bool {
        (0..self.backends.len()).all(|number| request.history.refused.contains(&number))
    }

    fn waiting(&self, number: usize, request: &Request) -> usize {
        match self.backends.get(number) {
            Some(Backend::Token(token)) => token.waiting_in(request.lane),
            Some(Backend::Remote(remote)) => remote.waiting_in(request.lane),
            None => 0,
        }
    }

    fn label(&self, backend: usize) -> String {
        self.backends.get(backend).map_or_else(|| "(none)".to_owned(), |backend| backend.label().to_owned())
    }
}

impl Backend {
    fn is_out(&self) -> bool {
        match self {
            Self::Token(token) => token.is_out(),
            Self::Remote(remote) => remote.is_out(),
        }
    }
}

#[cfg(test)]
mod tests;
