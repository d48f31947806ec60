//! Reads typed values out of TOML tables, and keeps every complaint with its line.
//!
//! This is not serde's `Deserialize`, because that ends at the first mistake and tells it in a text of
//! its own; an administrator wants all of them at once, each with what was meant.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Complaint, Problem, nearest};

/// A value and the line it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// Counted from 1.
    pub line: usize,
    /// The value.
    pub value: T,
}

impl<T> At<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { line: self.line, value: change(self.value) }
    }
}

impl At<PathBuf> {
    /// The same place with a borrowed path.
    pub(crate) fn as_deref(&self) -> At<&Path> {
        At { line: self.line, value: &self.value }
    }
}

/// All complaints about one file.
#[derive(Debug, Default)]
pub(crate) struct Report {
    complaints: Vec<Complaint>,
}

impl Report {
    pub(crate) fn add(&mut self, line: usize, problem: Problem) {
        self.complaints.push(Complaint { line, problem });
    }

    /// The complaints in the order of the file; those without a place come last.
    pub(crate) fn into_complaints(mut self) -> Vec<Complaint> {
        self.complaints.sort_by_key(|c| if c.line == 0 { usize::MAX } else { c.line });
        self.complaints
    }
}

/// A whole TOML document, from which sections are taken by name.
#[derive(Debug)]
pub(super) struct Document<'i> {
    lines: Lines,
    root: DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'i> Document<'i> {
    /// Parses a text; where it is not TOML, what could be understood of it is left.
    pub(super) fn parse(text: &'i str, report: &mut Report) -> Self {
        let lines = Lines::of(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(0, |span| lines.line_of(span.start));
            report.add(line, Problem::Syntax { message: error.message().to_owned() });
        }
        Self { lines, root: root.into_inner(), known: Vec::new() }
    }

    /// The sections written `[[name]]`. `title` is the name with the brackets.
    pub(super) fn sections<T>(
        &mut self,
        title: &'static str,
        report: &mut Report,
        mut read: impl FnMut(&mut Section<'_, 'i>) -> Option<T>,
    ) -> Vec<T> {
        self.known.push(title);
        let Some((key, value)) = self.root.get_key_value(bare(title)) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            report.add(self.lines.line_of(key.span().start), Problem::SectionShape { expected: title });
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array {
            let Some(table) = element.get_ref().as_table() else {
                let line = self.lines.line_of(element.span().start);
                report.add(line, Problem::SectionShape { expected: title });
                continue;
            };
            let mut section = Section::new(title, &self.lines, element, table, report);
            let value = read(&mut section);
            section.finish();
            sections.extend(value);
        }
        sections
    }

    /// The section written `[name]`.
    pub(super) fn section<T>(
        &mut self,
        title: &'static str,
        report: &mut Report,
        read: impl FnOnce(&mut Section<'_, 'i>) -> Option<T>,
    ) -> Option<T> {
        self.known.push(title);
        let (key, value) = self.root.get_key_value(bare(title))?;
        let Some(table) = value.get_ref().as_table() else {
            report.add(self.lines.line_of(key.span().start), Problem::SectionShape { expected: title });
            return None;
        };
        let mut section = Section::new(title, &self.lines, value, table, report);
        let value = read(&mut section);
        section.finish();
        value
    }

    /// Complains of every section and key that nobody took.
    pub(super) fn finish(self, report: &mut Report) {
        let names: Vec<&'static str> = self.known.iter().map(|title| bare(title)).collect();
        for (key, value) in &self.root {
            let name: &str = key.get_ref();
            if names.contains(&name) {
                continue;
            }
            let is_section = match value.get_ref() {
                DeValue::Table(_) => true,
                DeValue::Array(array) => array.first().is_some_and(|first| first.get_ref().is_table()),
                _ => false,
            };
            let problem = if is_section {
                let near = nearest(name, &names);
                let suggestion = self.known.iter().copied().find(|title| Some(bare(title)) == near);
                Problem::UnknownSection { name: name.to_owned(), suggestion, known: self.known.clone() }
            } else {
                Problem::StrayKey { key: name.to_owned() }
            };
            report.add(self.lines.line_of(key.span().start), problem);
        }
    }
}

