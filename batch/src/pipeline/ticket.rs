//! A message's way through the workers: begun, at the desk while it waits for the token, gone on with, finished.

use std::thread;

use super::{Line, Ready};
use crate::{
    basket::Basket,
    desk::{Back, Desk},
    form::Form,
    gate::{self, Gate},
    task::Task,
    worker::{self, Found, Paused, Started, Step},
};

/// A piece on its way to the writer.
pub(super) struct Queued {
    pub(super) sequence: u64,
    pub(super) charge: u64,
    /// `None` if it is dropped, because somebody has stopped the run.
    pub(super) ready: Option<Ready>,
}

/// What all threads of a run have.
#[derive(Clone, Copy)]
pub(super) struct Shared<'s, 'task> {
    pub(super) task: &'task dyn Task,
    pub(super) form: Option<Form>,
    pub(super) gate: &'s Gate,
    pub(super) line: &'s Line<'s>,
    pub(super) finished: &'s Basket<Queued>,
    pub(super) desk: &'s Desk<'task, Waiting<'task>>,
}

/// A message's place in the order, and what it was charged.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    pub(super) sequence: u64,
    pub(super) charge: u64,
    /// Whether it has asked the token anything.
    pub(super) has_asked: bool,
}

/// A message at the desk.
pub(super) struct Waiting<'task> {
    ticket: Ticket,
    work: Work<'task>,
}

/// What is to be done when it comes back.
enum Work<'task> {
    Paused(Box<Paused<'task>>),
    Started(Box<Started>),
}

impl Ticket {
    /// What goes to the writer, if it is finished.
    pub(super) fn begin(self, shared: Shared<'_, '_>, found: Found) -> Option<Queued> {
        if shared.gate.is_closed() {
            return None;
        }
        self.step(shared, worker::begin(shared.task, found, shared.form))
    }

    /// What goes to the writer in the place of what is not to be begun, or not to be finished.
    pub(super) fn dropped(self, shared: Shared<'_, '_>) -> Queued {
        if self.has_asked {
            shared.line.finished();
        }
        Queued { sequence: self.sequence, charge: self.charge, ready: None }
    }

    fn step<'task>(self, shared: Shared<'_, 'task>, step: Step<'task>) -> Option<Queued> {
        match step {
            Step::Rendered(rendered) => {
                if self.has_asked {
                    shared.line.finished();
                }
                let mut charge = self.charge;
                let left = gate::remainder(rendered.len());
                if charge.saturating_sub(left) >= WORTH {
                    shared.gate.leave(charge - left);
                    charge = left;
                }
                let ready = Some(Ready::Finished(rendered.finish()));
                Some(Queued { sequence: self.sequence, charge, ready })
            }
            Step::Asks(paused, identity, question) => {
                let waiting = Waiting { ticket: self, work: Work::Paused(paused) };
                shared.desk.ask(self.sequence, waiting, identity, question);
                None
            }
            Step::Again(..) if shared.line.is_stopped() => Some(self.dropped(shared)),
            Step::Again(started, pause) => {
                let waiting = Waiting { ticket: self, work: Work::Started(started) };
                shared.desk.wait(self.sequence, waiting, pause);
                None
            }
        }
    }
}

impl<'task> Waiting<'task> {
    /// Whether its question is to be asked.
    pub(super) fn asks(&mut self, line: &Line<'_>) -> bool {
        self.ticket.has_asked = self.ticket.has_asked || line.asks(self.ticket.sequence);
        self.ticket.has_asked
    }

    /// What goes to the writer, if it is finished.
    fn resume(self, shared: Shared<'_, 'task>, back: Back) -> Option<Queued> {
        let _closing = CloseAtPanic(shared.gate);
        if shared.gate.is_closed() {
            return None;
        }
        match (self.work, back) {
            (_, Back::Unasked) => Some(self.ticket.dropped(shared)),
            (Work::Started(_), _) if shared.line.is_stopped() => Some(self.ticket.dropped(shared)),
            (Work::Paused(paused), back) => {
                let (answer, at) = back.into_answer();
                self.ticket.step(shared, paused.resume(answer, at))
            }
            (Work::Started(started), _) => self.ticket.step(shared, started.work(shared.task)),
        }
    }
}

/// Goes on with what comes back from the desk.
pub(super) fn resume<'task>(some: Vec<(Waiting<'task>, Back)>, shared: Shared<'_, 'task>) {
    for (waiting, back) in some {
        shared.finished.put(waiting.resume(shared, back));
    }
}

/// How much is given back at once, at least: of small messages all is soon.
pub(super) const WORTH: u64 = 1 << 20;

pub(super) struct CloseDesk<'s, 'task>(pub(super) &'s Desk<'task, Waiting<'task>>);

impl Drop for CloseDesk<'_, '_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Nobody shall wait for a message that will not come.
pub(super) struct CloseAtPanic<'a>(pub(super) &'a Gate);

impl Drop for CloseAtPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
        }
    }
}
