//! A program from its start to its end: how long, how much of the processor, how much memory.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// What a program took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// From its start to its end.
    pub seconds: f64,
    /// Of the processor, all threads and children together.
    pub cpu: f64,
    /// The most memory it ever had, in MiB (`VmHWM`).
    pub peak: f64,
}

/// Runs a program that must end well. Only one at a time: others would count as well.
pub fn run(command: &mut Command) -> Result<Cost> {
    let before = used()?;
    let begun = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("{command:?} cannot be run"))?;
    let status = format!("/proc/{}/status", child.id());
    let stderr = child.stderr.take();
    let words = thread::spawn(move || stderr.map(std::io::read_to_string).transpose());
    let mut peak = 0.0_f64;
    let ended = loop {
        // Grows only; what it adds in its last milliseconds is not seen.
        peak = peak.max(high_water(&status).unwrap_or_default());
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        thread::sleep(EACH);
    };
    let seconds = begun.elapsed().as_secs_f64();
    let words = words.join().ok().and_then(Result::ok).flatten().unwrap_or_default();
    ensure!(ended.success(), "{command:?}: {ended}: {words}");
    Ok(Cost { seconds, cpu: used()? - before, peak })
}

/// How often to look.
const EACH: Duration = Duration::from_millis(10);

fn high_water(status: &str) -> Option<f64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}

/// Seconds of the processor that all children that have ended took.
fn used() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(
            u64::try_from(time.tv_sec()).unwrap_or_default() * 1_000_000
                + u64::try_from(time.tv_usec()).unwrap_or_default(),
        )
    };
    Ok((seconds(usage.user_time()) + seconds(usage.system_time())).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_computes_takes_processor_time_and_one_that_fails_is_an_error() {
        let cost = run(Command::new("sh").args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]));
        let cost = cost.unwrap();
        assert!(cost.cpu > 0.01 && cost.peak > 0.1, "{cost:?}");
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
