//! The archive tool killed, or asked to stop, at any instant while it asks a token; what goes on with it ends as if nothing had
//! been.
//!
//! `HSMIME_KILLS=200 cargo nextest run -p testkit -E 'test(ended::)'` ends so many runs, also such as note by themselves how far they
//! are; two dozen of short archives otherwise. A run is ended after so many operations of the token, and up to some milliseconds
//! later, so that how fast the machine is makes no difference.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Output,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::mail::Noise;

use crate::site::{Deed, Form, Site, beside, files, lines, wait_until, words};

/// How many runs are to be ended, if somebody says.
fn kills() -> Option<u32> {
    std::env::var("HSMIME_KILLS").ok().map(|kills| kills.parse().unwrap())
}

/// How many mails each archive has.
const MAILS: usize = 120;

/// How many operations they need; one more is at the start.
const OPERATIONS: u64 = 80;

/// What ends a run, and when.
#[derive(Clone, Copy, Debug)]
struct Blow {
    /// Behind so many operations.
    after: u64,
    later: Duration,
    signal: Signal,
}

impl Blow {
    /// The next one for a run that has so many operations to do.
    fn next(noise: &mut Noise, left: u64, is_long: bool) -> Self {
        // Of all sizes from none to some milliseconds.
        let sizes = 1 << noise.below(15);
        let later = Duration::from_micros(noise.below(sizes));
        // So that there is something to go on with, the first one has noted how far it was: what is asked to stop does, and who has
        // written so much.
        let (behind, signal) = match noise.below(4) {
            _ if left == OPERATIONS && is_long => (left - noise.below(left / 8), Signal::KILL),
            _ if left == OPERATIONS => (1 + noise.below(left / 4), Signal::TERM),
            0 => (1 + noise.below(left / 2 + 1), Signal::TERM),
            _ => (noise.below(left + 1), Signal::KILL),
        };
        // Not before the first one: a SoftHSM that is killed while somebody logs in may lose its token.
        Self { after: 1 + behind, later, signal }
    }
}

/// What was ended, and what was done with it.
#[derive(Debug, Default)]
struct Tally {
    killed: u32,
    stopped: u32,
    /// Runs that went on with what another had noted.
    gone_on: u32,
    /// Outputs that were held against that of an uninterrupted run.
    compared: u32,
}

/// A command, on an archive of a form with mails of a size, to a new one or in its place.
#[derive(Clone, Copy, Debug)]
struct Case {
    deed: Deed,
    form: Form,
    replaces: bool,
    size: usize,
}

/// Of these some are written before it is noted: nothing of them is left in memory when the run is killed.
const SHORT: usize = 60_000;

/// Of these the 64 MiB come soon after which it is noted how far a run is.
const LONG: usize = 3 << 18;

impl Case {
    /// One run, which is ended, if it is not before that by itself.
    fn run(self, site: &Site, input: &Path, output: &Path, blow: Option<Blow>) -> Output {
        let report = beside(output, ".report");
        let mut arguments = vec![OsStr::new(self.deed.command()), input.as_os_str()];
        if self.replaces {
            arguments.push("--in-place".as_ref());
        } else {
            arguments.extend([OsStr::new("--output"), output.as_os_str()]);
        }
        arguments.extend([OsStr::new("--resume"), "--report".as_ref(), report.as_os_str()]);
        let before = site.operations();
        let mut child = site.batch(&arguments).spawn().unwrap();
        if let Some(Blow { after, later, signal }) = blow {
            wait_until(|| site.operations() - before >= after || child.try_wait().unwrap().is_some());
            thread::sleep(later);
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            // Who has ended has no number any more.
            if child.try_wait().unwrap().is_none() {
                kill_process(pid, signal).unwrap();
            }
        }
        child.wait_with_output().unwrap()
    }

    /// What stands in the report, but for what two runs cannot have in common.
    fn report(self, of: &Path) -> Vec<String> {
        let line = |mut line: Value| {
            let members = line.as_object_mut().unwrap();
            members.retain(|name, _| !["elapsed_ms", "index", "previous"].contains(&&**name));
            // The time is in a signature.
            if matches!(self.deed, Deed::Sign) {
                members.remove("output");
            }
            let mut source = members.remove("source").unwrap();
            let file = source["file"].as_str().unwrap().rsplit('/').next().unwrap();
            source["file"] =
                if self.replaces && matches!(self.form, Form::Mbox) { "it" } else { file }.into();
            format!("{source} {line}")
        };
        // The files of a Maildir come in no order.
        let mut lines: Vec<String> = lines(&beside(of, ".report")).into_iter().map(line).collect();
        lines.sort();
        lines
    }

    /// Nothing is lost by a run that was ended: what was there is there, or what is to be there.
    #[track_caller]
    fn assert_nothing_lost(self, input: &Path, output: &Path, before: &Files, whole: &Files, blow: Blow) {
        let there = files(input);
        if !self.replaces {
            assert!(there == *before, "{self:?} {blow:?}: the input was changed");
            if output.exists() {
                assert_eq!(files(output).len(), whole.len(), "{self:?} {blow:?}: half an output");
            }
        } else if matches!(self.form, Form::Mbox) {
            assert!(there == *before || there == *whole, "{self:?} {blow:?}: neither the old nor the new");
        } else {
            // A name begins with a number, and may be another behind that.
            let number = |path: &Path| {
                path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned()
            };
            let is_one = |path: &Path, octets: &[u8]| {
                let mut ones = before.iter().chain(whole).filter(|(one, _)| number(one) == number(path));
                ones.any(|(_, one)| one == octets)
            };
            for mail in before.keys() {
                let mut found = there.iter().filter(|(path, _)| number(path) == number(mail));
                let is_there = found.any(|(path, octets)| !path.starts_with("tmp") && is_one(path, octets));
                assert!(is_there, "{self:?} {blow:?}: {} is lost", mail.display());
            }
        }
    }

