//! Encrypt, reencrypt, rekey, as tasks.

use std::{sync::Arc, time::SystemTime};

use agent::{Agent, Exchange, Given, Turn};
use smime::cms::{Keep, Proof};

use super::done;
use crate::{
    recipients::Recipients,
    task::{Done, Failed, Task, Work, Working},
};

/// Encrypts what is not encrypted.
#[derive(Debug)]
pub struct Encrypt<'a> {
    /// To whom.
    pub recipients: &'a Recipients<'a>,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

impl Task for Encrypt<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let to = self.recipients.of(work.message, Given::Content, (self.clock)())?;
        done(work.message, Agent::encrypt_stored(work.message, &to, self.recipients.profile()))
    }
}

/// Opens what is encrypted to us, and encrypts it anew.
#[derive(Debug)]
pub struct Reencrypt<'a> {
    /// Has the keys.
    pub agent: &'a Agent,
    /// To whom.
    pub recipients: &'a Recipients<'a>,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

impl Task for Reencrypt<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        if !work.contents.may_be_encrypted() {
            return Turn::Done(Ok(not_encrypted()));
        }
        let now = (self.clock)();
        let begun = self.recipients.of(work.message, Given::Content, now).map(|to| {
            let profile = self.recipients.profile();
            self.agent.reencrypt_stored(work.message, &to, profile, now).map(done, work.message)
        });
        Turn::of(begun)
    }
}

/// Gives others the keys of what is encrypted to us.
#[derive(Debug)]
pub struct Rekey<'a> {
    /// Has the keys.
    pub agent: &'a Agent,
    /// To whom.
    pub recipients: &'a Recipients<'a>,
    /// What becomes of the recipients that are there.
    pub keep: Keep,
    /// How sure to be of the key.
    pub proof: Proof,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

impl Task for Rekey<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        if !work.contents.may_be_encrypted() {
            return Turn::Done(Ok(not_encrypted()));
        }
        let begun = self.recipients.of(work.message, Given::Key, (self.clock)()).map(|to| {
            let Self { agent, keep, proof, .. } = *self;
            let exchange = Exchange { recipients: &to, profile: self.recipients.profile(), keep, proof };
            let rekeyed = match work.object.map(Arc::clone) {
                Some(object) => agent.rekey_object(work.message, object, &exchange),
                None => agent.rekey_stored(work.message, &exchange),
            };
            rekeyed.map(done, work.message)
        });
        Turn::of(begun)
    }

    fn works_on_objects(&self) -> bool {
        true
    }
}

fn not_encrypted() -> Done {
    Done { reason: Some("it is not encrypted".into()), ..Done::unchanged("kept") }
}
