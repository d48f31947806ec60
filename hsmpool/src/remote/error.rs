//! [`KeyError`] as data.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smime::key::KeyError;

use super::wire::micros;

/// A [`KeyError`] on its way. Texts are cut to a length that fits into any frame.
#[derive(Serialize, Deserialize)]
pub(super) enum WireError {
    Token { function: String, code: String, token: String },
    Unavailable { token: String, reason: String },
    NoSuchKey { token: String, certificate: String },
    QueueFull { token: String, waiting: u64 },
    Deadline { token: String, micros: u64 },
    Unsupported { certificate: String, operation: String },
    NoRandomness,
    Refused { certificate: String, reason: String },
}

impl From<&KeyError> for WireError {
    fn from(error: &KeyError) -> Self {
        match error {
            KeyError::Token { function, code, token } => {
                Self::Token { function: cut(function), code: cut(code), token: cut(token) }
            }
            KeyError::Unavailable { token, reason } => {
                Self::Unavailable { token: cut(token), reason: cut(reason) }
            }
            KeyError::NoSuchKey { token, certificate } => {
                Self::NoSuchKey { token: cut(token), certificate: cut(certificate) }
            }
            KeyError::QueueFull { token, waiting } => {
                Self::QueueFull { token: cut(token), waiting: u64::try_from(*waiting).unwrap_or(u64::MAX) }
            }
            KeyError::Deadline { token, deadline } => {
                Self::Deadline { token: cut(token), micros: micros(*deadline) }
            }
            KeyError::Unsupported { certificate, operation } => {
                Self::Unsupported { certificate: cut(certificate), operation: cut(operation) }
            }
            KeyError::NoRandomness => Self::NoRandomness,
            KeyError::Refused { certificate, reason } => {
                Self::Refused { certificate: cut(certificate), reason: cut(reason) }
            }
            // What came later says at least what it says.
            other => Self::Unavailable { token: String::new(), reason: cut(&other.to_string()) },
        }
    }
}

impl WireError {
    /// The error, about the key as whoever asked calls it: a server may know it by another name, or by none.
    pub(super) fn about(self, description: &str) -> KeyError {
        let certificate = description.to_owned();
        match self {
            Self::Token { function, code, token } => {
                KeyError::Token { function: function.into(), code, token }
            }
            Self::Unavailable { token, reason } => KeyError::Unavailable { token, reason },
            Self::NoSuchKey { token, .. } => KeyError::NoSuchKey { token, certificate },
            Self::QueueFull { token, waiting } => {
                KeyError::QueueFull { token, waiting: usize::try_from(waiting).unwrap_or(usize::MAX) }
            }
            Self::Deadline { token, micros } => {
                KeyError::Deadline { token, deadline: Duration::from_micros(micros) }
            }
            Self::Unsupported { operation, .. } => KeyError::Unsupported { certificate, operation },
            Self::NoRandomness => KeyError::NoRandomness,
            Self::Refused { reason, .. } => KeyError::Refused { certificate, reason },
        }
    }
}

/// The longest text that is sent, in octets.
const LONGEST: usize = 2000;

pub(super) fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default().to_owned()
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
    }
}
