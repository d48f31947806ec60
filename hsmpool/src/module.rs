//! PKCS#11 modules of this process: each is loaded once, initialised by its first user and finalised
//! after its last.
//!
//! Between `C_Initialize` and `C_Finalize` a module has one life. Its numbers of sessions and objects mean nothing
//! in the next, or another token's session and key: what belongs to a life that is over is never used again.
//!
//! A loaded module is never unloaded: vendors' libraries leave threads and exit handlers behind that
//! crash when their code is gone.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    session::Session,
};

use crate::{PoolError, call::CallError, connection::END_LIMIT, raw::Raw};

/// An initialised module. While one of these lives, `C_Finalize` is not called; a thread that hangs in
/// a call holds one, so nothing is torn down under it.
pub(crate) struct Module {
    pkcs11: Pkcs11,
    raw: Option<Arc<Raw>>,
    /// Whether sessions of `pkcs11` are sessions of `raw`; found out with the first.
    raw_knows_sessions: OnceLock<bool>,
    /// The life of the library that this belongs to.
    life: u64,
    library: Arc<Library>,
}

/// A close waits for another so long at most.
const CLOSING_TURN: Duration = Duration::from_secs(1);

/// A library of this process.
#[derive(Default)]
struct Library {
    loaded: Mutex<Loaded>,
    /// The number of its present life. Changed under the lock; read without, as `C_Initialize` may hang.
    life: AtomicU64,
    /// Held by who closes a session.
    closing: Mutex<()>,
    /// The last user of a life that is over has gone.
    forgotten: Condvar,
}

#[derive(Default)]
struct Loaded {
    pkcs11: Option<Pkcs11>,
    raw: Option<Arc<Raw>>,
    /// Users in its present life.
    users: usize,
    /// Users that are left from lives which somebody else has ended.
    former: usize,
    /// When such an end was last found out.
    ended: Option<Instant>,
    /// Whether we initialised it: what somebody else in this process initialised is not ours to finalise.
    initialised_here: bool,
    /// The process that did: a child of it shares nothing but the code (PKCS #11 2.40 5.4 C_Initialize).
    process: u32,
}

