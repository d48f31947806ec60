//! What the programs in `src/bin` measure with, and what they say of it.

pub mod batch;
pub mod certcache;
pub mod message;
pub mod milter;
pub mod pool;
pub mod python;
pub mod results;
pub mod statistics;
pub mod wanted;

/// The processor as the system names it, and how many of them there are.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{}, {cores} cores", model.map_or("unknown processor", |(_, name)| name))
}
