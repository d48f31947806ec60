//! Where messages wait: for answers of private keys, and for faults to pass. No worker does.
//!
//! A worker leaves a message here with its question. One thread sends questions out, a bounded number at a time so that
//! none grows old in a token's queue, and brings each message back to the workers with its answer. The token's threads
//! do no more than say that there is an answer.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use agent::Identity;
use smime::{
    key::KeyError,
    question::{Answer, Question},
};

/// Holds what waits; `W` is a message, by the number that it is known by.
pub(crate) struct Desk<'t, W> {
    waiting: Mutex<HashMap<u64, Left<'t, W>>>,
    events: Sender<Event>,
}

/// The other side of a [`Desk`].
pub(crate) struct Clerk {
    events: Receiver<Event>,
    sender: Sender<Event>,
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
    Answered(u64, Result<Answer, KeyError>),
    Closed,
}

/// Why a message comes back.
pub(crate) enum Back {
    /// There is an answer.
    Answer(Result<Answer, KeyError>),
    /// Its time is over.
    Again,
    /// Its question is not to be asked any more.
    Unasked,
}

impl Back {
    /// The answer. Whoever asked is brought back for nothing else.
    pub(crate) fn into_answer(self) -> Result<Answer, KeyError> {
        match self {
            Self::Answer(answer) => answer,
            Self::Again | Self::Unasked => Err(KeyError::Unavailable {
                token: "(unknown)".to_owned(),
                reason: "there is no answer; this is a defect of the program".to_owned(),
            }),
        }
    }
}

impl<'t, W> Desk<'t, W> {
    /// A desk, and who is to sit there.
    pub(crate) fn new(window: usize) -> (Self, Clerk) {
        let (sender, events) = mpsc::channel();
        let desk = Self { waiting: Mutex::default(), events: sender.clone() };
        (desk, Clerk { events, sender, window: window.max(1) })
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
        let _ = self.events.send(Event::Closed);
    }

    fn leave(&self, number: u64, left: Left<'t, W>, event: Event) {
        self.waiting().insert(number, left);
        // A clerk who has gone home was sent home: the run is over.
        let _ = self.events.send(event);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Left<'t, W>>> {
        // Whole after each statement.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clerk {
    /// Serves the desk until it is closed. Before a question is sent out it is asked whether it still is to be. What comes
    /// back is given to a function. Neither must take long.
    pub(crate) fn serve<W>(self, desk: &Desk<'_, W>, asks: impl Fn(&mut W) -> bool, back: impl Fn(W, Back)) {
        let bring = |number, why| {
            let left = desk.waiting().remove(&number);
            if let Some(left) = left {
                back(left.work, why);
            }
        };
        let mut unasked = VecDeque::new();
        let mut asked = 0;
        let mut pauses: BTreeMap<Instant, Vec<u64>> = BTreeMap::new();
        loop {
            let now = Instant::now();
            let later = pauses.split_off(&now);
            for number in mem::replace(&mut pauses, later).into_values().flatten() {
                bring(number, Back::Again);
            }
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
                    None => bring(number, Back::Unasked),
                }
            }
            let event = match pauses.first_key_value() {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((until, _)) => self.events.recv_timeout(until.saturating_duration_since(now)),
            };
            match event {
                Ok(Event::Asks(number)) => unasked.push_back(number),
                Ok(Event::Waits(number, until)) => pauses.entry(until).or_default().push(number),
                Ok(Event::Answered(number, answer)) => {
                    asked -= 1;
                    bring(number, Back::Answer(answer));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn submit(&self, number: u64, identity: &Identity, question: Question) {
        let events = self.sender.clone();
        let reply = move |answer| {
            // Whoever stopped the run does not wait for it.
            let _ = events.send(Event::Answered(number, answer));
        };
        question.submit(identity.signer(), identity.decryptor(), Box::new(reply));
    }
}
