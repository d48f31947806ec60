//! How a filter ends: by the codes of `sysexits.h`, which mail servers, Sieve and procmail know.
//!
//! One place for all of them; the table for people is in docs/archives.md.

use std::io::ErrorKind;

use agent::{ConfigError, OpenStoreError};
use batch::{error::BatchError, log::Totals};
use hsmpool::PoolError;
use smime::Fault;

/// All is done.
const OK: u8 = 0;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 64;
/// The message is at fault.
const DATAERR: u8 = 65;
/// There is no input.
const NOINPUT: u8 = 66;
/// A defect of this program.
const SOFTWARE: u8 = 70;
/// The system has no more threads.
const OSERR: u8 = 71;
/// The output cannot be made.
const CANTCREAT: u8 = 73;
/// Reading or writing failed.
pub(crate) const IOERR: u8 = 74;
/// Try again later.
const TEMPFAIL: u8 = 75;
/// A rule forbids it.
const NOPERM: u8 = 77;
/// Somebody must mend the configuration.
const CONFIG: u8 = 78;

/// The code for how a run on one message ended.
pub(crate) fn of(done: &anyhow::Result<Totals>) -> u8 {
    match done {
        Ok(totals) => totals.fault().map_or(OK, of_fault),
        Err(error) => error.chain().find_map(of_cause).unwrap_or(CONFIG),
    }
}

fn of_fault(fault: Fault) -> u8 {
    match fault {
        Fault::Message => DATAERR,
        Fault::Policy => NOPERM,
        Fault::Transient => TEMPFAIL,
        Fault::Operator => CONFIG,
        Fault::Internal => SOFTWARE,
    }
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    let of_batch = cause.downcast_ref().map(of_batch);
    // A token that was taken out looks like one that was never there, and mail can wait for either.
    let of_pool = || cause.is::<PoolError>().then_some(TEMPFAIL);
    let of_config = || (cause.is::<ConfigError>() || cause.is::<OpenStoreError>()).then_some(CONFIG);
    of_batch.or_else(of_pool).or_else(of_config)
}

fn of_batch(error: &BatchError) -> u8 {
    match error {
        BatchError::Usage(_) | BatchError::Key { .. } => USAGE,
        BatchError::Input { .. } | BatchError::Doubtful { .. } => NOINPUT,
        // Certificates to encrypt to.
        BatchError::Read { origin, .. } if origin != "-" => CONFIG,
        BatchError::Read { source, .. } => match source.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => NOINPUT,
            // Of a compressed message.
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => DATAERR,
            _ => IOERR,
        },
        BatchError::Output { .. } | BatchError::CutOff { .. } => CANTCREAT,
        BatchError::Write { source, .. } | BatchError::Report { source, .. } => match source.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::AlreadyExists => CANTCREAT,
            _ => IOERR,
        },
        BatchError::Threads { .. } => OSERR,
        other => of_fault(other.fault()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_way_to_end_has_its_code() {
        let path = || "x".into();
        let read = |kind: ErrorKind| BatchError::Read { origin: "-".into(), source: kind.into() };
        let write = |kind: ErrorKind| BatchError::Write { path: path(), source: kind.into() };
        let lost = BatchError::TokenLost { messages: 20, reason: "no token".into() };
        for (error, code) in [
            (BatchError::Usage("x"), 64),
            (read(ErrorKind::UnexpectedEof), 65),
            (read(ErrorKind::InvalidData), 65),
            (BatchError::Input { path: path(), problem: "empty" }, 66),
            (read(ErrorKind::NotFound), 66),
            (BatchError::Incomplete { read: 1, written: 0 }, 70),
            (BatchError::Threads { jobs: 1, reason: "none".into() }, 71),
            (BatchError::Output { path: path(), problem: "there".into() }, 73),
            (write(ErrorKind::PermissionDenied), 73),
            (BatchError::Report { report: "x".into(), source: ErrorKind::AlreadyExists.into() }, 73),
            (read(ErrorKind::Other), 74),
            (write(ErrorKind::StorageFull), 74),
            (write(ErrorKind::BrokenPipe), 74),
            (lost, 75),
            (BatchError::Interrupted, 75),
            (BatchError::Changed { path: path() }, 75),
            (BatchError::Read { origin: "bob.pem".into(), source: ErrorKind::NotFound.into() }, 78),
            (BatchError::Recipient { problem: "none".into() }, 78),
        ] {
            let words = error.to_string();
            assert_eq!(of(&Err(anyhow::Error::from(error).context("more words"))), code, "{words}");
        }
        assert_eq!(of(&Err(PoolError::Closed.into())), 75);
        assert_eq!(of(&Err(anyhow::anyhow!("there is no [[token]]"))), 78);
        assert_eq!(of(&Err(io::Error::other("signals").into())), 78);
        assert_eq!(of(&Ok(Totals::default())), 0);
        for (fault, code) in [
            (Fault::Message, 65),
            (Fault::Policy, 77),
            (Fault::Transient, 75),
            (Fault::Operator, 78),
            (Fault::Internal, 70),
        ] {
            assert_eq!(of_fault(fault), code);
        }
    }
}
