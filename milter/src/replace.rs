//! A treatment that can be replaced while messages are under way: each goes on with the one it began with.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use agent::harvest::Signed;
use agent::{Envelope, Outcome};
use smime::mime::Message;

use crate::meter::Meter;
use crate::spool::Prepared;
use crate::treat::{Failure, Treat};

/// A treatment in whose place another may be put. Clones are the same place.
#[derive(Clone)]
pub struct Replaceable {
    current: Arc<RwLock<Arc<dyn Treat>>>,
    makes_copies: bool,
    meter: Arc<Meter>,
}

impl Replaceable {
    /// Begins with a treatment. Those that follow must make copies if this one does, since MTAs were told, and have them
    /// sent by the same spool.
    pub fn new(first: Arc<dyn Treat>, meter: Arc<Meter>) -> Self {
        let makes_copies = first.makes_copies();
        Self { current: Arc::new(RwLock::new(first)), makes_copies, meter }
    }

    /// Has messages that are not being treated yet treated otherwise.
    pub fn replace(&self, next: Arc<dyn Treat>) {
        let before =
            std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), next);
        // Its end may take a while, and must not hold the lock.
        drop(before);
    }

    fn now(&self) -> Arc<dyn Treat> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Replaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replaceable").field("makes_copies", &self.makes_copies).finish_non_exhaustive()
    }
}

impl Treat for Replaceable {
    fn treat(&self, envelope: &Envelope, message: &Message, now: SystemTime) -> Result<Outcome, Failure> {
        self.now().treat(envelope, message, now)
    }

    fn treat_and_keep(
        &self,
        envelope: &Envelope,
        message: &Message,
        now: SystemTime,
    ) -> Result<(Outcome, Option<Prepared>), Failure> {
        self.now().treat_and_keep(envelope, message, now)
    }

    fn is_own_copy(&self, envelope: &Envelope, message: &Message) -> bool {
        self.now().is_own_copy(envelope, message)
    }

    fn current(&self) -> Option<Arc<dyn Treat>> {
        Some(self.now())
    }

    fn opened_forms(&self, envelope: &Envelope) -> usize {
        self.now().opened_forms(envelope)
    }

    fn learn(&self, signed: Signed) {
        self.now().learn(signed);
    }

    fn is_outgoing(&self, envelope: &Envelope) -> Option<bool> {
        self.now().is_outgoing(envelope)
    }

    fn meter(&self) -> Option<&Meter> {
        Some(&self.meter)
    }

    fn makes_copies(&self) -> bool {
        self.makes_copies
    }
}
