//! The joint to what is done with each message, and what happens when it goes wrong.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use agent::{NewObject, Turn};
use smime::{Fault, message::Signature, mime::Message};

use crate::{inspect::Contents, panics, stored::Origin};

/// One message to work on.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// Its place in the run, counted from 1.
    pub index: u64,
    /// The message.
    pub message: &'a Message,
    /// Where it was found.
    pub origin: &'a Origin,
    /// What S/MIME is in it.
    pub contents: &'a Contents,
    /// Another reading of it: an mbox may not tell whether `>From ` is what the author wrote.
    pub other_reading: Option<&'a Message>,
    /// The object that is its body, where the task [works on objects](Task::works_on_objects): then the message is
    /// its header alone.
    pub object: Option<&'a Arc<Vec<u8>>>,
    /// The signature beside the content, if that is what it is and it was read already.
    pub signature: Option<&'a Signature<'a, 'a>>,
}

/// What was done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// In a word.
    pub action: &'static str,
    /// What the message became, if it changed.
    pub message: Option<Altered>,
    /// What verification said, if there was one.
    pub verdict: Option<String>,
    /// Whose signatures were found.
    pub signers: Vec<String>,
    /// Whose private keys were used, from outside in.
    pub keys: Vec<String>,
    /// Why, where the action alone does not say it.
    pub reason: Option<String>,
}

impl Done {
    /// The message stays as it is.
    pub fn unchanged(action: &'static str) -> Self {
        Self { action, message: None, verdict: None, signers: Vec::new(), keys: Vec::new(), reason: None }
    }
}

/// What a message became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Altered {
    /// This.
    Whole(Message),
    /// What it was, with something else in its place.
    Edited {
        /// All header fields, with CRLF.
        header: Vec<u8>,
        /// The body.
        body: Body,
    },
}

/// What a message has for a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// What it had.
    Same,
    /// These lines, with CRLF.
    Lines(Vec<u8>),
    /// This object in base64.
    Object(NewObject),
}

impl Altered {
    /// The header fields, with CRLF.
    pub fn header(&self) -> &[u8] {
        match self {
            Self::Whole(message) => message.header(),
            Self::Edited { header, .. } => header,
        }
    }
}

impl From<Message> for Altered {
    fn from(message: Message) -> Self {
        Self::Whole(message)
    }
}

/// Why nothing could be done with a message. It will be copied unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Whose fault it is.
    pub fault: Fault,
    /// In words, without anything from the message's content.
    pub reason: String,
    /// What verification said, if that is the failure.
    pub verdict: Option<String>,
}

impl Failed {
    /// A failure without a verdict.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into(), verdict: None }
    }
}

/// Something to do with each message of an archive. It is called from several threads.
pub trait Task: Sync {
    /// Works on one message, from beginning to end.
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed>;

    /// Works on one message up to where a private key is asked. What takes no private key comes back done.
    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        Turn::Done(self.run(work))
    }

    /// Whether of a ciphertext in base64 the header and the object are enough. The object is then decoded once, from the
    /// octets that are stored, and nothing else is made of the body.
    fn works_on_objects(&self) -> bool {
        false
    }

    /// Whether it writes text that was encrypted.
    fn opens(&self) -> bool {
        false
    }
}

/// A message that is worked on, turn by turn.
pub type Working<'t> = Turn<'t, Result<Done, Failed>>;

/// Leaves every message as it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity;

impl Task for Identity {
    fn run(&self, _: &Work<'_>) -> Result<Done, Failed> {
        Ok(Done::unchanged("copied"))
    }
}

/// Turns a panic into the failure of one message.
pub(crate) fn contain<T>(work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    // Nothing that was being changed is looked at again after a panic.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let place = panics::take_place().map_or_else(String::new, |place| format!(" at {place}"));
        Err(Failed::new(Fault::Internal, format!("the program panicked{place}; this is a defect of it")))
    })
}

/// How long to wait before a transient fault is tried again.
pub(crate) const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
