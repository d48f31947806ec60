//! How much memory a run takes: by the formula of `batch::gate`, whatever the length of the archive, and also while its
//! first message waits for the token.
//!
//! Each test needs a process of its own, as nextest gives it. Long form, with an archive of 20 GB in a folder with room
//! for it: `HSMIME_GIGABYTES=20 TMPDIR=/var/tmp cargo nextest run --release -p batch memory::`

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use agent::{Identity, Turn};
use batch::{
    gate,
    report::Report,
    run::{DEFAULT_ROOM, Options, Output, run},
    task::{Done, Failed, Task, Work, Working},
};

use crate::support::{answer, asked, options, question};

/// The most that this process ever had in memory, in KiB.
pub(crate) fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// An mbox of about so many octets, of the same 20 KB again and again.
fn write_mbox(path: &Path, octets: u64) {
    let line = b"There is nothing new under the sun, and what was said before is said again.\n";
    let message = [
        &b"From alice@example.org Fri Sep 16 22:26:51 2016\nFrom: alice@example.org\nSubject: again\n\n"[..],
        &line.repeat(20_000 / line.len()),
        b"\n",
    ]
    .concat();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    for _ in 0..octets / message.len() as u64 {
        file.write_all(&message).unwrap();
    }
    file.flush().unwrap();
}

/// Whoever has a key whose first answer takes three seconds.
fn slow() -> Identity {
    let answered = AtomicBool::new(false);
    asked(move |reply| {
        if answered.swap(true, Ordering::Relaxed) {
            return reply(Ok(answer()));
        }
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(3));
            reply(Ok(answer()));
        });
    })
}

/// Asks for each message once.
struct Ask(Identity);

impl Task for Ask {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, _: &Work<'_>) -> Working<'t> {
        Turn::asking(&self.0, question(), |_, _| Turn::Done(Ok(Done::unchanged("asked"))))
    }
}

/// Runs over an mbox of so many octets; gives the peak after it.
fn run_over(folder: &Path, octets: u64) -> u64 {
    let (input, output) = (folder.join("in"), folder.join("out"));
    write_mbox(&input, octets);
    let written = if octets > LARGE { Output::Rehearsal } else { Output::Path(output.clone()) };
    let options =
        Options { output: written, room: DEFAULT_ROOM, questions: 64, ..options(&[&input], &output) };
    let totals = run(&options, &Ask(slow()), Report::none(), &AtomicBool::new(false)).unwrap();
    assert_eq!(totals.failed(), 0);
    assert!(totals.messages() >= octets / 21_000);
    fs::remove_file(&input).unwrap();
    let _ = fs::remove_file(&output);
    peak()
}

/// Larger outputs are not written: not every disk has room for both.
const LARGE: u64 = 4_000_000_000;

#[test]
fn a_long_archive_takes_the_memory_of_a_short_one_also_while_its_first_message_waits() {
    let gigabytes: Option<f64> = std::env::var("HSMIME_GIGABYTES").ok().map(|text| text.parse().unwrap());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of octets")]
    let (short, long) =
        gigabytes.map_or((10_000_000, 60_000_000), |long| ((long * 5e7) as u64, (long * 1e9) as u64));
    let folder = tempfile::tempdir().unwrap();
    let before = peak();
    let after_short = run_over(folder.path(), short);
    let after_long = run_over(folder.path(), long);
    eprintln!("peak: {before} KiB, after {short} octets {after_short}, after {long} octets {after_long}");
    // What the gate lets in, and some for the allocator and the threads.
    let limit = before + (DEFAULT_ROOM >> 10) + 32 * 1024;
    assert!(after_long <= limit, "{after_long} KiB, not {limit}");
    assert!(after_long <= after_short + 16 * 1024, "{after_short} KiB became {after_long}");
    assert!(after_long <= 128 * 1024, "{after_long} KiB");
    // The first one could not have passed while so much of the rest was in memory.
    assert!(short > DEFAULT_ROOM / gate::WEIGHT);
}
