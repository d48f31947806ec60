//! Whether everything in the cache is as it was written: every index in both directions, every check sum.

use data_encoding::HEXLOWER;
use heed::RoTxn;

use crate::{
    Cache, CacheError,
    codec::Reader,
    env::Tried,
    index::Index,
    record::Fingerprint,
    tables::{Table, Tables},
};

/// How many faults are named.
pub const MAX_FAULTS: usize = 1000;
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
}

fn indexes(tables: &Tables) -> [(&'static str, Table); 5] {
    let Tables { by_addr, by_is, by_ski, by_subj, by_exp, .. } = *tables;
    [("by_addr", by_addr), ("by_is", by_is), ("by_ski", by_ski), ("by_subj", by_subj), ("by_exp", by_exp)]
}
