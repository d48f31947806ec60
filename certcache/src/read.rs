//! Looking certificates up by what they name.

use std::time::SystemTime;

use der::Encode;
use heed::RoTxn;
use smime::{Certificate, MailAddress};

use crate::{
    Announced, Cache, CacheError, Source, TrustState,
    codec::Reader,
    env::{Tried, Trouble},
    key,
    record::{Fingerprint, Record, Sources},
    tables::{Table, Tables, suffixes},
};

/// How many certificates are walked over in one transaction.
const STEP: usize = 200;
/// How many issuers of one name are given.
const MAX_ISSUERS: usize = 50;

/// A certificate with what is known of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The certificate.
    pub certificate: Certificate,
    /// Where it came from.
    pub sources: Sources,
    /// Whether it may be used.
    pub state: TrustState,
    /// When it was first put in.
    pub first_seen: SystemTime,
    /// When it was last put in, to a day.
    pub last_seen: SystemTime,
    /// The message it was first harvested from.
    pub message_id: Option<String>,
    /// What was announced beside it (RFC 8551 2.5.2).
    pub announced: Option<Announced>,
    /// The signing time of the last message that asked to encrypt to it (RFC 8551 2.5.3).
    pub preferred: Option<SystemTime>,
    /// Addresses and domains that an administrator gave it beside those it names.
    pub assigned: Vec<String>,
    /// The only ones of the addresses it names that it is used for; all of them where this is empty.
    pub only: Vec<String>,
}

/// How much is in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Certificates.
    pub certificates: u64,
    /// Pairs of an address and a certificate.
    pub addresses: u64,
    /// Pairs of an address and a source that has no certificate for it.
    pub absent: u64,
    /// CRLs.
    pub crls: u64,
    /// OCSP answers.
    pub ocsp: u64,
    /// Choices that are remembered.
    pub choices: u64,
    /// Octets of the file.
    pub file_octets: u64,
    /// Octets it can grow to.
    pub map_octets: u64,
    /// Readers in all processes.
    pub readers: u32,
}

impl Cache {
    /// The entry of a certificate by the SHA-256 of its DER.
    pub fn by_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<Entry>, CacheError> {
        self.read(|tables, transaction| self.entry(tables, transaction, fingerprint))
    }

    /// All entries of an address, valid or not, newest certificate first.
    pub fn by_address(&self, address: &MailAddress) -> Result<Vec<Entry>, CacheError> {
        let (entries, damaged) = self.entries_of(address)?;
        damaged.map_or(Ok(entries), Err)
    }

    /// All entries with an issuer's name in DER and a serial number.
    #[cfg(test)]
    pub(crate) fn by_issuer_and_serial(
        &self,
        issuer: &[u8],
        serial: &[u8],
    ) -> Result<Vec<Entry>, CacheError> {
        let key = key::issuer_and_serial(key::name(issuer), serial);
        self.by_prefix(|tables| tables.by_is, &key, usize::MAX)
    }

    /// All entries with a subject key identifier: there may be several, and not all need be the owner's
    /// (RFC 8551 2.6).
    pub fn by_subject_key_identifier(&self, identifier: &[u8]) -> Result<Vec<Entry>, CacheError> {
        self.by_prefix(|tables| tables.by_ski, &key::counted(identifier), usize::MAX)
    }

    /// The entries with a subject's name in DER, such as the issuers of a certificate or the other half of a
    /// pair for signing and encrypting. At most 50.
    pub fn by_subject(&self, subject: &[u8]) -> Result<Vec<Entry>, CacheError> {
        self.by_prefix(|tables| tables.by_subj, &key::name(subject), MAX_ISSUERS)
    }

