//! Runs killed or asked to stop at any instant and gone on with: what comes out is what an uninterrupted run writes.
//!
//! `HSMIME_KILLS=200 cargo nextest run -p batch killed` does so so many times; a few dozen otherwise. A run is ended after so
//! many messages, not after a time, so that how fast the machine is makes no difference.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use batch::manifest::check;

use crate::{
    child::{Kill, Pace, in_place},
    resume::{chance, files, maildir, maildir_folder, report, resuming},
    support::sample_mbox,
};

fn kills() -> u32 {
    std::env::var("HSMIME_KILLS").ok().map_or(30, |kills| kills.parse().unwrap())
}

/// How many messages each archive has.
const MESSAGES: usize = 600;

/// While so many are worked on, at half a millisecond each and not many at a time, something is noted.
const NOTED: u64 = 60;

/// What was killed, and what was done with it.
#[derive(Debug, Default)]
struct Tally {
    killed: u32,
    /// How many of these were asked to stop, and did.
    stopped: u32,
    /// Killed runs that were not done, so that there was something to go on with.
    unfinished: u32,
    /// Of these, those after which the next run went on with what they had noted.
    gone_on: u32,
    /// Outputs that were held against that of an uninterrupted run.
    compared: u32,
}

impl Tally {
    /// Says it, and demands that it was a test.
    fn end(&self, what: &str, began: Instant) {
        eprintln!("{what}: {self:?}, no differences, {:.1} s", began.elapsed().as_secs_f64());
        assert!(self.compared > 0 && self.gone_on > 0, "{what}: {self:?}");
    }

    fn most_went_on(&self) {
        assert!(2 * self.gone_on > self.unfinished, "most were begun anew: {self:?}");
    }

    fn add(&mut self, other: &Self) {
        self.killed += other.killed;
        self.stopped += other.stopped;
        self.unfinished += other.unfinished;
        self.gone_on += other.gone_on;
        self.compared += other.compared;
    }
}

/// When a run is to be killed, and how much later than that. The first one of an archive has something noted by then.
fn next(state: &mut u64, is_first: bool) -> (Kill, Duration) {
    let kill = match chance(state) % 15 {
        _ if is_first => Kill::AtMessage(NOTED + chance(state) % 240),
        0 => Kill::AtStart,
        1 => Kill::WhenComplete,
        2 => Kill::AtMessage(1 + chance(state) % NOTED),
        3..8 => Kill::StopAtMessage(1 + chance(state) % 300),
        _ => Kill::AtMessage(NOTED + chance(state) % 240),
    };
    // Of all sizes from none to some milliseconds.
    let later = Duration::from_micros(chance(state) % (1 << (chance(state) % 14)));
    (kill, later)
}

/// Kills a run and those that go on with it, until one of them ends or there were so many. What is there after each kill
/// is looked at.
fn until_done(
    make: &dyn Fn() -> Command,
    kills: u32,
    state: &mut u64,
    tally: &mut Tally,
    look: &mut dyn FnMut() -> Left,
) {
    let mut left = Left::Nothing;
    for round in 0.. {
        let mut command = make();
        command.env("BATCH_ROOM", "65536");
        // By way of the disk or not: what is done stays done.
        if chance(state).is_multiple_of(2) {
            command.env("BATCH_IN_MEMORY", "20");
        }
        if tally.killed < kills {
            let (kill, later) = next(state, tally.killed == 0 && round == 0);
            kill.ask(&mut command, later);
        }
        let ran = command.output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        if left == Left::Unfinished {
            tally.unfinished += 1;
            tally.gone_on += u32::from(said.contains("going on after "));
        }
        match ran.status.signal() {
            None if ran.status.success() => return,
            None => {
                assert!(said.contains("stopped: interrupted"), "{said}");
                tally.stopped += 1;
            }
            Some(signal) => assert_eq!(signal, 9, "{said}"),
        }
        tally.killed += 1;
        left = look();
        if left == Left::Done {
            return;
        }
    }
}

/// What a killed run left.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Nothing,
    Unfinished,
    /// It was done, and only had to end.
    Done,
}

