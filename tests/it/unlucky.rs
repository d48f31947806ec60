//! The archive tool on a disk that fails in the middle, or is full: a call to the kernel ends with an input/output error, once, or each
//! from one on finds no room.
//!
//! `strace` has the call fail, so that it is the same whatever library makes it. Where in a run is told by how often an uninterrupted one
//! calls.

use std::{ffi::OsStr, fs, path::Path, process::Output, time::Duration};

use crate::site::{Deed, Form, Site, beside, files, words};

/// Which file's calls fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Of {
    Input,
    /// The one message of a Maildir that is so called.
    Message(&'static str),
    /// What the output is called until it is whole.
    Partial,
    Journal,
    Report,
    /// What the output is in.
    Folder,
}

const READS: &str = "read,pread64";
const WRITES: &str = "write,pwrite64,writev";
const SYNCS: &str = "fsync,fdatasync,syncfs";

/// The first such call of a thread, one in the middle of them, or the last one.
#[derive(Clone, Copy, Debug)]
enum At {
    First,
    Middle,
    Last,
}

/// How calls fail: what strace is told, and what the kernel's error is called.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Once,
    /// From then on, until the run ends: somebody makes room.
    Full,
}

impl How {
    fn injected(self, at: usize) -> String {
        match self {
            Self::Once => format!("error=EIO:when={at}"),
            Self::Full => format!("error=ENOSPC:when={at}+"),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Once => "Input/output error",
            Self::Full => "No space left on device",
        }
    }
}

/// What fails with an mbox. Its messages are read a second time when it is known what they are: the first time in the first half.
const OF_AN_MBOX: &[(Of, &str, At, How)] = &[
    (Of::Input, READS, At::Middle, How::Once),
    (Of::Input, READS, At::Last, How::Once),
    (Of::Partial, WRITES, At::First, How::Once),
    (Of::Partial, SYNCS, At::First, How::Once),
    (Of::Journal, WRITES, At::First, How::Once),
    (Of::Journal, WRITES, At::Last, How::Once),
    (Of::Journal, SYNCS, At::Last, How::Once),
    (Of::Report, WRITES, At::First, How::Once),
    (Of::Partial, WRITES, At::Middle, How::Full),
    (Of::Journal, WRITES, At::Middle, How::Full),
    (Of::Report, WRITES, At::Last, How::Full),
    (Of::Report, SYNCS, At::Last, How::Once),
    (Of::Folder, SYNCS, At::Last, How::Once),
];

const OF_A_MAILDIR: &[(Of, &str, At, How)] = &[
    (Of::Message("new/1795000000032.M32P1.test"), READS, At::First, How::Once),
    (Of::Partial, SYNCS, At::First, How::Once),
    (Of::Folder, SYNCS, At::Last, How::Once),
];

/// A run to which strace does this; it notes what it sees in a file.
fn run(site: &Site, input: &Path, output: &Path, strace: &[String]) -> Output {
    let (note, report) =
        (format!("-o{}", site.lab.workdir.join("trace").display()), beside(output, ".report"));
    let launcher =
        ["strace", "-f", "-y", "--seccomp-bpf", &note].into_iter().chain(strace.iter().map(String::as_str));
    let launcher: Vec<&OsStr> =
        if strace.is_empty() { Vec::new() } else { launcher.map(OsStr::new).collect() };
    let [decrypt, resume, to, noted] = ["decrypt", "--resume", "--output", "--report"].map(OsStr::new);
    let arguments = [decrypt, input.as_os_str(), resume, to, output.as_os_str(), noted, report.as_os_str()];
    site.batch_behind(&launcher, &arguments).output().unwrap()
}

/// How often a thread made these calls to this file, at most.
fn most_of_a_thread(trace: &str, calls: &str, at: &Path) -> usize {
    let file = format!("<{}>", at.display());
    let thread = |line: &str| {
        let (thread, call) = line.split_once(' ')?;
        let (name, arguments) = call.trim_start().split_once('(')?;
        let is_one =
            calls.split(',').any(|call| call == name) && arguments.split(',').next()?.contains(&file);
        is_one.then(|| thread.to_owned())
    };
    let threads: Vec<String> = trace.lines().filter_map(thread).collect();
    threads.iter().map(|one| threads.iter().filter(|other| *other == one).count()).max().unwrap_or(0)
}

