//! Recipients' certificates in LMDB, shared by milter, batch and the administrator's tool.
//!
//! Any number of processes of one host may read while one writes. A reader never waits for a writer; a
//! writer waits for the other. All entries of a certificate are made in one transaction: it is there with
//! all its addresses or not at all. The folder belongs on a local disk, because LMDB's locks do not hold on
//! a network file system.
//!
//! It is a cache: nothing in it is trusted for being there. Whoever encrypts validates the path first.

mod error;
mod read;
mod record;
mod write;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, WithoutTls, types::Bytes};

pub use error::CacheError;
pub use read::{Entry, Stat};
use record::{SCHEMA, SCHEMA_KEY};
pub use record::{Source, Sources};
pub use write::Inserted;

/// Address space is reserved for this many octets; on disk is what is used. About 15 million certificates.
pub const MAP_SIZE: usize = 64 << 30;
/// How many look-ups can go on at the same time, in all processes.
const MAX_READERS: u32 = 1024;

type Table = Database<'static, Bytes, Bytes>;

/// An open cache. It can be shared by threads.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    env: Env<WithoutTls>,
    tables: Tables,
}

/// The tables; `record.rs` says what is in them.
#[derive(Debug)]
struct Tables {
    meta: Table,
    certificates: Table,
    octets: Table,
    addresses: Table,
    absent: Table,
}

const NAMES: [&str; 5] = ["meta", "cert", "der", "by_addr", "neg"];

impl Cache {
    /// Opens the cache in a folder, and makes both if they are not there. A process opens a cache once and
    /// shares it.
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        Self::open_sized(path, MAP_SIZE)
    }

    /// Opens a cache that can grow to `map_size` octets, a multiple of the page size. All processes that use
    /// a cache give the same size.
    pub fn open_sized(path: &Path, map_size: usize) -> Result<Self, CacheError> {
        match fs::create_dir(path) {
            Err(reason) if reason.kind() != io::ErrorKind::AlreadyExists => {
                return Err(CacheError::Folder { path: path.to_owned(), reason });
            }
            _ => {}
        }
        let fail = |error| CacheError::from_heed(path, error);
        let env = open_env(path, map_size).map_err(fail)?;
        // A process that was killed inside a look-up would keep old pages from being used again.
        env.clear_stale_readers().map_err(fail)?;
        let found = open_tables(&env).map_err(fail)?;
        let tables = match found {
            Some(tables) => tables,
            None => create_tables(&env).map_err(fail)?,
        };
        let cache = Self { path: path.to_owned(), env, tables };
        cache.check_schema()?;
        Ok(cache)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_schema(&self) -> Result<(), CacheError> {
        let fail = |error| self.fail(error);
        let transaction = self.env.read_txn().map_err(fail)?;
        let found = self.tables.meta.get(&transaction, SCHEMA_KEY).map_err(fail)?;
        match found.and_then(|octets| octets.try_into().ok()).map(u32::from_le_bytes) {
            Some(SCHEMA) => Ok(()),
            found => Err(CacheError::Schema { path: self.path.clone(), found, expected: SCHEMA }),
        }
    }

    fn fail(&self, error: heed::Error) -> CacheError {
        CacheError::from_heed(&self.path, error)
    }
}

fn open_env(path: &Path, map_size: usize) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size).max_readers(MAX_READERS).max_dbs(16);
    // SAFETY: the map is undefined only if the file is changed by others than LMDB or without its locks.
    // The files are in a folder of our own with mode 0600, no flag weakens locking or syncing, no process
    // forks after opening, and heed refuses a second environment on the same file in one process.
    #[expect(unsafe_code, reason = "LMDB's memory map is not safe by its nature; see SAFETY")]
    unsafe {
        options.open(path)
    }
}

/// Opens the tables in a read transaction, so that a writer that hangs cannot keep us from reading.
fn open_tables(env: &Env<WithoutTls>) -> heed::Result<Option<Tables>> {
    let transaction = env.read_txn()?;
    let opened = env.open_databases_and_commit(transaction, |opener, transaction| {
        let [meta, certificates, octets, addresses, absent] =
            NAMES.map(|name| opener.open_database::<Bytes, Bytes>(transaction, Some(name)));
        let tables = (meta?, certificates?, octets?, addresses?, absent?);
        Ok::<_, heed::Error>(match tables {
            (Some(meta), Some(certificates), Some(octets), Some(addresses), Some(absent)) => {
                CommitOrAbort::Commit([meta, certificates, octets, addresses, absent])
            }
            _ => CommitOrAbort::Abort(()),
        })
    })?;
    Ok(opened.commit().map(Tables::new))
}

fn create_tables(env: &Env<WithoutTls>) -> heed::Result<Tables> {
    let transaction = env.write_txn()?;
    let created = env.create_databases_and_commit(transaction, |opener, transaction| {
        let mut create = |name| opener.create_database::<Bytes, Bytes>(transaction, Some(name));
        let [meta, certificates, octets, addresses, absent] = NAMES.map(&mut create);
        let tables = [meta?, certificates?, octets?, addresses?, absent?];
        let [meta, ..] = &tables;
        // Another process may have been faster; its schema stays.
        if meta.get(transaction, SCHEMA_KEY)?.is_none() {
            meta.put(transaction, SCHEMA_KEY, &SCHEMA.to_le_bytes())?;
        }
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(tables))
    })?;
    created.commit().map(Tables::new).ok_or(heed::Error::Mdb(heed::MdbError::BadTxn))
}

impl Tables {
    fn new([meta, certificates, octets, addresses, absent]: [Table; 5]) -> Self {
        Self { meta, certificates, octets, addresses, absent }
    }
}

#[cfg(test)]
mod tests;