/// The files of an output without what in the names of a new Maildir follows from where it is.
fn nameless(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let plain = |path: PathBuf| {
        let name = path.to_string_lossy().into_owned();
        let Some((before, after)) = name.split_once('R').filter(|(before, _)| before.contains(".Q")) else {
            return path;
        };
        PathBuf::from(format!("{before}{}", after.split_once('.').map_or("", |(_, rest)| rest)))
    };
    files(path).into_iter().map(|(path, octets)| (plain(path), octets)).collect()
}

/// Files named `.eml` in folders of some depth.
fn tree(root: &Path, messages: usize) {
    for number in 0..messages {
        let folder = root.join(["", "a", "a/b"][number % 3]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number}.eml")), format!("Subject: {number}\n\nFrom {number}\n"))
            .unwrap();
    }
}

/// What lies beside an output under a name that begins with its.
fn beside(output: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}.{suffix}", output.display()))
}

/// Kills runs, goes on with each, and compares what comes out with what an uninterrupted run writes. What is to be
/// compressed has a format and a suffix, or only that.
fn kill_and_go_on(kills: u32, archives: &[(&str, Option<&str>)]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let kills = kills.div_ceil(u32::try_from(archives.len()).unwrap());
    // With something before the first message.
    fs::write(path("mbox"), [b"\n\n", &sample_mbox(MESSAGES)[..]].concat()).unwrap();
    maildir(&path("folders"), MESSAGES / 2);
    maildir_folder(&path("folder"), MESSAGES);
    for name in ["folders", "folder"] {
        fs::write(path(name).join("mbox-preamble"), "before all else\n\n").unwrap();
    }
    tree(&path("tree"), MESSAGES);
    let (mut state, mut all, all_began) = (1, Tally::default(), Instant::now());
    for &(input, format) in archives {
        let what = format!("{input}-{}", format.unwrap_or("same"));
        let (format, suffix) = format.map_or((None, ""), |format| match format.split_once('.') {
            Some(("", suffix)) => (None, suffix),
            Some((format, suffix)) => (Some(format), suffix),
            None => (Some(format), ""),
        });
        let named =
            |number: &str| path(&format!("{}-{number}", what.replace('.', "-"))).with_extension(suffix);
        let (mut tally, began) = (Tally::default(), Instant::now());
        let whole = named("whole");
        assert!(resuming(&path(input), &whole, format).output().unwrap().status.success());
        // A run may be done before it is killed: then another one is begun.
        while tally.killed < kills {
            assert!(tally.compared < 10 * kills, "{what}: {tally:?}");
            let output = named(&tally.compared.to_string());
            until_done(
                &|| resuming(&path(input), &output, format),
                kills,
                &mut state,
                &mut tally,
                &mut || match (output.exists(), beside(&output, "hsmime-journal").exists()) {
                    (true, false) => Left::Done,
                    (_, true) => Left::Unfinished,
                    (false, false) => Left::Nothing,
                },
            );
            assert!(nameless(&whole) == nameless(&output), "{what}: the outputs differ");
            assert_eq!(report(&whole.with_extension("report")), report(&output.with_extension("report")));
            let outputs = match (input, format) {
                ("folders", Some("mbox")) => {
                    ["INBOX.mbox", "Sent.mbox"].map(|name| output.join(name)).to_vec()
                }
                _ => vec![output.clone()],
            };
            let checked = check(&output.with_extension("report"), &outputs).unwrap();
            assert_eq!(checked.count, 0, "{what}: {:?}", checked.problems);
            tally.compared += 1;
        }
        tally.end(&what, began);
        all.add(&tally);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!left.iter().any(|path| path.to_string_lossy().contains("hsmime")), "{left:?}");
    }
    all.end("all", all_began);
    all.most_went_on();
}

#[test]
fn a_run_killed_at_any_instant_and_gone_on_with_writes_what_an_uninterrupted_one_does() {
    kill_and_go_on(kills() / 2, &[("mbox", None), ("folders", None), ("tree", None)]);
}

#[test]
fn a_conversion_killed_at_any_instant_and_gone_on_with_writes_what_an_uninterrupted_one_does() {
    let archives = [
        ("mbox", Some("maildir")),
        ("mbox", Some("eml")),
        ("mbox", Some("mboxcl2")),
        ("folders", Some("mbox")),
        ("folder", Some("mboxcl")),
        ("folders", Some("eml")),
        ("tree", Some("mbox")),
        ("tree", Some("maildir")),
    ];
    kill_and_go_on(kills() / 2, &archives);
}

