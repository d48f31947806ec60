//! Small messages on the thread that brings them: where nothing but a private key has to be waited for, that is done
//! without a thread of their own, and a message wakes only the token and whoever sends its edits.
//!
//! PKCS#11 is never called here: the key's answer comes from a thread of the pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use agent::{Asks, Envelope, Outcome, Turn};
use smime::Fault;
use smime::key::KeyError;
use smime::mime::Message;
use tokio::sync::oneshot;

use crate::treat::{Failure, Treat};

/// The outcome for a message, or the message as it came, if it is none to be treated so.
pub(crate) async fn treat_at_once(
    treat: &dyn Treat,
    envelope: &Envelope,
    message: &Message,
    now: SystemTime,
) -> Option<Result<Outcome, Failure>> {
    let mut turn = match caught(|| treat.begin(envelope, message, now)) {
        Ok(begun) => begun?,
        Err(failure) => return Some(Err(failure)),
    };
    loop {
        turn = match turn {
            Turn::Done(outcome) => return Some(outcome),
            Turn::Asks(Asks { identity, question, then }) => {
                let (reply, answer) = oneshot::channel();
                // Whoever waited may have gone.
                let reply = Box::new(move |outcome| drop(reply.send(outcome)));
                // Withdrawn where nobody waits any more: what is signed for nobody is time of the token that others wait for.
                let under_way = question.submit_at_once(identity.signer(), reply)?;
                let answer = answer.await.unwrap_or_else(|_| Err(given_up()));
                drop(under_way);
                match caught(|| then(message, answer)) {
                    Ok(turn) => turn,
                    Err(failure) => return Some(Err(failure)),
                }
            }
        };
    }
}

/// What a panic becomes. The panic itself is reported by the panic hook; its text may quote the message and stays unread.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Failure::new(Fault::Internal, "the treatment panicked"))
}

fn given_up() -> KeyError {
    KeyError::Unavailable {
        token: "(unknown)".to_owned(),
        reason: "the question was given up; this is a defect of the program".to_owned(),
    }
}

/// The largest message that is treated so: all that is done for it takes a fraction of a millisecond.
pub(crate) const MOST_OCTETS: usize = 128 * 1024;
