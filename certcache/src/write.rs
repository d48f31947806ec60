//! Putting certificates in, changing what is thought of them, and taking them out.

use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use heed::RwTxn;
use smime::{Certificate, MailAddress};

use crate::{
    Announced, Cache, CacheError, Source, TrustState,
    codec::{Reader, Writer},
    env::Tried,
    index::Index,
    key, log,
    record::{Fingerprint, Record},
    tables::{Tables, delete_prefix},
};

/// `last_seen` is exact to a day, so that mail does not cause a write each time.
const LAST_SEEN_STEP: Duration = Duration::from_hours(24);
/// How many octets of capabilities are kept.
const MAX_CAPABILITIES: usize = 4096;
/// How many characters of a Message-ID are kept (RFC 5322 2.1.1 allows 998 in a line).
const MAX_MESSAGE_ID: usize = 998;
/// How many addresses and domains one certificate can be given.
const MAX_ASSIGNED: usize = 100;

/// What came of putting in certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// How many were not there before.
    pub new: usize,
    /// How many were there already.
    pub known: usize,
}

/// A certificate to be put in, with all that is known of it.
#[derive(Clone, Debug)]
pub struct Insertion<'c> {
    /// The certificate.
    pub certificate: &'c Certificate,
    /// Where it comes from.
    pub source: Source,
    /// Whether it may be used. What an administrator decided before stays.
    pub state: TrustState,
    /// The message it was harvested from.
    pub message_id: Option<&'c str>,
    /// What was announced beside it, with the signing time.
    pub announced: Option<Announced>,
    /// The signing time of a message whose encryptionKeyPreference names it.
    pub preferred: Option<SystemTime>,
    /// Addresses and domains (`@example.org`) that it is given beside those it names.
    pub assigned: Vec<String>,
    /// The only address, of those it names, that it is to be used for; `None` for all of them, which only an administrator or
    /// the operator's own files can say of one that is limited already.
    pub only: Option<&'c MailAddress>,
    /// Why, for the log.
    pub reason: &'c str,
}

impl<'c> Insertion<'c> {
    /// A trusted certificate with nothing beside it.
    pub fn new(certificate: &'c Certificate, source: Source) -> Self {
        Self {
            certificate,
            source,
            state: TrustState::Trusted,
            message_id: None,
            announced: None,
            preferred: None,
            assigned: Vec::new(),
            only: None,
            reason: "",
        }
    }

    /// A CA's certificate that may help to find paths: a candidate that is nobody's, whomever it names.
    pub fn helper(certificate: &'c Certificate, source: Source) -> Self {
        Self { state: TrustState::Candidate, reason: "an issuer", ..Self::new(certificate, source) }
    }

    /// Whether it only helps to find paths.
    fn is_helper(&self) -> bool {
        let is_nobodys = self.only.is_none() && self.assigned.is_empty();
        self.state == TrustState::Candidate && is_nobodys && crate::record::is_ca(self.certificate)
    }

    fn index(&self) -> Index {
        Index::of(self.certificate, self.is_helper(), &self.assigned)
    }
}

impl Cache {
    /// Puts in one certificate as trusted, or notes that it was seen again.
    pub fn insert(
        &self,
        certificate: &Certificate,
        source: Source,
        now: SystemTime,
    ) -> Result<Inserted, CacheError> {
        self.put(&[Insertion::new(certificate, source)], now)
    }

