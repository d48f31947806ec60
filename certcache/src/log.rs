//! The record of changes: what was done to which certificate or rule, and why. A ring of fixed length.

use std::time::SystemTime;

use heed::RwTxn;

use crate::{
    Cache, CacheError,
    codec::{Reader, Writer},
    env::Tried,
    tables::Tables,
};

/// How many changes are kept.
pub const MAX_EVENTS: u64 = 10_000;
/// How many characters of a reason are kept.
const MAX_REASON: usize = 400;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number, counted from 1.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// What was done, in one word: `insert`, `state`, `remove`, `assign`, `rule`, `harvest`, `refuse`.
    pub action: String,
    /// To what: a fingerprint in hexadecimal, or the number of a rule.
    pub subject: String,
    /// Why, and by which way.
    pub reason: String,
}

impl Event {
    fn encode(&self) -> Vec<u8> {
        Writer::new(1).time(self.at).text(&self.action).text(&self.subject).text(&self.reason).finish()
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let number = u64::from_be_bytes(key.try_into().ok()?);
        let mut reader = Reader::new(value, 1)?;
        let at = reader.time()?;
        let mut text = || reader.text().map(str::to_owned);
        Some(Self { number, at, action: text()?, subject: text()?, reason: text()? })
    }
}

/// Writes a change into the transaction that makes it.
pub(crate) fn append(
    tables: &Tables,
    transaction: &mut RwTxn<'_>,
    at: SystemTime,
    action: &str,
    subject: &str,
    reason: &str,
) -> Tried<()> {
    let last = tables.log.last(transaction)?.and_then(|(key, _)| key.try_into().ok()).map(u64::from_be_bytes);
    let number = last.unwrap_or(0).saturating_add(1);
    let reason: String =
        reason.chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let event = Event { number, at, action: action.to_owned(), subject: subject.to_owned(), reason };
    tables.log.put(transaction, &number.to_be_bytes(), &event.encode())?;
    if let Some(old) = number.checked_sub(MAX_EVENTS).filter(|old| *old > 0) {
        tables.log.delete(transaction, &old.to_be_bytes())?;
    }
    Ok(())
}

impl Cache {
    /// The last changes, the newest first. Those that cannot be read any more are left out; `check` names them.
    pub fn events(&self, limit: usize) -> Result<Vec<Event>, CacheError> {
        self.read(|tables, transaction| {
            let mut events = Vec::new();
            for row in tables.log.rev_iter(transaction)?.take(limit) {
                let (key, value) = row?;
                events.extend(Event::decode(key, value));
            }
            Ok(events)
        })
    }

    /// Notes something that changed no certificate, such as a certificate that was not taken.
    pub fn note(&self, action: &str, subject: &str, reason: &str, now: SystemTime) -> Result<(), CacheError> {
        self.write(|tables, transaction| append(tables, transaction, now, action, subject, reason))
    }
}