    /// Ends runs and goes on with them, until so many were ended, and holds what comes of it against an uninterrupted run.
    fn end_and_go_on(self, site: &Site, kills: u32, noise: &mut Noise) -> Tally {
        let Self { deed, form, replaces, size } = self;
        let folder = site.lab.workdir.directory(&format!("{deed:?}{form:?}{replaces}{size}")).unwrap();
        let mails = deed.mails(site, MAILS, size);
        let place = |name: String| {
            let input = folder.join(if replaces { name.clone() } else { "input".to_owned() });
            if replaces || !input.exists() {
                form.write(&input, &mails);
            }
            (input, folder.join(name))
        };
        let (input, whole) = place("whole".to_owned());
        let before = files(&input);
        let ended = self.run(site, &input, &whole, None);
        assert!(ended.status.success(), "{self:?}: {}", words(&ended));
        let expected = files(&whole);
        let mut tally = Tally::default();
        while tally.killed + tally.stopped < kills {
            assert!(tally.compared < 10 * kills, "{self:?}: {tally:?}");
            let (input, output) = place(format!("at{}", tally.compared));
            let journal = beside(&output, ".hsmime-journal");
            let mut left = OPERATIONS;
            loop {
                let blow =
                    (tally.killed + tally.stopped < kills).then(|| Blow::next(noise, left, size == LONG));
                let asked = site.operations();
                let ended = self.run(site, &input, &output, blow);
                let said = words(&ended);
                tally.gone_on += u32::from(said.contains("going on after "));
                match (ended.status.code(), blow) {
                    (Some(0), _) => break,
                    (Some(2), Some(_)) if said.contains("interrupted") => {
                        tally.stopped += 1;
                        left = left.saturating_sub(site.operations() - asked);
                    }
                    // While it starts nobody listens for a signal.
                    (None, Some(_)) => tally.killed += 1,
                    _ => panic!("{self:?}: {blow:?}: {:?}: {said}", ended.status),
                }
                self.assert_nothing_lost(&input, &output, &before, &expected, blow.unwrap());
                let is_done = if replaces { files(&output) == expected } else { output.exists() };
                if is_done && !journal.exists() {
                    break;
                }
            }
            let report = beside(&output, ".report");
            match deed {
                Deed::Decrypt => assert!(files(&output) == expected, "{self:?}: the outputs differ"),
                Deed::Sign => {
                    let signed = form.read(&output);
                    assert_eq!(signed.len(), mails.len(), "{self:?}");
                    // Long ones take their time, so some of them.
                    for (mail, was) in signed.iter().zip(&mails).step_by(if size == LONG { 7 } else { 1 }) {
                        deed.assert_done(site, mail, was);
                    }
                }
            }
            assert_eq!(self.report(&output), self.report(&whole), "{self:?}");
            let check = site.batch(&["check".as_ref(), report.as_os_str(), output.as_os_str()]);
            let checked = { check }.output().unwrap();
            assert!(checked.status.success(), "{self:?}: {}", words(&checked));
            tally.compared += 1;
        }
        let left = files(&folder).into_keys().filter(|path| path.to_string_lossy().contains("hsmime"));
        assert_eq!(left.count(), 0, "{self:?}: something is left in {}", folder.display());
        assert!(tally.gone_on > 0, "{self:?}: {tally:?}");
        tally
    }
}

/// Files with their octets.
type Files = BTreeMap<PathBuf, Vec<u8>>;

#[test]
fn an_archives_run_ended_at_any_instant_loses_nothing_and_is_gone_on_with_as_if_nothing_had_been() {
    let site = Site::new("batchkill", Duration::from_millis(5));
    let (mut noise, began) = (Noise(7), Instant::now());
    let mut cases = vec![
        (Deed::Sign, Form::Mbox, false, SHORT),
        (Deed::Sign, Form::Maildir, false, SHORT),
        (Deed::Decrypt, Form::Mbox, false, SHORT),
        (Deed::Decrypt, Form::Maildir, false, SHORT),
        (Deed::Decrypt, Form::Maildir, true, SHORT),
        (Deed::Decrypt, Form::Mbox, true, SHORT),
    ];
    if kills().is_some() {
        cases.extend([(Deed::Sign, Form::Mbox, false, LONG), (Deed::Sign, Form::Maildir, false, LONG)]);
    }
    let kills = kills().unwrap_or(24).div_ceil(u32::try_from(cases.len()).unwrap());
    for (deed, form, replaces, size) in cases {
        let case = Case { deed, form, replaces, size };
        // Each takes its time.
        let kills = if size == LONG { kills.div_ceil(5) } else { kills };
        let (tally, took) = (case.end_and_go_on(&site, kills, &mut noise), began.elapsed());
        println!("{case:?}: {tally:?}, no differences, after {:.1} s", took.as_secs_f64());
    }
}
