//! The index entries of one certificate: made, deleted and checked from one list.

use heed::{RoTxn, RwTxn};
use smime::Certificate;

use crate::{
    env::Tried,
    key,
    record::Fingerprint,
    tables::{Table, Tables},
};

/// How many addresses of one certificate are indexed.
const MAX_ADDRESSES: usize = 100;

/// Where a certificate is found.
#[derive(Debug)]
pub(crate) struct Index {
    /// Its addresses, and what an administrator gave it, as parts of keys.
    pub(crate) addresses: Vec<Vec<u8>>,
    by_addr: Vec<Vec<u8>>,
    by_is: Vec<u8>,
    by_ski: Option<Vec<u8>>,
    by_subj: Vec<u8>,
    by_exp: Vec<u8>,
}

impl Index {
    /// The entries of a certificate with these addresses and domains beside those it names. A helper is nobody's,
    /// whomever it names.
    pub(crate) fn of(certificate: &Certificate, is_helper: bool, assigned: &[String]) -> Self {
        let fingerprint: &Fingerprint = certificate.fingerprint();
        let named = if is_helper { Vec::new() } else { certificate.addresses() };
        let named = named.iter().filter_map(key::address).take(MAX_ADDRESSES);
        let mut addresses: Vec<_> = named.chain(assigned.iter().filter_map(|text| key::text(text))).collect();
        addresses.sort();
        addresses.dedup();
        let with = |mut key: Vec<u8>| {
            key.extend_from_slice(fingerprint);
            key
        };
        let serial = certificate.serial_number();
        Self {
            by_addr: addresses.iter().map(|address| key::pair(address, fingerprint)).collect(),
            by_is: with(key::issuer_and_serial(key::issuer(certificate), serial)),
            by_ski: certificate.subject_key_identifier().map(|ski| with(key::counted(&ski))),
            by_subj: with(key::subject(certificate).to_vec()),
            by_exp: with(crate::codec::ordered(certificate.not_after()).to_vec()),
            addresses,
        }
    }

    fn rows<'a>(&'a self, tables: &Tables) -> impl Iterator<Item = (&'static str, Table, &'a [u8])> {
        let Tables { by_addr, by_is, by_ski, by_subj, by_exp, .. } = *tables;
        let addresses = self.by_addr.iter().map(move |key| ("by_addr", by_addr, key.as_slice()));
        let ski = self.by_ski.iter().map(move |key| ("by_ski", by_ski, key.as_slice()));
        let rest = [
            ("by_is", by_is, self.by_is.as_slice()),
            ("by_subj", by_subj, self.by_subj.as_slice()),
            ("by_exp", by_exp, self.by_exp.as_slice()),
        ];
        addresses.chain(ski).chain(rest)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.by_addr.len()).unwrap_or(u64::MAX) + u64::from(self.by_ski.is_some()) + 3
    }

    /// Makes all entries.
    pub(crate) fn put(&self, tables: &Tables, transaction: &mut RwTxn<'_>) -> Tried<()> {
        for (_, table, key) in self.rows(tables) {
            table.put(transaction, key, &[])?;
        }
        Ok(())
    }

    /// Deletes all entries.
    pub(crate) fn delete(&self, tables: &Tables, transaction: &mut RwTxn<'_>) -> Tried<()> {
        for (_, table, key) in self.rows(tables) {
            table.delete(transaction, key)?;
        }
        Ok(())
    }

    /// The tables in which an entry is missing.
    pub(crate) fn missing(&self, tables: &Tables, transaction: &RoTxn<'_>) -> Tried<Vec<&'static str>> {
        let mut missing = Vec::new();
        for (name, table, key) in self.rows(tables) {
            if table.get(transaction, key)?.is_none() {
                missing.push(name);
            }
        }
        Ok(missing)
    }

    /// Whether an entry of this table and key is one of this certificate's.
    pub(crate) fn has(&self, name: &str, key: &[u8]) -> bool {
        match name {
            "by_addr" => self.by_addr.iter().any(|own| own == key),
            "by_is" => self.by_is == key,
            "by_ski" => self.by_ski.as_deref() == Some(key),
            "by_subj" => self.by_subj == key,
            "by_exp" => self.by_exp == key,
            _ => false,
        }
    }
}
