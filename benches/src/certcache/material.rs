//! Caches of any number of certificates, and the same records in SQLite.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use certcache::{Cache, Chooser, Insertion, Source, Take, TrustState};
use rusqlite::Connection;
use smime::{
    Certificate, MailAddress,
    path::Trust,
    testing::{
        authority::{Authority, Wanted},
        fixtures::now,
    },
};

/// How many certificates go into one transaction.
const STEP: usize = 2000;
/// Every certificate has one address of this form.
const PATTERN: &str = "u000000000@bench.example.org";
const SERIAL: u32 = 0x5566_7788;

/// A folder with a cache of `entries` certificates and an SQLite file of the same records.
#[derive(Clone, Debug)]
pub struct Material {
    folder: PathBuf,
    /// How many certificates there are.
    pub entries: usize,
}

impl Material {
    /// The material of this size below a folder.
    pub fn new(below: &Path, entries: usize) -> Self {
        Self { folder: below.join(entries.to_string()), entries }
    }

    /// The cache's folder.
    pub fn cache(&self) -> PathBuf {
        self.folder.join("certcache")
    }

    /// The folder of a copy of the cache, to write to while the other is read.
    pub fn other(&self) -> PathBuf {
        self.folder.join("other")
    }

    /// The SQLite file.
    pub fn sqlite(&self) -> PathBuf {
        self.folder.join("certcache.sqlite")
    }

    /// The address of a certificate.
    pub fn address(number: usize) -> Result<MailAddress> {
        Ok(MailAddress::parse(&format!("u{number:09}@bench.example.org"))?)
    }

    /// Makes both, if they are not there. `say` hears of the progress.
    pub fn prepare(&self, say: &mut dyn FnMut(&str)) -> Result<()> {
        let done = self.folder.join("done");
        if done.exists() {
            return self.copy();
        }
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        fs::create_dir_all(&self.folder)?;
        say(&format!("{} certificates go into the cache", self.entries));
        let cache = Arc::new(Cache::open(&self.cache())?);
        let template = template();
        for first in (0..self.entries).step_by(STEP) {
            let end = (first + STEP).min(self.entries);
            let certificates = (first..end).map(|number| certificate(&template, number));
            let certificates: Vec<_> = certificates.collect::<Result<_>>()?;
            let insertions: Vec<_> = certificates
                .iter()
                .map(|it| Insertion { state: TrustState::Pinned, ..Insertion::new(it, Source::Imported) })
                .collect();
            cache.put(&insertions, time())?;
        }
        say("their choices are found out and remembered");
        let chooser = chooser(&cache);
        for number in 0..self.entries {
            let found = chooser.candidates(&Self::address(number)?, time())?;
            ensure!(found.chosen().count() == 1, "{number} is not chosen");
            if number % STEP == STEP - 1 || number + 1 == self.entries {
                ensure!(chooser.flush(Duration::from_mins(5)), "the memory does not answer");
            }
        }
        say("the same records go into SQLite");
        self.fill_sqlite(&chooser)?;
        let stat = cache.stat()?;
        ensure!(stat.choices == u64::try_from(self.entries)?, "{} choices", stat.choices);
        fs::write(done, "")?;
        drop((chooser, cache));
        self.copy()
    }

    /// Copies the cache, if it was not.
    fn copy(&self) -> Result<()> {
        let other = self.other().join("data.mdb");
        if !other.exists() {
            fs::create_dir_all(self.other())?;
            let part = self.other().join("part");
            fs::copy(self.cache().join("data.mdb"), &part)?;
            fs::rename(part, other)?;
        }
        Ok(())
    }

    /// The address, what a choice holds, and the octets, indexed as a careful user would.
    fn fill_sqlite(&self, chooser: &Chooser) -> Result<()> {
        let mut connection = Connection::open(self.sqlite())?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             CREATE TABLE meta (name TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;
             INSERT INTO meta VALUES ('generation', 0);
             CREATE TABLE der (id INTEGER PRIMARY KEY, fingerprint BLOB UNIQUE NOT NULL, der BLOB NOT NULL);
             CREATE TABLE choice (address TEXT NOT NULL, identity BLOB NOT NULL, generation INTEGER, since INTEGER,
                 until INTEGER, der INTEGER REFERENCES der, PRIMARY KEY (address, identity)) WITHOUT ROWID;",
        )?;
        for first in (0..self.entries).step_by(STEP) {
            let transaction = connection.transaction()?;
            {
                let mut der = transaction.prepare("INSERT INTO der VALUES (?, ?, ?)")?;
                let mut choice =
                    transaction.prepare("INSERT INTO choice VALUES (?, x'00', 0, 0, 99999999999, ?)")?;
                for number in first..(first + STEP).min(self.entries) {
                    let address = Self::address(number)?;
                    let octets = chooser.remembered_octets(&address, time())?.context("not remembered")?;
                    for (fingerprint, octets) in octets {
                        let id = i64::try_from(number)?;
                        der.execute((id, fingerprint.as_slice(), octets.as_slice()))?;
                        choice.execute((address.as_str(), id))?;
                    }
                }
            }
            transaction.commit()?;
        }
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(())
    }
}

/// A chooser as it is in production, whose trust is always the same.
pub fn chooser(cache: &Arc<Cache>) -> Chooser {
    Chooser::new(Arc::clone(cache), Trust::default(), Take::Newest)
}

/// The time at which all of it is valid.
pub fn time() -> SystemTime {
    static TIME: LazyLock<SystemTime> = LazyLock::new(now);
    *TIME
}

/// A certificate with an RSA key of 2048 bits, to be changed.
pub fn template() -> Vec<u8> {
    let root = Authority::root("Benchmark", "bob");
    let addresses = [PATTERN];
    root.issue(&Wanted { addresses: &addresses, serial: SERIAL, ..Wanted::default() }).der().to_vec()
}

/// One of many: another serial number and address. Nobody's signature is on it; that is what pinning is for.
pub fn certificate(template: &[u8], number: usize) -> Result<Certificate> {
    let mut der = template.to_vec();
    let serial = u32::try_from(number)?.wrapping_add(0x0100_0000);
    replace(&mut der, &SERIAL.to_be_bytes(), &serial.to_be_bytes())?;
    replace(&mut der, PATTERN.as_bytes(), Material::address(number)?.as_str().as_bytes())?;
    Ok(Certificate::from_der(&der)?)
}

fn replace(octets: &mut [u8], old: &[u8], new: &[u8]) -> Result<()> {
    let at = octets.windows(old.len()).position(|window| window == old).context("not in the template")?;
    octets.get_mut(at..at + old.len()).context("not in the template")?.copy_from_slice(new);
    Ok(())
}
