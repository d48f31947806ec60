//! The counter file: how often each function was called and what it returned.
//!
//! A table of native 64-bit words that the module maps and counts in; whoever wants to know reads it as a
//! file, at any time, also after a crash. Processes that share the file count together.

use std::fmt;

use crate::{Function, ReturnValue, RuleId};

/// How many rules can be counted.
pub(crate) const RULES: usize = 1024;
/// Words per function: begun, forwarded, sizes told, and pairs of return value plus one and count.
const ROW: usize = 3 + 2 * VALUES;
/// How many different return values of one function are told apart.
pub(crate) const VALUES: usize = 31;
/// Length of the table in words.
pub(crate) const WORDS: usize = RULES + Function::ALL.len() * ROW;

/// Where the applications of a rule are counted.
pub(crate) fn rule_word(RuleId(number): RuleId) -> usize {
    number.min(RULES - 1)
}

/// Where the calls to a function are counted when they begin.
pub(crate) fn begun_word(function: Function) -> usize {
    RULES + function.number() * ROW
}

/// Where those are counted that the real module gets.
pub(crate) fn forwarded_word(function: Function) -> usize {
    begun_word(function) + 1
}

/// Where those are counted that only asked how much room the answer takes, and were told.
pub(crate) fn size_word(function: Function) -> usize {
    begun_word(function) + 2
}

/// Where a return value plus one stands (0: nothing yet); its count stands in the next word.
pub(crate) fn value_words(function: Function) -> impl Iterator<Item = usize> {
    let first = begun_word(function) + 3;
    (0..VALUES).map(move |place| first + 2 * place)
}

/// The counts at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Counters {
    words: Vec<u64>,
}

impl Counters {
    pub(crate) fn from_octets(octets: &[u8]) -> Self {
        let words = octets.chunks_exact(8).map(|word| {
            let mut octets = [0; 8];
            octets.copy_from_slice(word);
            u64::from_ne_bytes(octets)
        });
        Self { words: words.collect() }
    }

    /// How often a function was called, whether the call has returned or not.
    pub fn begun(&self, function: Function) -> u64 {
        self.word(begun_word(function))
    }

    /// How many calls the real module got.
    pub fn forwarded(&self, function: Function) -> u64 {
        self.word(forwarded_word(function))
    }

    /// How many calls have returned.
    pub fn returned(&self, function: Function) -> u64 {
        self.returns(function).map(|(_, count)| count).sum()
    }

    /// How many calls have returned this.
    pub fn returned_with(&self, function: Function, value: ReturnValue) -> u64 {
        self.returns(function).filter(|(seen, _)| *seen == value).map(|(_, count)| count).sum()
    }

    /// How many answers were made: calls that returned `CKR_OK` and did not only ask for the size.
    pub fn answered(&self, function: Function) -> u64 {
        let sizes = self.word(size_word(function));
        self.returned_with(function, ReturnValue::CKR_OK).saturating_sub(sizes)
    }

    /// How many calls are being carried out or hang.
    pub fn running(&self, function: Function) -> u64 {
        // A process that was killed never counted the end of its calls.
        self.begun(function).saturating_sub(self.returned(function))
    }

    /// How often a rule was applied.
    pub fn applied(&self, rule: RuleId) -> u64 {
        self.word(rule_word(rule))
    }

    fn returns(&self, function: Function) -> impl Iterator<Item = (ReturnValue, u64)> {
        value_words(function).filter_map(|place| {
            let value = self.word(place).checked_sub(1)?;
            Some((ReturnValue(value), self.word(place + 1)))
        })
    }

    fn word(&self, place: usize) -> u64 {
        self.words.get(place).copied().unwrap_or_default()
    }
}

/// One line per function that was called: `C_Sign 7 calls, 6 forwarded: CKR_OK 6, CKR_DEVICE_ERROR 1`.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &function in Function::ALL.iter().filter(|function| self.begun(**function) > 0) {
            let values: Vec<String> =
                self.returns(function).map(|(value, count)| format!("{value} {count}")).collect();
            let (begun, forwarded) = (self.begun(function), self.forwarded(function));
            writeln!(f, "{function} {begun} calls, {forwarded} forwarded: {}", values.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
