//! The demo's scenes, one after the other, and the table of their verdicts.

use std::fmt;
use std::time::{Duration, Instant};

use testkit::{Result, wait};

/// What was shown so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: &'static str,
    verdict: Result<String>,
    elapsed: Duration,
}

impl Table {
    /// Plays one scene and takes down how it went. The scene's answer is a remark for the table.
    pub(crate) fn scene(&mut self, what: &'static str, scene: impl FnOnce() -> Result<String>) {
        println!("\n== {what}");
        let started = Instant::now();
        let verdict = wait::check_signals().and_then(|()| scene());
        if let Err(error) = &verdict {
            println!("FAILED: {error:#}");
        }
        self.rows.push(Row { what, verdict, elapsed: started.elapsed() });
    }

    /// Whether every scene went well.
    pub(crate) fn all_ok(&self) -> bool {
        self.rows.iter().all(|row| row.verdict.is_ok())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or_default();
        for Row { what, verdict, elapsed } in &self.rows {
            let (word, remark) = match verdict {
                Ok(remark) => ("ok", remark.as_str()),
                Err(_) => ("FAILED", "see above"),
            };
            writeln!(f, "{what:width$}  {word:6}  {:>7.2} s  {remark}", elapsed.as_secs_f64())?;
        }
        Ok(())
    }
}
