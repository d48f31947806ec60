//! One session with a token, closed when dropped.

use std::sync::Arc;

use cryptoki::{session::Session, slot::Slot};

use crate::{call::CallError, module::Module};

/// An open session. It keeps its module initialised.
#[derive(Debug)]
pub(crate) struct OpenSession {
    /// `None` only while being dropped.
    session: Option<Session>,
    slot: Slot,
    module: Arc<Module>,
}

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Use keys.
    ReadOnly,
    /// Make and change objects.
    ReadWrite,
}

impl OpenSession {
    pub(crate) fn open(module: &Arc<Module>, slot: Slot, access: Access) -> Result<Self, CallError> {
        // "no_drop", because the wrapper's own drop logs an error for every session that died before.
        let session = match access {
            Access::ReadOnly => module.pkcs11().open_ro_session_no_drop(slot),
            Access::ReadWrite => module.pkcs11().open_rw_session_no_drop(slot),
        }?;
        Ok(Self { session: Some(session), slot, module: Arc::clone(module) })
    }

    /// Closes the session and opens a new one in its place. Closed first: a token may allow only one.
    pub(crate) fn reopen(&mut self) -> Result<(), CallError> {
        self.close();
        self.session = Some(self.module.pkcs11().open_ro_session_no_drop(self.slot)?);
        Ok(())
    }

    /// The session itself, or the error of one that could not be opened again.
    pub(crate) fn get(&self) -> Result<&Session, CallError> {
        let closed = CallError::new("C_OpenSession", cryptoki::error::RvError::SessionClosed);
        self.session.as_ref().ok_or(closed)
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    pub(crate) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    fn close(&mut self) {
        if let Some(session) = self.session.take() {
            // An error says that it is closed already, or that nothing can be done.
            let _ = session.close();
        }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.close();
    }
}
