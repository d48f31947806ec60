//! A connection to a token: from loading the module to running workers, and back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use cryptoki::error::RvError;

use crate::{
    PoolError,
    call::CallError,
    module::Module,
    modules,
    session::{Access, OpenSession},
    token::Token,
    worker::{Activity, Worker},
};

/// How long workers may take to end before they are left to themselves: they hang in the module.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(2);

/// Sessions of a token, each with its worker, over one life of the module.
pub(crate) struct Connection {
    workers: Vec<(JoinHandle<()>, Arc<Activity>)>,
    /// Where workers report that the token is lost.
    pub(crate) losses: Receiver<PoolError>,
    /// Set to end the workers.
    stop: Arc<AtomicBool>,
    /// Disconnected when the last worker has ended.
    ended: Receiver<()>,
    /// Dropped last: `C_Finalize` after all sessions are closed.
    _module: Arc<Module>,
}

impl Connection {
    /// Loads the module, finds the token, logs in, reads the keys, opens the sessions and starts the
    /// workers. Blocks as long as the module does.
    pub(crate) fn open(token: &Arc<Token>) -> Result<Self, PoolError> {
        let settings = &token.settings;
        let label = token.label();
        let module = Module::open(&settings.module)?;
        let (slot, _) = modules::find(&module, &settings.module, label)?;
        let first = OpenSession::open(&module, slot, Access::ReadOnly).map_err(|error| match error.rv() {
            Some(RvError::SessionCount) => PoolError::TooManySessions { label: label.to_owned() },
            _ => PoolError::call(label, error),
        })?;
        token.gate.log_in(&first).map_err(|error| error.into_pool_error(label))?;
        read_keys(token, &first)?;
        token.find_abilities(&first);
        // The first session works too: while any session is open the login lasts, and there are tokens
        // that give only one.
        let mut sessions = vec![first];
        while sessions.len() < settings.sessions {
            match OpenSession::open(&module, slot, Access::ReadOnly) {
                Ok(session) => sessions.push(session),
                Err(error) => {
                    fewer_sessions(token, sessions.len(), &error)?;
                    break;
                }
            }
        }
        Self::start_workers(token, sessions, module)
    }

    fn start_workers(
        token: &Arc<Token>,
        sessions: Vec<OpenSession>,
        module: Arc<Module>,
    ) -> Result<Self, PoolError> {
        let (report_loss, losses) = crossbeam_channel::unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let (running, ended) = crossbeam_channel::bounded::<()>(0);
        let mut connection = Self { workers: Vec::new(), losses, stop, ended, _module: module };
        let alone = sessions.len() == 1;
        for (number, session) in sessions.into_iter().enumerate() {
            let activity = Arc::new(Activity::new());
            token.register(&activity);
            let worker = Worker {
                token: Arc::clone(token),
                session,
                activity: Arc::clone(&activity),
                alone,
                stop: Arc::clone(&connection.stop),
                losses: report_loss.clone(),
            };
            let running = running.clone();
            let spawned = thread::Builder::new().name(format!("token-{number}")).spawn(move || {
                worker.run();
                drop(running);
            });
            match spawned {
                Ok(handle) => connection.workers.push((handle, activity)),
                // A smaller pool is better than none.
                Err(error) if !connection.workers.is_empty() => {
                    tracing::warn!(token = token.label(), sessions = number, %error, "no thread for more workers");
                    break;
                }
                Err(error) => {
                    let label = token.label().to_owned();
                    return Err(PoolError::Thread { label, reason: error.to_string() });
                }
            }
        }
        Ok(connection)
    }

    /// How many workers there are.
    pub(crate) fn sessions(&self) -> usize {
        self.workers.len()
    }

    /// Whether every worker has been in its present call for longer than `limit`.
    pub(crate) fn hangs_for(&self, limit: Duration) -> bool {
        let hangs = |activity: &Activity| activity.busy_for().is_some_and(|busy| busy > limit);
        self.workers.iter().all(|(_, activity)| hangs(activity))
    }

    /// Ends the workers, each after its present call, and closes the sessions. Workers that do not come
    /// back from the module are left behind; they keep it from being finalised under them.
    pub(crate) fn close(mut self, token: &Token) {
        self.stop.store(true, Ordering::Release);
        token.lanes.wake_workers();
        if self.ended.recv_timeout(END_LIMIT) == Err(RecvTimeoutError::Timeout) {
            let hanging = self.workers.iter().filter(|(handle, _)| !handle.is_finished()).count();
            tracing::warn!(
                token = token.label(),
                hanging,
                "workers do not come back from the module: left behind"
            );
        } else {
            for (handle, _) in self.workers.drain(..) {
                // A worker that panicked has been reported by its guard.
                let _ = handle.join();
            }
        }
    }
}

fn read_keys(token: &Token, session: &OpenSession) -> Result<(), PoolError> {
    let label = token.label();
    let before = token.index();
    let index = session.get().and_then(|session| token.refresh_index(session, before.generation));
    let index = index.map_err(|error| PoolError::call(label, error))?;
    if index.len() == 0 && before.len() > 0 {
        return Err(PoolError::KeysGone { label: label.to_owned(), before: before.len() });
    }
    tracing::debug!(token = label, keys = index.len(), "private keys found");
    Ok(())
}

/// Whether to go on with fewer sessions than asked for.
fn fewer_sessions(token: &Token, opened: usize, error: &CallError) -> Result<(), PoolError> {
    let wanted = token.settings.sessions;
    // CKR_SESSION_COUNT is the specified answer; smart cards and small tokens give others for "no more".
    match error.rv() {
        Some(
            RvError::SessionCount
            | RvError::HostMemory
            | RvError::DeviceMemory
            | RvError::GeneralError
            | RvError::FunctionFailed
            | RvError::VendorDefined(_),
        ) => {
            let sessions = opened;
            tracing::warn!(token = token.label(), sessions, wanted, %error, "the token gives fewer sessions than asked");
            Ok(())
        }
        _ => Err(PoolError::call(token.label(), *error)),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Weak};

    use super::*;
    use crate::{PinSource, TokenSettings};

    #[test]
    fn a_token_that_gives_fewer_sessions_is_used_with_those_but_a_lost_one_is_not() {
        let settings = TokenSettings {
            module: PathBuf::from("module.so"),
            label: "mail".into(),
            pin: PinSource::File("pin".into()),
            sessions: 8,
            queue: 1,
            deadline: Duration::from_secs(1),
        };
        let token = Token::new(&settings, 0, Weak::new());
        for (rv, goes_on) in [
            (RvError::SessionCount, true),
            (RvError::DeviceMemory, true),
            (RvError::DeviceRemoved, false),
            (RvError::TokenNotPresent, false),
            (RvError::CryptokiNotInitialized, false),
        ] {
            let result = fewer_sessions(&token, 3, &CallError::new("C_OpenSession", rv));
            assert_eq!(result.is_ok(), goes_on, "{rv:?}");
        }
    }
}
