//! From schemas 1 and 2 to 3, and making all indexes anew.
//!
//! Schema 2 had the addresses that CA certificates name in the index, and other keys for addresses that are not ASCII.
//! Either is one transaction: a process that is killed in it leaves the cache as it was.

use heed::RwTxn;
use smime::Certificate;

use crate::{
    Cache, CacheError,
    codec::{Writer, time_of},
    env::Tried,
    index::Index,
    record::{Fingerprint, Record},
    tables::{SCHEMA, Schema, Tables},
};

/// What came of making the indexes anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reindexed {
    /// Certificates that were kept.
    pub kept: usize,
    /// Records that could not be read, and were taken out.
    pub dropped: usize,
}

impl Cache {
    /// Makes a new cache's schema, or brings an old one's up to this program's.
    pub(crate) fn migrate(&self) -> Result<(), CacheError> {
        self.write(|tables, transaction| {
            match tables.schema(transaction)? {
                // Another process may have been faster.
                Some(Schema { schema, .. }) if schema >= SCHEMA => return Ok(()),
                Some(Schema { schema, .. }) => {
                    reindex(tables, transaction)?;
                    if schema == 1 {
                        absent_v1(tables, transaction)?;
                    }
                }
                None => {}
            }
            tables.write_schema(transaction)?;
            Ok(())
        })
    }

    /// Makes all indexes anew from the certificates, and takes out records that cannot be read: for a cache that
    /// `check` finds faulty. Export it first.
    pub fn reindex(&self) -> Result<Reindexed, CacheError> {
        self.write(reindex)
    }
}

fn reindex(tables: &Tables, transaction: &mut RwTxn<'_>) -> Tried<Reindexed> {
    let Tables { by_addr, by_is, by_ski, by_subj, by_exp, path, choice, .. } = *tables;
    for table in [by_addr, by_is, by_ski, by_subj, by_exp, path, choice] {
        table.clear(transaction)?;
    }
    tables.next_generation(transaction)?;
    let mut done = Reindexed::default();
    for (key, was_good) in keys(tables, transaction)? {
        let good = was_good.then(|| Fingerprint::try_from(key.as_slice()).ok()).flatten();
        let read = match good {
            Some(fingerprint) => read(tables, transaction, &fingerprint)?,
            None => None,
        };
        if let Some((record, certificate)) = read {
            Index::of(&certificate, record.is_helper(), &record.assigned).put(tables, transaction)?;
            tables.cert.put(transaction, &key, &record.encode())?;
            done.kept += 1;
        } else {
            tables.cert.delete(transaction, &key)?;
            tables.der.delete(transaction, &key)?;
            done.dropped += 1;
        }
    }
    Ok(done)
}

/// All keys of `cert` and `der`, and whether each has the right length.
fn keys(tables: &Tables, transaction: &RwTxn<'_>) -> Tried<Vec<(Vec<u8>, bool)>> {
    let mut keys = std::collections::BTreeSet::new();
    for table in [tables.cert, tables.der] {
        for row in table.iter(transaction)? {
            keys.insert(row?.0.to_vec());
        }
    }
    Ok(keys.into_iter().map(|key| (key.clone(), key.len() == size_of::<Fingerprint>())).collect())
}

fn read(
    tables: &Tables,
    transaction: &RwTxn<'_>,
    fingerprint: &Fingerprint,
) -> Tried<Option<(Record, Certificate)>> {
    let certificate = tables.certificate(transaction, fingerprint)?;
    let (Some(certificate), Some(octets)) = (certificate, tables.cert.get(transaction, fingerprint)?) else {
        return Ok(None);
    };
    let record = Record::decode(octets).or_else(|| Record::decode_v1(octets, &certificate));
    Ok(record.map(|record| (record, certificate)))
}

/// The negative entries of schema 1 had the address as key and no check sum.
fn absent_v1(tables: &Tables, transaction: &mut RwTxn<'_>) -> Tried<()> {
    let mut rows = Vec::new();
    for row in tables.neg.iter(transaction)? {
        let (key, value) = row?;
        rows.push((key.to_vec(), <[u8; 8]>::try_from(value).ok()));
    }
    tables.neg.clear(transaction)?;
    for (key, value) in rows {
        if let Some(until) = value.map(i64::from_le_bytes).and_then(time_of) {
            let value = Writer::new(1).time(until).finish();
            tables.neg.put(transaction, &crate::key::pair(&key, &[0]), &value)?;
        }
    }
    Ok(())
}