    /// The entries with the name of a certificate's issuer: first those of the key that it says is its issuer's, then
    /// others, at most 50 of each; and whether there are more.
    pub(crate) fn issuers_of(&self, certificate: &Certificate) -> Result<(Vec<Entry>, bool), CacheError> {
        let issuer = certificate.issuer();
        let mut found = match certificate.authority_key_identifier() {
            Some(identifier) => {
                self.by_prefix(|tables| tables.by_ski, &key::counted(&identifier), MAX_ISSUERS + 1)?
            }
            None => Vec::new(),
        };
        let name = key::name(&issuer.to_der().unwrap_or_default());
        let named = self.by_prefix(|tables| tables.by_subj, &name, MAX_ISSUERS + 1)?;
        // Whoever is left out of those of the name has no other way in; of those of the key, the name may bring it.
        let is_cut = named.len() > MAX_ISSUERS;
        found.truncate(MAX_ISSUERS);
        found.retain(|entry| entry.certificate.subject() == issuer);
        for entry in named.into_iter().take(MAX_ISSUERS) {
            if found.iter().all(|known| known.certificate != entry.certificate) {
                found.push(entry);
            }
        }
        Ok((found, is_cut))
    }

    /// The entries that end in a period, the first to end first. At most `limit`.
    pub fn expiring(
        &self,
        from: SystemTime,
        until: SystemTime,
        limit: usize,
    ) -> Result<Vec<Entry>, CacheError> {
        self.read(|tables, transaction| {
            let (from, until) = (crate::codec::ordered(from), crate::codec::ordered(until));
            let range = (std::ops::Bound::Included(&from[..]), std::ops::Bound::Unbounded);
            let mut entries = Vec::new();
            for row in tables.by_exp.range(transaction, &range)? {
                let (key, _) = row?;
                let Some((end, fingerprint)) = key.split_first_chunk::<8>() else { continue };
                if *end >= until || entries.len() >= limit {
                    break;
                }
                let Ok(fingerprint) = fingerprint.try_into() else { continue };
                entries.extend(self.entry(tables, transaction, fingerprint)?);
            }
            Ok(entries)
        })
    }

