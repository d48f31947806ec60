//! Keys by what people call them: a serial number or a key identifier in hexadecimal, or the beginning of one.
//!
//! A key that nobody has ever seen is most likely a slip of the pen, and must not read as "nothing is encrypted to it".

use std::{collections::BTreeSet, fmt, str::FromStr};

use smime::Certificate;

use crate::{error::BatchError, inspect::KeyName};

/// What somebody calls a key: hexadecimal digits, with or without colons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyText(String);

impl FromStr for KeyText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|character| *character != ':').collect();
        if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Err(
                "a serial number or key identifier in hexadecimal is needed, with or without colons".into()
            );
        }
        Ok(Self(digits.to_ascii_uppercase()))
    }
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many digits of a name are enough, at least.
const SHORTEST: usize = 8;

impl KeyText {
    /// Whether it is the whole of a name.
    fn is(&self, name: &KeyName) -> bool {
        name.hex().is_some_and(|hex| significant(hex) == significant(&self.0))
    }

    /// Whether it is the whole of a name, or enough of its beginning.
    fn begins(&self, name: &KeyName) -> bool {
        let is_beginning = |hex| significant(hex).starts_with(significant(&self.0));
        self.is(name) || self.0.len() >= SHORTEST && name.hex().is_some_and(is_beginning)
    }
}

fn significant(hex: &str) -> &str {
    hex.trim_start_matches('0')
}

/// A key that somebody has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    text: KeyText,
    /// All names of our certificates that are called so: a message may have another one than was given.
    ours: Vec<KeyName>,
}

impl Wanted {
    /// Looks for keys among our certificates. An error if what is given is the beginning of several.
    pub fn among(texts: &[KeyText], ours: &[Certificate]) -> Result<Vec<Self>, BatchError> {
        texts.iter().map(|text| Self::one_among(text, ours)).collect()
    }

    fn one_among(text: &KeyText, ours: &[Certificate]) -> Result<Self, BatchError> {
        let names: Vec<Vec<KeyName>> = ours.iter().map(KeyName::of_certificate).collect();
        let called = |is: &dyn Fn(&KeyName) -> bool| -> Vec<&Vec<KeyName>> {
            names.iter().filter(|names| names.iter().any(is)).collect()
        };
        let mut found = called(&|name| text.is(name));
        if found.is_empty() {
            found = called(&|name| text.begins(name));
            found.dedup();
            if let [one, other, ..] = found.as_slice()
                && let (Some(one), Some(other)) = (one.first(), other.first())
            {
                return Err(BatchError::Key { problem: ambiguous(text, one, other) });
            }
        }
        Ok(Self { text: text.clone(), ours: found.into_iter().flatten().cloned().collect() })
    }

    /// Whether it is this key.
    pub(crate) fn is(&self, name: &KeyName) -> bool {
        self.ours.contains(name) || self.text.begins(name)
    }

    /// What to call it, if it is one that there is.
    pub(crate) fn name<'n>(&'n self, seen: impl IntoIterator<Item = &'n KeyName>) -> Option<&'n KeyName> {
        self.ours.first().or_else(|| seen.into_iter().find(|name| self.is(name)))
    }

    /// Why it is not clear which key this is, after these keys were seen in messages, if so.
    fn problem<'n>(&self, seen: impl Iterator<Item = &'n KeyName> + Clone) -> Option<String> {
        let Self { text, ours } = self;
        let mut others = seen.clone().filter(|name| self.is(name) && !ours.contains(name));
        match (ours.first().or_else(|| others.next()), others.next()) {
            (None, _) => Some(format!(
                "{text}: no message here is encrypted to such a key, and no [[identity]] has it. Keys seen: {}",
                listed(seen)
            )),
            // Authorities may give the same number: a whole one means them all.
            (Some(one), Some(other)) if !(text.is(other) && (text.is(one) || !ours.is_empty())) => {
                Some(ambiguous(text, one, other))
            }
            _ => None,
        }
    }
}

