//! One session with a token, closed when dropped.

use std::sync::Arc;

use cryptoki::{error::RvError, session::Session, slot::Slot};

use crate::{call::CallError, module::Module};

/// An open session. It keeps its module initialised. After the life of the module in which it was opened, its number
/// may be that of another session, maybe with another token: then it is neither used nor closed.
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
        in_its_life(module, "C_OpenSession")?;
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
        in_its_life(&self.module, "C_OpenSession")?;
        self.session = Some(self.module.pkcs11().open_ro_session_no_drop(self.slot)?);
        Ok(())
    }

    /// The session itself, or the error of one that could not be opened again.
    pub(crate) fn get(&self) -> Result<&Session, CallError> {
        self.check_life()?;
        let closed = CallError::new("C_OpenSession", RvError::SessionClosed);
        self.session.as_ref().ok_or(closed)
    }

    /// Whether what the session did up to now was done by itself, and not by another of its number.
    pub(crate) fn check_life(&self) -> Result<(), CallError> {
        in_its_life(&self.module, "C_GetSessionInfo")
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    pub(crate) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    fn close(&mut self) {
        let Some(session) = self.session.take() else { return };
        let _turn = self.module.closing_turn();
        if !self.module.is_over() {
            // An error says that it is closed already, or that nothing can be done.
            let _ = session.close();
        }
    }
}

fn in_its_life(module: &Module, function: &'static str) -> Result<(), CallError> {
    if module.is_over() { Err(CallError::new(function, RvError::CryptokiNotInitialized)) } else { Ok(()) }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.close();
    }
}
