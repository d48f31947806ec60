//! Whether everything in the cache is as it was written: every index in both directions, every check sum.
//!
//! And sweeping out what has ended.

use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use heed::RoTxn;

use crate::{
    Cache, CacheError,
    codec::Reader,
    env::Tried,
    index::Index,
    record::Fingerprint,
    status,
    tables::{Table, Tables},
};

/// How many faults are named.
pub const MAX_FAULTS: usize = 1000;
/// How long a CRL or OCSP answer is kept after it ended: somebody may want to know why.
const KEPT_AFTER_END: Duration = Duration::from_hours(7 * 24);
/// How many entries are swept out in one transaction.
const SWEEP_STEP: usize = 1000;

/// Whether a value has ended.
type Ended<'a> = &'a dyn Fn(&[u8]) -> bool;

/// What `check` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Certificates that were looked at.
    pub certificates: u64,
    /// Index entries that were looked at.
    pub index_entries: u64,
    /// Other values that were looked at.
    pub values: u64,
    /// How many faults there are.
    pub faults: u64,
    /// The first of them.
    pub named: Vec<Found>,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In this table.
    pub table: &'static str,
    /// Of this key, in hexadecimal.
    pub key: String,
    /// What is wrong.
    pub what: &'static str,
}

impl Report {
    /// Whether there is no fault.
    pub fn is_good(&self) -> bool {
        self.faults == 0
    }

    fn add(&mut self, table: &'static str, key: &[u8], what: &'static str) {
        self.faults += 1;
        if self.named.len() < MAX_FAULTS {
            self.named.push(Found { table, key: HEXLOWER.encode(key), what });
        }
    }
}

impl Cache {
    /// Looks at everything. It is one transaction, about ten seconds for a million certificates, during which the
    /// file grows where others write.
    pub fn check(&self) -> Result<Report, CacheError> {
        self.read(|tables, transaction| {
            let mut report = Report::default();
            let expected = self.check_certificates(tables, transaction, &mut report)?;
            let indexes = indexes(tables);
            for (_, table) in indexes {
                report.index_entries += table.len(transaction)?;
            }
            // Every certificate has all its entries; if there are no more, none is too many.
            if report.index_entries != expected || !report.is_good() {
                for (name, table) in indexes {
                    self.check_index(tables, transaction, name, table, &mut report)?;
                }
            }
            if tables.der.len(transaction)? != tables.cert.len(transaction)? {
                for row in tables.der.iter(transaction)? {
                    let (key, _) = row?;
                    if tables.cert.get(transaction, key)?.is_none() {
                        report.add("der", key, "octets without a record");
                    }
                }
            }
            let Tables { neg, path, choice, crl, ocsp, fetch, rule, cap, log, .. } = *tables;
            for (name, table) in [
                ("neg", neg),
                ("path", path),
                ("choice", choice),
                ("crl", crl),
                ("ocsp", ocsp),
                ("fetch", fetch),
                ("rule", rule),
                ("cap", cap),
                ("log", log),
            ] {
                for row in table.iter(transaction)? {
                    let (key, value) = row?;
                    report.values += 1;
                    if !Reader::is_whole(value) {
                        report.add(name, key, "the check sum is wrong");
                    }
                }
            }
            Ok(report)
        })
    }

    /// Looks at all certificates, and returns how many index entries there must be.
    fn check_certificates(
        &self,
        tables: &Tables,
        transaction: &RoTxn<'_>,
        report: &mut Report,
    ) -> Tried<u64> {
        let mut expected = 0;
        for row in tables.cert.iter(transaction)? {
            let (key, _) = row?;
            report.certificates += 1;
            let Ok(fingerprint) = <&Fingerprint>::try_from(key) else {
                report.add("cert", key, "the key is no fingerprint");
                continue;
            };
            let Ok(Some((record, certificate))) = self.stored(tables, transaction, fingerprint) else {
                report.add("cert", key, "the record or the certificate is damaged");
                continue;
            };
            if record.not_after != certificate.not_after() || record.not_before != certificate.not_before() {
                report.add("cert", key, "the record is another certificate's");
            }
            let index = Index::of(&certificate, record.is_helper(), &record.assigned);
            expected += index.len();
            for missing in index.missing(tables, transaction)? {
                report.add(missing, key, "the entry of this certificate is missing");
            }
        }
        Ok(expected)
    }

    fn check_index(
        &self,
        tables: &Tables,
        transaction: &RoTxn<'_>,
        name: &'static str,
        table: Table,
        report: &mut Report,
    ) -> Tried<()> {
        for row in table.iter(transaction)? {
            let (key, _) = row?;
            let stored = match key.last_chunk::<32>() {
                Some(fingerprint) => self.stored(tables, transaction, fingerprint).ok().flatten(),
                None => None,
            };
            match stored {
                None => report.add(name, key, "it leads to no certificate"),
                Some((record, certificate))
                    if !Index::of(&certificate, record.is_helper(), &record.assigned).has(name, key) =>
                {
                    report.add(name, key, "it leads to another certificate");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Takes out what has ended: negative entries, choices, path results, CRLs and OCSP answers a week after their
    /// end. Certificates stay. Says how many entries went.
    pub fn sweep(&self, now: SystemTime) -> Result<usize, CacheError> {
        self.clear_stale_readers()?;
        let long_ago = now.checked_sub(KEPT_AFTER_END).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut swept = 0;
        loop {
            let keys = self.read(|tables, transaction| {
                let generation = tables.generation(transaction)?;
                let Tables { neg, path, choice, crl, ocsp, fetch, cap, .. } = *tables;
                let mut keys = Vec::new();
                let until: Ended<'_> = &|value| until_ended(value, now);
                let status: Ended<'_> = &|value| status::ended(value, long_ago);
                let remembered: Ended<'_> = &|value| remembered_ended(value, generation, now);
                for (table, ended) in [
                    (neg, until),
                    (fetch, until),
                    (cap, until),
                    (crl, status),
                    (ocsp, status),
                    (path, remembered),
                    (choice, remembered),
                ] {
                    for row in table.iter(transaction)? {
                        let (key, value) = row?;
                        if ended(value) {
                            keys.push((table, key.to_vec()));
                            if keys.len() >= SWEEP_STEP {
                                return Ok(keys);
                            }
                        }
                    }
                }
                Ok(keys)
            })?;
            if keys.is_empty() {
                return Ok(swept);
            }
            self.write(|_, transaction| {
                for (table, key) in &keys {
                    table.delete(transaction, key)?;
                }
                Ok(())
            })?;
            swept += keys.len();
        }
    }
}

fn indexes(tables: &Tables) -> [(&'static str, Table); 5] {
    let Tables { by_addr, by_is, by_ski, by_subj, by_exp, .. } = *tables;
    [("by_addr", by_addr), ("by_is", by_is), ("by_ski", by_ski), ("by_subj", by_subj), ("by_exp", by_exp)]
}

/// Whether a value that begins with its end, or cannot be read, has ended.
fn until_ended(value: &[u8], now: SystemTime) -> bool {
    Reader::new(value, 1).and_then(|mut reader| reader.time()).is_none_or(|until| until <= now)
}

/// Whether a choice or path result does not count any more: generation, from, until.
fn remembered_ended(value: &[u8], generation: u64, now: SystemTime) -> bool {
    let read = Reader::new(value, 1).and_then(|mut reader| {
        let found = reader.u64()?;
        reader.time()?;
        Some((found, reader.time()?))
    });
    read.is_none_or(|(found, until)| found != generation || until <= now)
}
