//! Waiting for something another process does: with a deadline, and without guessing how long it takes.

use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// From now on SIGINT and SIGTERM end no process at once but every wait, so that what was started is stopped
/// and removed on the way out. A second signal ends the process.
pub fn end_on_signals() -> io::Result<()> {
    let signalled = SIGNALLED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(signalled))?;
        flag::register(signal, Arc::clone(signalled))?;
    }
    Ok(())
}

/// Fails after such a signal.
pub fn check_signals() -> Result<()> {
    let signalled = SIGNALLED.get().is_some_and(|flag| flag.load(Ordering::Relaxed));
    ensure!(!signalled, "stopped by a signal");
    Ok(())
}

/// Asks again and again until `probe` has an answer; fails with `what` in the message when time is up.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_whatever_signal(what, limit, || {
        check_signals()?;
        probe()
    })
}

/// As [`until`], but no signal ends it: for waiting until something has stopped.
pub fn until_whatever_signal<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        thread::sleep(STEP);
    }
}

/// A TCP port of the loopback that is free, for programs that must be told theirs.
///
/// Not from the kernel's own range: it would give the same port to somebody's outgoing connection before the
/// program can listen there. Each process begins elsewhere, so that tests side by side do not meet.
pub fn free_port() -> Result<u16> {
    let count = u32::from(*PORTS.end() - *PORTS.start());
    let begin = process::id().wrapping_mul(PORTS_OF_A_PROCESS) % count;
    for _ in 0..count {
        let next = (begin + TAKEN.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start() + u16::try_from(next)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {PORTS:?} is free")
}

static SIGNALLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static TAKEN: AtomicU32 = AtomicU32::new(0);
const PORTS: RangeInclusive<u16> = 20_000..=32_000;
const PORTS_OF_A_PROCESS: u32 = 8;
const STEP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_at_the_limit_and_says_for_what() {
        let outcome: Result<()> = until("godot", Duration::from_millis(50), || Ok(None));
        assert!(outcome.unwrap_err().to_string().contains("godot"));
    }

    #[test]
    fn a_free_port_is_given_once_and_can_be_listened_at() {
        let ports = [free_port().unwrap(), free_port().unwrap(), free_port().unwrap()];
        let listeners = ports.map(|port| TcpListener::bind(("127.0.0.1", port)));
        assert!(listeners.iter().all(Result::is_ok), "{listeners:?}");
    }

    #[test]
    fn waiting_ends_with_the_answer() {
        let mut asked = 0;
        let answer = until("the third question", Duration::from_secs(10), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.unwrap(), 3);
    }
}
