//! The agents as tasks: sign, decrypt, verify. Here, and only here, an archive meets keys and policy.
//!
//! What is encrypted, again or to others, is in `encryption.rs`.

mod encryption;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent::{Agent, AgentError, ArchiveError, AsOf, Edits, Entitled, Opening, Received, Treated};
use smime::{
    Fault,
    message::{AuthResult, Reason, Verdict},
    mime::{Crypto, Message, is_smime_or_pgp},
    path::{Budget, PathMemory},
};

pub use encryption::{Encrypt, Reencrypt, Rekey};

use crate::task::{Altered, Body, Done, Failed, Task, Work, Working};

/// Signs the mail of our own senders.
#[derive(Debug)]
pub struct Sign<'a> {
    /// Has the keys.
    pub agent: &'a Agent,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

impl Task for Sign<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        self.agent.sign_stored(work.message, (self.clock)()).map(done, work.message)
    }
}

/// Puts new signatures in the place of our own senders' old ones.
#[derive(Debug)]
pub struct Resign<'a> {
    /// Has the keys.
    pub agent: &'a Agent,
    /// As of when the old signature must pass.
    pub at: At,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

impl Task for Resign<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        let now = (self.clock)();
        self.agent.resign_stored(work.message, self.at.as_of(now), now).map(done, work.message)
    }
}

/// As of when a signature is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// As of now.
    Now,
    /// As of when the signer says that it signed.
    SigningTime,
    /// As of a given time.
    Time(SystemTime),
}

impl At {
    fn as_of(self, now: SystemTime) -> AsOf {
        match self {
            Self::Now => AsOf::Time(now),
            Self::SigningTime => AsOf::SigningTime(now),
            Self::Time(at) => AsOf::Time(at),
        }
    }
}

/// Opens what is encrypted to any of our keys, and tells what the signature inside is worth.
#[derive(Debug)]
pub struct Decrypt<'a> {
    /// Has the keys.
    pub agent: &'a Agent,
    /// What becomes of the signatures inside.
    pub signatures: Signatures,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

/// What becomes of the signatures on what was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// They stay.
    #[default]
    Keep,
    /// They are taken away; what they were worth is in the record.
    Remove,
}

impl Task for Decrypt<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        let receiving = self.agent.receiving();
        let received = receiving.receive_in_turns(work.message, Entitled::Owner, (self.clock)());
        received.map(move |message, received| self.opened(message, received), work.message)
    }

    fn opens(&self) -> bool {
        true
    }
}

impl Decrypt<'_> {
    fn opened(&self, message: &Message, received: Result<Received, AgentError>) -> Result<Done, Failed> {
        let received = received.map_err(|error| failed_agent(&error))?;
        let unopened = |fault, reason: String| Err(Failed::new(fault, reason));
        match received.opening {
            Opening::Opened { cipher, .. } => {
                let opened = match self.signatures {
                    Signatures::Keep => altered(message, received.edits),
                    Signatures::Remove => {
                        let opened = received.edits.apply(message);
                        Agent::without_signatures(&opened).unwrap_or(opened).into()
                    }
                };
                Ok(Done {
                    message: Some(opened),
                    verdict: Some(word(&received.verdict)),
                    signers: signers(&received.verdict),
                    keys: received.keys.iter().map(ToString::to_string).collect(),
                    reason: Some(format!("{cipher}; {}", received.verdict.reason())),
                    ..Done::unchanged("opened")
                })
            }
            Opening::NotEncrypted if is_broken_ciphertext(message, &received.verdict) => {
                unopened(Fault::Message, received.verdict.reason().to_string())
            }
            Opening::NotEncrypted => {
                Ok(Done { reason: Some("it is not encrypted".into()), ..Done::unchanged("kept") })
            }
            // Whoever destroys a key because this run was content must have been told.
            Opening::NotEntitled => unopened(Fault::Operator, "no key here is among its recipients".into()),
            Opening::Failed(reason) => unopened(Fault::Message, reason),
        }
    }
}

