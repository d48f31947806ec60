//! Where messages wait: for answers of private keys, and for faults to pass. No worker does.
//!
//! A worker leaves a message here with its question. One thread sends questions out, a bounded number at a time so that
//! none grows old in a token's queue, and brings each message back to the workers with its answer. The token's threads
//! do no more than say that there is an answer.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use agent::Identity;
use smime::{
    key::KeyError,
    question::{Answer, Question},
};

use crate::basket::Basket;

/// Holds what waits; `W` is a message, by the number that it is known by.
pub(crate) struct Desk<'t, W> {
    waiting: Mutex<HashMap<u64, Left<'t, W>>>,
    events: Arc<Basket<Event>>,
}

/// The other side of a [`Desk`].
pub(crate) struct Clerk {
    events: Arc<Basket<Event>>,
    /// How many questions may be on their way at one time.
    window: usize,
}

/// What was left at the desk.
struct Left<'t, W> {
    work: W,
    /// To be asked; `None` when it is on its way, or there is nothing to ask.
    question: Option<(&'t Identity, Question)>,
}

enum Event {
    Asks(u64),
    Waits(u64, Instant),
    Answered(u64, Result<Answer, KeyError>, Instant),
}

/// Why a message comes back.
pub(crate) enum Back {
    /// There is an answer, since then.
    Answer(Result<Answer, KeyError>, Instant),
    /// Its time is over.
    Again,
    /// Its question is not to be asked any more.
    Unasked,
}

impl Back {
    /// The answer. Whoever asked is brought back for nothing else.
    pub(crate) fn into_answer(self) -> (Result<Answer, KeyError>, Instant) {
        match self {
            Self::Answer(answer, at) => (answer, at),
            Self::Again | Self::Unasked => {
                let reason = "there is no answer; this is a defect of the program".to_owned();
                (Err(KeyError::Unavailable { token: "(unknown)".to_owned(), reason }), Instant::now())
            }
        }
    }
}

impl<'t, W> Desk<'t, W> {
    /// A desk, and who is to sit there.
    pub(crate) fn new(window: usize) -> (Self, Clerk) {
        let events = Arc::new(Basket::new());
        let desk = Self { waiting: Mutex::default(), events: Arc::clone(&events) };
        (desk, Clerk { events, window: window.max(1) })
    }

    /// Leaves a message until its question is answered.
    pub(crate) fn ask(&self, number: u64, work: W, identity: &'t Identity, question: Question) {
        self.leave(number, Left { work, question: Some((identity, question)) }, Event::Asks(number));
    }

    /// Leaves a message for a while.
    pub(crate) fn wait(&self, number: u64, work: W, pause: Duration) {
        self.leave(number, Left { work, question: None }, Event::Waits(number, Instant::now() + pause));
    }

    /// Sends the clerk home. What is still waiting is not brought back.
    pub(crate) fn close(&self) {
        self.events.close();
    }

    fn take(&self, number: u64) -> Option<W> {
        self.waiting().remove(&number).map(|left| left.work)
    }

    fn leave(&self, number: u64, left: Left<'t, W>, event: Event) {
        self.waiting().insert(number, left);
        self.events.put([event]);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Left<'t, W>>> {
        // Whole after each statement.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clerk {
    /// Serves the desk until it is closed. Before a question is sent out it is asked whether it still is to be. What comes
    /// back is given to a function, some at a time. Neither must take long.
    pub(crate) fn serve<W>(
        self,
        desk: &Desk<'_, W>,
        asks: impl Fn(&mut W) -> bool,
        back: impl Fn(Vec<(W, Back)>),
    ) {
        let mut unasked = VecDeque::new();
        let mut asked = 0;
        let mut pauses: BTreeMap<Instant, Vec<u64>> = BTreeMap::new();
        let mut coming = Vec::new();
        loop {
            let later = pauses.split_off(&Instant::now());
            let over = mem::replace(&mut pauses, later).into_values().flatten();
            coming.extend(over.map(|number| (number, Back::Again)));
            while asked < self.window
                && let Some(number) = unasked.pop_front()
            {
                let question = desk.waiting().get_mut(&number).and_then(|left| {
                    let question = left.question.take()?;
                    asks(&mut left.work).then_some(question)
                });
                match question {
                    Some((identity, question)) => {
                        asked += 1;
                        self.submit(number, identity, question);
                    }
                    None => coming.push((number, Back::Unasked)),
                }
            }
            let mut rest = mem::take(&mut coming).into_iter();
            while rest.len() > 0 {
                let some = rest.by_ref().take(TOGETHER);
                back(some.filter_map(|(number, why)| Some((desk.take(number)?, why))).collect());
            }
            // The token has its next ones at hand as long as most of the questions are with it, or half of all there may be.
            let enough = (asked / 4).max(asked.saturating_sub(self.window / 2)).max(1);
            let until = pauses.first_key_value().map(|(until, _)| *until);
            let Some(events) = self.events.take(until, enough) else { return };
            for event in events {
                match event {
                    Event::Asks(number) => unasked.push_back(number),
                    Event::Waits(number, until) => pauses.entry(until).or_default().push(number),
                    Event::Answered(number, answer, at) => {
                        asked -= 1;
                        coming.push((number, Back::Answer(answer, at)));
                    }
                }
            }
        }
    }

    fn submit(&self, number: u64, identity: &Identity, question: Question) {
        let events = Arc::clone(&self.events);
        let reply = move |answer| events.put([Event::Answered(number, answer, Instant::now())]);
        question.submit(identity.signer(), identity.decryptor(), Box::new(reply));
    }
}

/// How many come back together: fewer wake-ups, and enough left for the other threads.
const TOGETHER: usize = 8;
