//! CRLs and OCSP answers as they were fetched, and when not to ask again.
//!
//! Nothing here says that they are signed or current: whoever uses them checks that each time. The newer one
//! stays, because somebody may hand out an old list that is still unexpired (RFC 8550 section 6).

use std::time::SystemTime;

use heed::RwTxn;
use smime::{Certificate, algorithm::DigestAlgorithm, key::Digest, path::Crl};

use crate::{
    Cache, CacheError,
    codec::{Reader, Writer},
    env::{Tried, Trouble},
    index::Index,
    key,
    record::Fingerprint,
    tables::{Tables, delete_prefix, suffixes},
    write::forget,
};

/// How large a CRL may be.
pub const MAX_CRL_LEN: usize = 20 << 20;
/// How large an OCSP answer may be.
pub const MAX_OCSP_LEN: usize = 64 << 10;
/// How many entries of a list may differ from the list before for others to stay as they are.
const MAX_CHANGES: usize = 10_000;
/// How many CRLs of one issuer's name are given.
const MAX_SCOPES: usize = 100;

/// A CRL or OCSP answer with how it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The exact octets: `CertificateList`, or `OCSPResponse`.
    pub der: Vec<u8>,
    /// thisUpdate.
    pub this_update: SystemTime,
    /// nextUpdate.
    pub next_update: Option<SystemTime>,
    /// When it was last fetched, or found unchanged.
    pub fetched: SystemTime,
    /// Where it came from.
    pub url: Option<String>,
    /// The server's tag for it, to ask whether it has changed (RFC 9110 8.8.3).
    pub etag: Option<String>,
}

/// What came of putting something in that may be older than what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the cache now.
    New,
    /// The same octets were there; when it was fetched is noted.
    Known,
    /// What is there is newer, and stays.
    Older,
}

const STATUS_VERSION: u8 = 1;

impl Status {
    fn encode(&self) -> Vec<u8> {
        Writer::new(STATUS_VERSION)
            .time(self.this_update)
            .optional_time(self.next_update)
            .time(self.fetched)
            .optional_text(self.url.as_deref())
            .optional_text(self.etag.as_deref())
            .octets(&self.der)
            .finish()
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(value, STATUS_VERSION)?;
        let status = Self {
            this_update: reader.time()?,
            next_update: reader.optional_time()?,
            fetched: reader.time()?,
            url: reader.optional_text()?.map(str::to_owned),
            etag: reader.optional_text()?.map(str::to_owned),
            der: reader.octets()?.to_vec(),
        };
        reader.end().map(|()| status)
    }

    /// Whether this takes the place of `there`.
    fn compared(&self, there: &Self) -> Stored {
        if self.der == there.der {
            Stored::Known
        } else if self.this_update < there.this_update {
            Stored::Older
        } else {
            Stored::New
        }
    }
}

/// Which CRL of an issuer: the distribution point's URL, or nothing for the complete list.
fn crl_key(issuer: &[u8], scope: &str) -> Vec<u8> {
    [key::name(issuer).as_slice(), &sha256(scope.as_bytes())].concat()
}

fn sha256(octets: &[u8]) -> [u8; 32] {
    Digest::of(DigestAlgorithm::Sha256, octets).as_bytes().try_into().unwrap_or([0; 32])
}

impl Cache {
    /// Keeps a CRL of an issuer, given by its name in DER, for a scope: the distribution point's URL, or `""`.
    /// One that comes in time after another, as CAs make them every day, makes void what was concluded from the
    /// certificates whose entries are not the same any more. Any other makes all choices void.
    pub fn put_crl(&self, issuer: &[u8], scope: &str, crl: &Status) -> Result<Stored, CacheError> {
        self.limit_len(crl, MAX_CRL_LEN)?;
        let (key, value) = (crl_key(issuer, scope), crl.encode());
        // Outside of the transaction, as large lists take long to read.
        let before = self.crl(issuer, scope)?;
        let changes = before.as_ref().and_then(|before| changes(before, crl));
        self.write(|tables, transaction| {
            let there = tables.crl.get(transaction, &key)?.and_then(Status::decode);
            let stored = there.as_ref().map_or(Stored::New, |there| crl.compared(there));
            if stored != Stored::Older {
                tables.crl.put(transaction, &key, &value)?;
            }
            if stored == Stored::New {
                tables.next_crl(transaction)?;
                let is_of_issuers = tables.issues_issuers(transaction, &key::name(issuer))?;
                match changes.as_ref().filter(|_| there == before && !is_of_issuers) {
                    Some(serials) => self.forget_serials(tables, transaction, issuer, serials)?,
                    None => tables.next_generation(transaction)?,
                }
            }
            Ok(stored)
        })
    }

