//! Who is measured: the cache's read, its look-up, LMDB's bare reads of the same records, SQLite.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use certcache::Cache;
use heed::{Database, Env, EnvOpenOptions, WithoutTls, types::Bytes};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use smime::store::{Lookup, RecipientCertificates, Waited};

use super::material::{Material, chooser, time};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Contender {
    /// `Chooser::remembered_octets`: the read of a look-up.
    Read,
    /// `Chooser::lookup`: the read, and the certificate parsed and held against its fingerprint.
    Lookup,
    /// `mdb_get` of the same two records by keys made before, a transaction for each.
    Lmdb,
    /// The same in one transaction for all.
    LmdbOneTransaction,
    /// A prepared statement over the same records.
    Sqlite,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Lookup, Self::Lmdb, Self::LmdbOneTransaction, Self::Sqlite];

    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Read => "certcache, read",
            Self::Lookup => "certcache, look-up",
            Self::Lmdb => "mdb_get",
            Self::LmdbOneTransaction => "mdb_get, one transaction",
            Self::Sqlite => "SQLite",
        }
    }

    /// Looks all of these up, one after the other, and says how long each took.
    pub fn run(self, material: &Material, numbers: &[usize]) -> Result<Vec<Duration>> {
        match self {
            Self::Read | Self::Lookup => self.run_cache(material, numbers),
            Self::Lmdb | Self::LmdbOneTransaction => self.run_lmdb(material, numbers),
            Self::Sqlite => run_sqlite(material, numbers),
        }
    }

    fn run_cache(self, material: &Material, numbers: &[usize]) -> Result<Vec<Duration>> {
        let cache = open_when_free(material)?;
        let chooser = chooser(&cache);
        let addresses = addresses(numbers)?;
        if self == Self::Read {
            timed(&addresses, |address| {
                let octets = chooser.remembered_octets(address, time())?.context("not remembered")?;
                Ok(octets.first().context("not remembered")?.1.len())
            })
        } else {
            timed(&addresses, |address| match chooser.lookup(address, time(), &mut Waited::default())? {
                Lookup::Found(found) => Ok(found.first().context("not found")?.der().len()),
                _ => anyhow::bail!("not found"),
            })
        }
    }

    fn run_lmdb(self, material: &Material, numbers: &[usize]) -> Result<Vec<Duration>> {
        let Bare { env, choice, der } = Bare::open(material)?;
        let keys = keys(&env, choice, numbers)?;
        if self == Self::Lmdb {
            return timed(&keys, |key| {
                let transaction = env.read_txn()?;
                get(&transaction, choice, der, key)
            });
        }
        let transaction = env.read_txn()?;
        timed(&keys, |key| get(&transaction, choice, der, key))
    }
}

type Table = Database<'static, Bytes, Bytes>;

/// The cache's file as LMDB has it.
pub(super) struct Bare {
    env: Env<WithoutTls>,
    choice: Table,
    der: Table,
}

impl Bare {
    pub(super) fn open(material: &Material) -> Result<Self> {
        drop(open_when_free(material)?);
        let env = open_env_when_free(material)?;
        let transaction = env.read_txn()?;
        let [choice, der] = env
            .open_databases_and_commit(transaction, |opener, transaction| {
                let choice = opener.open_database::<Bytes, Bytes>(transaction, Some("choice"))?;
                let der = opener.open_database::<Bytes, Bytes>(transaction, Some("der"))?;
                Ok::<_, heed::Error>(match (choice, der) {
                    (Some(choice), Some(der)) => heed::CommitOrAbort::Commit([choice, der]),
                    _ => heed::CommitOrAbort::Abort(()),
                })
            })?
            .commit()
            .context("the tables are not there")?;
        Ok(Self { env, choice, der })
    }

    /// The keys of these certificates' choices.
    pub(super) fn keys(&self, numbers: &[usize]) -> Result<Vec<Vec<u8>>> {
        keys(&self.env, self.choice, numbers)
    }

    /// Both records by the first one's key, in a transaction of its own.
    pub(super) fn get(&self, key: &[u8]) -> Result<usize> {
        let transaction = self.env.read_txn()?;
        get(&transaction, self.choice, self.der, key)
    }
}

fn get(transaction: &heed::RoTxn<'_>, choice: Table, der: Table, key: &[u8]) -> Result<usize> {
    let value = choice.get(transaction, key)?.context("no choice")?;
    // The fingerprint stands before the check sum.
    let end = value.len().checked_sub(4).context("too short")?;
    let fingerprint = value.get(end - 32..end).context("too short")?;
    let octets = der.get(transaction, fingerprint)?.context("no certificate")?.to_vec();
    Ok(black_box(octets).len())
}

/// The keys as they are in the file: the address, 0, and the trust configuration's identity.
fn keys(env: &Env<WithoutTls>, choice: Table, numbers: &[usize]) -> Result<Vec<Vec<u8>>> {
    let transaction = env.read_txn()?;
    let (first, _) = choice.first(&transaction)?.context("no choice")?;
    let identity = first.last_chunk::<17>().context("too short")?;
    numbers
        .iter()
        .map(|number| Ok([Material::address(*number)?.as_str().as_bytes(), identity].concat()))
        .collect()
}

fn run_sqlite(material: &Material, numbers: &[usize]) -> Result<Vec<Duration>> {
    let connection = Connection::open(material.sqlite())?;
    connection.execute_batch(
        "PRAGMA mmap_size = 17179869184; PRAGMA cache_size = -262144; PRAGMA query_only = 1",
    )?;
    let mut statement = connection.prepare(
        "SELECT der.der FROM choice JOIN der ON der.id = choice.der
         WHERE choice.address = ?1 AND choice.identity = x'00' AND choice.until > ?2
         AND choice.generation = (SELECT number FROM meta WHERE name = 'generation')",
    )?;
    let addresses = addresses(numbers)?;
    timed(&addresses, |address| {
        let octets: Vec<u8> = statement.query_row((address.as_str(), 1_700_000_000_i64), |row| row.get(0))?;
        Ok(black_box(octets).len())
    })
}

fn addresses(numbers: &[usize]) -> Result<Vec<smime::MailAddress>> {
    numbers.iter().map(|number| Material::address(*number)).collect()
}

/// How long each took. Nothing is kept of what was found but that it was found.
fn timed<T>(items: &[T], mut run: impl FnMut(&T) -> Result<usize>) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(items.len());
    let mut octets = 0;
    for item in items {
        let start = Instant::now();
        octets += run(item)?;
        times.push(start.elapsed());
    }
    anyhow::ensure!(octets > items.len() * 100, "nothing was found");
    Ok(times)
}

/// A process has a cache open once; the one before may still be closing.
pub fn open_when_free(material: &Material) -> Result<Arc<Cache>> {
    when_free(|| Ok(Cache::open(&material.cache())?)).map(Arc::new)
}

fn open_env_when_free(material: &Material) -> Result<Env<WithoutTls>> {
    when_free(|| {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(certcache::MAP_SIZE).max_readers(1024).max_dbs(32);
        #[expect(unsafe_code, reason = "LMDB's memory map is not safe by its nature; see SAFETY")]
        // SAFETY: the file is this benchmark's own, and nobody else changes it.
        let env = unsafe { options.open(material.cache()) };
        Ok(env?)
    })
}

fn when_free<T>(open: impl Fn() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match open() {
            Err(_) if start.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}
