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
//! not tried again before its file changes. Only this crate speaks PKCS#11. Not in here: what is signed and opened
//! ([`smime`]), and who may ask for it.
//!
//! # Signing with a token
//!
//! ```no_run
//! use std::{fs, time::{Duration, SystemTime}};
//! use hsmpool::{PinSource, Pool, TokenSettings};
//! use smime::{Certificate, message::sign, mime::{Canonical, Message}};
//!
//! let token = TokenSettings {
//!     module: "/usr/lib/softhsm/libsofthsm2.so".into(),
//!     label: "mail".into(),
//!     pin: PinSource::File("/etc/hsmime/pin".into()),
//!     sessions: None,
//!     queue: 1024,
//!     deadline: Duration::from_secs(20),
//! };
//! let pool = Pool::start(&[token])?;
//! pool.ready(Duration::from_secs(10))?;
//! let alice = Certificate::from_pem(&fs::read_to_string("alice.pem")?)?.remove(0);
//! // A `Signer` and a `Decryptor`, for any number of threads.
//! let key = pool.key(&alice);
//! let mail = Message::from_stored(b"Content-Type: text/plain\n\nHello, Bob.\n");
//! let signed = sign(&Canonical::from_entity(&mail.entity())?, &key, &[], SystemTime::now())?;
//! assert!(signed.content_type.starts_with("multipart/signed"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A token that is not there
//!
//! ```
//! use std::time::Duration;
//! use hsmpool::{PinSource, Pool, PoolError, TokenSettings};
//! use smime::{Fault, algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm}};
//! use smime::key::{KeyError, SignatureInput, Signer};
//! # let pin = PinSource::Credential("pin".into());
//! # let (label, queue, deadline) = ("mail".into(), 1024, Duration::from_secs(20));
//! # let alice = smime::testing::fixtures::certificate("alice");
//!
//! let module = "/no/such/module.so".into();
//! let pool = Pool::start(&[TokenSettings { module, label, pin, sessions: None, queue, deadline }])?;
//! assert!(matches!(pool.ready(deadline), Err(PoolError::ModuleNotLoadable { .. })));
//! // It is tried again in the background, and nobody waits for that.
//! let algorithm = SignatureAlgorithm::RsaPkcs1(Sha256);
//! let error = pool.key(&alice).sign(&SignatureInput::of(algorithm, b"Hello."), algorithm).unwrap_err();
//! assert!(matches!(error, KeyError::Unavailable { .. }));
//! assert_eq!(error.fault(), Fault::Transient);
//! # Ok::<(), PoolError>(())
//! ```
//!
//! # Where to read on
//!
//! [`Pool`] for what can be asked of it, [`TokenKey`] for keys, [`TokenSettings`] for how hard a token is worked,
//! [`PoolError`] for what an administrator is told, [`server`] for a pool that other processes use, [`keys`], [`modules`]
//! and [`measure`] for an administrator's tool.

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
pub use recovery::may_concern_token;
pub use request::{Lane, Pending};
pub use settings::{PinSource, TokenSettings};
pub use shortcomings::Shortcoming;
