//! The agents as tasks: sign, decrypt, verify. Here, and only here, an archive meets keys and policy.

use std::time::SystemTime;

use agent::{Agent, AgentError, Entitled, Opening, Outcome};
use smime::{
    Fault,
    message::{AuthResult, Reason, Verdict},
    mime::{Crypto, Message, is_smime_or_pgp},
};

use crate::task::{Done, Failed, Task, Work};

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
        let Outcome { edits, action, reason, .. } =
            self.agent.sign_stored(work.message, (self.clock)()).map_err(failed)?;
        let message = (!edits.is_empty()).then(|| edits.apply(work.message));
        Ok(Done { action, message, verdict: None, reason: Some(reason) })
    }
}

/// Opens what is encrypted to any of our keys, and tells what the signature inside is worth.
#[derive(Debug)]
pub struct Decrypt<'a> {
    /// Has the keys.
    pub agent: &'a Agent,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

impl Task for Decrypt<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let received =
            self.agent.receiving().receive(work.message, Entitled::Owner, (self.clock)()).map_err(failed)?;
        let unopened = |fault, reason: String| Err(Failed::new(fault, reason));
        match received.opening {
            Opening::Opened { cipher, .. } => Ok(Done {
                action: "opened",
                message: Some(received.edits.apply(work.message)),
                verdict: Some(word(&received.verdict)),
                reason: Some(format!("{cipher}; {}", received.verdict.reason())),
            }),
            Opening::NotEncrypted if is_broken_ciphertext(work.message, &received.verdict) => {
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

/// Tells what each signature is worth today.
#[derive(Debug)]
pub struct Verify<'a> {
    /// Has the trust.
    pub agent: &'a Agent,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

impl Task for Verify<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let at = (self.clock)();
        let verify = |message| self.agent.verify_stored(message, at);
        let mut verdict = verify(work.message);
        if !is_good(&verdict)
            && let Some(other) = work.other_reading.map(verify).filter(is_good)
        {
            // A signature that holds also says which of the readings is the right one.
            verdict = other;
        }
        let (good, fault) = (is_good(&verdict), fault(&verdict));
        let (verdict, reason) = (Some(word(&verdict)), verdict.reason().to_string());
        if good {
            Ok(Done { verdict, reason: Some(reason), ..Done::unchanged("verified") })
        } else {
            Err(Failed { fault, reason, verdict })
        }
    }
}

fn word(verdict: &Verdict) -> String {
    verdict.result().as_str().to_owned()
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

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: AgentError) -> Failed {
    Failed::new(error.fault(), error.to_string())
}