    /// Makes void what was concluded from the certificates of an issuer with these serial numbers.
    fn forget_serials(
        &self,
        tables: &Tables,
        transaction: &mut RwTxn<'_>,
        issuer: &[u8],
        serials: &[Vec<u8>],
    ) -> Tried<()> {
        let issuer = key::name(issuer);
        // An INTEGER may begin with a zero that says only that it is not negative.
        let forms = serials.iter().flat_map(|serial| [Some(serial.as_slice()), serial.strip_prefix(&[0])]);
        for serial in forms.flatten() {
            let prefix = key::issuer_and_serial(issuer, serial);
            let found: Vec<Fingerprint> = suffixes(tables.by_is, transaction, &prefix, usize::MAX)?;
            for fingerprint in found {
                match self.stored(tables, transaction, &fingerprint) {
                    Ok(Some((record, certificate))) if !record.is_ca => {
                        let index = Index::of(&certificate, record.is_helper(), &record.assigned);
                        forget(tables, transaction, &fingerprint, &index)?;
                    }
                    Ok(None) => {}
                    Ok(Some(_)) | Err(Trouble::Cache(_)) => tables.next_generation(transaction)?,
                    Err(trouble) => return Err(trouble),
                }
            }
        }
        Ok(())
    }

    /// All CRLs of an issuer, given by its name in DER, of whatever scope. Damaged ones are left out: they are
    /// fetched again.
    pub fn crls_of(&self, issuer: &[u8]) -> Result<Vec<Status>, CacheError> {
        let prefix = key::name(issuer);
        self.read(|tables, transaction| {
            let mut found = Vec::new();
            for row in tables.crl.prefix_iter(transaction, &prefix)?.take(MAX_SCOPES) {
                found.extend(Status::decode(row?.1));
            }
            Ok(found)
        })
    }

    /// What changes when the CRLs of an issuer do.
    pub(crate) fn crl_stamp(&self, issuer: &[u8]) -> Result<Vec<u8>, CacheError> {
        let prefix = key::name(issuer);
        self.read(|tables, transaction| {
            let mut stamp = Vec::new();
            for row in tables.crl.prefix_iter(transaction, &prefix)?.take(MAX_SCOPES) {
                let (key, value) = row?;
                stamp.extend_from_slice(key);
                // Their check sum.
                stamp.extend(value.last_chunk::<4>().copied().unwrap_or_default());
            }
            Ok(stamp)
        })
    }

    /// The CRL of an issuer and scope, such as to see whether it must be fetched.
    pub fn crl(&self, issuer: &[u8], scope: &str) -> Result<Option<Status>, CacheError> {
        let key = crl_key(issuer, scope);
        self.read(|tables, transaction| Ok(tables.crl.get(transaction, &key)?.and_then(Status::decode)))
    }

    /// All CRLs, for prefetching and tables. `visit` sees one at a time, outside of a transaction.
    pub fn for_each_crl(&self, mut visit: impl FnMut(&Status)) -> Result<(), CacheError> {
        let keys = self.read(|tables, transaction| {
            let rows = tables.crl.iter(transaction)?;
            Ok(rows.map(|row| row.map(|(key, _)| key.to_vec())).collect::<heed::Result<Vec<_>>>()?)
        })?;
        for key in keys {
            let status = self.read(|tables, transaction| {
                Ok(tables.crl.get(transaction, &key)?.and_then(Status::decode))
            })?;
            status.iter().for_each(&mut visit);
        }
        Ok(())
    }

