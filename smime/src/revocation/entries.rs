//! The entries of a CRL (RFC 5280 section 5.3), found by serial number.
//!
//! A large list has millions of them, so only where they stand is kept: eight octets for each, in the order of
//! the serial numbers. An entry is decoded when it is asked for.

use std::{cmp::Ordering, time::SystemTime};

use der::Decode;
use x509_cert::{
    ext::pkix::{
        CrlReason,
        name::{GeneralName, GeneralNames},
    },
    time::Time,
};

use super::tlv::{self, Malformed, Reader, Tlv};
use crate::path::PreparedName;

/// Where the entries of a list stand in its octets.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// By serial number; those of one number in the order of the list.
    index: Vec<Place>,
    /// Where the GeneralNames of the certificate issuers stand: what an entry says holds for those after it.
    issuers: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: u32,
    /// One more than the index of its issuer; 0 is the list's.
    issuer: u32,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// When the CA revoked it.
    pub(super) revoked: SystemTime,
    /// Why.
    pub(super) reason: Option<CrlReason>,
    /// Since when its key is held to be known to others (5.3.2).
    pub(super) invalid_since: Option<SystemTime>,
}

impl Entries {
    /// Goes through `revokedCertificates` of the list `octets`. The text is why the list cannot be used though
    /// it can be read.
    pub(super) fn read(
        octets: &[u8],
        list: &Tlv<'_>,
        is_indirect: bool,
    ) -> Result<(Self, Option<String>), Malformed> {
        let mut entries = Self::default();
        let mut unusable = None;
        let mut issuer = 0;
        let mut reader = list.inside();
        while !reader.is_empty() {
            let entry = reader.required(tlv::SEQUENCE, "an entry is no SEQUENCE")?;
            let mut fields = entry.inside();
            fields.required(tlv::INTEGER, "an entry has no userCertificate")?;
            let date = fields.any("an entry has no revocationDate")?;
            Time::from_der(date.octets).map_err(|_| Malformed("an entry's revocationDate is no time"))?;
            if let Some(extensions) = fields.optional(tlv::SEQUENCE, "crlEntryExtensions")? {
                for extension in Extensions(extensions.inside()) {
                    let extension = extension?;
                    if extension.oid == CERTIFICATE_ISSUER {
                        match entries.note_issuer(octets, extension.value, is_indirect) {
                            Ok(number) => issuer = number,
                            Err(reason) => unusable = unusable.or(Some(reason.into())),
                        }
                    } else if extension.is_critical && !UNDERSTOOD.contains(&extension.oid) {
                        unusable = unusable.or_else(|| Some(not_supported(extension.oid)));
                    }
                }
            }
            fields.end("an entry has more than it may")?;
            let at = u32::try_from(entry.start).map_err(|_| Malformed("longer than 4 GiB"))?;
            entries.index.push(Place { at, issuer });
        }
        entries.index.sort_by(|one, other| serial(octets, *one).cmp(serial(octets, *other)));
        Ok((entries, unusable))
    }

