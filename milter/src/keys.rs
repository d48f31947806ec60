//! Tells at the start, not with the first mail, that an identity's key is on no token, or on none that can do what
//! it is for.

use std::thread;
use std::time::Duration;

use agent::Settings;
use hsmpool::{Pool, PoolError};
use smime::Certificate;
use tracing::{error, warn};

/// Looks once all tokens are up, in a thread of its own, since that may take as long as it likes.
pub(crate) fn report_missing(settings: &Settings, pool: &Pool) {
    let certificates: Vec<Certificate> =
        settings.identities().iter().map(|identity| identity.certificate.clone()).collect();
    let pool = pool.clone();
    let look = move || {
        loop {
            match pool.missing_keys(&certificates, PATIENCE) {
                Ok(missing) => {
                    for certificate in missing {
                        let certificate = certificate.to_string();
                        error!(
                            certificate,
                            fault = "operator",
                            "no token has the key of this identity: mail it must sign or open waits; see `hsmime doctor`"
                        );
                    }
                    for shortcoming in pool.shortcomings(&certificates, PATIENCE).unwrap_or_default() {
                        let certificate = &shortcoming.certificate;
                        error!(
                            certificate,
                            fault = "operator",
                            reason = %shortcoming,
                            "no token can do what the key of this identity is for; see `hsmime doctor`"
                        );
                    }
                    return;
                }
                Err(PoolError::Closed) => return,
                // The pool has said why; it goes on trying.
                Err(_) => thread::sleep(PAUSE),
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("key-check".to_owned()).spawn(look) {
        warn!(%error, "no thread to look for the identities' keys");
    }
}

/// How long one look waits for the tokens.
const PATIENCE: Duration = Duration::from_mins(1);
/// Before the next look.
const PAUSE: Duration = Duration::from_secs(5);
