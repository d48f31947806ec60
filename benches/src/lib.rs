//! What the programs in `src/bin` measure with: medians of several rounds, and ratios to a limit of the same run.

pub mod pool;

use std::time::{Duration, Instant};

/// The median time of one call, over `rounds` rounds that each run for about `length`.
pub fn median(rounds: usize, length: Duration, mut call: impl FnMut()) -> Duration {
    call();
    let mut times: Vec<Duration> = (0..rounds.max(1))
        .map(|_| {
            let start = Instant::now();
            let mut calls = 0_u32;
            while start.elapsed() < length {
                call();
                calls += 1;
            }
            start.elapsed() / calls.max(1)
        })
        .collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The processor as the system names it, and how many of them there are.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{}, {cores} cores", model.map_or("unknown processor", |(_, name)| name))
}