/// Whether a message says that it is encrypted, but cannot even be read.
fn is_broken_ciphertext(message: &Message, verdict: &Verdict) -> bool {
    is_smime_or_pgp(&message.entity()) == Some(Crypto::SmimeOther)
        && matches!(verdict.reason(), Reason::Unreadable(_))
}

/// Tells what each signature is worth.
///
/// What is found of a signer's path is remembered for a second, so that a signer of thousands of messages costs little
/// more than the signatures on them; what was learned meanwhile of revocation and distrust is heeded a second later.
#[derive(Debug)]
pub struct Verify<'a> {
    agent: &'a Agent,
    at: At,
    clock: fn() -> SystemTime,
    paths: Arc<PathMemory>,
}

impl<'a> Verify<'a> {
    /// Verifies as of `at` with this agent's trust; `clock` tells the time.
    pub fn new(agent: &'a Agent, at: At, clock: fn() -> SystemTime) -> Self {
        Self { agent, at, clock, paths: Arc::default() }
    }

    /// The time, in whole seconds like all times in certificates; of paths, nothing is remembered of the second before.
    fn second(&self) -> SystemTime {
        let now = (self.clock)();
        let Ok(since) = now.duration_since(SystemTime::UNIX_EPOCH) else { return now };
        self.paths.begin(since.as_secs());
        SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
    }
}

impl Task for Verify<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let as_of = self.at.as_of(self.second());
        let budget = || Budget::default().remembering(&self.paths);
        let verify = |message, signature| self.agent.verify_stored_within(message, signature, as_of, &budget);
        let mut verdict = verify(work.message, work.signature);
        if !is_good(&verdict)
            && let Some(other) = work.other_reading.map(|other| verify(other, None)).filter(is_good)
        {
            // A signature that holds also says which of the readings is the right one.
            verdict = other;
        }
        let (good, fault) = (is_good(&verdict), fault(&verdict));
        let signers = signers(&verdict);
        let (verdict, reason) = (Some(word(&verdict)), verdict.reason().to_string());
        if good {
            Ok(Done { verdict, signers, reason: Some(reason), ..Done::unchanged("verified") })
        } else {
            Err(Failed { fault, reason, verdict })
        }
    }
}

fn word(verdict: &Verdict) -> String {
    verdict.result().as_str().to_owned()
}

fn signers(verdict: &Verdict) -> Vec<String> {
    let certificates = verdict.signers().iter().filter_map(|signer| signer.certificate.as_ref());
    certificates.map(ToString::to_string).collect()
}

/// Whether there is nothing to complain of: a good signature, or none.
fn is_good(verdict: &Verdict) -> bool {
    matches!(verdict.result(), AuthResult::Pass | AuthResult::None)
}

/// Whose fault a bad verdict is. None of them passes by waiting: a missing revocation list must be fetched.
fn fault(verdict: &Verdict) -> Fault {
    match verdict.result() {
        AuthResult::Policy => Fault::Policy,
        AuthResult::TempError => Fault::Operator,
        _ => Fault::Message,
    }
}

/// What an agent did, as a task tells it.
fn done(message: &Message, treated: Result<Treated, ArchiveError>) -> Result<Done, Failed> {
    let Treated { edits, object, action, reason, verdict, key } = treated.map_err(|error| Failed {
        fault: error.fault(),
        reason: error.to_string(),
        verdict: error.verdict().map(word),
    })?;
    let new = match object {
        Some(object) => Some(Altered::Edited { header: edits.header(message), body: Body::Object(object) }),
        None => (!edits.is_empty()).then(|| altered(message, edits)),
    };
    Ok(Done {
        message: new,
        verdict: verdict.as_ref().map(word),
        signers: verdict.as_ref().map(signers).unwrap_or_default(),
        keys: key.iter().map(ToString::to_string).collect(),
        reason: Some(reason),
        ..Done::unchanged(action)
    })
}

/// A message with edits.
fn altered(message: &Message, edits: Edits) -> Altered {
    let header = edits.header(message);
    Altered::Edited { header, body: edits.body.map_or(Body::Same, Body::Lines) }
}

fn failed_agent(error: &AgentError) -> Failed {
    Failed::new(error.fault(), error.to_string())
}
