//! Signals that ask to stop: the first one to finish what a token was asked for, the second one to end at once.
//!
//! A thread of its own waits for them, and does at the second one what no signal handler may: an mbox that was to be
//! replaced shall not stay locked, or whoever delivers to it waits.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGXFSZ},
    flag,
    low_level::{self, pipe},
};

use crate::{mbox, words};

/// An error if a signal has asked to stop: for whoever waits for others, and has nothing under way.
pub(crate) fn check() -> io::Result<()> {
    if ASKED.load(Ordering::Relaxed) {
        return Err(io::Error::other("stopped while another program was waited for"));
    }
    Ok(())
}

/// Whether a signal came.
static ASKED: AtomicBool = AtomicBool::new(false);

/// A flag that the first signal sets. The second one ends the process, by 128 and the signal's number.
pub fn flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let (mut received, sender) = UnixStream::pair()?;
        pipe::register(signal, sender)?;
        let stop = Arc::clone(&stop);
        thread::Builder::new().name("stop".into()).spawn(move || {
            while received.read_exact(&mut [0]).is_ok() {
                ASKED.store(true, Ordering::Relaxed);
                if stop.swap(true, Ordering::Relaxed) {
                    at_once(128 + signal);
                }
            }
        })?;
    }
    Ok(stop)
}

/// Has a file that may not become so large (`ulimit -f`) be an error like any, and not this process's end with what it has in
/// memory in a core: mail servers limit the files of what they start.
pub fn survive_file_limits() -> io::Result<()> {
    // A handler, since what is ignored is so in each program that is started from here, too.
    flag::register(SIGXFSZ, Arc::default()).map(drop)
}

fn at_once(code: i32) {
    let lock = mbox::give_up();
    let unlocked = lock.map_or(String::new(), |lock| format!(", and {} is removed", lock.display()));
    words::mention(&format!(
        "\nhsmime-batch: stopped at once{unlocked}; --resume goes on with what was begun"
    ));
    words::finish();
    low_level::exit(code);
}