    /// Keeps where an issuer is named, and gives its number.
    fn note_issuer(&mut self, octets: &[u8], names: Tlv<'_>, is_indirect: bool) -> Result<u32, &'static str> {
        if !is_indirect {
            return Err("it has entries of other issuers and is not an indirect CRL");
        }
        let place = (names.content_start, names.content_start + names.content.len());
        let last = self.issuers.last().and_then(|(start, end)| octets.get(*start..*end));
        if last != Some(names.content) {
            GeneralNames::from_der(names.content).map_err(|_| "a certificateIssuer cannot be read")?;
            self.issuers.push(place);
        }
        u32::try_from(self.issuers.len()).map_err(|_| "it has too many issuers")
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The entry for the certificate of this serial number, in the octets of its INTEGER, and of this issuer.
    /// `list_issuer` is whose list it is.
    pub(super) fn find(
        &self,
        octets: &[u8],
        wanted: &[u8],
        issuer: &PreparedName,
        list_issuer: &PreparedName,
    ) -> Option<Entry> {
        let first = self.index.partition_point(|place| serial(octets, *place) < wanted);
        let of_number = self.index.iter().skip(first).take_while(|place| serial(octets, **place) == wanted);
        let of_issuer = |place: &&Place| match place.issuer.checked_sub(1) {
            None => issuer.is(list_issuer),
            Some(number) => self.is_issuer(octets, number, issuer),
        };
        // Of several the last counts, as where a list was put together from older ones.
        of_number.filter(of_issuer).last().map(|place| read_entry(octets, *place))
    }

    /// The serial numbers whose entries are not in both lists with the same octets, at most `limit`.
    pub(super) fn differing(
        &self,
        octets: &[u8],
        other: &Self,
        other_octets: &[u8],
        limit: usize,
    ) -> Option<Vec<Vec<u8>>> {
        let (mut ours, mut theirs) = (self.index.iter().peekable(), other.index.iter().peekable());
        let mut found: Vec<Vec<u8>> = Vec::new();
        while ours.peek().is_some() || theirs.peek().is_some() {
            let own = ours.peek().map(|place| (serial(octets, **place), whole(octets, **place)));
            let their =
                theirs.peek().map(|place| (serial(other_octets, **place), whole(other_octets, **place)));
            let order = match (own, their) {
                (Some((own, _)), Some((their, _))) => own.cmp(their),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            let differs = own.map(|(_, entry)| entry) != their.map(|(_, entry)| entry);
            let serial = if order == Ordering::Greater { their } else { own }.map(|(serial, _)| serial);
            if order != Ordering::Greater {
                ours.next();
            }
            if order != Ordering::Less {
                theirs.next();
            }
            if differs && let Some(serial) = serial {
                if found.len() >= limit {
                    return None;
                }
                found.push(serial.to_vec());
            }
        }
        Some(found)
    }

    fn is_issuer(&self, octets: &[u8], number: u32, issuer: &PreparedName) -> bool {
        let place = usize::try_from(number).ok().and_then(|number| self.issuers.get(number));
        let names = place.and_then(|(start, end)| GeneralNames::from_der(octets.get(*start..*end)?).ok());
        names.iter().flatten().any(|name| match name {
            GeneralName::DirectoryName(name) => PreparedName::of(name).is(issuer),
            _ => false,
        })
    }
}

/// All octets of an entry; it was read before.
fn whole(octets: &[u8], place: Place) -> &[u8] {
    let entry = || {
        let start = usize::try_from(place.at).ok()?;
        Some(Reader::new(octets.get(start..)?).any("entry").ok()?.octets)
    };
    entry().unwrap_or_default()
}

/// The INTEGER's content octets; the entry was read before.
fn serial(octets: &[u8], place: Place) -> &[u8] {
    let number = || {
        let start = usize::try_from(place.at).ok()?;
        let entry = Reader::new(octets.get(start..)?).any("entry").ok()?;
        Some(entry.inside().any("userCertificate").ok()?.content)
    };
    number().unwrap_or_default()
}

fn read_entry(octets: &[u8], place: Place) -> Entry {
    // What cannot be read of an entry makes it no less of one.
    let mut read = Entry { revoked: SystemTime::UNIX_EPOCH, reason: None, invalid_since: None };
    let mut fill = || {
        let start = usize::try_from(place.at).ok()?;
        let mut fields = Reader::new(octets.get(start..)?).any("entry").ok()?.inside();
        fields.any("userCertificate").ok()?;
        let date = fields.any("revocationDate").ok()?;
        read.revoked = Time::from_der(date.octets).ok()?.to_system_time();
        for extension in Extensions(fields.any("crlEntryExtensions").ok()?.inside()).flatten() {
            if extension.oid == REASON {
                read.reason = CrlReason::from_der(extension.value.content).ok();
            } else if extension.oid == INVALIDITY_DATE {
                let since = der::asn1::GeneralizedTime::from_der(extension.value.content).ok();
                read.invalid_since = since.map(|since| since.to_system_time());
            }
        }
        Some(())
    };
    let _ = fill();
    read
}

/// Extensions (RFC 5280 4.1) with their identifiers in DER.
pub(super) struct Extensions<'a>(pub(super) Reader<'a>);

/// One of them.
pub(super) struct Extension<'a> {
    /// The content octets of its OBJECT IDENTIFIER.
    pub(super) oid: &'a [u8],
    pub(super) is_critical: bool,
    /// The OCTET STRING.
    pub(super) value: Tlv<'a>,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(read)
    }
}

impl<'a> Extensions<'a> {
    fn read(&mut self) -> Result<Extension<'a>, Malformed> {
        let mut fields = self.0.required(tlv::SEQUENCE, "an extension is no SEQUENCE")?.inside();
        let oid = fields.required(tlv::OBJECT_IDENTIFIER, "an extension has no identifier")?.content;
        let critical = fields.optional(0x01, "an extension's critical")?;
        let value = fields.required(tlv::OCTET_STRING, "an extension has no value")?;
        fields.end("an extension has more than it may")?;
        let is_critical = critical.is_some_and(|critical| critical.content != [0]);
        Ok(Extension { oid, is_critical, value })
    }
}

/// Why a list or answer with this critical extension is not used.
pub(super) fn not_supported(oid: &[u8]) -> String {
    let oid = der::asn1::ObjectIdentifier::from_bytes(oid).map_or_else(|_| "?".into(), |oid| oid.to_string());
    format!("its critical extension {oid} is not supported")
}

/// 2.5.29.21
const REASON: &[u8] = &[0x55, 0x1D, 21];
/// 2.5.29.24
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1D, 24];
/// 2.5.29.29
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1D, 29];
const UNDERSTOOD: [&[u8]; 3] = [REASON, INVALIDITY_DATE, CERTIFICATE_ISSUER];
