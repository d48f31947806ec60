//! The LMDB environment: opening it, transactions, and the map's growth while others have it open.
//!
//! All transactions are made here. A transaction holds the gate for reading; the map changes its size only when
//! nobody of this process is in one, as LMDB demands.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use heed::{Env, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};

use crate::{CacheError, place};

/// How many look-ups can go on at the same time, in all processes.
const MAX_READERS: u32 = 1024;
/// More than there are tables.
const MAX_TABLES: u32 = 32;
/// How often a writer looks for readers that were killed.
const READERS_EVERY: Duration = Duration::from_mins(1);

/// An open environment.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    env: Env<WithoutTls>,
    gate: RwLock<()>,
    /// The map grows up to here.
    limit: usize,
    /// How often it grew or was found grown.
    resized: AtomicUsize,
    readers_checked: Mutex<Instant>,
}

/// What may go wrong inside a transaction.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// LMDB failed.
    Heed(heed::Error),
    /// What is in the cache cannot be believed, or what shall go in cannot be taken.
    Cache(CacheError),
}

impl From<heed::Error> for Trouble {
    fn from(error: heed::Error) -> Self {
        Self::Heed(error)
    }
}

impl From<CacheError> for Trouble {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

/// What a step inside a transaction returns.
pub(crate) type Tried<T> = Result<T, Trouble>;

impl Store {
    /// Opens the environment in a folder that was looked at. The map begins with `size` octets or what others
    /// made it, and grows to `limit`.
    pub(crate) fn open(path: &Path, size: usize, limit: usize) -> Result<Self, CacheError> {
        place::reserve_locks(path, MAX_READERS)?;
        let env = open_env(path, size).map_err(|error| CacheError::from_heed(path, error))?;
        let store = Self {
            path: path.to_owned(),
            env,
            gate: RwLock::new(()),
            limit,
            resized: AtomicUsize::new(0),
            readers_checked: Mutex::new(Instant::now()),
        };
        // A process that was killed inside a look-up would keep old pages from being used again.
        store.clear_stale_readers()?;
        Ok(store)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn env(&self) -> &Env<WithoutTls> {
        &self.env
    }

    /// How often the map changed its size under this process.
    #[cfg(test)]
    pub(crate) fn resized(&self) -> usize {
        self.resized.load(Ordering::Relaxed)
    }

    /// How far the map may grow.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Runs `read` in a transaction. It is quick: while it runs, the file can only grow. It begins no other
    /// transaction.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&RoTxn<'_>) -> Tried<T>) -> Result<T, CacheError> {
        let (_guard, transaction) = self.begin(|| self.env.read_txn())?;
        read(&transaction).map_err(|trouble| self.fail(trouble))
    }

    /// Runs `write` in a transaction and commits it; all of it is there afterwards, or nothing. It may be run
    /// again, after the map has grown.
    pub(crate) fn write<T>(
        &self,
        mut write: impl FnMut(&mut RwTxn<'_>) -> Tried<T>,
    ) -> Result<T, CacheError> {
        self.clear_stale_readers_now_and_then()?;
        loop {
            let done = {
                let (_guard, mut transaction) = self.begin(|| self.env.write_txn())?;
                write(&mut transaction).and_then(|value| {
                    transaction.commit()?;
                    Ok(value)
                })
            };
            match done {
                Ok(value) => return Ok(value),
                Err(Trouble::Heed(heed::Error::Mdb(MdbError::MapFull))) => self.grow()?,
                Err(trouble) => return Err(self.fail(trouble)),
            }
        }
    }

    /// Begins a transaction, after the map was mapped anew where another process has made it larger.
    fn begin<T>(
        &self,
        begin: impl Fn() -> heed::Result<T>,
    ) -> Result<(RwLockReadGuard<'_, ()>, T), CacheError> {
        let mut full = false;
        loop {
            let guard = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            match begin() {
                Ok(transaction) => return Ok((guard, transaction)),
                Err(heed::Error::Mdb(MdbError::MapResized)) => {
                    drop(guard);
                    self.resize(0)?;
                }
                Err(heed::Error::Mdb(MdbError::ReadersFull)) if !full => {
                    full = true;
                    self.clear_stale_readers()?;
                }
                Err(error) => return Err(self.fail(error.into())),
            }
        }
    }

    /// Doubles the map, or says that the cache is full.
    fn grow(&self) -> Result<(), CacheError> {
        let size = self.env.info().map_size;
        if size >= self.limit {
            return Err(CacheError::Full { path: self.path.clone() });
        }
        self.resize(size.saturating_mul(2).min(self.limit))
    }

    /// Maps so many octets, or with 0 as many as another process has given the map.
    fn resize(&self, size: usize) -> Result<(), CacheError> {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have grown it meanwhile.
        if size != 0 && size <= self.env.info().map_size {
            return Ok(());
        }
        self.resized.fetch_add(1, Ordering::Relaxed);
        // SAFETY: no transaction of this process is open: each holds the gate for reading, and this is the only
        // guard for writing. No reference into the map outlives its transaction.
        #[expect(
            unsafe_code,
            reason = "LMDB does not check for itself that no transaction is open; see SAFETY"
        )]
        unsafe { self.env.resize(size) }.map_err(|error| self.fail(error.into()))
    }

    fn clear_stale_readers_now_and_then(&self) -> Result<(), CacheError> {
        let mut checked = self.readers_checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.elapsed() >= READERS_EVERY {
            *checked = Instant::now();
            drop(checked);
            self.clear_stale_readers()?;
        }
        Ok(())
    }

    /// Lets go of what processes that were killed inside a look-up held, and says how many there were.
    pub(crate) fn clear_stale_readers(&self) -> Result<usize, CacheError> {
        self.env.clear_stale_readers().map_err(|error| self.fail(error.into()))
    }

    /// Runs something that makes its own transaction inside LMDB.
    pub(crate) fn copying<T>(
        &self,
        copy: impl FnOnce(&Env<WithoutTls>) -> heed::Result<T>,
    ) -> Result<T, CacheError> {
        // Adopts another process's map first.
        self.read(|_| Ok(()))?;
        let _guard = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        copy(&self.env).map_err(|error| self.fail(error.into()))
    }

    pub(crate) fn fail(&self, trouble: Trouble) -> CacheError {
        match trouble {
            Trouble::Heed(error) => CacheError::from_heed(&self.path, error),
            Trouble::Cache(error) => error,
        }
    }

    /// Whether everything in the file must be read before it can be trusted not to be cut off.
    pub(crate) fn is_short(&self) -> Result<bool, CacheError> {
        let page_size = self.env.unnamed_database_stat().page_size;
        place::lengthen(&self.path, self.env.info().last_page_number, page_size)
    }
}

fn open_env(path: &Path, size: usize) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size).max_readers(MAX_READERS).max_dbs(MAX_TABLES);
    // SAFETY: the map is undefined only if the file is changed by others than LMDB or without its locks.
    // The folder was found to be on a local file system and closed to strangers, no flag weakens locking or
    // syncing, no process forks after opening, and heed refuses a second environment on the same file in one
    // process.
    #[expect(unsafe_code, reason = "LMDB's memory map is not safe by its nature; see SAFETY")]
    unsafe {
        options.open(path)
    }
}
