//! Looking certificates up.

use std::time::SystemTime;

use heed::RoTxn;
use smime::{
    Certificate, MailAddress,
    store::{Lookup, RecipientCertificates, StoreError},
};

use crate::{
    Cache, CacheError,
    record::{Fingerprint, Record, Sources, absent_key, address_prefix, decode_time},
};

/// A certificate with what is known of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The certificate.
    pub certificate: Certificate,
    /// Where it came from.
    pub sources: Sources,
    /// When it was first put in.
    pub first_seen: SystemTime,
    /// When it was last put in.
    pub last_seen: SystemTime,
}

/// How much is in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Certificates.
    pub certificates: u64,
    /// Pairs of an address and a certificate.
    pub addresses: u64,
    /// Addresses known to have no certificate.
    pub absent: u64,
    /// Octets of the file.
    pub file_octets: u64,
    /// Octets it can grow to.
    pub map_octets: u64,
}

impl Cache {
    /// The entry of a certificate by the SHA-256 of its DER.
    pub fn by_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<Entry>, CacheError> {
        let transaction = self.env.read_txn().map_err(|error| self.fail(error))?;
        self.entry(&transaction, fingerprint)
    }

    /// All entries of an address, valid or not, newest certificate first.
    pub fn by_address(&self, address: &MailAddress) -> Result<Vec<Entry>, CacheError> {
        let transaction = self.env.read_txn().map_err(|error| self.fail(error))?;
        let (entries, damaged) = self.entries_of(&transaction, address)?;
        damaged.map_or(Ok(entries), Err)
    }

    /// Gives each entry to `visit`, until that returns false. The walk is one transaction, during which the
    /// file can only grow: `visit` is quick.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(Result<Entry, CacheError>) -> bool,
    ) -> Result<(), CacheError> {
        let transaction = self.env.read_txn().map_err(|error| self.fail(error))?;
        for row in self.tables.certificates.iter(&transaction).map_err(|error| self.fail(error))? {
            let (key, _) = row.map_err(|error| self.fail(error))?;
            let entry = match <&Fingerprint>::try_from(key) {
                Ok(fingerprint) => self.entry(&transaction, fingerprint).transpose(),
                Err(_) => Some(Err(self.damaged(key))),
            };
            if !entry.is_none_or(&mut visit) {
                break;
            }
        }
        Ok(())
    }

    /// How much is in it.
    pub fn stat(&self) -> Result<Stat, CacheError> {
        let fail = |error| self.fail(error);
        let transaction = self.env.read_txn().map_err(fail)?;
        Ok(Stat {
            certificates: self.tables.certificates.len(&transaction).map_err(fail)?,
            addresses: self.tables.addresses.len(&transaction).map_err(fail)?,
            absent: self.tables.absent.len(&transaction).map_err(fail)?,
            file_octets: self.env.real_disk_size().map_err(fail)?,
            map_octets: u64::try_from(self.env.info().map_size).unwrap_or(u64::MAX),
        })
    }

    fn look_up(&self, address: &MailAddress, at: SystemTime) -> Result<Lookup, CacheError> {
        let transaction = self.env.read_txn().map_err(|error| self.fail(error))?;
        let (entries, damaged) = self.entries_of(&transaction, address)?;
        let usable = |certificate: &Certificate| {
            certificate.may_encrypt() && certificate.is_for_email() && certificate.is_valid_at(at)
        };
        let found: Vec<Certificate> =
            entries.into_iter().map(|entry| entry.certificate).filter(usable).collect();
        match damaged {
            _ if !found.is_empty() => Ok(Lookup::Found(found)),
            Some(damaged) => Err(damaged),
            None if self.is_absent(&transaction, address, at)? => Ok(Lookup::Absent),
            None => Ok(Lookup::Unknown),
        }
    }

    /// The good entries of an address, newest certificate first, and the error of a damaged one.
    fn entries_of(
        &self,
        transaction: &RoTxn<'_>,
        address: &MailAddress,
    ) -> Result<(Vec<Entry>, Option<CacheError>), CacheError> {
        let mut entries = Vec::new();
        let mut damaged = None;
        let Some(prefix) = address_prefix(address) else {
            return Ok((entries, damaged));
        };
        let rows = self.tables.addresses.prefix_iter(transaction, &prefix);
        for row in rows.map_err(|error| self.fail(error))? {
            let (key, _) = row.map_err(|error| self.fail(error))?;
            let fingerprint = key.get(prefix.len()..).unwrap_or_default();
            let entry = match <&Fingerprint>::try_from(fingerprint) {
                Ok(fingerprint) => self.entry(transaction, fingerprint),
                Err(_) => Err(self.damaged(fingerprint)),
            };
            match entry {
                Ok(Some(entry)) if entry.certificate.addresses().contains(address) => entries.push(entry),
                Ok(_) => damaged = Some(self.damaged(fingerprint)),
                Err(error @ CacheError::Damaged { .. }) => damaged = Some(error),
                Err(error) => return Err(error),
            }
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.certificate.not_before()));
        Ok((entries, damaged))
    }

    fn entry(&self, transaction: &RoTxn<'_>, fingerprint: &Fingerprint) -> Result<Option<Entry>, CacheError> {
        let fail = |error| self.fail(error);
        let Some(record) = self.tables.certificates.get(transaction, fingerprint).map_err(fail)? else {
            return Ok(None);
        };
        let octets = self.tables.octets.get(transaction, fingerprint).map_err(fail)?;
        let certificate = octets
            .and_then(|octets| Certificate::from_der(octets).ok())
            .filter(|certificate| certificate.fingerprint() == fingerprint);
        match (Record::decode(record), certificate) {
            (Some(Record { sources, first_seen, last_seen }), Some(certificate)) => {
                Ok(Some(Entry { certificate, sources, first_seen, last_seen }))
            }
            _ => Err(self.damaged(fingerprint)),
        }
    }

    fn is_absent(
        &self,
        transaction: &RoTxn<'_>,
        address: &MailAddress,
        at: SystemTime,
    ) -> Result<bool, CacheError> {
        let Some(key) = absent_key(address) else {
            return Ok(false);
        };
        let until = self.tables.absent.get(transaction, &key).map_err(|error| self.fail(error))?;
        let until = until.and_then(|octets| octets.try_into().ok()).and_then(decode_time);
        Ok(until.is_some_and(|until| at < until))
    }

    pub(crate) fn damaged(&self, fingerprint: &[u8]) -> CacheError {
        let fingerprint = data_encoding::HEXLOWER.encode(fingerprint);
        CacheError::Damaged { path: self.path.clone(), fingerprint }
    }
}

impl RecipientCertificates for Cache {
    /// Certificates for e-mail that can be encrypted to and are valid at the time, the newest first. An
    /// expired or damaged one never hides a good one; where only damaged ones are left, that is an error.
    fn lookup(&self, address: &MailAddress, at: SystemTime) -> Result<Lookup, StoreError> {
        self.look_up(address, at).map_err(|error| error.into_store_error(&self.path))
    }
}
