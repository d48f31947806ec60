//! Waiting for something another process does: with a deadline, and without guessing how long it takes.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
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

/// A TCP port of the loopback that was free a moment ago, for programs that must be told theirs.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

static SIGNALLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
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
    fn waiting_ends_with_the_answer() {
        let mut asked = 0;
        let answer = until("the third question", Duration::from_secs(10), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.unwrap(), 3);
    }
}
