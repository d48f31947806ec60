//! Putting certificates in, and taking them out.

use std::time::SystemTime;

use heed::RwTxn;
use smime::{Certificate, MailAddress};

use crate::{
    Cache, CacheError, Source, Tables,
    record::{Fingerprint, Record, Sources, absent_key, address_key, encode_time},
};

/// What came of putting in certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// How many were not there before.
    pub new: usize,
    /// How many were there already.
    pub known: usize,
}

impl Cache {
    /// Puts in one certificate, or notes that it was seen again.
    pub fn insert(
        &self,
        certificate: &Certificate,
        source: Source,
        now: SystemTime,
    ) -> Result<Inserted, CacheError> {
        self.insert_all([certificate], source, now)
    }

    /// Puts in certificates, all or none of them.
    pub fn insert_all<'c>(
        &self,
        certificates: impl IntoIterator<Item = &'c Certificate>,
        source: Source,
        now: SystemTime,
    ) -> Result<Inserted, CacheError> {
        let mut transaction = self.env.write_txn().map_err(|error| self.fail(error))?;
        let mut inserted = Inserted::default();
        for certificate in certificates {
            if self.insert_one(&mut transaction, certificate, source, now)? {
                inserted.new += 1;
            } else {
                inserted.known += 1;
            }
        }
        transaction.commit().map_err(|error| self.fail(error))?;
        Ok(inserted)
    }

    fn insert_one(
        &self,
        transaction: &mut RwTxn<'_>,
        certificate: &Certificate,
        source: Source,
        now: SystemTime,
    ) -> Result<bool, CacheError> {
        let fail = |error| self.fail(error);
        let fingerprint = certificate.fingerprint();
        let addresses = certificate.addresses();
        let keys: Vec<Vec<u8>> =
            addresses.iter().filter_map(|address| address_key(address, fingerprint)).collect();
        if keys.is_empty() {
            let certificate = certificate.to_string();
            return Err(CacheError::NoAddress { path: self.path.clone(), certificate });
        }
        let Tables { certificates, octets, addresses: by_address, absent, .. } = &self.tables;
        let before = certificates.get(transaction, fingerprint).map_err(fail)?.and_then(Record::decode);
        let record = Record {
            sources: before.map_or_else(Sources::default, |record| record.sources).with(source),
            first_seen: before.map_or(now, |record| record.first_seen),
            last_seen: now,
        };
        certificates.put(transaction, fingerprint, &record.encode()).map_err(fail)?;
        octets.put(transaction, fingerprint, certificate.der()).map_err(fail)?;
        for key in &keys {
            by_address.put(transaction, key, &[]).map_err(fail)?;
        }
        for key in addresses.iter().filter_map(absent_key) {
            absent.delete(transaction, &key).map_err(fail)?;
        }
        Ok(before.is_none())
    }

    /// Notes that an address has no certificate, until a time. A certificate that comes is found before.
    pub fn insert_absent(&self, address: &MailAddress, until: SystemTime) -> Result<(), CacheError> {
        let Some(key) = absent_key(address) else {
            return Ok(());
        };
        let fail = |error| self.fail(error);
        let mut transaction = self.env.write_txn().map_err(fail)?;
        self.tables.absent.put(&mut transaction, &key, &encode_time(until)).map_err(fail)?;
        transaction.commit().map_err(fail)
    }

    /// Takes a certificate out, and says whether it was there.
    pub fn remove(&self, fingerprint: &Fingerprint) -> Result<bool, CacheError> {
        let fail = |error| self.fail(error);
        let mut transaction = self.env.write_txn().map_err(fail)?;
        let octets = self.tables.octets.get(&transaction, fingerprint).map_err(fail)?;
        let certificate = octets.and_then(|octets| Certificate::from_der(octets).ok());
        let addresses = certificate.map(|certificate| certificate.addresses()).unwrap_or_default();
        for key in addresses.iter().filter_map(|address| address_key(address, fingerprint)) {
            self.tables.addresses.delete(&mut transaction, &key).map_err(fail)?;
        }
        self.tables.octets.delete(&mut transaction, fingerprint).map_err(fail)?;
        let was_there = self.tables.certificates.delete(&mut transaction, fingerprint).map_err(fail)?;
        transaction.commit().map_err(fail)?;
        Ok(was_there)
    }
}