/// One section while it is read: each key asked for is a key it knows.
#[derive(Debug)]
pub(super) struct Section<'a, 'i> {
    title: &'static str,
    lines: &'a Lines,
    line: usize,
    table: &'a DeTable<'i>,
    known: Vec<&'static str>,
    report: &'a mut Report,
}

impl<'a, 'i> Section<'a, 'i> {
    fn new(
        title: &'static str,
        lines: &'a Lines,
        whole: &Spanned<DeValue<'i>>,
        table: &'a DeTable<'i>,
        report: &'a mut Report,
    ) -> Self {
        Self { title, lines, line: lines.line_of(whole.span().start), table, known: Vec::new(), report }
    }

    /// The line of the section's header.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The sections written `[[name]]` with a name within this one's. `title` is the whole name with the
    /// brackets, `key` its last part.
    pub(super) fn sections<T>(
        &mut self,
        title: &'static str,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_, 'i>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            let line = self.line_of(value);
            self.report.add(line, Problem::SectionShape { expected: title });
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array {
            let Some(table) = element.get_ref().as_table() else {
                let line = self.line_of(element);
                self.report.add(line, Problem::SectionShape { expected: title });
                continue;
            };
            let mut section = Section::new(title, self.lines, element, table, self.report);
            let value = read(&mut section);
            section.finish();
            sections.extend(value);
        }
        sections
    }