/// What is wrong with keys that were named behind this option, after all messages were looked at and these keys seen.
pub fn problems(option: &str, wanted: &[Wanted], seen: &BTreeSet<KeyName>) -> Vec<String> {
    let problems = wanted.iter().filter_map(|wanted| wanted.problem(seen.iter()));
    problems.map(|problem| format!("{option} {problem}")).collect()
}

fn ambiguous(text: &KeyText, one: &KeyName, other: &KeyName) -> String {
    format!("{text}: several keys begin so, such as {one} and {other}; give more of it")
}

fn listed<'n>(seen: impl Iterator<Item = &'n KeyName> + Clone) -> String {
    let names: Vec<String> = seen.clone().take(NAMED).map(ToString::to_string).collect();
    match (names.is_empty(), seen.count().saturating_sub(NAMED)) {
        (true, _) => "none".to_owned(),
        (false, 0) => names.join("; "),
        (false, more) => format!("{}; and {more} more", names.join("; ")),
    }
}

/// How many keys are named.
const NAMED: usize = 5;
/// How many keys are remembered: whoever writes names of keys at random shall not fill the memory.
pub(crate) const MAX_SEEN: usize = 100_000;

#[cfg(test)]
mod tests {
    use smime::testing::fixtures::certificate;

    use super::*;

    fn issued(serial: &str) -> KeyName {
        KeyName::Issued { issuer: "CN=CA".into(), serial: serial.into() }
    }

    fn wanted(text: &str) -> Wanted {
        Wanted::among(&[text.parse().unwrap()], &[]).unwrap().remove(0)
    }

    #[test]
    fn a_key_is_called_by_all_digits_of_a_name_or_the_first_eight() {
        for (text, name, is_it) in [
            ("0a:bc", "0ABC", true),
            ("abc", "0ABC", true),
            ("ABC", "0ABCD", false),
            ("4A95AAAA", "4A95AAAA00", true),
            ("4a:95:aa:aa:00", "4A95AAAA00", true),
            ("4A95AAA", "4A95AAAA00", false),
            ("4A95AAAA01", "4A95AAAA00", false),
            ("95AAAA00", "4A95AAAA00", false),
        ] {
            assert_eq!(wanted(text).is(&issued(name)), is_it, "{text} for {name}");
        }
        for text in ["zz", "", ":", "4A95 AAAA", "0x4A95"] {
            assert!(text.parse::<KeyText>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn our_key_is_meant_by_each_of_its_names() {
        let bob = certificate("bob");
        let names = KeyName::of_certificate(&bob);
        assert_eq!(names.len(), 2);
        for name in &names {
            let whole = name.hex().unwrap();
            for text in [whole, whole.get(..8).unwrap_or(whole)] {
                let texts = [text.parse().unwrap()];
                let wanted = Wanted::among(&texts, std::slice::from_ref(&bob)).unwrap();
                assert!(names.iter().all(|name| wanted[0].is(name)), "{text}");
                assert_eq!(problems("--key", &wanted, &BTreeSet::new()), [""; 0]);
            }
        }
    }

    #[test]
    fn a_key_that_nobody_has_and_one_of_several_are_told() {
        let seen = |serials: &[&str]| serials.iter().map(|serial| issued(serial)).collect::<BTreeSet<_>>();
        let told =
            |text: &str, serials: &[&str]| problems("--lost", &[wanted(text)], &seen(serials)).join("");
        assert_eq!(
            told("DEADBEEF", &["4A"]),
            "--lost DEADBEEF: no message here is encrypted to such a key, and no [[identity]] has it. Keys seen: \
             4A of CN=CA"
        );
        assert!(told("DEADBEEF", &[]).ends_with("Keys seen: none"));
        assert!(told("DEADBEEF", &["1", "2", "3", "4", "5", "6", "7"]).ends_with("5 of CN=CA; and 2 more"));
        let several = ["AAAAAAAA01", "AAAAAAAA02"];
        assert_eq!(told("AAAAAAAA01", &several), "");
        assert!(told("AAAAAAAA", &several).contains("several keys begin so"));
        // Two authorities may give one number.
        let other = KeyName::Issued { issuer: "CN=Another".into(), serial: "01".into() };
        assert_eq!(problems("--lost", &[wanted("1")], &[issued("01"), other].into()), [""; 0]);
    }
}