#[test]
fn a_compressed_output_killed_at_any_instant_and_gone_on_with_is_the_same_octet_by_octet() {
    let archives = [("mbox", Some(".zst")), ("folder", Some("mboxcl2.gz")), ("tree", Some("mbox.xz"))];
    kill_and_go_on(kills() / 3, &archives);
}

/// Which messages there are, by their subjects, whatever became of them.
fn subjects(root: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (path, octets) in files(root) {
        if path.parent().is_some_and(|parent| parent.ends_with("cur")) {
            let text = String::from_utf8(octets).unwrap();
            let body = text.split_once("\n\n").unwrap().1.to_ascii_lowercase();
            assert_eq!(body, "body\n", "{} is not whole", path.display());
            let subject = text.lines().find(|line| line.starts_with("Subject: ")).unwrap();
            let folder = path.parent().unwrap().to_string_lossy();
            *found.entry(format!("{folder} {subject}")).or_default() += 1;
        }
    }
    found
}

#[test]
fn a_run_in_place_killed_at_any_instant_loses_nothing_and_ends_like_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let kills = kills() / 3;
    let mbox = sample_mbox(MESSAGES);
    let make = |kind: &str, at: &Path| match kind {
        "mbox" => fs::write(at, &mbox).unwrap(),
        _ => maildir(at, MESSAGES / 2),
    };
    let running = |at: &Path| {
        let mut command = in_place(Pace::Asking, at);
        command.env("BATCH_RESUME", at.with_extension("report"));
        command
    };
    let mut state = 2;
    for kind in ["mbox", "mail"] {
        let (mut tally, began, mut both) = (Tally::default(), Instant::now(), 0);
        let whole = path(&format!("{kind}-whole"));
        make(kind, &whole);
        let expected = if kind == "mail" { subjects(&whole) } else { BTreeMap::new() };
        assert!(running(&whole).output().unwrap().status.success());
        while tally.killed < kills {
            assert!(tally.compared < 10 * kills, "{kind}: {tally:?}");
            let at = path(&format!("{kind}-at{}", tally.compared));
            make(kind, &at);
            until_done(&|| running(&at), kills, &mut state, &mut tally, &mut || {
                if kind == "mbox" {
                    let there = fs::read(&at).unwrap();
                    assert!(there == mbox || there == fs::read(&whole).unwrap(), "it is neither old nor new");
                } else {
                    // At any instant each message is there, old or new, or for a while both.
                    let there = subjects(&at);
                    assert!(there.keys().eq(expected.keys()), "messages are lost");
                    both += u32::from(there != expected);
                }
                if at.with_extension("hsmime-journal").exists() {
                    Left::Unfinished
                } else if at.with_extension("report").exists() && files(&whole) == files(&at) {
                    // Its lock is known to be nobody's.
                    let _ = fs::remove_file(format!("{}.lock", at.display()));
                    Left::Done
                } else {
                    Left::Nothing
                }
            });
            let (one, other) = (files(&whole), files(&at));
            let only = |one: &BTreeMap<PathBuf, Vec<u8>>, other: &BTreeMap<PathBuf, Vec<u8>>| {
                let is_other = |(path, octets): &(&PathBuf, &Vec<u8>)| other.get(*path) != Some(*octets);
                one.iter()
                    .filter(is_other)
                    .map(|(path, octets)| (path.clone(), octets.len()))
                    .collect::<Vec<_>>()
            };
            assert!(
                one == other,
                "{kind}: {:?} are expected, {:?} are there",
                only(&one, &other),
                only(&other, &one)
            );
            assert_eq!(
                report(&whole.with_extension("report")).len(),
                report(&at.with_extension("report")).len()
            );
            let checked = check(&at.with_extension("report"), std::slice::from_ref(&at)).unwrap();
            assert_eq!(checked.count, 0, "{kind}: {:?}", checked.problems);
            tally.compared += 1;
        }
        tally.most_went_on();
        tally.end(&format!("{kind} in place, {both} times with some messages there twice"), began);
        let left: Vec<PathBuf> = files(folder.path()).into_keys().collect();
        let is_ours = |path: &PathBuf| {
            let name = path.to_string_lossy();
            name.contains("hsmime") || name.ends_with(".lock")
        };
        assert!(!left.iter().any(is_ours), "{left:?}");
    }
}
