//! What is kept of a certificate beside its octets.

use std::time::SystemTime;

use smime::Certificate;
use x509_cert::ext::pkix::BasicConstraints;

use crate::codec::{Reader, Writer, time_of};

/// SHA-256 over the DER.
pub type Fingerprint = [u8; 32];

/// Where a certificate came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A signed message.
    Harvested,
    /// An administrator.
    Imported,
    /// An LDAP directory.
    Ldap,
    /// The DNS (RFC 8162).
    Smimea,
    /// A folder of files.
    Directory,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Harvested, Self::Imported, Self::Ldap, Self::Smimea, Self::Directory];

    /// Its name in tables and exports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Harvested => "harvested",
            Self::Imported => "imported",
            Self::Ldap => "ldap",
            Self::Smimea => "smimea",
            Self::Directory => "directory",
        }
    }

    /// The source of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }

    fn bit(self) -> u16 {
        match self {
            Self::Harvested => 1,
            Self::Imported => 2,
            Self::Ldap => 4,
            Self::Smimea => 8,
            Self::Directory => 16,
        }
    }

    /// The source as a part of a key.
    pub(crate) fn octet(self) -> u8 {
        self.bit().to_le_bytes()[0]
    }
}

/// All the places a certificate came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources(u16);

impl Sources {
    /// These and another one.
    #[must_use]
    pub fn with(self, source: Source) -> Self {
        Self(self.0 | source.bit())
    }

    /// Whether this is one of them.
    pub fn contains(self, source: Source) -> bool {
        self.0 & source.bit() != 0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Source::ALL.into_iter().filter(move |source| self.contains(*source)).map(Source::name)
    }
}

/// Whether a certificate may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustState {
    /// Never, whatever else is known: an administrator said so.
    Distrusted,
    /// Not yet: it did not pass every filter. For people to look at.
    Candidate,
    /// Once the ones used before have ended, or an administrator agrees.
    Pending,
    /// If its path leads to an anchor.
    Trusted,
    /// An administrator vouches for it: before all others, and without a path.
    Pinned,
}

impl TrustState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Distrusted, Self::Candidate, Self::Pending, Self::Trusted, Self::Pinned];

    /// Its name in tables and exports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Distrusted => "distrusted",
            Self::Candidate => "candidate",
            Self::Pending => "pending",
            Self::Trusted => "trusted",
            Self::Pinned => "pinned",
        }
    }

    /// The state of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    fn octet(self) -> u8 {
        match self {
            Self::Distrusted => 0,
            Self::Candidate => 1,
            Self::Pending => 2,
            Self::Trusted => 3,
            Self::Pinned => 4,
        }
    }

    fn from_octet(octet: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.octet() == octet)
    }

    /// What becomes of a state when the certificate comes again, with `new` as its state there.
    ///
    /// What an administrator decided stays until an administrator decides otherwise, and a pending certificate
    /// does not become trusted by coming twice.
    pub(crate) fn met_again(self, new: Self, source: Source) -> Self {
        match (self, source) {
            (Self::Distrusted | Self::Pinned, _) => self,
            (_, Source::Imported) | (Self::Candidate, _) => self.max(new),
            _ => self,
        }
    }
}

/// What was announced in a signed attribute, and when (RFC 8551 2.5.2, 2.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The signing time of the message.
    pub at: SystemTime,
    /// `SMIMECapabilities` in DER.
    pub capabilities: Vec<u8>,
}

/// A record of `cert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sources: Sources,
    pub(crate) state: TrustState,
    pub(crate) is_ca: bool,
    pub(crate) first_seen: SystemTime,
    pub(crate) last_seen: SystemTime,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) message_id: Option<String>,
    pub(crate) announced: Option<Announced>,
    pub(crate) preferred: Option<SystemTime>,
    /// Addresses and domains (`@example.org`) that an administrator gave it, beside those it names.
    pub(crate) assigned: Vec<String>,
    /// The only ones of the addresses it names that it is used for; all of them where this is empty.
    pub(crate) only: Vec<String>,
}

const RECORD_VERSION: u8 = 2;
const RECORD_VERSION_1: u8 = 1;

impl Record {
    pub(crate) fn new(certificate: &Certificate, source: Source, state: TrustState, now: SystemTime) -> Self {
        Self {
            sources: Sources::default().with(source),
            state,
            is_ca: is_ca(certificate),
            first_seen: now,
            last_seen: now,
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            message_id: None,
            announced: None,
            preferred: None,
            assigned: Vec::new(),
            only: Vec::new(),
        }
    }

