//! Runs the fuzz targets on stable Rust, without coverage: mutants of the seeds, the same ones for the same
//! `--seed`. Fails at a panic, at an execution over a second of its thread's time, and at memory over ten times the input.
//!
//! `drive [--executions N | --seconds N] [--seed N] [TARGET…]`, or `drive replay TARGET FILE…`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    env, fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use smime::room;
use smime_fuzz::{
    memory::{self, Counting},
    mutate::{Random, mutant},
    seeds,
    targets::{TARGETS, Target},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// No execution may take longer.
const MAX_TIME: Duration = Duration::from_secs(1);
/// After this it is stopped where it hangs.
const HANGS: Duration = Duration::from_secs(20);
/// How much memory an execution may take for each octet of its input …
const MAX_RATIO: usize = 10;
/// … beyond what the shortest message may take: the room that any has, and what zlib takes.
const ALLOWANCE: usize = room::ALWAYS + (128 << 10);

/// What is being run, for the watchdog: its start in milliseconds, or 0.
static STARTED: AtomicU64 = AtomicU64::new(0);
static RUNNING: Mutex<(&str, Vec<u8>)> = Mutex::new(("", Vec::new()));

/// What was seen of a target.
#[derive(Default)]
struct Seen {
    executions: u64,
    time: Duration,
    slowest: Duration,
    most_memory: usize,
    highest_ratio: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some((replay, rest)) = arguments.split_first()
        && replay == "replay"
    {
        return replay_files(rest);
    }
    let Some(options) = Options::read(&arguments) else {
        eprintln!("drive [--executions N | --seconds N] [--seed N] [TARGET…] | drive replay TARGET FILE…");
        eprintln!("targets: {}", TARGETS.map(|target| target.name).join(" "));
        return ExitCode::from(2);
    };
    watch();
    // A panic is told by what it leaves behind.
    panic::set_hook(Box::new(|_| {}));
    println!(
        "{:<18}{:>12}{:>10}{:>12}{:>14}{:>10}",
        "target", "executions", "per s", "slowest ms", "memory KiB", "times"
    );
    let mut total = 0;
    for target in &options.targets {
        match drive(*target, &options) {
            Ok(seen) => {
                total += seen.executions;
                println!(
                    "{:<18}{:>12}{:>10.0}{:>12.1}{:>14}{:>10.1}",
                    target.name,
                    seen.executions,
                    seen.executions as f64 / seen.time.as_secs_f64().max(1e-9),
                    seen.slowest.as_secs_f64() * 1e3,
                    seen.most_memory >> 10,
                    seen.highest_ratio,
                );
            }
            Err(failure) => {
                eprintln!("{}: {failure}", target.name);
                return ExitCode::from(1);
            }
        }
    }
    println!("{total} executions with seed {}; none panicked, hung or took too much", options.seed);
    ExitCode::SUCCESS
}

struct Options {
    executions: Option<u64>,
    seconds: u64,
    seed: u64,
    targets: Vec<Target>,
}

impl Options {
    fn read(arguments: &[String]) -> Option<Self> {
        let mut options = Self { executions: None, seconds: 30, seed: 1, targets: Vec::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--executions" => options.executions = Some(rest.next()?.parse().ok()?),
                "--seconds" => options.seconds = rest.next()?.parse().ok()?,
                "--seed" => options.seed = rest.next()?.parse().ok()?,
                name => options.targets.push(*TARGETS.iter().find(|target| target.name == name)?),
            }
        }
        if options.targets.is_empty() {
            options.targets = TARGETS.to_vec();
        }
        Some(options)
    }
}

/// Each target gets its share of the executions or of the time.
fn drive(target: Target, options: &Options) -> Result<Seen, String> {
    let seeds = seeds::of(target.name);
    if seeds.is_empty() {
        return Err("there are no seeds".into());
    }
    let shares = options.targets.len() as u64;
    let share = options.executions.map(|executions| executions.div_ceil(shares));
    let time = Duration::from_secs(options.seconds) / u32::try_from(shares).unwrap_or(1);
    let mut seen = Seen::default();
    let mut random = Random::new(options.seed);
    let start = Instant::now();
    // The seeds as they are come first.
    for seed in &seeds {
        execute(target, seed, &mut seen)?;
    }
    while share.map_or_else(|| start.elapsed() < time, |share| seen.executions < share) {
        for _ in 0..256 {
            let input = mutant(&seeds, target.is_asn1, &mut random);
            execute(target, &input, &mut seen)?;
        }
    }
    seen.time = start.elapsed();
    Ok(seen)
}

fn execute(target: Target, input: &[u8], seen: &mut Seen) -> Result<(), String> {
    if let Ok(mut running) = RUNNING.lock() {
        running.0 = target.name;
        running.1.clear();
        running.1.extend_from_slice(input);
    }
    let mut took = Duration::MAX;
    // What is slow is slow each time.
    for _ in 0..3 {
        STARTED.store(now_ms(), Relaxed);
        let before = memory::mark();
        let start = thread_time();
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        took = took.min(thread_time().saturating_sub(start));
        let used = memory::peak().saturating_sub(before);
        STARTED.store(0, Relaxed);
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            return Err(format!("{text}\n{}", keep(target.name, "panic", input)));
        }
        if used > MAX_RATIO * input.len() + ALLOWANCE {
            return Err(format!(
                "{used} octets of memory for an input of {}\n{}",
                input.len(),
                keep(target.name, "memory", input)
            ));
        }
        seen.most_memory = seen.most_memory.max(used);
        // Of small inputs the ratio says nothing but what the allowance is.
        if input.len() >= ALLOWANCE / MAX_RATIO {
            seen.highest_ratio = seen.highest_ratio.max(used as f64 / input.len() as f64);
        }
        if took <= MAX_TIME {
            break;
        }
    }
    if took > MAX_TIME {
        return Err(format!("{took:?} for one execution\n{}", keep(target.name, "slow", input)));
    }
    seen.slowest = seen.slowest.max(took);
    seen.executions += 1;
    Ok(())
}

/// Writes an input down, and says how to run it again.
fn keep(target: &str, kind: &str, input: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target);
    let sum = input.iter().fold(0xCBF2_9CE4_8422_2325_u64, |sum, octet| {
        (sum ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    let path: PathBuf = folder.join(format!("{kind}-{sum:016x}"));
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)) {
        Ok(()) => format!("kept; run it again with: drive replay {target} {}", path.display()),
        Err(error) => format!("not kept: {error}"),
    }
}

fn replay_files(arguments: &[String]) -> ExitCode {
    let Some((name, files)) = arguments.split_first() else { return ExitCode::from(2) };
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else { return ExitCode::from(2) };
    for file in files {
        let Ok(input) = fs::read(file) else {
            eprintln!("{file} cannot be read");
            return ExitCode::from(2);
        };
        let before = memory::mark();
        let start = Instant::now();
        (target.run)(&input);
        println!("{file}: {:?}, {} octets of memory", start.elapsed(), memory::peak() - before);
    }
    ExitCode::SUCCESS
}

/// The processor time of this thread: what else the machine does is no matter.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn now_ms() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX) + 1
}

/// Ends the program where an execution does not end by itself.
fn watch() {
    now_ms();
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_millis(500));
            let started = STARTED.load(Relaxed);
            if started != 0 && now_ms().saturating_sub(started) > HANGS.as_millis() as u64 {
                let (target, input) = RUNNING.lock().map(|running| running.clone()).unwrap_or_default();
                eprintln!("{target}: it hangs\n{}", keep(target, "hang", &input));
                std::process::exit(1);
            }
        }
    });
}
