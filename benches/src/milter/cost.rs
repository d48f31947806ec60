//! What a message costs: time by the clock, the milter's processor time, and the whole machine's.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// What was measured once.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cell {
    /// Messages per second.
    pub rate: f64,
    /// Microseconds of the milter's processor time for one, its token's included.
    pub milter_us: f64,
    /// The same of all processes, those that send included.
    pub machine_us: f64,
}

/// Processor time used up to a moment.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    milter: f64,
    machine: f64,
}

impl Used {
    /// Up to now, by a process and by all.
    pub fn now(process: Option<u32>) -> Result<Self> {
        let milter = match process {
            Some(process) => of_process(&fs::read_to_string(format!("/proc/{process}/stat"))?)?,
            None => 0.0,
        };
        Ok(Self { milter, machine: of_machine(&fs::read_to_string("/proc/stat")?)? })
    }

    /// What so many messages cost since then, sent within so much time.
    pub fn until(self, now: Self, messages: f64, taken: Duration) -> Cell {
        let each = |ticks: f64| ticks / TICKS_PER_SECOND * 1e6 / messages.max(1.0);
        Cell {
            rate: messages / taken.as_secs_f64(),
            milter_us: each(now.milter - self.milter),
            machine_us: each(now.machine - self.machine),
        }
    }
}

/// `utime` and `stime` of proc(5), the 14th and 15th; the name, which is the second, may hold blanks.
fn of_process(stat: &str) -> Result<f64> {
    let (_, after_name) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let times = after_name.split_ascii_whitespace().skip(11).take(2);
    sum(times).context("no times in /proc/PID/stat")
}

/// All but idle, waiting for a disk, and what others take away, of the first line.
fn of_machine(stat: &str) -> Result<f64> {
    let line =
        stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no cpu in /proc/stat")?;
    let times = line.split_ascii_whitespace().enumerate();
    sum(times.filter(|(at, _)| matches!(at, 0..=2 | 5 | 6)).map(|(_, time)| time))
        .context("no times in /proc/stat")
}

fn sum<'s>(times: impl Iterator<Item = &'s str>) -> Result<f64> {
    times.map(|time| Ok(time.parse::<f64>()?)).sum()
}

/// `USER_HZ`, which is 100 wherever Linux has an ABI for it to be in.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_proc_5() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 200 30 0 0 20 0";
        assert!((of_process(stat).unwrap() - 230.0).abs() < 1e-9);
        let stat = "cpu  10 20 30 4000 500 6 7 800 0 0\ncpu0 1 1 1 1\n";
        assert!((of_machine(stat).unwrap() - 73.0).abs() < 1e-9);
        assert!(of_process("").is_err() && of_machine("").is_err());
    }

    #[test]
    fn a_message_costs_its_part() {
        let (then, now) = (Used { milter: 100.0, machine: 200.0 }, Used { milter: 110.0, machine: 300.0 });
        let cell = then.until(now, 500.0, Duration::from_millis(500));
        assert!((cell.rate - 1000.0).abs() < 1e-9);
        assert!((cell.milter_us - 200.0).abs() < 1e-9 && (cell.machine_us - 2000.0).abs() < 1e-9);
    }
}