    /// Puts in certificates as trusted, all or none of them.
    pub fn insert_all<'c>(
        &self,
        certificates: impl IntoIterator<Item = &'c Certificate>,
        source: Source,
        now: SystemTime,
    ) -> Result<Inserted, CacheError> {
        let insertions: Vec<_> =
            certificates.into_iter().map(|certificate| Insertion::new(certificate, source)).collect();
        self.put(&insertions, now)
    }

    /// Puts in certificates with what is known of them, all or none of them. One that names no mail address and
    /// is given none is refused, unless it is a CA's.
    pub fn put(&self, insertions: &[Insertion<'_>], now: SystemTime) -> Result<Inserted, CacheError> {
        let indexes: Vec<Index> = insertions.iter().map(Insertion::index).collect();
        for (new, index) in insertions.iter().zip(&indexes) {
            if index.addresses.is_empty() && !crate::record::is_ca(new.certificate) {
                let certificate = new.certificate.to_string();
                return Err(CacheError::NoAddress { path: self.path().to_owned(), certificate });
            }
        }
        self.write(|tables, transaction| insert_each(tables, transaction, insertions, &indexes, now))
    }

    /// Puts in certificates that strangers may send, unless a domain has sent as many new ones as it may on one
    /// day: then nothing is put in, and it is `None`. Those of CAs do not count.
    pub fn put_capped(
        &self,
        insertions: &[Insertion<'_>],
        domain: &str,
        limit: u32,
        now: SystemTime,
    ) -> Result<Option<Inserted>, CacheError> {
        let indexes: Vec<Index> = insertions.iter().map(Insertion::index).collect();
        let day = crate::codec::seconds(now).div_euclid(86_400);
        let key = key::text(domain).map(|domain| key::pair(&domain, &day.to_be_bytes()));
        let end = crate::codec::time_of((day + 1).saturating_mul(86_400)).unwrap_or(now);
        self.write(|tables, transaction| {
            let mut new_ones = 0;
            for insertion in insertions {
                let is_there = tables.cert.get(transaction, insertion.certificate.fingerprint())?.is_some();
                new_ones += u32::from(!is_there && !crate::record::is_ca(insertion.certificate));
            }
            if new_ones > 0 {
                let Some(key) = &key else { return Ok(None) };
                let before = tables.cap.get(transaction, key)?.and_then(|value| {
                    let mut reader = Reader::new(value, 1)?;
                    reader.time()?;
                    reader.u32()
                });
                let count = before.unwrap_or(0).saturating_add(new_ones);
                if count > limit {
                    return Ok(None);
                }
                tables.cap.put(transaction, key, &Writer::new(1).time(end).u32(count).finish())?;
            }
            insert_each(tables, transaction, insertions, &indexes, now).map(Some)
        })
    }

    /// Changes whether a certificate may be used, and says whether it is there. One that is trusted or pinned by this
    /// is so for all addresses it names.
    pub fn set_state(
        &self,
        fingerprint: &Fingerprint,
        state: TrustState,
        reason: &str,
        now: SystemTime,
    ) -> Result<bool, CacheError> {
        let text = format!("{}: {reason}", state.name());
        self.change(fingerprint, "state", &text, now, |record| {
            record.state = state;
            if state >= TrustState::Trusted {
                record.only.clear();
            }
        })
    }

    /// Gives a certificate an address that it does not name, or with `@example.org` all addresses of a domain.
    pub fn assign(
        &self,
        fingerprint: &Fingerprint,
        address_or_domain: &str,
        reason: &str,
        now: SystemTime,
    ) -> Result<bool, CacheError> {
        let text = key::canonical(address_or_domain).filter(|text| key::text(text).is_some());
        let Some(text) = text else {
            let text = address_or_domain.chars().take(320).collect();
            return Err(CacheError::NotAnAddress { path: self.path().to_owned(), text });
        };
        let reason = format!("{text}: {reason}");
        self.change(fingerprint, "assign", &reason, now, |record| {
            if !record.assigned.contains(&text) && record.assigned.len() < MAX_ASSIGNED {
                record.assigned.push(text.clone());
            }
        })
    }

    /// Takes back what `assign` gave.
    #[cfg(test)]
    pub(crate) fn unassign(
        &self,
        fingerprint: &Fingerprint,
        address_or_domain: &str,
        reason: &str,
        now: SystemTime,
    ) -> Result<bool, CacheError> {
        let text = canonical(address_or_domain);
        let reason = format!("no longer {text}: {reason}");
        self.change(fingerprint, "assign", &reason, now, |record| {
            record.assigned.retain(|own| canonical(own) != text);
        })
    }

    fn change(
        &self,
        fingerprint: &Fingerprint,
        action: &str,
        reason: &str,
        now: SystemTime,
        mut change: impl FnMut(&mut Record),
    ) -> Result<bool, CacheError> {
        self.write(|tables, transaction| {
            let Some((mut record, certificate)) = self.stored(tables, transaction, fingerprint)? else {
                return Ok(false);
            };
            let before = Index::of(&certificate, record.is_helper(), &record.assigned);
            change(&mut record);
            let after = Index::of(&certificate, record.is_helper(), &record.assigned);
            before.delete(tables, transaction)?;
            after.put(tables, transaction)?;
            tables.cert.put(transaction, fingerprint, &record.encode())?;
            for index in [&before, &after] {
                forget(tables, transaction, fingerprint, index)?;
            }
            log::append(tables, transaction, now, action, &HEXLOWER.encode(fingerprint), reason)?;
            Ok(true)
        })
    }

    /// Notes that an address has no certificate at one source, until a time; with `None`, at none of them. A certificate that
    /// comes is found before.
    pub fn put_absent(
        &self,
        address: &MailAddress,
        source: Option<Source>,
        until: SystemTime,
    ) -> Result<(), CacheError> {
        let Some(address) = key::address(address) else {
            return Ok(());
        };
        let source = source.map_or(0, Source::octet);
        let value = Writer::new(1).time(until).finish();
        self.write(|tables, transaction| {
            Ok(tables.neg.put(transaction, &key::pair(&address, &[source]), &value)?)
        })
    }

    /// Takes a certificate out, and says whether it was there.
    pub fn remove(&self, fingerprint: &Fingerprint) -> Result<bool, CacheError> {
        self.remove_because(fingerprint, "", SystemTime::now())
    }

    /// Takes a certificate out for a reason, and says whether it was there. One whose octets are damaged goes as
    /// well, with all entries that lead to it.
    pub fn remove_because(
        &self,
        fingerprint: &Fingerprint,
        reason: &str,
        now: SystemTime,
    ) -> Result<bool, CacheError> {
        Ok(self.remove_all(std::slice::from_ref(fingerprint), reason, now)? > 0)
    }

    /// Takes certificates out for a reason, all or none of them, and says how many were there.
    pub fn remove_all(
        &self,
        fingerprints: &[Fingerprint],
        reason: &str,
        now: SystemTime,
    ) -> Result<usize, CacheError> {
        self.write(|tables, transaction| {
            let mut removed = 0;
            for fingerprint in fingerprints {
                removed += usize::from(self.take_out(tables, transaction, fingerprint, reason, now)?);
            }
            Ok(removed)
        })
    }

    fn take_out(
        &self,
        tables: &Tables,
        transaction: &mut RwTxn<'_>,
        fingerprint: &Fingerprint,
        reason: &str,
        now: SystemTime,
    ) -> Tried<bool> {
        match self.stored(tables, transaction, fingerprint) {
            Ok(Some((record, certificate))) => {
                let index = Index::of(&certificate, record.is_helper(), &record.assigned);
                index.delete(tables, transaction)?;
                forget(tables, transaction, fingerprint, &index)?;
            }
            Ok(None) => {}
            Err(crate::env::Trouble::Cache(CacheError::Damaged { .. })) => {
                delete_entries_of(tables, transaction, fingerprint)?;
                tables.next_generation(transaction)?;
            }
            Err(trouble) => return Err(trouble),
        }
        tables.der.delete(transaction, fingerprint)?;
        let was_there = tables.cert.delete(transaction, fingerprint)?;
        if was_there {
            log::append(tables, transaction, now, "remove", &HEXLOWER.encode(fingerprint), reason)?;
        }
        Ok(was_there)
    }
}

/// Deletes the index entries that end in a fingerprint, where the certificate cannot be asked for them.
fn delete_entries_of(tables: &Tables, transaction: &mut RwTxn<'_>, fingerprint: &Fingerprint) -> Tried<()> {
    let Tables { by_addr, by_is, by_ski, by_subj, by_exp, .. } = *tables;
    for table in [by_addr, by_is, by_ski, by_subj, by_exp] {
        let mut keys = Vec::new();
        for row in table.iter(transaction)? {
            let (key, _) = row?;
            if key.ends_with(fingerprint) {
                keys.push(key.to_vec());
            }
        }
        for key in keys {
            table.delete(transaction, &key)?;
        }
    }
    Ok(())
}

/// Makes void what was concluded from a certificate: its path, its addresses' choices, and where it is an issuer
/// or nobody's, everything.
pub(crate) fn forget(
    tables: &Tables,
    transaction: &mut RwTxn<'_>,
    fingerprint: &Fingerprint,
    index: &Index,
) -> Tried<()> {
    delete_prefix(tables.path, transaction, fingerprint)?;
    if index.addresses.is_empty() {
        return tables.next_generation(transaction);
    }
    for address in &index.addresses {
        tables.forget_choices(transaction, address)?;
    }
    Ok(())
}

/// Puts certificates in, each with its index.
fn insert_each(
    tables: &Tables,
    transaction: &mut RwTxn<'_>,
    insertions: &[Insertion<'_>],
    indexes: &[Index],
    now: SystemTime,
) -> Tried<Inserted> {
    let mut inserted = Inserted::default();
    for (new, index) in insertions.iter().zip(indexes) {
        if insert(tables, transaction, new, index, now)? {
            inserted.new += 1;
        } else {
            inserted.known += 1;
        }
    }
    Ok(inserted)
}

/// Puts one certificate in, and says whether it is new.
fn insert(
    tables: &Tables,
    transaction: &mut RwTxn<'_>,
    new: &Insertion<'_>,
    index: &Index,
    now: SystemTime,
) -> Tried<bool> {
    let fingerprint = new.certificate.fingerprint();
    let before = tables.cert.get(transaction, fingerprint)?.and_then(Record::decode);
    let mut record = match &before {
        Some(before) => Record { state: before.state.met_again(new.state, new.source), ..before.clone() },
        None => Record::new(new.certificate, new.source, new.state, now),
    };
    record.sources = record.sources.with(new.source);
    if now.duration_since(record.last_seen).is_ok_and(|since| since >= LAST_SEEN_STEP) {
        record.last_seen = now;
    }
    if let Some(id) = new.message_id {
        record.message_id.get_or_insert_with(|| id.chars().take(MAX_MESSAGE_ID).collect());
    }
    if let Some(announced) = &new.announced
        && announced.capabilities.len() <= MAX_CAPABILITIES
        && record.announced.as_ref().is_none_or(|known| known.at < announced.at)
    {
        record.announced = Some(announced.clone());
    }
    record.preferred = record.preferred.max(new.preferred);
    for text in &new.assigned {
        let text = canonical(text);
        if !record.assigned.contains(&text) && record.assigned.len() < MAX_ASSIGNED {
            record.assigned.push(text);
        }
    }
    record.only = limit(before.as_ref(), &record, new);
    if before.as_ref() == Some(&record) {
        return Ok(false);
    }
    // What is there already may be more than what it comes as now, or less; it never becomes less.
    let own;
    let index = if record.is_helper() == new.is_helper() {
        index
    } else {
        own = Index::of(new.certificate, record.is_helper(), &record.assigned);
        &own
    };
    tables.cert.put(transaction, fingerprint, &record.encode())?;
    tables.der.put(transaction, fingerprint, new.certificate.der())?;
    index.put(tables, transaction)?;
    for address in &index.addresses {
        delete_prefix(tables.neg, transaction, &key::prefix(address))?;
    }
    // Seeing it again changes no choice.
    let decides =
        |record: &Record| (record.state, record.preferred, record.assigned.clone(), record.only.clone());
    if before.as_ref().map(decides) != Some(decides(&record)) {
        forget(tables, transaction, fingerprint, index)?;
        if record.is_ca && before.is_none() {
            tables.next_generation(transaction)?;
        }
        let mut reason = format!("{}, {}", new.source.name(), record.state.name());
        for part in [new.reason, new.message_id.unwrap_or_default()] {
            if !part.is_empty() {
                reason.push_str(", ");
                reason.push_str(part);
            }
        }
        log::append(tables, transaction, now, "insert", &HEXLOWER.encode(fingerprint), &reason)?;
    }
    Ok(before.is_none())
}

/// The only addresses that a certificate is used for from now on, none for all that it names.
fn limit(before: Option<&Record>, record: &Record, new: &Insertion<'_>) -> Vec<String> {
    let mut only = record.only.clone();
    let Some(address) = new.only else {
        // Others know of the address that they were asked for, or that wrote.
        let is_operators = matches!(new.source, Source::Imported | Source::Directory);
        return if is_operators && new.state >= TrustState::Trusted { Vec::new() } else { only };
    };
    let address = address.folded();
    let is_raised = before
        .is_some_and(|before| before.state == TrustState::Candidate && record.state > TrustState::Candidate);
    match before {
        // What makes a candidate more than that does so for this address.
        _ if is_raised => vec![address],
        // It is used for all of them already.
        Some(before) if !before.is_helper() && only.is_empty() => only,
        _ => {
            if !only.contains(&address) && only.len() < MAX_ASSIGNED {
                only.push(address);
            }
            only
        }
    }
}

/// What is kept of an assignment.
fn canonical(text: &str) -> String {
    key::canonical(text).unwrap_or_else(|| text.to_ascii_lowercase())
}
