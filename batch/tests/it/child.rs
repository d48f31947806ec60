//! This test program started again as another process: to be measured, or to be killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use batch::{
    gate::{OVERHEAD, WEIGHT},
    progress::{Busy, Showing, Tokens},
    report::Report,
    run::{Journaling, Options, Output, open_report, run},
    task::{Done, Failed, Task, Work, Working},
};

use agent::Turn;
use smime::Fault;

use crate::{interrupted::Asking, support::Shout};

/// What the other process does with each message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Nothing, at once.
    Fast,
    /// Nothing, but for the first it needs a second.
    SlowFirst,
    /// Nothing, a millisecond each.
    Slow,
    /// It writes the body in capitals, half a millisecond each.
    Shouting,
    /// The same; for most of them it asks a token.
    Asking,
    /// The same at once, and it says that the body was encrypted.
    Opening,
    /// Each message fails.
    Failing,
}

impl Task for Pace {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        kill::seen_one();
        match self {
            Self::SlowFirst if work.index == 1 => thread::sleep(Duration::from_secs(1)),
            Self::Slow => thread::sleep(Duration::from_millis(1)),
            Self::Shouting => {
                thread::sleep(Duration::from_micros(500));
                return Shout.run(work);
            }
            Self::Asking => thread::sleep(Duration::from_micros(500)),
            Self::Opening => return Shout.run(work),
            Self::Failing => return Err(Failed::new(Fault::Message, "it does not please")),
            _ => {}
        }
        Ok(Done::unchanged("copied"))
    }

    fn opens(&self) -> bool {
        matches!(self, Self::Opening)
    }
}

/// Does the one, and then the other.
struct Both(Pace, Asking);

impl Task for Both {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        match self.0.run(work) {
            Ok(_) => self.1.begin(work),
            Err(failed) => Turn::Done(Err(failed)),
        }
    }
}

/// Starts a run in another process that replaces its input.
pub(crate) fn in_place(pace: Pace, input: &Path) -> Command {
    let mut command = command(pace, input, input);
    command.env("BATCH_IN_PLACE", "yes");
    command
}

