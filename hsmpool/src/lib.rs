//! The PKCS#11 worker pool: sessions, workers, private keys found by certificate.
//!
//! ```text
//! caller ── request, deadline ──▶ router ──▶ lanes of a token ──▶ worker (one thread, one session) ──▶ C_Sign, …
//!                                    ▲                                │ error, token lost
//!                                    └────────────────────────────────┤
//!                                                                     ▼
//!                     supervisor of the token: load, find, log in, read keys; watch; again
//! ```
//!
//! [`Pool::start`] never waits for a token. A token that is down is tried again in the background, and
//! requests for it fail at once with [`smime::key::KeyError::Unavailable`]. A PIN that was rejected is
//! not tried again before its file changes. Only this crate speaks PKCS#11.

mod activity;
mod agree;
mod answers;
mod call;
mod connection;
mod constant_time;
mod decrypt;
mod error;
mod generate;
mod histogram;
mod index;
mod key;
mod lanes;
mod line;
mod login;
mod mechanisms;
mod metrics;
mod module;
mod oaep;
mod pace;
mod pin;
mod pkcs1;
mod pool;
mod private_key;
mod prometheus;
mod public_key;
mod raw;
mod recovery;
mod remote;
mod request;
mod router;
mod searches;
mod session;
mod settings;
mod shortcomings;
mod sign;
mod supervisor;
mod token;
mod worker;

pub mod keys;
pub mod measure;
pub mod modules;

/// A pool for other processes: what `hsmime-keyd` is made of.
pub mod server {
    pub use crate::public_key::{key_sha256, modulus_sha256};
    pub use crate::remote::{
        Closing, Ended, Gate, KeyUse, Permission, Program, RejectedPins, ServeError, Server, Told,
        host_module,
    };
}

pub use error::PoolError;
pub use histogram::Distribution;
pub use key::{RawTokenKey, TokenKey, signature_algorithms};
pub use metrics::{LaneMetrics, TokenMetrics};
pub use pin::{Pin, why_not_secret};
pub use pool::{Pool, TokenState, TokenStatus};
pub use prometheus::prometheus;
pub use request::{Lane, Pending};
pub use settings::{PinSource, TokenSettings};
pub use shortcomings::Shortcoming;
