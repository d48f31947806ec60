//! What can be wrong with a configuration file, and the words that say it: file, line, key, and what was meant.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use smime::Fault;

/// Why a configuration file cannot be used. It shows one line for each complaint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file itself cannot be read.
    #[error("cannot read the configuration {}: {reason}{}", path.display(), begin(reason))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// The file was read, and these complaints are all that can be told at once.
    #[error("{}", in_lines(path, complaints))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one, in the order of the file.
        complaints: Vec<Complaint>,
    },
}

impl ConfigError {
    /// Whose fault it is: always the operator's.
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}

/// Where there is none yet, somebody begins.
fn begin(reason: &io::Error) -> &'static str {
    if reason.kind() == io::ErrorKind::NotFound {
        "; to begin with one, copy contrib/hsmime.toml, which hsmime.toml(5) shows, or name another with --config"
    } else {
        ""
    }
}

fn in_lines(path: &Path, complaints: &[Complaint]) -> String {
    let lines: Vec<String> = complaints.iter().map(|c| format!("{}: {c}", path.display())).collect();
    lines.join("\n")
}

/// A problem and the line it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Counted from 1; 0 where the problem is not in one place.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.problem),
            line => write!(f, "line {line}: {}", self.problem),
        }
    }
}

/// What is wrong with one place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is not TOML.
    #[error("this is not TOML: {message}")]
    Syntax {
        /// The parser's words.
        message: String,
    },
    /// There is no such section.
    #[error("unknown section [{name}]; {}", meant(*.suggestion, "the sections are", .known))]
    UnknownSection {
        /// As it was written.
        name: String,
        /// The section whose name is nearest.
        suggestion: Option<&'static str>,
        /// All sections.
        known: Vec<&'static str>,
    },
    /// A section of which there may be several must be written as `[[name]]`, any other as `[name]`.
    #[error("this section must be written {expected}")]
    SectionShape {
        /// The right way to write it.
        expected: &'static str,
    },
    /// The section has no such key.
    #[error("unknown key `{key}` in {section}; {}", meant(*.suggestion, "its keys are", .known))]
    UnknownKey {
        /// As it was written.
        key: String,
        /// The section.
        section: &'static str,
        /// The key whose name is nearest.
        suggestion: Option<&'static str>,
        /// All keys of the section.
        known: Vec<&'static str>,
    },
    /// A key stands above the first section.
    #[error("`{key}` stands outside of any section")]
    StrayKey {
        /// As it was written.
        key: String,
    },
    /// A key that must be there is not.
    #[error("{section} needs `{key}`")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// The section.
        section: &'static str,
    },
    /// One of two keys must be there, and neither is.
    #[error("{section} needs `{key}` or `{other}`")]
    MissingKeys {
        /// One key.
        key: &'static str,
        /// The other.
        other: &'static str,
        /// The section.
        section: &'static str,
    },
    /// A list of nothing, where the key's absence means everything.
    #[error(
        "`{key}` in {section} is empty, which would mean the same as without it: all; write what is meant, or take it out"
    )]
    EmptyList {
        /// The key.
        key: &'static str,
        /// The section.
        section: &'static str,
    },
    /// A value of another type than the key's.
    #[error("`{key}` in {section} must be {expected}, but is {found}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// The section.
        section: &'static str,
        /// The key's type in words.
        expected: &'static str,
        /// The value's type in words.
        found: &'static str,
    },
    /// A word that is none of those the key takes.
    #[error("`{key}` in {section} cannot be \"{word}\"; {}", meant(*.suggestion, "it takes", .known))]
    UnknownWord {
        /// The key.
        key: &'static str,
        /// The section.
        section: &'static str,
        /// As it was written.
        word: String,
        /// The word that is nearest.
        suggestion: Option<&'static str>,
        /// All words.
        known: Vec<&'static str>,
    },
    /// A value that cannot be used.
    #[error("`{key}` in {section} cannot be {value}: {reason}")]
    WrongValue {
        /// The key.
        key: &'static str,
        /// The section.
        section: &'static str,
        /// The value, quoted if it is a text.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A file that cannot be used.
    #[error("`{key}` in {section}: {}: {reason}", path.display())]
    File {
        /// The key.
        key: &'static str,
        /// The section.
        section: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Sections that do not fit together.
    #[error("{reason}")]
    Contradiction {
        /// Which, and why not.
        reason: String,
    },
}

impl Problem {
    /// Whether it is in a section of this title, or may be.
    pub(crate) fn is_of(&self, title: &str) -> bool {
        match self {
            Self::Syntax { .. } => true,
            Self::UnknownSection { suggestion, .. } => *suggestion == Some(title),
            Self::SectionShape { expected } => *expected == title,
            Self::UnknownKey { section, .. }
            | Self::MissingKey { section, .. }
            | Self::MissingKeys { section, .. }
            | Self::EmptyList { section, .. }
            | Self::WrongType { section, .. }
            | Self::UnknownWord { section, .. }
            | Self::WrongValue { section, .. }
            | Self::File { section, .. } => *section == title,
            Self::StrayKey { .. } | Self::Contradiction { .. } => false,
        }
    }
}

/// "did you mean `x`?", or all there is where nothing is near.
fn meant(suggestion: Option<&'static str>, introduction: &str, known: &[&str]) -> String {
    if let Some(word) = suggestion {
        return format!("did you mean `{word}`?");
    }
    let known: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
    format!("{introduction} {}", known.join(", "))
}

/// The known word nearest to what was written, if it is near enough to be a slip of the fingers.
pub(super) fn nearest(written: &str, known: &[&'static str]) -> Option<&'static str> {
    let written = written.to_lowercase().replace('_', "-");
    let is_part =
        |word: &&str| written.len() >= 3 && (word.starts_with(&written) || written.starts_with(*word));
    if let Some(word) = known.iter().copied().find(|word| is_part(word)) {
        return Some(word);
    }
    let (distance, word) = known.iter().map(|word| (edit_distance(&written, word), *word)).min()?;
    (distance <= 1.max(word.len() / 3)).then_some(word)
}

/// Levenshtein's distance, with the exchange of two neighbours as one step.
fn edit_distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().take(64).collect();
    let other: Vec<char> = other.chars().take(64).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
            let mut steps =
                (at(&last, j) + usize::from(a != b)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let crossed = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if crossed {
                steps = steps.min(at(&before_last, j - 1) + 1);
            }
            row.push(steps);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not_offered() {
        let known = ["module", "label", "pin-file", "sessions", "queue", "deadline-ms"];
        for (written, expected) in [
            ("sesions", Some("sessions")),
            ("pin_file", Some("pin-file")),
            ("Label", Some("label")),
            ("lable", Some("label")),
            ("pin", Some("pin-file")),
            ("deadline", Some("deadline-ms")),
            ("modul", Some("module")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &known), expected, "{written:?}");
        }
    }

    #[test]
    fn the_edit_distance_counts_single_steps() {
        for (one, other, steps) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 1), ("same", "same", 0)]
        {
            assert_eq!(edit_distance(one, other), steps, "{one:?} {other:?}");
        }
    }
}
