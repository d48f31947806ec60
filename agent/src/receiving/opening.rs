//! Whether a message was opened, and how well it was protected.

use smime::algorithm::ContentEncryptionAlgorithm;

use crate::Returned;

/// Whether a message was opened, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is not encrypted as a whole.
    NotEncrypted,
    /// It was opened.
    Opened {
        /// The cipher's name; of several layers, the innermost one's.
        cipher: &'static str,
        /// How well the best of the layers protects what is inside.
        protection: Protection,
    },
    /// It does not even name a key of every recipient: that its sender knows. No key was asked.
    NotEntitled,
    /// It could not be opened: bad ciphertext, or bad for one of the recipients; or an algorithm that is not supported;
    /// or it is larger than it may be, which nobody outside may tell from the rest.
    Failed(String),
}

/// How well a cipher protects. None of it tells who encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// Not at all today: anybody may have read it, or changed it.
    Weak,
    /// Nobody read it on the way; somebody may have changed it.
    Unauthenticated,
    /// A change would have been noticed.
    Authenticated,
}

impl Protection {
    pub(super) fn of(cipher: &ContentEncryptionAlgorithm) -> Self {
        if cipher.is_authenticated() {
            Self::Authenticated
        } else if cipher.is_weak() {
            Self::Weak
        } else {
            Self::Unauthenticated
        }
    }
}

impl Opening {
    /// What bounces may hold: whoever sends captured ciphertext to its owner must not get the text back when
    /// it cannot be delivered later. What could not be opened goes the same way, or the form of a bounce
    /// would tell which ciphertext was good (RFC 3218).
    pub fn returned(&self) -> Returned {
        match self {
            Self::NotEncrypted | Self::NotEntitled => Returned::Full,
            Self::Opened { .. } | Self::Failed(_) => Returned::HeadersOnly,
        }
    }
}