impl Module {
    /// Loads and initialises the module, or shares it with its other users. May block as long as the
    /// module's own functions do.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, PoolError> {
        // `libfoo.so` and the file that it links to are the same module. A bare name is left to the
        // loader's search path.
        let key = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let library = {
            let mut modules = modules().lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(modules.entry(key).or_default())
        };
        let mut guard = library.lock();
        let pkcs11 = if let Some(pkcs11) = &guard.pkcs11 {
            pkcs11.clone()
        } else {
            let pkcs11 = load(path)?;
            guard.raw = Raw::load(path).map(Arc::new);
            guard.pkcs11.insert(pkcs11).clone()
        };
        let raw = guard.raw.clone();
        let process = process::id();
        if guard.process != process {
            (guard.process, guard.users, guard.former, guard.initialised_here) = (process, 0, 0, false);
            library.begin_another_life();
        }
        let mut guard = library.without_former_users(guard, &pkcs11);
        if guard.users == 0 {
            guard.initialised_here = initialize(&pkcs11, path)?;
        }
        guard.users += 1;
        let life = library.life.load(Ordering::Acquire);
        drop(guard);
        Ok(Arc::new(Self { pkcs11, raw, raw_knows_sessions: OnceLock::new(), life, library }))
    }

    /// The turn of who closes a session: opencryptoki frees what was read twice where the last two of a token are closed at
    /// once. A close that hangs keeps nobody else for long.
    pub(crate) fn closing_turn(&self) -> Option<MutexGuard<'_, ()>> {
        let until = Instant::now() + CLOSING_TURN;
        loop {
            match self.library.closing.try_lock() {
                Ok(turn) => return Some(turn),
                Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Whether the module has been initialised anew since, so that handles stand for other things now.
    pub(crate) fn is_over(&self) -> bool {
        self.library.life.load(Ordering::Acquire) != self.life
    }

    /// The functions.
    pub(crate) fn pkcs11(&self) -> &Pkcs11 {
        &self.pkcs11
    }

    /// The functions that are called directly, if there are any; maybe those of another instance.
    pub(crate) fn any_raw(&self) -> Option<&Raw> {
        self.raw.as_deref()
    }

    /// The functions that are called directly, if they take the sessions that [`Self::pkcs11`] opens.
    pub(crate) fn raw(&self, session: &Session) -> Option<&Raw> {
        let raw = self.raw.as_ref()?;
        let knows = match self.raw_knows_sessions.get() {
            Some(knows) => *knows,
            None if raw.knows(session) => *self.raw_knows_sessions.get_or_init(|| true),
            // A session that nobody knows has died, which tells nothing.
            None => session.get_session_info().is_err() || *self.raw_knows_sessions.get_or_init(|| false),
        };
        knows.then_some(raw.as_ref())
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("pkcs11", &self.pkcs11).finish_non_exhaustive()
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let mut guard = self.library.lock();
        if self.is_over() {
            guard.former = guard.former.saturating_sub(1);
            if guard.former == 0 {
                self.library.forgotten.notify_all();
            }
            return;
        }
        guard.users = guard.users.saturating_sub(1);
        if guard.users == 0 && guard.initialised_here {
            guard.initialised_here = false;
            // An error leaves nothing to do: the next C_Initialize shows whether the module still works.
            if let Err(error) = self.pkcs11.clone().finalize() {
                tracing::debug!(reason = %CallError::from(error), "C_Finalize failed");
            }
        }
    }
}

impl Library {
    fn lock(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_another_life(&self) {
        self.life.fetch_add(1, Ordering::AcqRel);
    }

    /// If somebody else has called `C_Finalize`, the life is over for its other users too, who find out within
    /// moments, each between two calls. Until then, or until it is clear that some of them hang, it is not
    /// initialised again: a call that is about to be made would meet another's session of the same number.
    fn without_former_users<'a>(
        &self,
        mut guard: MutexGuard<'a, Loaded>,
        pkcs11: &Pkcs11,
    ) -> MutexGuard<'a, Loaded> {
        loop {
            if guard.users > 0 && is_finalised(pkcs11) {
                guard.former += std::mem::take(&mut guard.users);
                guard.ended = Some(Instant::now());
                self.begin_another_life();
            }
            let waited = guard.ended.map_or(END_LIMIT, |ended| ended.elapsed());
            let left = END_LIMIT.saturating_sub(waited);
            if guard.users > 0 || guard.former == 0 || left.is_zero() {
                return guard;
            }
            let woken = self.forgotten.wait_timeout(guard, left);
            guard = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn modules() -> &'static Mutex<HashMap<PathBuf, Arc<Library>>> {
    static MODULES: OnceLock<Mutex<HashMap<PathBuf, Arc<Library>>>> = OnceLock::new();
    MODULES.get_or_init(Mutex::default)
}

fn load(path: &Path) -> Result<Pkcs11, PoolError> {
    Pkcs11::new(path).map_err(|error| {
        let reason = match error {
            Error::LibraryLoading(reason) => reason.to_string(),
            Error::MissingSymbol(symbol) => format!("it is not a PKCS#11 module: {symbol} is missing"),
            other => CallError::from(other).to_string(),
        };
        PoolError::ModuleNotLoadable { path: path.to_owned(), reason }
    })
}

/// Whether somebody else in this process has called `C_Finalize`. A second `C_Initialize` would tell too, but
/// there are modules that crash then. Kryoptic answers `C_GetInfo` at any time.
fn is_finalised(pkcs11: &Pkcs11) -> bool {
    let says_so = |error| matches!(error, Error::Pkcs11(RvError::CryptokiNotInitialized, _));
    pkcs11.get_library_info().is_err_and(says_so) || pkcs11.get_all_slots().is_err_and(says_so)
}

/// Returns whether it was this call that initialised the module.
fn initialize(pkcs11: &Pkcs11, path: &Path) -> Result<bool, PoolError> {
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) => Ok(true),
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(false),
        Err(error) => {
            let CallError { function, code } = error.into();
            Err(PoolError::ModuleInitialize { path: path.to_owned(), function, code: code.to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_module_is_named_with_the_reason() {
        let missing = Module::open(Path::new("/nonexistent/libhsm.so")).unwrap_err();
        assert!(matches!(&missing, PoolError::ModuleNotLoadable { .. }), "{missing:?}");
        assert!(missing.to_string().contains("/nonexistent/libhsm.so"), "{missing}");

        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("module.so");
        std::fs::write(&text, "not a library").unwrap();
        let error = Module::open(&text).unwrap_err();
        assert!(matches!(&error, PoolError::ModuleNotLoadable { .. }), "{error:?}");

        // A library, but not of this kind.
        let libc = Module::open(Path::new("libc.so.6")).unwrap_err();
        assert!(libc.to_string().contains("not a PKCS#11 module"), "{libc}");
    }
}
