//! Waiting for something another process does: with a deadline, and without guessing how long it takes.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Asks again and again until `probe` has an answer; fails with `what` in the message when time is up.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
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