#[test]
fn an_error_of_the_disk_anywhere_stops_the_run_names_the_place_and_costs_no_message() {
    let site = Site::new("batcheio", Duration::ZERO);
    // Long enough that the mbox is not read at once.
    let mails = Deed::Decrypt.mails(&site, 60, 40_000);
    let trace = || fs::read_to_string(site.lab.workdir.join("trace")).unwrap();
    for (form, cases) in [(Form::Mbox, OF_AN_MBOX), (Form::Maildir, OF_A_MAILDIR)] {
        let root = site.lab.workdir.directory(&format!("{form:?}")).unwrap();
        let (input, whole) = (root.join("input"), root.join("whole"));
        form.write(&input, &mails);
        let before = files(&input);
        let place = |of: Of, output: &Path| match of {
            Of::Input => input.clone(),
            Of::Message(name) => input.join(name),
            Of::Partial => beside(output, ".hsmime-partial"),
            Of::Journal => beside(output, ".hsmime-journal"),
            Of::Report => beside(output, ".report"),
            Of::Folder => root.clone(),
        };
        let seen = [READS, WRITES, SYNCS].join(",");
        let ended = run(&site, &input, &whole, &[format!("-etrace={seen}")]);
        assert!(ended.status.success(), "{}", words(&ended));
        let (expected, calm) = (files(&whole), trace());
        for (number, &(of, calls, at, how)) in cases.iter().enumerate() {
            let mut count = most_of_a_thread(&calm, calls, &place(of, &whole));
            assert!(count > 0, "{form:?} {of:?}: {calls} are never called");
            // When it fails the run stops, says where, and shows no half output;
            let mut tries = 0..4;
            let (case, output, place, ended) = loop {
                let number = format!("{number}.{}", tries.next().unwrap());
                let instant = match at {
                    At::First => 1,
                    At::Middle => count.div_ceil(2),
                    At::Last => count,
                };
                let output = root.join(format!("out{number}"));
                let place = place(of, &output);
                let failing = [
                    format!("-P{}", place.display()),
                    format!("-etrace={calls}"),
                    format!("-einject={calls}:{}", how.injected(instant)),
                ];
                let ended = run(&site, &input, &output, &failing);
                if trace().contains("(INJECTED)") {
                    break (
                        format!("{form:?}, {calls} of {of:?}, {how:?} at {instant} of {count}"),
                        output,
                        place,
                        ended,
                    );
                }
                // A slow run notes more often how far it is.
                count = most_of_a_thread(&trace(), calls, &place);
            };
            let said = words(&ended);
            assert_eq!(ended.status.code(), Some(2), "{case}: {said}");
            let named = if of == Of::Folder { &output } else { &place };
            assert!(said.contains(&*named.to_string_lossy()), "{case}: {said}");
            assert!(said.contains(how.word()), "{case}: {said}");
            if of == Of::Input {
                assert!(said.contains(": the message at octet "), "{case}: {said}");
            }
            assert!(files(&input) == before, "{case}: the input was changed");
            // and what goes on with it ends as if nothing had been.
            // It may have been whole already, and not durable.
            let was_whole = [(Of::Report, SYNCS), (Of::Folder, SYNCS)].contains(&(of, calls));
            assert!(was_whole || !output.exists(), "{case}: {said}");
            if !output.exists() {
                let ended = run(&site, &input, &output, &[]);
                assert!(ended.status.success(), "{case}: {}", words(&ended));
            }
            assert!(files(&output) == expected, "{case}: the outputs differ");
            let report = beside(&output, ".report");
            let checked =
                site.batch(&["check".as_ref(), report.as_os_str(), output.as_os_str()]).output().unwrap();
            assert!(checked.status.success(), "{case}: {}", words(&checked));
        }
    }
}
