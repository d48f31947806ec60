//! [`KeyError`] as data.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use smime::key::KeyError;

use super::wire::micros;

/// A [`KeyError`] on its way.
#[derive(Serialize, Deserialize)]
pub(super) enum WireError {
    Token { function: Text, code: Text, token: Text },
    Unavailable { token: Text, reason: Text },
    NoSuchKey { token: Text, certificate: Text },
    QueueFull { token: Text, waiting: u64 },
    Deadline { token: Text, micros: u64 },
    Unsupported { certificate: Text, operation: Text },
    NoRandomness,
    Refused { certificate: Text, reason: Text },
}

impl From<&KeyError> for WireError {
    fn from(error: &KeyError) -> Self {
        match error {
            KeyError::Token { function, code, token } => {
                Self::Token { function: Text::of(function), code: Text::of(code), token: Text::of(token) }
            }
            KeyError::Unavailable { token, reason } => {
                Self::Unavailable { token: Text::of(token), reason: Text::of(reason) }
            }
            KeyError::NoSuchKey { token, certificate } => {
                Self::NoSuchKey { token: Text::of(token), certificate: Text::of(certificate) }
            }
            KeyError::QueueFull { token, waiting } => Self::QueueFull {
                token: Text::of(token),
                waiting: u64::try_from(*waiting).unwrap_or(u64::MAX),
            },
            KeyError::Deadline { token, deadline } => {
                Self::Deadline { token: Text::of(token), micros: micros(*deadline) }
            }
            KeyError::Unsupported { certificate, operation } => {
                Self::Unsupported { certificate: Text::of(certificate), operation: Text::of(operation) }
            }
            KeyError::NoRandomness => Self::NoRandomness,
            KeyError::Refused { certificate, reason } => {
                Self::Refused { certificate: Text::of(certificate), reason: Text::of(reason) }
            }
            // What came later says at least what it says.
            other => Self::Unavailable { token: Text::default(), reason: Text::of(&other.to_string()) },
        }
    }
}

impl WireError {
    /// The error, about the key as whoever asked calls it: a server may know it by another name, or by none.
    pub(super) fn about(self, description: &str) -> KeyError {
        let certificate = description.to_owned();
        match self {
            Self::Token { function, code, token } => {
                KeyError::Token { function: function.0.into(), code: code.0, token: token.0 }
            }
            Self::Unavailable { token, reason } => KeyError::Unavailable { token: token.0, reason: reason.0 },
            Self::NoSuchKey { token, .. } => KeyError::NoSuchKey { token: token.0, certificate },
            Self::QueueFull { token, waiting } => KeyError::QueueFull {
                token: token.0,
                waiting: usize::try_from(waiting).unwrap_or(usize::MAX),
            },
            Self::Deadline { token, micros } => {
                KeyError::Deadline { token: token.0, deadline: Duration::from_micros(micros) }
            }
            Self::Unsupported { operation, .. } => {
                KeyError::Unsupported { certificate, operation: operation.0 }
            }
            Self::NoRandomness => KeyError::NoRandomness,
            Self::Refused { reason, .. } => KeyError::Refused { certificate, reason: reason.0 },
        }
    }
}

/// The longest text that is sent, in octets.
const LONGEST: usize = 2000;

/// A text that is no longer than fits into any frame: neither when it is sent, nor when it is read.
#[derive(Default, Serialize)]
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn of(text: &str) -> Self {
        Self(text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default().to_owned())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&str>::deserialize(from).map(Self::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_arrives_as_it_was() {
        let text = String::from;
        for error in [
            KeyError::Token {
                function: "C_Sign".into(),
                code: text("CKR_DEVICE_ERROR"),
                token: text("mail"),
            },
            KeyError::Token {
                function: "C_DeriveKey".into(),
                code: text("CKR_ARGUMENTS_BAD"),
                token: text(""),
            },
            KeyError::Unavailable { token: text("mail"), reason: text("lost") },
            KeyError::NoSuchKey { token: text("mail"), certificate: text("CN=x") },
            KeyError::QueueFull { token: text("mail"), waiting: 17 },
            KeyError::Deadline { token: text("mail"), deadline: Duration::from_micros(1_500_001) },
            KeyError::Unsupported { certificate: text("CN=x"), operation: text("Ecdsa") },
            KeyError::NoRandomness,
            KeyError::Refused { certificate: text("CN=x"), reason: text("not for you") },
        ] {
            let octets = postcard::to_allocvec(&WireError::from(&error)).unwrap();
            let arrived = postcard::from_bytes::<WireError>(&octets).unwrap().about("CN=x");
            assert_eq!(format!("{arrived:?}"), format!("{error:?}"));
            assert_eq!(arrived.fault(), error.fault());
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let reason = "ä".repeat(5000);
        let error = WireError::from(&KeyError::Unavailable { token: reason.clone(), reason }).about("");
        assert!(error.to_string().len() < 2 * LONGEST + 100);
        let sent = postcard::to_allocvec(&"ä".repeat(5000)).unwrap();
        assert_eq!(postcard::from_bytes::<Text>(&sent).unwrap().0.len(), LONGEST);
    }
}
