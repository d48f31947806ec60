//! What a cell of the matrix may be, and when it is what.

use std::fmt;

use crate::peer::Said;

/// Who writes and who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer writes, we read.
    TheyWrite,
    /// We write, the peer reads.
    WeWrite,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// As it should be; the word for that.
    Good(&'static str),
    /// The peer cannot, and said so in these words, as it did when the matrix was made.
    Cannot(&'static str),
    /// We do not write that.
    NotWritten,
    /// Not as it should be.
    Red(String),
}

/// Why a cell is not good, by whose word.
#[derive(Debug)]
pub enum Failure {
    /// The peer's.
    Peer(Said),
    /// Ours.
    Ours(anyhow::Error),
    /// We do not write that.
    NotWritten,
}

impl From<Said> for Failure {
    fn from(said: Said) -> Self {
        Self::Peer(said)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Ours(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(said) => write!(f, "the peer: {said}"),
            Self::Ours(error) => write!(f, "we: {error:#}"),
            Self::NotWritten => f.write_str("not written"),
        }
    }
}

/// What a cell is, where `known` are the words with which the peer says that it cannot.
pub fn judge(outcome: Result<(), Failure>, known: Option<&'static str>, word: &'static str) -> Cell {
    match (outcome, known) {
        (Err(Failure::NotWritten), _) => Cell::NotWritten,
        (Ok(()), None) => Cell::Good(word),
        (Ok(()), Some(words)) => Cell::Red(format!("it could not ({words}) and can now")),
        (Err(Failure::Peer(said)), Some(words)) if said.0.contains(words) => Cell::Cannot(words),
        (Err(failure), _) => Cell::Red(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cell_is_red_unless_it_is_good_or_fails_at_the_peer_in_the_known_words() {
        let peer = |words: &str| Err(Failure::Peer(Said(words.to_owned())));
        let ours = || Err(Failure::Ours(anyhow!("cannot do it")));
        let known = Some("cannot do it");
        assert_eq!(judge(Ok(()), None, "ok"), Cell::Good("ok"));
        assert_eq!(judge(peer("error: cannot do it."), known, "ok"), Cell::Cannot("cannot do it"));
        assert_eq!(judge(Err(Failure::NotWritten), known, "ok"), Cell::NotWritten);
        for (outcome, known) in [
            (Ok(()), known),
            (peer("error: something else"), known),
            (peer("error: cannot do it."), None),
            (ours(), known),
            (ours(), None),
        ] {
            assert!(matches!(judge(outcome, known, "ok"), Cell::Red(_)));
        }
    }
}