    /// Whether it only helps to find paths: a CA's that nobody has said is anybody's.
    pub(crate) fn is_helper(&self) -> bool {
        let is_nobodys = self.only.is_empty() && self.assigned.is_empty();
        self.is_ca && self.state == TrustState::Candidate && is_nobodys
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(RECORD_VERSION)
            .u16(self.sources.0)
            .u8(self.state.octet())
            .u8(u8::from(self.is_ca))
            .time(self.first_seen)
            .time(self.last_seen)
            .time(self.not_before)
            .time(self.not_after)
            .optional_text(self.message_id.as_deref())
            .optional_time(self.preferred);
        writer = match &self.announced {
            Some(Announced { at, capabilities }) => writer.u8(1).time(*at).octets(capabilities),
            None => writer.u8(0),
        };
        for list in [&self.assigned, &self.only] {
            let count = u16::try_from(list.len()).unwrap_or(u16::MAX);
            let texts = list.iter().take(usize::from(count));
            writer = texts.fold(writer.u16(count), |writer, text| writer.text(text));
        }
        writer.finish()
    }

    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(octets, RECORD_VERSION)?;
        let record = Self {
            sources: Sources(reader.u16()?),
            state: TrustState::from_octet(reader.u8()?)?,
            is_ca: reader.u8()? != 0,
            first_seen: reader.time()?,
            last_seen: reader.time()?,
            not_before: reader.time()?,
            not_after: reader.time()?,
            message_id: reader.optional_text()?.map(str::to_owned),
            preferred: reader.optional_time()?,
            announced: match reader.u8()? {
                0 => None,
                _ => Some(Announced { at: reader.time()?, capabilities: reader.octets()?.to_vec() }),
            },
            assigned: texts(&mut reader)?,
            only: texts(&mut reader)?,
        };
        reader.end().map(|()| record)
    }

    /// A record of schema 1: version, sources u16, first and last seen, without a check sum.
    pub(crate) fn decode_v1(octets: &[u8], certificate: &Certificate) -> Option<Self> {
        let (version, rest) = octets.split_first()?;
        let (sources, rest) = rest.split_first_chunk()?;
        let (first_seen, rest) = rest.split_first_chunk()?;
        let (last_seen, rest) = rest.split_first_chunk()?;
        let sources = Sources(u16::from_le_bytes(*sources));
        let time = |octets: &[u8; 8]| time_of(i64::from_le_bytes(*octets));
        let (first_seen, last_seen) = (time(first_seen)?, time(last_seen)?);
        (*version == RECORD_VERSION_1 && rest.is_empty()).then(|| Self {
            sources,
            last_seen,
            ..Self::new(certificate, Source::Imported, TrustState::Trusted, first_seen)
        })
    }
}

fn texts(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let count = reader.u16()?;
    (0..count).map(|_| reader.text().map(str::to_owned)).collect()
}

/// Whether basicConstraints says CA.
pub(crate) fn is_ca(certificate: &Certificate) -> bool {
    certificate.extension::<BasicConstraints>().is_ok_and(|constraints| constraints.is_some_and(|it| it.ca))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let record = Record {
            sources: Sources::default().with(Source::Imported).with(Source::Smimea),
            state: TrustState::Pending,
            is_ca: false,
            first_seen: at(1_700_000_000),
            last_seen: at(1_700_000_001),
            not_before: SystemTime::UNIX_EPOCH - Duration::from_secs(7),
            not_after: at(1_900_000_000),
            message_id: Some("<1@example.org>".to_owned()),
            announced: Some(Announced { at: at(5), capabilities: vec![0x30, 0] }),
            preferred: Some(at(6)),
            assigned: vec!["@example.org".to_owned()],
            only: vec!["alice@example.org".to_owned()],
        };
        assert_eq!(Record::decode(&record.encode()).as_ref(), Some(&record));
        let bare = Record { message_id: None, announced: None, preferred: None, assigned: vec![], ..record };
        assert_eq!(Record::decode(&bare.encode()), Some(bare));
        for garbage in [&[][..], &[2; 19], &[1; 60]] {
            assert_eq!(Record::decode(garbage), None);
        }
    }

    #[test]
    fn only_an_administrator_changes_what_an_administrator_decided() {
        use TrustState::{Candidate, Distrusted, Pending, Pinned, Trusted};
        for (before, new, source, after) in [
            (Distrusted, Trusted, Source::Imported, Distrusted),
            (Pinned, Pending, Source::Harvested, Pinned),
            (Pending, Trusted, Source::Harvested, Pending),
            (Pending, Trusted, Source::Imported, Trusted),
            (Trusted, Pending, Source::Harvested, Trusted),
            (Candidate, Pending, Source::Harvested, Pending),
        ] {
            assert_eq!(before.met_again(new, source), after, "{before:?} {new:?} {source:?}");
        }
    }
}
