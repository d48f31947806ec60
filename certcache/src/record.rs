//! The tables and their octets, schema 1. Numbers are little-endian, times are seconds since 1970.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `schema` | u32 |
//! | `cert` | SHA-256 of the DER | version u8 = 1, sources u16, first seen i64, last seen i64 |
//! | `der` | SHA-256 of the DER | the DER |
//! | `by_addr` | address in lower case, 0, SHA-256 of the DER | nothing |
//! | `neg` | address in lower case | until i64 |
//!
//! LMDB has no check sums. A record of `der` is checked when it is read, since its key is its hash; what a
//! damaged `by_addr` leads to is checked against the addresses in the certificate.

use std::time::{Duration, SystemTime};

use smime::MailAddress;

pub(crate) const SCHEMA: u32 = 1;
pub(crate) const SCHEMA_KEY: &[u8] = b"schema";
const RECORD_VERSION: u8 = 1;
/// LMDB takes keys of 511 octets.
const MAX_KEY: usize = 511;

/// SHA-256 over the DER.
pub(crate) type Fingerprint = [u8; 32];

/// Where a certificate came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A signed message.
    Harvested,
    /// An administrator.
    Imported,
}

/// All the places a certificate came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources(u16);

impl Sources {
    const NAMES: [(Source, &'static str); 2] =
        [(Source::Harvested, "harvested"), (Source::Imported, "imported")];

    fn bit(source: Source) -> u16 {
        match source {
            Source::Harvested => 1,
            Source::Imported => 2,
        }
    }

    /// These and another one.
    #[must_use]
    pub fn with(self, source: Source) -> Self {
        Self(self.0 | Self::bit(source))
    }

    /// Whether this is one of them.
    pub fn contains(self, source: Source) -> bool {
        self.0 & Self::bit(source) != 0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(source, _)| self.contains(*source)).map(|(_, name)| name)
    }
}

/// A record of `cert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sources: Sources,
    pub(crate) first_seen: SystemTime,
    pub(crate) last_seen: SystemTime,
}

impl Record {
    pub(crate) fn encode(&self) -> [u8; 19] {
        let mut octets = [0; 19];
        octets[0] = RECORD_VERSION;
        octets[1..3].copy_from_slice(&self.sources.0.to_le_bytes());
        octets[3..11].copy_from_slice(&encode_time(self.first_seen));
        octets[11..].copy_from_slice(&encode_time(self.last_seen));
        octets
    }

    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let (version, rest) = octets.split_first()?;
        let (sources, rest) = rest.split_first_chunk()?;
        let (first_seen, rest) = rest.split_first_chunk()?;
        let (last_seen, rest) = rest.split_first_chunk()?;
        (*version == RECORD_VERSION && rest.is_empty()).then_some(Self {
            sources: Sources(u16::from_le_bytes(*sources)),
            first_seen: decode_time(*first_seen)?,
            last_seen: decode_time(*last_seen)?,
        })
    }
}

pub(crate) fn encode_time(time: SystemTime) -> [u8; 8] {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    };
    seconds.to_le_bytes()
}

pub(crate) fn decode_time(octets: [u8; 8]) -> Option<SystemTime> {
    let seconds = i64::from_le_bytes(octets);
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}

/// What all `by_addr` keys of an address begin with; `None` for an address that is too long for a key.
pub(crate) fn address_prefix(address: &MailAddress) -> Option<Vec<u8>> {
    let mut key = address.folded().into_bytes();
    key.push(0);
    (key.len() + size_of::<Fingerprint>() <= MAX_KEY).then_some(key)
}

/// The `by_addr` key of an address and a certificate.
pub(crate) fn address_key(address: &MailAddress, fingerprint: &Fingerprint) -> Option<Vec<u8>> {
    let mut key = address_prefix(address)?;
    key.extend_from_slice(fingerprint);
    Some(key)
}

/// The `neg` key of an address.
pub(crate) fn absent_key(address: &MailAddress) -> Option<Vec<u8>> {
    let mut key = address_prefix(address)?;
    key.pop();
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_nothing_else_is() {
        let record = Record {
            sources: Sources::default().with(Source::Imported),
            first_seen: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            last_seen: SystemTime::UNIX_EPOCH - Duration::from_secs(7),
        };
        let octets = record.encode();
        assert_eq!(Record::decode(&octets), Some(record));
        assert_eq!(octets[..3], [1, 2, 0]);
        for damaged in [&octets[..18], &[octets.as_slice(), &[0]].concat(), &[2; 19], &[]] {
            assert_eq!(Record::decode(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn an_address_too_long_for_a_key_has_none() {
        let long = MailAddress::parse(&format!("{}@example.org", "x".repeat(300))).unwrap();
        assert!(address_prefix(&long).is_none_or(|key| key.len() + 32 <= 511));
        let short = MailAddress::parse("Alice@Example.ORG").unwrap();
        assert_eq!(address_prefix(&short).unwrap(), b"alice@example.org\0");
        assert_eq!(absent_key(&short).unwrap(), b"alice@example.org");
    }
}
