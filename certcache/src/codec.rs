//! Octets of the values: numbers little-endian, times in seconds since 1970, a check sum at the end.
//!
//! LMDB has no check sums, and a record that is silently wrong may name the wrong certificate.

use std::time::{Duration, SystemTime};

/// Writes one value.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// Begins with the version of the value's form.
    pub(crate) fn new(version: u8) -> Self {
        Self(vec![version])
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn time(mut self, time: SystemTime) -> Self {
        self.0.extend(seconds(time).to_le_bytes());
        self
    }

    pub(crate) fn optional_time(self, time: Option<SystemTime>) -> Self {
        match time {
            Some(time) => self.u8(1).time(time),
            None => self.u8(0),
        }
    }

    /// As many octets as both sides know.
    pub(crate) fn array(mut self, octets: &[u8]) -> Self {
        self.0.extend(octets);
        self
    }

    /// Octets with their number, at most 4 GiB.
    pub(crate) fn octets(self, octets: &[u8]) -> Self {
        let len = u32::try_from(octets.len()).unwrap_or(u32::MAX);
        self.u32(len).array(octets)
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.octets(text.as_bytes())
    }

    pub(crate) fn optional_text(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.u8(1).text(text),
            None => self.u8(0),
        }
    }

    /// The value with its check sum.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let sum = crc32fast::hash(&self.0);
        self.0.extend(sum.to_le_bytes());
        self.0
    }
}

/// Reads one value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// What is in a value of this version, where its check sum is right.
    pub(crate) fn new(value: &'a [u8], version: u8) -> Option<Self> {
        let (rest, sum) = value.split_last_chunk()?;
        let (found, fields) = rest.split_first()?;
        (*found == version && crc32fast::hash(rest) == u32::from_le_bytes(*sum)).then_some(Self(fields))
    }

    /// Whether a value of any version has the right check sum.
    pub(crate) fn is_whole(value: &[u8]) -> bool {
        value.split_last_chunk().is_some_and(|(rest, sum)| crc32fast::hash(rest) == u32::from_le_bytes(*sum))
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.chunk().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    pub(crate) fn time(&mut self) -> Option<SystemTime> {
        time_of(i64::from_le_bytes(self.chunk()?))
    }

    #[expect(clippy::option_option, reason = "outside: whether it can be read, inside: whether it is there")]
    pub(crate) fn optional_time(&mut self) -> Option<Option<SystemTime>> {
        match self.u8()? {
            0 => Some(None),
            1 => self.time().map(Some),
            _ => None,
        }
    }

    /// So many octets.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.chunk()
    }

    pub(crate) fn octets(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (octets, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(octets)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.octets()?).ok()
    }

    #[expect(clippy::option_option, reason = "outside: whether it can be read, inside: whether it is there")]
    pub(crate) fn optional_text(&mut self) -> Option<Option<&'a str>> {
        match self.u8()? {
            0 => Some(None),
            1 => self.text().map(Some),
            _ => None,
        }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Seconds since 1970, negative before.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

/// The time so many seconds after 1970.
pub(crate) fn time_of(seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}

/// A time as a part of a key: the order of the octets is that of the times.
pub(crate) fn ordered(time: SystemTime) -> [u8; 8] {
    (seconds(time).cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written_and_no_changed_octet_is() {
        let time = SystemTime::UNIX_EPOCH - Duration::from_secs(7);
        let value = Writer::new(3).u16(5).optional_time(Some(time)).text("alice").finish();
        let read = |value: &[u8]| {
            let mut reader = Reader::new(value, 3)?;
            let fields = (reader.u16()?, reader.optional_time()?, reader.text()?.to_owned());
            reader.end().map(|()| fields)
        };
        assert_eq!(read(&value), Some((5, Some(time), "alice".to_owned())));
        for at in 0..value.len() {
            let mut changed = value.clone();
            changed[at] ^= 1;
            assert_eq!(read(&changed), None, "octet {at}");
            assert_eq!(read(&value[..at]), None, "only {at} octets");
        }
    }

    #[test]
    fn times_in_keys_are_in_order() {
        let times = [-5_i64, -1, 0, 1, 1 << 40].map(|seconds| ordered(time_of(seconds).unwrap()));
        assert!(times.is_sorted(), "{times:?}");
    }
}
