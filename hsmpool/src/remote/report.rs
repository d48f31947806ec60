//! What may be asked of a server beside the use of keys: how its tokens are doing, who has which key.

use std::{fmt, marker::PhantomData, path::PathBuf};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};

use super::error::cut;
use crate::{
    TokenMetrics, TokenState, TokenStatus,
    public_key::KeyName,
    shortcomings::{Finding, Need},
};

/// A question.
#[derive(Serialize, Deserialize)]
pub(super) enum Inquiry {
    /// How every token is doing.
    Status,
    /// What every token has done.
    Metrics,
    /// Which of these keys no token has.
    Missing {
        #[serde(deserialize_with = "at_most::<_, _, MOST_KEYS>")]
        keys: Vec<WireKey>,
    },
    /// What the tokens can do of what these keys are needed for.
    Needs {
        #[serde(deserialize_with = "at_most::<_, _, MOST_KEYS>")]
        needs: Vec<WireNeed>,
    },
}

/// Its answer.
#[derive(Serialize, Deserialize)]
pub(super) enum Report {
    Status(Vec<WireStatus>),
    Metrics(Vec<TokenMetrics>),
    /// For each key that was asked for, in that order. `None`: it is not known at the moment.
    Missing(Option<Vec<bool>>),
    /// By the places of the needs in the question. `None`: it is not known at the moment.
    Findings(Option<Vec<Finding>>),
}

/// A key, named in full.
#[derive(Serialize, Deserialize)]
pub(super) struct WireKey {
    pub(super) public_key_info: Vec<u8>,
    #[serde(deserialize_with = "at_most::<_, _, MOST_IDS>")]
    pub(super) ids: Vec<Vec<u8>>,
    pub(super) description: String,
}

impl Inquiry {
    /// What it takes, about, with what is made of it.
    pub(super) fn octets(&self) -> usize {
        let of = |key: &WireKey| {
            let ids: usize = key.ids.iter().map(|id| id.len() + 24).sum();
            3 * (key.public_key_info.len() + ids + key.description.len()) + 400
        };
        match self {
            Self::Status | Self::Metrics => 0,
            Self::Missing { keys } => keys.iter().map(of).sum(),
            Self::Needs { needs } => needs.iter().map(|need| of(&need.key)).sum(),
        }
    }
}

/// More keys than this do not fit into a frame, if they are keys.
const MOST_KEYS: usize = 2048;
/// A key has two at most.
const MOST_IDS: usize = 4;

/// Several, of which each takes more room than it has octets in a frame.
fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const N: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct AtMost<T, const N: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for AtMost<T, N> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {N}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = sequence.next_element()? {
                if all.len() == N {
                    return Err(A::Error::custom("too many"));
                }
                all.push(one);
            }
            Ok(all)
        }
    }

    from.deserialize_seq(AtMost::<T, N>(PhantomData))
}

/// A [`Need`].
#[derive(Serialize, Deserialize)]
pub(super) struct WireNeed {
    pub(super) key: WireKey,
    pub(super) signs: bool,
    pub(super) decrypts: bool,
}

impl From<&Need> for WireNeed {
    fn from(need: &Need) -> Self {
        Self { key: WireKey::from(&need.name), signs: need.signs, decrypts: need.decrypts }
    }
}

impl From<&KeyName> for WireKey {
    fn from(name: &KeyName) -> Self {
        let KeyName { info, ids, description, .. } = name;
        Self { public_key_info: info.clone(), ids: ids.clone(), description: description.clone() }
    }
}

impl From<WireKey> for KeyName {
    fn from(key: WireKey) -> Self {
        Self::of_parts(&key.public_key_info, key.ids, key.description)
    }
}

/// A [`TokenStatus`].
#[derive(Serialize, Deserialize)]
pub(super) struct WireStatus {
    label: String,
    module: String,
    state: WireState,
    sessions: u32,
    wanted: u32,
    waiting: u32,
    hanging: u32,
}

#[derive(Serialize, Deserialize)]
enum WireState {
    Connecting,
    Up,
    Down { reason: String },
}

impl From<&TokenStatus> for WireStatus {
    fn from(status: &TokenStatus) -> Self {
        Self {
            label: cut(&status.label),
            module: cut(&status.module.to_string_lossy()),
            state: match &status.state {
                TokenState::Connecting => WireState::Connecting,
                TokenState::Up => WireState::Up,
                TokenState::Down { reason } => WireState::Down { reason: cut(reason) },
            },
            sessions: u32::try_from(status.sessions).unwrap_or(u32::MAX),
            wanted: u32::try_from(status.wanted).unwrap_or(u32::MAX),
            waiting: u32::try_from(status.waiting).unwrap_or(u32::MAX),
            hanging: u32::try_from(status.hanging).unwrap_or(u32::MAX),
        }
    }
}

impl From<WireStatus> for TokenStatus {
    fn from(status: WireStatus) -> Self {
        Self {
            label: status.label,
            module: PathBuf::from(status.module),
            state: match status.state {
                WireState::Connecting => TokenState::Connecting,
                WireState::Up => TokenState::Up,
                WireState::Down { reason } => TokenState::Down { reason },
            },
            sessions: usize::try_from(status.sessions).unwrap_or(usize::MAX),
            wanted: usize::try_from(status.wanted).unwrap_or(usize::MAX),
            waiting: usize::try_from(status.waiting).unwrap_or(usize::MAX),
            hanging: usize::try_from(status.hanging).unwrap_or(usize::MAX),
        }
    }
}