    fn by_prefix(
        &self,
        table: impl FnOnce(&Tables) -> Table,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, CacheError> {
        self.read(|tables, transaction| {
            let found = suffixes(table(tables), transaction, prefix, limit)?;
            let entries = found.iter().map(|fingerprint| self.entry(tables, transaction, fingerprint));
            entries.filter_map(Result::transpose).collect()
        })
    }

    /// Gives each entry to `visit`, until that returns false. `visit` runs between transactions and may take its
    /// time, and use the cache; what changes meanwhile is seen or not.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(Result<Entry, CacheError>) -> bool,
    ) -> Result<(), CacheError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let step = self.read(|tables, transaction| {
                let from = after.as_deref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
                let range = (from, std::ops::Bound::<&[u8]>::Unbounded);
                let mut step = Vec::new();
                for row in tables.cert.range(transaction, &range)?.take(STEP) {
                    let (key, _) = row?;
                    let entry = match <&Fingerprint>::try_from(key) {
                        Ok(fingerprint) => self.entry(tables, transaction, fingerprint).transpose(),
                        Err(_) => Some(Err(self.damaged("cert", key).into())),
                    };
                    step.push((key.to_vec(), entry.map(|entry| entry.map_err(|trouble| self.fail(trouble)))));
                }
                Ok(step)
            })?;
            let Some((last, _)) = step.last() else { return Ok(()) };
            after = Some(last.clone());
            for (_, entry) in step {
                if !entry.is_none_or(&mut visit) {
                    return Ok(());
                }
            }
        }
    }

    /// How much is in it.
    pub fn stat(&self) -> Result<Stat, CacheError> {
        self.read(|tables, transaction| {
            let info = self.store().env().info();
            Ok(Stat {
                certificates: tables.cert.len(transaction)?,
                addresses: tables.by_addr.len(transaction)?,
                absent: tables.neg.len(transaction)?,
                crls: tables.crl.len(transaction)?,
                ocsp: tables.ocsp.len(transaction)?,
                choices: tables.choice.len(transaction)?,
                file_octets: self.store().env().real_disk_size()?,
                map_octets: u64::try_from(self.store().limit()).unwrap_or(u64::MAX),
                readers: info.number_of_readers,
            })
        })
    }

    /// Whether an address is known to have no certificate at a source, or with `None` anywhere.
    pub fn is_absent(
        &self,
        address: &MailAddress,
        source: Option<Source>,
        at: SystemTime,
    ) -> Result<bool, CacheError> {
        let Some(address) = key::address(address) else { return Ok(false) };
        let key = key::pair(&address, &[source.map_or(0, Source::octet)]);
        self.read(|tables, transaction| {
            let until = tables.neg.get(transaction, &key)?;
            let until = until.and_then(|octets| Reader::new(octets, 1)).and_then(|mut reader| reader.time());
            Ok(until.is_some_and(|until| at < until))
        })
    }

    /// The good entries of an address and of its domain, newest certificate first, and the error of a damaged
    /// one.
    pub(crate) fn entries_of(
        &self,
        address: &MailAddress,
    ) -> Result<(Vec<Entry>, Option<CacheError>), CacheError> {
        self.read(|tables, transaction| self.entries_in(tables, transaction, address))
    }

    pub(crate) fn entries_in(
        &self,
        tables: &Tables,
        transaction: &RoTxn<'_>,
        address: &MailAddress,
    ) -> Tried<(Vec<Entry>, Option<CacheError>)> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut damaged = None;
        for part in [key::address(address), key::domain(address)].into_iter().flatten() {
            for fingerprint in suffixes(tables.by_addr, transaction, &key::prefix(&part), usize::MAX)? {
                match self.entry(tables, transaction, &fingerprint) {
                    Ok(Some(entry)) if entry.is_of(address) => {
                        if entries.iter().all(|known| known.certificate != entry.certificate) {
                            entries.push(entry);
                        }
                    }
                    Ok(_) => damaged = Some(self.damaged("by_addr", &fingerprint)),
                    Err(Trouble::Cache(error @ CacheError::Damaged { .. })) => damaged = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.certificate.not_before()));
        Ok((entries, damaged))
    }

    pub(crate) fn entry(
        &self,
        tables: &Tables,
        transaction: &RoTxn<'_>,
        fingerprint: &Fingerprint,
    ) -> Tried<Option<Entry>> {
        let stored = self.stored(tables, transaction, fingerprint)?;
        Ok(stored.map(|(record, certificate)| Entry {
            certificate,
            sources: record.sources,
            state: record.state,
            first_seen: record.first_seen,
            last_seen: record.last_seen,
            message_id: record.message_id,
            announced: record.announced,
            preferred: record.preferred,
            assigned: record.assigned,
            only: record.only,
        }))
    }

    /// The record of a fingerprint and its certificate, both found good.
    pub(crate) fn stored(
        &self,
        tables: &Tables,
        transaction: &RoTxn<'_>,
        fingerprint: &Fingerprint,
    ) -> Tried<Option<(Record, Certificate)>> {
        let Some(record) = tables.cert.get(transaction, fingerprint)? else {
            return Ok(None);
        };
        match (Record::decode(record), tables.certificate(transaction, fingerprint)?) {
            (Some(record), Some(certificate)) => Ok(Some((record, certificate))),
            _ => Err(self.damaged("cert", fingerprint).into()),
        }
    }

    pub(crate) fn damaged(&self, table: &'static str, key: &[u8]) -> CacheError {
        let key = data_encoding::HEXLOWER.encode(key);
        CacheError::Damaged { path: self.path().to_owned(), table, key }
    }
}

impl Entry {
    /// Whether it is of an address: it names it, or was given it or its domain.
    pub fn is_of(&self, address: &MailAddress) -> bool {
        self.certificate.addresses().contains(address) || self.is_assigned(address)
    }

    /// Whether it may be used for an address that it names: it was harvested from that address, or comes from
    /// somebody who answers for all of it.
    pub fn is_used_for(&self, address: &MailAddress) -> bool {
        self.only.is_empty() || self.only.contains(&address.folded()) || self.is_assigned(address)
    }

    /// Whether an administrator gave it the address, not only its domain.
    pub(crate) fn is_assigned_itself(&self, address: &MailAddress) -> bool {
        let folded = address.folded();
        self.assigned.iter().any(|text| key::canonical(text).is_some_and(|text| text == folded))
    }

    /// Whether an administrator gave it the address or its domain.
    pub(crate) fn is_assigned(&self, address: &MailAddress) -> bool {
        let (folded, domain) = (address.folded(), key::of_domain(address));
        self.assigned.iter().any(|text| {
            let text = key::canonical(text);
            text.as_ref().is_some_and(|text| *text == folded || *text == domain)
        })
    }
}
