//! Recipients' certificates in LMDB, shared by milter, batch and the administrator's tool.
//!
//! Any number of processes of one host may read and write. A reader never waits for a writer; a writer waits for
//! the other. All entries of a certificate are made in one transaction: it is there with all its indexes or not
//! at all. The folder belongs on a local disk, because LMDB's locks do not hold on a network file system.
//!
//! Nothing in it is trusted for being there: [`Chooser`] validates before it chooses, and remembers what it
//! found until that may have changed. Not in here: who fetches certificates (`lookup`), and how a path is validated
//! ([`smime::path`]).
//!
//! ```
//! use std::sync::Arc;
//! use certcache::{Cache, Chooser, Source, Take};
//! use smime::{MailAddress, path::Trust, store::{Lookup, RecipientCertificates, Waited}};
//! use smime::testing::fixtures::{certificate, now, trust};
//!
//! let folder = tempfile::tempdir()?;
//! let cache = Arc::new(Cache::open(folder.path())?);
//! cache.insert(&certificate("bob"), Source::Imported, now())?;
//! cache.insert(&certificate("ca"), Source::Imported, now())?;
//!
//! let bob = MailAddress::parse("bob@example.org")?;
//! let chosen_by = |trust: Trust| {
//!     let chooser = Chooser::new(Arc::clone(&cache), trust, Take::Newest);
//!     chooser.lookup(&bob, now(), &mut Waited::default())
//! };
//! assert!(matches!(chosen_by(trust())?, Lookup::Found(found) if found == [certificate("bob")]));
//! // To somebody who trusts no anchor it is of no use.
//! assert!(matches!(chosen_by(Trust::default())?, Lookup::Unusable(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where to read on:
//!
//! - `write.rs`, `read.rs`: certificates by address, fingerprint, issuer and serial number, key identifier, subject
//!   and expiry, with where they came from and whether they may be used.
//! - `status.rs`: CRLs and OCSP answers. `rule.rs`, `distrust.rs`: what is not trusted any more. `log.rs`: what was changed and why.
//! - `check.rs`, `transfer.rs`, `migrate.rs`: check, export, import, backup, another schema. `sweep.rs`: what has ended goes.
//! - `choose/`: whom to encrypt to, and why.

mod check;
mod choose;
mod codec;
mod distrust;
mod env;
mod error;
mod index;
mod key;
mod log;
mod migrate;
mod owner;
mod place;
mod read;
mod record;
mod rule;
mod status;
mod sweep;
mod tables;
mod transfer;
mod weak;
mod write;

use std::path::Path;

use heed::{MdbError, RoTxn, RwTxn};

pub use check::{Found, MAX_FAULTS, Report};
pub use choose::{
    CachedStatus, Candidate, Candidates, Chooser, ChosenOctets, MAX_AGE, Refusal, Remembered, Take,
};
pub use distrust::CachedDistrust;
pub use error::CacheError;
pub use log::{Event, MAX_EVENTS};
pub use migrate::Reindexed;
pub use read::{Entry, Stat};
pub use record::{Announced, Fingerprint, Source, Sources, TrustState};
pub use rule::{MAX_RULES, Rule};
pub use status::{MAX_CRL_LEN, MAX_OCSP_LEN, Status, Stored};
pub use sweep::Sweeper;
pub use transfer::{BackupFile, DECIDED, Which};
pub use weak::is_weak;
pub use write::{Inserted, Insertion};

use env::{Store, Tried, Trouble};
use tables::{SCHEMA, Schema, Tables};

/// Address space is reserved for this many octets; on disk is what is used. About 15 million certificates.
pub const MAP_SIZE: usize = 64 << 30;

/// An open cache. It can be shared by threads.
#[derive(Debug)]
pub struct Cache {
    store: Store,
    tables: Tables,
}

