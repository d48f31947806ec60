//! A message's way through the workers: begun, at the desk while it waits for the token, gone on with, finished.

use std::{sync::mpsc, thread};

use super::Ready;
use crate::{
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
    pub(super) ready: Ready,
}

/// What all threads of a run have.
#[derive(Clone, Copy)]
pub(super) struct Shared<'s, 'task> {
    pub(super) task: &'task dyn Task,
    pub(super) form: Option<Form>,
    pub(super) gate: &'s Gate,
    pub(super) sender: &'s mpsc::Sender<Vec<Queued>>,
    pub(super) desk: &'s Desk<'task, Waiting<'task>>,
}

/// A message's place in the order, and what it was charged.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    pub(super) sequence: u64,
    pub(super) charge: u64,
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

    fn step<'task>(self, shared: Shared<'_, 'task>, step: Step<'task>) -> Option<Queued> {
        match step {
            Step::Rendered(rendered) => {
                let mut charge = self.charge;
                let left = gate::remainder(rendered.len());
                if charge.saturating_sub(left) >= WORTH {
                    shared.gate.leave(charge - left);
                    charge = left;
                }
                let ready = Ready::Finished(rendered.finish());
                Some(Queued { sequence: self.sequence, charge, ready })
            }
            Step::Asks(paused, identity, question) => {
                let waiting = Waiting { ticket: self, work: Work::Paused(paused) };
                shared.desk.ask(self.sequence, waiting, identity, question);
                None
            }
            Step::Again(started, pause) => {
                let waiting = Waiting { ticket: self, work: Work::Started(started) };
                shared.desk.wait(self.sequence, waiting, pause);
                None
            }
        }
    }
}

impl<'task> Waiting<'task> {
    pub(super) fn resume(self, shared: Shared<'_, 'task>, back: Back) {
        let _closing = CloseAtPanic(shared.gate);
        if shared.gate.is_closed() {
            return;
        }
        let step = match self.work {
            Work::Paused(paused) => paused.resume(back.into_answer()),
            Work::Started(started) => started.work(shared.task),
        };
        if let Some(finished) = self.ticket.step(shared, step) {
            let _ = shared.sender.send(vec![finished]);
        }
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
