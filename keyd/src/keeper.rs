//! What a client may do, and the record of what it did.

use std::{
    sync::{Arc, PoisonError, RwLock, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use agent::settings::{KeydClient, SigningKeys};
use audit::{AuditLog, Owe};
use data_encoding::HEXLOWER;
use hsmpool::{
    Lane,
    server::{Closing, Ended, Gate, KeyUse, Told},
};
use smime::{
    algorithm::DigestAlgorithm::Sha256,
    key::{Digest, KeyError},
};

use crate::{
    audit_line::{Use, plain},
    door::{Credentials, Door},
    restraint::Restraint,
};

/// The clients as the configuration has them now.
pub(crate) type Clients = Arc<RwLock<Arc<Door>>>;

/// The gate of one connection.
pub(crate) struct Keeper {
    peer: Credentials,
    clients: Clients,
    audit: Option<Arc<AuditLog>>,
    restraint: Arc<Restraint>,
}

impl Keeper {
    pub(crate) fn new(
        peer: Credentials,
        clients: Clients,
        audit: Option<Arc<AuditLog>>,
        restraint: Arc<Restraint>,
    ) -> Self {
        Self { peer, clients, audit, restraint }
    }

    fn line(&self, client: &str, usage: &KeyUse<'_>) -> Use {
        Use {
            uid: self.peer.user,
            gid: self.peer.group,
            pid: self.peer.process,
            client: client.to_owned(),
            lane: word(usage.lane),
            operation: usage.operation(),
            algorithm: usage.algorithm(),
            key: HEXLOWER.encode(usage.key),
            description: plain(usage.description, LONGEST_NAME),
            input: HEXLOWER.encode(Digest::of(Sha256, usage.input()).as_bytes()),
            outcome: "done",
            error: None,
            elapsed_us: 0,
            unlisted: 0,
        }
    }
}

impl Gate for Keeper {
    fn pause(&self) -> Duration {
        self.restraint.pause(self.peer.user, Instant::now())
    }

    fn defined(&self) -> Option<Arc<AtomicUsize>> {
        Some(self.restraint.defined(self.peer.user))
    }

    fn shows(&self, key: &[u8; 32]) -> bool {
        let door = Arc::clone(&self.clients.read().unwrap_or_else(PoisonError::into_inner));
        door.client(self.peer).is_some_and(|client| client.keys.contain(key))
    }

    fn begin(&self, usage: &KeyUse<'_>) -> Result<Closing, KeyError> {
        let begun = Instant::now();
        let door = Arc::clone(&self.clients.read().unwrap_or_else(PoisonError::into_inner));
        let (name, allowed) = match door.client(self.peer) {
            Some(client) => (client.peer.to_string(), permit(client, door.signing_keys(), usage)),
            None => (String::new(), Err("its user is no [[keyd.client]] any more".to_owned())),
        };
        let user = self.peer.user;
        let may_not_sign = allowed.as_ref().is_ok_and(|may_not_sign| *may_not_sign);
        if let Err(reason) = allowed {
            if let Some(audit) = &self.audit
                && let Some(unlisted) = self.restraint.refused(self.peer.user, begun)
            {
                let error = Some(reason.clone());
                let line = Use { outcome: "refused", error, unlisted, ..self.line(&name, usage) };
                // It is refused in any case; the line is written when that works again.
                let _ = audit.record(&line, Owe::UnlessMany);
            }
            return Err(KeyError::Refused { certificate: usage.description.to_owned(), reason });
        }
        let Some(audit) = &self.audit else {
            let restraint = Arc::clone(&self.restraint);
            return Ok(Box::new(move |ended| {
                let told = told(may_not_sign, ended);
                if may_not_sign && is_rejected(&told, ended) {
                    restraint.in_vain(user, Instant::now());
                    restraint.rejected(user, Instant::now());
                }
                Ok(told)
            }));
        };
        let unrecorded = |error: &dyn std::fmt::Display| {
            let reason = format!("its use cannot be recorded: {error}");
            KeyError::Unavailable { token: "(audit)".to_owned(), reason }
        };
        audit.is_writable().map_err(|error| unrecorded(&error))?;
        let (audit, line) = (Arc::clone(audit), self.line(&name, usage));
        let restraint = Arc::clone(&self.restraint);
        Ok(Box::new(move |ended| {
            let told = told(may_not_sign, ended);
            let is_rejected = is_rejected(&told, ended);
            let (outcome, error) = match ended {
                _ if is_rejected => ("rejected", None),
                Ended::Done | Ended::Unwrapped(_) | Ended::Rejected => ("done", None),
                Ended::Failed(KeyError::Deadline { .. }) => ("deadline", None),
                Ended::Failed(error) => ("failed", Some(plain(&error.to_string(), LONGEST_REASON))),
            };
            // What is rejected for its length costs no token anything, and others no more than a line.
            if is_rejected || matches!(ended, Ended::Failed(_)) {
                restraint.in_vain(user, Instant::now());
            }
            if may_not_sign && is_rejected {
                restraint.rejected(user, Instant::now());
            }
            let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            let line = Use { outcome, error, elapsed_us, ..line };
            audit.record(&line, Owe::Always).map_err(|error| unrecorded(&error))?;
            Ok(told)
        }))
    }
}

/// Whether a client may do that; else why not. Of what it may: whether by very many answers it could do what it may not, sign.
fn permit(client: &KeydClient, signing_keys: &SigningKeys, usage: &KeyUse<'_>) -> Result<bool, String> {
    if !client.operations.contains(&usage.permission()) {
        let operation = usage.permission().as_str();
        return Err(format!(
            "{} may not {operation} with it; {}",
            client.peer,
            mend("operations", operation)
        ));
    }
    if !client.lanes.contains(&usage.lane) {
        let lane = word(usage.lane);
        return Err(format!("{} may not use the {lane} lane; {}", client.peer, mend("lanes", lane)));
    }
    if !client.keys.contain(usage.key) {
        let file = "its certificate";
        return Err(format!("{} may not use this key; {}", client.peer, mend("certificates", file)));
    }
    if !usage.tells_of_padding() || client.may_sign() {
        return Ok(false);
    }
    if usage.modulus.is_some_and(|modulus| signing_keys.are_kept_from(client, modulus)) {
        return Err(format!(
            "{} may not decrypt by PKCS #1 v1.5 with it, as it may not sign with it and others may: of very many answers it could \
             make a signature. Have another key for decryption, or, where one key has to do both, add `allow-signing-keys = true` to \
             its [[keyd.client]], then systemctl reload hsmime-keyd",
            client.peer
        ));
    }
    Ok(true)
}

/// What to do where it should be allowed.
fn mend(list: &str, lacks: &str) -> String {
    format!("`{list}` in its [[keyd.client]] lacks {lacks}: add it, then systemctl reload hsmime-keyd")
}

/// What a client gets to know of how it ended: who may not sign, of no key that is as long as no cipher's. Nobody needs such, and to find
/// out of all others whether they are well-formed takes a hundred times as many questions (Bardou and others, 2012).
fn told(may_not_sign: bool, ended: Ended<'_>) -> Told {
    match ended {
        Ended::Unwrapped(octets) if may_not_sign && !KEY_OCTETS.contains(&octets) => Told::Rejected,
        _ => Told::AsItIs,
    }
}

fn is_rejected(told: &Told, ended: Ended<'_>) -> bool {
    matches!(told, Told::Rejected) || matches!(ended, Ended::Rejected)
}

/// Of the content-encryption keys that are read: RC2-40, DES, RC2-64, RC2-128 and AES-128, Triple-DES and AES-192, AES-256.
const KEY_OCTETS: [usize; 5] = [5, 8, 16, 24, 32];

/// How many characters of what a client calls a key are in a line; its hash is there as well.
const LONGEST_NAME: usize = 100;
/// How many of what is said of a failure.
const LONGEST_REASON: usize = 400;

fn word(lane: Lane) -> &'static str {
    match lane {
        Lane::Interactive => "interactive",
        Lane::Bulk => "bulk",
    }
}