impl Cache {
    /// Opens the cache in a folder, and makes both if they are not there. A process opens a cache once and
    /// shares it. One of an older schema is brought up to this program's.
    ///
    /// Root opens only what nobody else may write to; see [`Self::become_owner`].
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        Self::open_sized(path, MAP_SIZE, MAP_SIZE)
    }

    /// Opens a cache whose map begins with `size` octets and grows to `limit`, multiples of the page size. Where
    /// address space is short: each process maps as much as the cache has grown to.
    pub(crate) fn open_sized(path: &Path, size: usize, limit: usize) -> Result<Self, CacheError> {
        owner::refuse_root(path)?;
        place::prepare(path)?;
        // Whoever may make folders beside it may have been first.
        owner::refuse_root(path)?;
        place::looks_like_lmdb(path)?;
        let store = Store::open(path, size, limit)?;
        // Before anything but the first pages is read.
        let must_check = store.is_short()?;
        let tables = match adopting(&store, Tables::open)? {
            Some(tables) => tables,
            None => adopting(&store, Tables::create)?
                .ok_or_else(|| CacheError::Truncated { path: path.to_owned() })?,
        };
        let cache = Self { store, tables };
        cache.check_schema()?;
        if must_check {
            cache.read_all()?;
        }
        Ok(cache)
    }

    /// Whether there is a cache in a folder, of whatever use it is.
    pub fn is_at(path: &Path) -> bool {
        path.join(place::DATA).is_file()
    }

    /// Where root's process would open the cache of somebody else: becomes that user, with all its threads and for good, and
    /// gives the user's name. What only root may read is to be read, or open, before.
    pub fn become_owner(path: &Path) -> Result<Option<String>, CacheError> {
        owner::become_owner(path)
    }

    /// Whether this process is root's and would not open the cache, since somebody else may write to it.
    pub fn is_of_another(path: &Path) -> bool {
        owner::refuse_root(path).is_err()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// How often the map changed its size under this process, by its own writing or another one's.
    #[cfg(test)]
    pub(crate) fn resized(&self) -> usize {
        self.store.resized()
    }

    /// Lets go of what processes that were killed inside a look-up held, and says how many there were. Writers do
    /// so once a minute; without it the file would grow as long as such a process's entry is there.
    pub fn clear_stale_readers(&self) -> Result<usize, CacheError> {
        self.store.clear_stale_readers()
    }

    fn check_schema(&self) -> Result<(), CacheError> {
        match self.read(|tables, transaction| Ok(tables.schema(transaction)?))? {
            Some(Schema { schema: SCHEMA, .. }) => Ok(()),
            Some(Schema { schema, min_reader }) if schema > SCHEMA => {
                if min_reader <= SCHEMA {
                    return Ok(());
                }
                Err(CacheError::Schema { path: self.path().to_owned(), found: schema, expected: SCHEMA })
            }
            Some(_) => self.migrate(),
            // A cache without a schema is new, so one whose beginning was cut off begins again.
            None => {
                self.begin_with_decided()?;
                self.migrate()
            }
        }
    }

    /// Reads everything, to find what is not there.
    fn read_all(&self) -> Result<(), CacheError> {
        self.read(|tables, transaction| {
            for (_, table) in tables.all() {
                for row in table.iter(transaction)? {
                    row?;
                }
            }
            Ok(())
        })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Tables, &RoTxn<'_>) -> Tried<T>,
    ) -> Result<T, CacheError> {
        self.store.read(|transaction| read(&self.tables, transaction))
    }

    pub(crate) fn write<T>(
        &self,
        mut write: impl FnMut(&Tables, &mut RwTxn<'_>) -> Tried<T>,
    ) -> Result<T, CacheError> {
        self.store.write(|transaction| write(&self.tables, transaction))
    }

    pub(crate) fn fail(&self, trouble: Trouble) -> CacheError {
        self.store.fail(trouble)
    }
}

/// Opens tables, again where another process has made the map larger in between.
fn adopting<T>(store: &Store, open: impl Fn(&Store) -> heed::Result<T>) -> Result<T, CacheError> {
    match open(store) {
        Err(heed::Error::Mdb(MdbError::MapResized)) => {
            store.read(|_| Ok(()))?;
            open(store)
        }
        opened => opened,
    }
    .map_err(|error| store.fail(error.into()))
}

#[cfg(test)]
mod tests;