    /// A text.
    pub(super) fn string(&mut self, key: &'static str) -> Option<At<String>> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.at(value, text.clone().into_owned())),
            other => self.wrong_type(key, value, "a text in quotes", other),
        }
    }

    /// A path.
    pub(super) fn path(&mut self, key: &'static str) -> Option<At<PathBuf>> {
        self.string(key).map(|text| text.map(PathBuf::from))
    }

    /// A whole number within limits.
    pub(super) fn number(&mut self, key: &'static str, limits: RangeInclusive<u64>) -> Option<At<u64>> {
        let value = self.take(key)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            return self.wrong_type(key, value, "a whole number", value.get_ref());
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if let Some(number) = number.filter(|number| limits.contains(number)) {
            return Some(self.at(value, number));
        }
        let reason = format!("it must be from {} to {}", limits.start(), limits.end());
        let (line, value) = (self.line_of(value), integer.to_string());
        self.report.add(line, Problem::WrongValue { key, section: self.title, value, reason });
        None
    }

    /// True or false.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<At<bool>> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(self.at(value, *flag)),
            other => self.wrong_type(key, value, "true or false", other),
        }
    }

    /// A key that is not read, and not complained of.
    pub(super) fn allow(&mut self, key: &'static str) {
        let _ = self.take(key);
    }

    /// A list of texts; empty where the key is absent.
    pub(super) fn strings(&mut self, key: &'static str) -> Vec<At<String>> {
        let expected = "a list of texts, like [\"one\", \"two\"]";
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type::<()>(key, value, expected, value.get_ref());
            return Vec::new();
        };
        let mut texts = Vec::new();
        for element in array {
            match element.get_ref() {
                DeValue::String(text) => texts.push(self.at(element, text.clone().into_owned())),
                other => {
                    self.wrong_type::<()>(key, element, expected, other);
                }
            }
        }
        texts
    }

    /// A text, or a list of texts; empty where the key is absent.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<At<String>> {
        self.not_empty(key);
        match self.take(key).map(|value| (value, value.get_ref())) {
            Some((_, DeValue::Array(_))) => self.strings(key),
            Some((value, DeValue::String(text))) => vec![self.at(value, text.clone().into_owned())],
            Some((value, other)) => {
                self.wrong_type::<()>(key, value, "a text in quotes or a list of them", other);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Complains of a list with nothing in it, for keys whose absence means all: who writes that means none.
    pub(super) fn not_empty(&mut self, key: &'static str) {
        if let Some(value) = self.table.get(key)
            && let DeValue::Array(array) = value.get_ref()
            && array.is_empty()
        {
            let line = self.at(value, ()).line;
            self.report.add(line, Problem::EmptyList { key, section: self.title });
        }
    }

    /// A list of paths; empty where the key is absent.
    pub(super) fn paths(&mut self, key: &'static str) -> Vec<At<PathBuf>> {
        self.strings(key).into_iter().map(|text| text.map(PathBuf::from)).collect()
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        meanings: &[(&'static str, T)],
    ) -> Option<At<T>> {
        let word = self.string(key)?;
        if let Some((_, meaning)) = meanings.iter().find(|(known, _)| *known == word.value) {
            return Some(At { line: word.line, value: *meaning });
        }
        self.unknown_word(key, word, meanings);
        None
    }

    /// A list of some of a few words; empty where the key is absent.
    pub(super) fn words<T: Copy>(&mut self, key: &'static str, meanings: &[(&'static str, T)]) -> Vec<T> {
        self.not_empty(key);
        let mut found = Vec::new();
        for word in self.strings(key) {
            match meanings.iter().find(|(known, _)| *known == word.value) {
                Some((_, meaning)) => found.push(*meaning),
                None => self.unknown_word(key, word, meanings),
            }
        }
        found
    }

    fn unknown_word<T>(&mut self, key: &'static str, word: At<String>, meanings: &[(&'static str, T)]) {
        let known: Vec<&'static str> = meanings.iter().map(|(known, _)| *known).collect();
        let suggestion = nearest(&word.value, &known);
        let problem = Problem::UnknownWord { key, section: self.title, word: word.value, suggestion, known };
        self.report.add(word.line, problem);
    }

    /// Complains if the key is not there at all; hands on what was read of it.
    pub(super) fn required<T>(&mut self, key: &'static str, value: Option<T>) -> Option<T> {
        if !self.table.contains_key(key) {
            self.report.add(self.line, Problem::MissingKey { key, section: self.title });
        }
        value
    }

    /// Complains if neither of two keys is there.
    pub(super) fn required_either(&mut self, key: &'static str, other: &'static str) {
        if !self.table.contains_key(key) && !self.table.contains_key(other) {
            self.report.add(self.line, Problem::MissingKeys { key, other, section: self.title });
        }
    }

    /// Reports that a key and others do not go together.
    pub(super) fn contradiction(&mut self, line: usize, reason: String) {
        self.report.add(line, Problem::Contradiction { reason });
    }

    /// Complains of a value.
    pub(super) fn wrong(&mut self, key: &'static str, value: &At<String>, reason: &str) {
        let (line, value, reason) = (value.line, format!("{:?}", value.value), reason.to_owned());
        self.report.add(line, Problem::WrongValue { key, section: self.title, value, reason });
    }

    fn finish(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let problem = Problem::UnknownKey {
                    key: name.to_owned(),
                    section: self.title,
                    suggestion: nearest(name, &self.known),
                    known: self.known.clone(),
                };
                self.report.add(self.lines.line_of(key.span().start), problem);
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    fn at<T>(&self, place: &Spanned<DeValue<'i>>, value: T) -> At<T> {
        At { line: self.line_of(place), value }
    }

    fn line_of(&self, place: &Spanned<DeValue<'i>>) -> usize {
        self.lines.line_of(place.span().start)
    }

    fn wrong_type<T>(
        &mut self,
        key: &'static str,
        place: &Spanned<DeValue<'i>>,
        expected: &'static str,
        found: &DeValue<'i>,
    ) -> Option<T> {
        let found = match found {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a section",
        };
        let line = self.line_of(place);
        self.report.add(line, Problem::WrongType { key, section: self.title, expected, found });
        None
    }
}

/// `token` of `[[token]]`.
fn bare(title: &'static str) -> &'static str {
    title.trim_matches(['[', ']'])
}

/// Where the lines of a text end.
#[derive(Debug)]
struct Lines {
    ends: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        Self { ends: text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect() }
    }

    /// The line of an octet, counted from 1.
    fn line_of(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
    }
}
