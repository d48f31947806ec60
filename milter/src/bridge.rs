//! From async to blocking: the one place.
//!
//! A message waits at the [`Gate`] for a worker and for memory, is treated on a blocking thread, or where it waits for
//! nothing but a key on this one (`at_once.rs`), and the MTA hears of progress meanwhile. The worker goes with the thread,
//! not with the waiting: a treatment on a thread that outlives its deadline keeps it until it ends, so that stuck ones never
//! become more than there are workers. What only waits for a key ends with its waiting, and so does its
//! question, if the token has not begun. The memory goes with what was made of the message, until the MTA has it.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use agent::harvest::Signed;
use agent::{Envelope, Outcome};
use indymilter::ContextActions;
use smime::Fault;
use smime::mime::Message;
use tokio::select;
use tokio::task::spawn_blocking;
use tokio::time::{Instant as TokioInstant, interval_at, sleep};
use tracing::{Span, warn};

use crate::at_once::{self, treat_at_once};
use crate::client::{Place, client};
use crate::gate::{Gate, Memory, Pass};
use crate::limits::Limits;
use crate::meter::Meter;
use crate::reply::Reply;
use crate::session::{Content, Received, Refusal};
use crate::spool::Prepared;
use crate::treat::{Failure, Treat};

/// The way to the treatment, shared by all connections.
#[derive(Debug)]
pub(crate) struct Bridge<T> {
    treat: Arc<T>,
    gate: Arc<Gate>,
    limits: Arc<Limits>,
}

/// What becomes of a message.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// Its copies, which are taken away again if they are not committed.
    pub(crate) prepared: Option<Prepared>,
    /// What the outcome takes, until it is with the MTA.
    pub(crate) memory: Memory,
}

/// Why there is none, and what the client hears of it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reply: Reply,
    pub(crate) failure: Failure,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { reply: Reply::of(failure.fault), failure }
    }
}

impl<T: Treat> Bridge<T> {
    pub(crate) fn new(treat: T, limits: Arc<Limits>) -> Self {
        let gate = Gate::new(limits.workers, limits.memory - limits.memory / FOR_INCOMING);
        Self { treat: Arc::new(treat), gate, limits }
    }

    /// Whether outcomes may have copies.
    pub(crate) fn makes_copies(&self) -> bool {
        self.treat.makes_copies()
    }

    /// Where messages are counted, if they are.
    pub(crate) fn meter(&self) -> Option<&Meter> {
        self.treat.meter()
    }