    /// Keeps an OCSP answer about a certificate. A new one makes what was concluded from the certificate void.
    pub fn put_ocsp(&self, certificate: &Certificate, answer: &Status) -> Result<Stored, CacheError> {
        self.limit_len(answer, MAX_OCSP_LEN)?;
        let value = answer.encode();
        let addresses: Vec<_> = certificate.addresses().iter().filter_map(key::address).collect();
        let fingerprint = certificate.fingerprint();
        self.write(|tables, transaction| {
            let there = tables.ocsp.get(transaction, fingerprint)?.and_then(Status::decode);
            let stored = there.map_or(Stored::New, |there| answer.compared(&there));
            if stored != Stored::Older {
                tables.ocsp.put(transaction, fingerprint, &value)?;
            }
            if stored == Stored::New {
                delete_prefix(tables.path, transaction, fingerprint)?;
                let assigned = self.stored(tables, transaction, fingerprint).ok().flatten();
                let assigned = assigned.map(|(record, _)| record.assigned).unwrap_or_default();
                if addresses.is_empty() || crate::record::is_ca(certificate) {
                    tables.next_generation(transaction)?;
                }
                for address in addresses.iter().cloned().chain(assigned.iter().filter_map(|a| key::text(a))) {
                    tables.forget_choices(transaction, &address)?;
                }
            }
            Ok(stored)
        })
    }

    /// The OCSP answer about a certificate.
    pub fn ocsp_for(&self, certificate: &Certificate) -> Result<Option<Status>, CacheError> {
        self.read(|tables, transaction| {
            Ok(tables.ocsp.get(transaction, certificate.fingerprint())?.and_then(Status::decode))
        })
    }

    /// Notes that a URL gave nothing, and is not to be asked before a time. The reason is for people.
    pub fn put_unfetchable(&self, url: &str, until: SystemTime, reason: &str) -> Result<(), CacheError> {
        let reason: String = reason.chars().take(200).collect();
        let value = Writer::new(1).time(until).text(&reason).finish();
        self.write(|tables, transaction| {
            Ok(tables.fetch.put(transaction, &sha256(url.as_bytes()), &value)?)
        })
    }

    /// Why a URL is not to be asked at a time, if it is not.
    pub fn unfetchable(&self, url: &str, at: SystemTime) -> Result<Option<String>, CacheError> {
        self.read(|tables, transaction| {
            let value = tables.fetch.get(transaction, &sha256(url.as_bytes()))?;
            Ok(value.and_then(|value| {
                let mut reader = Reader::new(value, 1)?;
                let (until, reason) = (reader.time()?, reader.text()?);
                (at < until).then(|| reason.to_owned())
            }))
        })
    }

    fn limit_len(&self, status: &Status, limit: usize) -> Result<(), CacheError> {
        let len = status.der.len();
        if len > limit {
            return Err(CacheError::TooLarge { path: self.path().to_owned(), len, limit });
        }
        Ok(())
    }
}

/// The serial numbers whose entries differ between a list and the one that comes in time after it; `None` where there
/// are many, or that cannot be said.
fn changes(before: &Status, after: &Status) -> Option<Vec<Vec<u8>>> {
    let was_current = before.next_update.is_some_and(|end| after.fetched <= end);
    if !was_current || after.next_update.is_none() || after.this_update < before.this_update {
        return None;
    }
    Crl::from_der(&after.der).ok()?.changes_since(&Crl::from_der(&before.der).ok()?, MAX_CHANGES)
}

/// Whether a CRL or OCSP answer ended before a time.
pub(crate) fn ended(value: &[u8], before: SystemTime) -> bool {
    let next = Reader::new(value, STATUS_VERSION).and_then(|mut reader| {
        reader.time()?;
        reader.optional_time()?
    });
    next.is_some_and(|next| next < before)
}
