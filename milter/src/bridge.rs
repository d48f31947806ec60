//! From async to blocking: the one place.
//!
//! A message waits for a permit, is treated on a blocking thread, and the MTA hears of progress meanwhile. The
//! permit goes with the thread, not with the waiting: a treatment that outlives its deadline keeps its permit
//! until it ends, so that stuck ones never become more than there are workers.

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
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant as TokioInstant, interval_at, sleep};
use tracing::{Span, warn};

use crate::limits::Limits;
use crate::spool::Prepared;
use crate::treat::{Failure, Treat};

/// The way to the treatment, shared by all connections.
#[derive(Debug)]
pub(crate) struct Bridge<T> {
    treat: Arc<T>,
    permits: Arc<Semaphore>,
    limits: Arc<Limits>,
}

/// What becomes of a message, and its copies, which are taken away again if they are not committed.
pub(crate) type Answer = (Outcome, Option<Prepared>);

impl<T: Treat> Bridge<T> {
    pub(crate) fn new(treat: T, limits: Arc<Limits>) -> Self {
        Self { treat: Arc::new(treat), permits: Arc::new(Semaphore::new(limits.workers.max(1))), limits }
    }

    /// Whether outcomes may have copies.
    pub(crate) fn makes_copies(&self) -> bool {
        self.treat.makes_copies()
    }

    /// Has something learnt from a message that is answered now.
    pub(crate) fn learn(&self, signed: Signed) {
        self.treat.learn(signed);
    }

    /// The treatment's answer, or a failure when it panicked, did not come before the deadline or before `cut`,
    /// or when the MTA went away. No request but progress is sent to `mta`.
    pub(crate) async fn treat(
        &self,
        envelope: Envelope,
        message: Message,
        mta: &(impl ContextActions + Sync),
        cut: impl Future<Output = ()>,
    ) -> Result<Answer, Failure> {
        let limits = &self.limits;
        let begun = AtomicBool::new(false);
        let mut work = pin!(self.work(envelope, message, &begun));
        let mut deadline = pin!(sleep(limits.deadline));
        let mut cut = pin!(cut);
        let mut ticks = interval_at(TokioInstant::now() + limits.progress, limits.progress);
        loop {
            select! {
                biased;
                answer = &mut work => return answer,
                () = &mut deadline => {
                    let stage = if begun.load(Ordering::Relaxed) { "treated" } else { "begun; all workers were busy" };
                    let seconds = limits.deadline.as_secs();
                    return Err(Failure::new(Fault::Transient, format!("within {seconds} s it was not {stage}")));
                }
                () = &mut cut => return Err(Failure::new(Fault::Transient, "the milter stops")),
                _ = ticks.tick() => {
                    if let Err(error) = mta.progress().await {
                        return Err(Failure::new(Fault::Transient, format!("the MTA went away: {error}")));
                    }
                }
            }
        }
    }

    async fn work(
        &self,
        envelope: Envelope,
        message: Message,
        begun: &AtomicBool,
    ) -> Result<Answer, Failure> {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return pending().await; // the semaphore is never closed
        };
        begun.store(true, Ordering::Relaxed);
        let treat = Arc::clone(&self.treat);
        let (span, limit) = (Span::current(), self.limits.deadline);
        let treated = spawn_blocking(move || {
            let _permit = permit;
            let _span = span.entered();
            let start = Instant::now();
            let answer = treat.treat(&envelope, &message, SystemTime::now()).and_then(|mut outcome| {
                let prepared = treat.prepare(&envelope, &message, &mut outcome)?;
                Ok((outcome, prepared))
            });
            if start.elapsed() > limit {
                warn!(elapsed_ms = start.elapsed().as_millis(), "a treatment ended after its deadline");
            }
            answer
        });
        // The panic itself is reported by the panic hook; its text may quote the message and stays unread.
        treated.await.unwrap_or_else(|_| Err(Failure::new(Fault::Internal, "the treatment panicked")))
    }
}
