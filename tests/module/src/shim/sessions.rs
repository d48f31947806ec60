//! The sessions of this process: which are open, in use, or lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cryptoki_sys::{CK_SESSION_HANDLE, CK_SLOT_ID};

/// What has become of the real module's sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<CK_SESSION_HANDLE, Session>,
    /// Slots in which a session is being opened.
    opening: Vec<CK_SLOT_ID>,
}

#[derive(Debug)]
struct Session {
    slot: CK_SLOT_ID,
    label: Arc<str>,
    calls: u32,
    is_lost: bool,
}

/// How a handle stands.
pub(super) enum Entry {
    /// It is open, and from now on in use; the label of its token.
    Open(Arc<str>),
    /// It is closed for ever; the label of its token.
    Lost(Arc<str>),
    Unknown,
}

impl Sessions {
    /// Begins a call. With `Open` comes the duty to [`Self::leave`].
    pub(super) fn enter(&self, handle: CK_SESSION_HANDLE) -> Entry {
        match self.lock().sessions.get_mut(&handle) {
            Some(session) if session.is_lost => Entry::Lost(Arc::clone(&session.label)),
            Some(session) => {
                session.calls += 1;
                Entry::Open(Arc::clone(&session.label))
            }
            None => Entry::Unknown,
        }
    }

    /// Ends a call. `true`: the session has been lost meanwhile, and nobody uses it any more.
    pub(super) fn leave(&self, handle: CK_SESSION_HANDLE) -> bool {
        self.lock().sessions.get_mut(&handle).is_some_and(|session| {
            let was_last = session.calls == 1;
            session.calls = session.calls.saturating_sub(1);
            session.is_lost && was_last
        })
    }

    /// Loses sessions; gives those that nobody uses. The others are for [`Self::leave`].
    pub(super) fn lose(&self, which: impl Fn(CK_SESSION_HANDLE, &str) -> bool) -> Vec<CK_SESSION_HANDLE> {
        let mut unused = Vec::new();
        for (handle, session) in &mut self.lock().sessions {
            if !session.is_lost && which(*handle, &session.label) {
                session.is_lost = true;
                if session.calls == 0 {
                    unused.push(*handle);
                }
            }
        }
        unused
    }

    /// Whether it has been lost, perhaps while the call was delayed.
    pub(super) fn is_lost(&self, handle: CK_SESSION_HANDLE) -> bool {
        self.lock().sessions.get(&handle).is_some_and(|session| session.is_lost)
    }

    /// Whether a lost session in this slot is still in use, and so not closed.
    pub(super) fn is_draining(&self, slot: CK_SLOT_ID) -> bool {
        self.lock()
            .sessions
            .values()
            .any(|session| session.slot == slot && session.is_lost && session.calls > 0)
    }

    /// Takes a place for a session that is about to be opened, if there is one left.
    pub(super) fn reserve(&self, slot: CK_SLOT_ID, limit: Option<u64>) -> bool {
        let mut state = self.lock();
        let open = state.sessions.values().filter(|session| session.slot == slot && !session.is_lost);
        let taken = open.count() + state.opening.iter().filter(|other| **other == slot).count();
        let is_free = limit.is_none_or(|limit| (taken as u64) < limit);
        if is_free {
            state.opening.push(slot);
        }
        is_free
    }

    /// Ends a reservation, with the session if one came of it.
    pub(super) fn opened(&self, slot: CK_SLOT_ID, label: Arc<str>, handle: Option<CK_SESSION_HANDLE>) {
        let mut state = self.lock();
        if let Some(place) = state.opening.iter().position(|other| *other == slot) {
            state.opening.swap_remove(place);
        }
        if let Some(handle) = handle {
            state.sessions.insert(handle, Session { slot, label, calls: 0, is_lost: false });
        }
    }

    /// The caller has closed it.
    pub(super) fn closed(&self, handle: CK_SESSION_HANDLE) {
        self.lock().sessions.remove(&handle);
    }

    /// The caller has closed all of a slot, or all.
    pub(super) fn all_closed(&self, slot: Option<CK_SLOT_ID>) {
        self.lock().sessions.retain(|_, session| slot.is_some_and(|slot| slot != session.slot));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_sessions(handles: &[CK_SESSION_HANDLE]) -> Sessions {
        let sessions = Sessions::default();
        for handle in handles {
            assert!(sessions.reserve(0, None));
            sessions.opened(0, "mail".into(), Some(*handle));
        }
        sessions
    }

    #[test]
    fn a_lost_session_is_closed_once_and_by_its_last_user() {
        let sessions = with_sessions(&[1, 2]);
        assert!(matches!(sessions.enter(1), Entry::Open(label) if &*label == "mail"));
        assert_eq!(sessions.lose(|_, label| label == "mail"), [2]);
        assert_eq!(sessions.lose(|_, _| true), []);
        assert!(matches!(sessions.enter(1), Entry::Lost(_)));
        assert!(sessions.is_draining(0) && !sessions.is_draining(1));
        assert!(sessions.leave(1));
        assert!(!sessions.is_draining(0));
        assert!(!sessions.leave(1));
        // A module may give a handle again.
        sessions.opened(0, "mail".into(), Some(1));
        assert!(matches!(sessions.enter(1), Entry::Open(_)));
    }

    #[test]
    fn sessions_that_are_being_opened_count_for_the_limit() {
        let sessions = with_sessions(&[1]);
        assert!(!sessions.reserve(0, Some(1)));
        assert!(sessions.reserve(0, Some(2)));
        assert!(!sessions.reserve(0, Some(2)));
        assert!(sessions.reserve(7, Some(1)), "another slot");
        sessions.opened(0, "mail".into(), None);
        assert!(sessions.reserve(0, Some(2)));
        sessions.all_closed(Some(0));
        assert!(matches!(sessions.enter(1), Entry::Unknown));
    }
}