    /// A word for where a message goes.
    pub(crate) fn direction(&self, envelope: &Envelope) -> &'static str {
        self.treat.is_outgoing(envelope).map_or("", |out| if out { "outgoing" } else { "incoming" })
    }

    /// Has something learnt from a message that is answered now.
    pub(crate) fn learn(&self, signed: Signed) {
        self.treat.learn(signed);
    }

    /// The treatment's answer, or a failure when it panicked, did not come before the deadline or before `cut`,
    /// or when the MTA went away. No request but progress is sent to `mta`.
    pub(crate) async fn treat(
        &self,
        received: Received,
        mta: &(impl ContextActions + Sync),
        cut: impl Future<Output = ()>,
    ) -> Result<Answer, Refused> {
        let limits = &self.limits;
        let begun = AtomicBool::new(false);
        let mut work = pin!(self.work(received, &begun));
        let mut deadline = pin!(sleep(limits.deadline));
        let mut cut = pin!(cut);
        let mut ticks = interval_at(TokioInstant::now() + limits.progress, limits.progress);
        loop {
            select! {
                biased;
                answer = &mut work => return Ok(answer?),
                () = &mut deadline => {
                    let seconds = limits.deadline.as_secs();
                    return Err(if begun.load(Ordering::Relaxed) {
                        Failure::new(Fault::Transient, format!("within {seconds} s it was not treated")).into()
                    } else {
                        let reason = format!("within {seconds} s there was no worker or no memory for it");
                        Refused { reply: Reply::BUSY, failure: Failure::new(Fault::Transient, reason) }
                    });
                }
                () = &mut cut => return Err(Failure::new(Fault::Transient, "the milter stops").into()),
                _ = ticks.tick() => {
                    if let Err(error) = mta.progress().await {
                        return Err(Failure::new(Fault::Transient, format!("the MTA went away: {error}")).into());
                    }
                }
            }
        }
    }

    async fn work(&self, received: Received, begun: &AtomicBool) -> Result<Answer, Failure> {
        let Received { envelope, content, need, octets, excess, place, .. } = received;
        // However many there are, one copy is made after the other.
        let makes_copies = self.makes_copies() && envelope.recipients.len() > 1;
        let need = need.octets(self.treat.opened_forms(&envelope), makes_copies);
        let Some(pass) = self.gate.pass(&client(&envelope), &envelope.sender, need).await else {
            return pending().await; // the gate is never closed
        };
        begun.store(true, Ordering::Relaxed);
        let treat: Arc<dyn Treat> = self.treat.current().unwrap_or_else(|| Arc::clone(&self.treat) as _);
        if octets > at_once::MOST_OCTETS || !content.is_at_hand() || excess.is_some() {
            return self.on_a_thread(treat, envelope, move || read(content), excess, pass, place).await;
        }
        let message = read(content)?;
        let Some(treated) = treat_at_once(&*treat, &envelope, &message, SystemTime::now()).await else {
            return self.on_a_thread(treat, envelope, move || Ok(message), None, pass, place).await;
        };
        let outcome = treated?;
        drop(message);
        let Pass { worker, memory } = pass;
        let answer = Answer::new(outcome, None, memory);
        drop((worker, place));
        Ok(answer)
    }

    /// Has a message treated where it may take as long as it likes; one that is too much for a stranger's is refused unless it is
    /// a copy of ours.
    async fn on_a_thread(
        &self,
        treat: Arc<dyn Treat>,
        envelope: Envelope,
        message: impl FnOnce() -> Result<Message, Failure> + Send + 'static,
        excess: Option<Refusal>,
        pass: Pass,
        place: Place,
    ) -> Result<Answer, Failure> {
        let (span, limit) = (Span::current(), self.limits.deadline);
        let treated = spawn_blocking(move || {
            let Pass { worker, memory } = pass;
            let _span = span.entered();
            let start = Instant::now();
            let answer = message().and_then(|message| {
                if let Some(refusal) = excess
                    && !treat.is_own_copy(&envelope, &message)
                {
                    return Err(Failure::new(Fault::Message, refusal.to_string()));
                }
                let (outcome, prepared) = treat.treat_and_keep(&envelope, &message, SystemTime::now())?;
                drop(message);
                Ok(Answer::new(outcome, prepared, memory))
            });
            if start.elapsed() > limit {
                warn!(elapsed_ms = start.elapsed().as_millis(), "a treatment ended after its deadline");
            }
            drop((worker, place));
            answer
        });
        // The panic itself is reported by the panic hook; its text may quote the message and stays unread.
        treated.await.unwrap_or_else(|_| Err(Failure::new(Fault::Internal, "the treatment panicked")))
    }
}

impl Answer {
    /// Keeps no more of the memory than the outcome takes.
    fn new(outcome: Outcome, prepared: Option<Prepared>, mut memory: Memory) -> Self {
        memory.shrink_to(outcome.edits.body.as_ref().map_or(0, Vec::len));
        Self { outcome, prepared, memory }
    }
}

/// A whole message; what is on the disk is read, which may block.
fn read(content: Content) -> Result<Message, Failure> {
    let unread = |error| Failure::new(Fault::Operator, format!("a body cannot be read back: {error}"));
    content.read().map_err(unread)
}

/// This part of the memory is for messages that come in.
pub(crate) const FOR_INCOMING: usize = 4;