/// Starts a run in another process.
pub(crate) fn command(pace: Pace, input: &Path, output: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child::as_another_process", "--ignored", "--nocapture"]);
    command.env("BATCH_PACE", format!("{pace:?}")).env("BATCH_INPUT", input).env("BATCH_OUTPUT", output);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
#[ignore = "other tests start it in a process of its own"]
fn as_another_process() {
    let path = |name| PathBuf::from(std::env::var_os(name).unwrap());
    let pace = match std::env::var("BATCH_PACE").unwrap().as_str() {
        "Slow" => Pace::Slow,
        "SlowFirst" => Pace::SlowFirst,
        "Shouting" => Pace::Shouting,
        "Asking" => Pace::Asking,
        "Opening" => Pace::Opening,
        "Failing" => Pace::Failing,
        _ => Pace::Fast,
    };
    let output = path("BATCH_OUTPUT");
    kill::arm(&output);
    let options = Options {
        inputs: std::env::split_paths(&path("BATCH_INPUT")).collect(),
        output: match (std::env::var_os("BATCH_IN_PLACE"), std::env::var("BATCH_FORMAT")) {
            (Some(_), _) => Output::InPlace,
            (None, Ok(format)) => Output::Converted(output.clone(), format.parse().unwrap()),
            (None, Err(_)) => Output::Path(output.clone()),
        },
        jobs: 4,
        questions: 16,
        room: number("BATCH_ROOM").unwrap_or(ROOM),
        in_memory: number("BATCH_IN_MEMORY").map_or(usize::MAX, |octets| octets.try_into().unwrap()),
        max_message: number("BATCH_MAX_MESSAGE").map_or(MAX_MESSAGE, |octets| octets.try_into().unwrap()),
        lengths: None,
        frame: 1 << 12,
        html: None,
        showing: std::env::var_os("BATCH_PROGRESS").map(|_| {
            let busy = || Busy { sessions: 2, running: 1, worked: Duration::ZERO };
            Showing { every: Duration::from_millis(50), tokens: Some(Tokens::new(busy)) }
        }),
        journal: std::env::var_os("BATCH_RESUME").map(|_| Journaling {
            resume: std::env::var_os("BATCH_BEGIN").is_none(),
            request: REQUEST.into(),
            every: match std::env::var_os("BATCH_SELDOM") {
                Some(_) => Duration::from_hours(1),
                None => Duration::from_millis(5),
            },
        }),
    };
    let report = match std::env::var_os("BATCH_RESUME") {
        Some(report) => open_report(Path::new(&report), &options.inputs, true).unwrap(),
        None => Report::none(),
    };
    kill::stop_after(number("BATCH_STOP").unwrap_or(0));
    let asking = Both(pace, Asking::a_token());
    let task: &dyn Task = if matches!(pace, Pace::Asking) { &asking } else { &pace };
    let done = run(&options, task, report, &kill::STOP);
    fs::write(output.with_extension("status"), fs::read("/proc/self/status").unwrap()).unwrap_or_default();
    if let Err(stopped) = done {
        panic!("stopped: {:#}", describe(&stopped.error));
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// When the other process kills itself, or is asked to stop. It is bound to what the run has done, not to a time, so that it is the same on
/// every machine; what its other threads do at that instant is left to chance.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kill {
    /// Before there is anything.
    AtStart,
    /// While it works on its message of this number.
    AtMessage(u64),
    /// When all is written, and the output only has to get its name.
    WhenComplete,
    /// Not at all: it is asked to stop while it works on its message of this number.
    StopAtMessage(u64),
}

impl Kill {
    /// Kills that much later.
    pub(crate) fn ask(self, command: &mut Command, later: Duration) {
        let at = match self {
            Self::AtStart => "start".into(),
            Self::AtMessage(number) => number.to_string(),
            Self::WhenComplete => "complete".into(),
            Self::StopAtMessage(number) => {
                command.env("BATCH_STOP", number.to_string());
                command.env("BATCH_KILL_LATER", later.as_micros().to_string());
                return;
            }
        };
        command.env("BATCH_KILL", at).env("BATCH_KILL_LATER", later.as_micros().to_string());
    }
}

/// The side of the other process.
mod kill {
    use std::{
        fs,
        path::Path,
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
        thread,
        time::Duration,
    };

    use super::number;

    /// How many messages are left until it is killed; 0 for never.
    static LEFT: AtomicU64 = AtomicU64::new(0);

    pub(super) fn arm(output: &Path) {
        let journal = format!("{}.hsmime-journal", output.display());
        match std::env::var("BATCH_KILL").as_deref() {
            Err(_) => {}
            Ok("start") => kill(),
            Ok("complete") => drop(thread::spawn(move || {
                while !fs::read_to_string(&journal).is_ok_and(|text| text.contains("{\"Complete\":")) {
                    thread::yield_now();
                }
                kill();
            })),
            Ok(number) => LEFT.store(number.parse().unwrap(), Ordering::Relaxed),
        }
    }

    /// How many messages are left until it is asked to stop; 0 for never.
    static LEFT_UNTIL_STOP: AtomicU64 = AtomicU64::new(0);
    pub(super) static STOP: AtomicBool = AtomicBool::new(false);

    pub(super) fn stop_after(number: u64) {
        LEFT_UNTIL_STOP.store(number, Ordering::Relaxed);
    }

    pub(super) fn seen_one() {
        let is_last = |left: &AtomicU64| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1)
        };
        if is_last(&LEFT_UNTIL_STOP) {
            match later() {
                Duration::ZERO => STOP.store(true, Ordering::Relaxed),
                later => drop(thread::spawn(move || {
                    thread::sleep(later);
                    STOP.store(true, Ordering::Relaxed);
                })),
            }
        }
        if is_last(&LEFT) {
            kill();
        }
    }

    fn later() -> Duration {
        Duration::from_micros(number("BATCH_KILL_LATER").unwrap_or(0))
    }

    fn kill() {
        thread::spawn(move || {
            thread::sleep(later());
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        });
    }
}

/// What the other process asks for.
pub(crate) const REQUEST: &str = "what the other process does";

fn describe(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

pub(crate) fn wait_until(child: &mut Child, what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended before {what}");
        thread::sleep(Duration::from_millis(5));
    }
    panic!("no {what} within 5 s");
}

const ROOM: u64 = 16 << 20;
const MAX_MESSAGE: usize = 2 << 20;

/// Peak of the resident memory, as the other process wrote it down.
pub(crate) fn peak(output: &Path) -> u64 {
    let status = fs::read_to_string(output.with_extension("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap()
}

#[test]
fn memory_follows_the_gate_and_not_the_archive_even_if_the_first_message_waits() {
    let folder = tempfile::tempdir().unwrap();
    // Given 200 MB of messages of 2 to 2,000 kB,
    let input = folder.path().join("in");
    let mut mbox = Vec::new();
    let mut number = 0_usize;
    let line = "a line of some two hundred octets ".repeat(6) + "\n";
    while mbox.len() < 200_000_000 {
        mbox.extend_from_slice(b"From - Fri Sep 16 22:26:51 2016\nSubject: x\n\n");
        let lines = if number.is_multiple_of(100) { 9_000 } else { 10 + number % 100 };
        mbox.extend_from_slice(line.repeat(lines).as_bytes());
        mbox.push(b'\n');
        number += 1;
    }
    fs::write(&input, &mbox).unwrap();
    // when it is copied, the memory stays below what `gate` promises.
    let program = 24 << 20;
    let bound = program + ROOM.max(WEIGHT * MAX_MESSAGE as u64 + OVERHEAD) + 2 * MAX_MESSAGE as u64;
    let output = folder.path().join("out");
    let ran = command(Pace::SlowFirst, &input, &output).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(fs::read(&output).unwrap() == mbox);
    let peak = peak(&output);
    eprintln!("{} MiB resident at most, {} MiB allowed", peak >> 20, bound >> 20);
    assert!(peak < bound, "{peak} octets, more than {bound}");
}
