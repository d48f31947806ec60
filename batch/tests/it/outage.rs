//! Keys that stop answering in the middle of a run: it ends, and who goes on when they are back does all that failed.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use agent::{Identity, Turn};
use batch::{
    error::BatchError,
    report::Report,
    run::{Options, Output, open_report, run},
    task::{Done, Failed, Task, Work, Working},
};
use smime::key::KeyError;

use crate::{
    resume::{files, journaled, maildir, report},
    support::{answer, asked_on, options, question, sample_mbox, shouted},
};

/// A token: of each so many messages it is asked for one, and after so many questions it is away.
struct Away {
    keys: Vec<Identity>,
    asked: Arc<AtomicU64>,
    left_after: Arc<AtomicU64>,
    one_in: u64,
    /// Set when so many messages have failed, each after three tries.
    stop: Option<(usize, Arc<AtomicBool>)>,
    failures: Mutex<HashMap<u64, u32>>,
}

impl Away {
    /// Keys of which only the first goes away, for all others are on another token.
    fn new(keys: usize, left_after: u64, one_in: u64) -> Self {
        Self::on(keys, left_after, one_in, |number| Some(if number == 0 { "mail" } else { "other" }))
    }

    fn on(keys: usize, left_after: u64, one_in: u64, token: impl Fn(usize) -> Option<&'static str>) -> Self {
        let (asked_for, left_after) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(left_after)));
        let key = |number| {
            let (asked_for, left_after) = (Arc::clone(&asked_for), Arc::clone(&left_after));
            asked_on(token(number), move |reply| {
                let before = asked_for.fetch_add(1, Ordering::Relaxed);
                let is_away = number == 0 && before >= left_after.load(Ordering::Relaxed);
                let away = || KeyError::Unavailable { token: "mail".into(), reason: "lost".into() };
                reply(if is_away { Err(away()) } else { Ok(answer()) });
            })
        };
        let keys = (0..keys).map(key).collect();
        Self { keys, asked: asked_for, left_after, one_in, stop: None, failures: Mutex::default() }
    }

    fn comes_back(&self) {
        self.left_after.store(u64::MAX, Ordering::Relaxed);
    }
}

impl Task for Away {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        let index = work.index;
        if !index.is_multiple_of(self.one_in) {
            return Turn::Done(Ok(Done::unchanged("kept")));
        }
        let number = usize::try_from(index / self.one_in).unwrap() % self.keys.len();
        Turn::asking(&self.keys[number], question(), move |message, answer| {
            Turn::Done(match answer {
                Ok(_) => Ok(shouted(message)),
                Err(error) => {
                    let mut failures = self.failures.lock().unwrap();
                    *failures.entry(index).or_default() += 1;
                    if let Some((after, stop)) = &self.stop
                        && failures.values().filter(|tries| **tries == 3).count() == *after
                    {
                        stop.store(true, Ordering::Relaxed);
                    }
                    Err(Failed::new(error.fault(), error.to_string()))
                }
            })
        })
    }
}

/// Notes how far it is behind each message.
fn noting(input: &Path, output: &Path, resume: bool) -> Options {
    let mut options = Options { questions: 4, jobs: 2, ..journaled(input, output, resume) };
    options.journal.as_mut().unwrap().every = Duration::ZERO;
    options
}

#[test]
fn a_token_that_is_lost_in_the_middle_stops_the_run_also_where_most_mail_needs_none() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, sample_mbox(900)).unwrap();
    for (keys, left_after, one_in) in [(1, 100, 3), (2, 100, 3), (1, 0, 8)] {
        let task = Away::new(keys, left_after, one_in);
        let options = options(&[&input], &output);
        let stopped = run(&options, &task, Report::none(), &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(stopped.error, BatchError::TokenLost { messages: 20, .. }), "{stopped:?}");
        assert!(stopped.error.to_string().contains("token \"mail\" is not available"), "{}", stopped.error);
        assert!(!output.exists() && stopped.partial.is_some());
        assert!(stopped.totals.messages() < 700, "{}", stopped.totals.messages());
        fs::remove_file(stopped.partial.unwrap()).unwrap();
    }
}

#[test]
fn a_token_that_is_lost_stops_a_run_of_many_inputs_with_little_mail_each() {
    let folder = tempfile::tempdir().unwrap();
    let inputs: Vec<_> = (0..30).map(|number| folder.path().join(format!("{number}"))).collect();
    for input in &inputs {
        fs::write(input, sample_mbox(3)).unwrap();
    }
    let inputs: Vec<_> = inputs.iter().map(|input| &**input).collect();
    let task = Away::new(1, 0, 2);
    let options = options(&inputs, &folder.path().join("out"));
    let stopped = run(&options, &task, Report::none(), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(stopped.error, BatchError::TokenLost { messages: 20, .. }), "{stopped:?}");
    // What had ended by then has its name, with what failed in it as it was; a report names that.
    let written = fs::read_dir(folder.path().join("out")).unwrap().count();
    assert!((10..20).contains(&written), "{written}");
    assert_eq!(stopped.totals.failed(), 20);
}

#[test]
fn a_run_goes_on_beside_one_key_that_never_works_where_its_token_may_have_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, sample_mbox(300)).unwrap();
    for token in [Some("mail"), None] {
        let task = Away::on(2, 0, 1, |_| token);
        let totals = run(&options(&[&input], &output), &task, Report::none(), &AtomicBool::new(false));
        let totals = totals.unwrap();
        assert_eq!((totals.messages(), totals.failed()), (300, 150), "{token:?}");
        fs::remove_file(&output).unwrap();
    }
}

#[test]
fn a_run_that_an_outage_ended_is_gone_on_with_to_what_an_uninterrupted_one_writes() {
    for in_what in ["mbox", "maildir", "in-place"] {
        for is_asked_to_stop in [false, true] {
            let what = format!("{in_what}, asked to stop: {is_asked_to_stop}");
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let [whole, input] = [path("whole"), path("in")];
            for input in [&whole, &input] {
                if in_what == "mbox" {
                    fs::write(input, sample_mbox(600)).unwrap();
                } else {
                    maildir(input, 300);
                }
            }
            let in_place = in_what == "in-place";
            let options = |input: &Path, output: &str, resume| {
                let mut options = noting(input, &path(output), resume);
                if in_place {
                    options.output = Output::InPlace;
                }
                if is_asked_to_stop {
                    // Few are under way: the token is away for some, and not for so many that the run ends by itself.
                    options.room = 1 << 17;
                }
                options
            };
            let stop = Arc::new(AtomicBool::new(false));
            let good = Away::new(1, u64::MAX, 3);
            let report_of = |name: &str, resume| open_report(&path(name), &[], resume).unwrap();
            run(&options(&whole, "whole-out", false), &good, report_of("whole-report", false), &stop)
                .unwrap();
            // Given a token that is away from some question on,
            let mut task = Away::new(1, 60, 3);
            if is_asked_to_stop {
                task.stop = Some((4, Arc::clone(&stop)));
            }
            let first = run(&options(&input, "out", false), &task, report_of("report", false), &stop);
            let stopped = first.unwrap_err();
            let is_expected = match stopped.error {
                BatchError::TokenLost { .. } => !is_asked_to_stop,
                BatchError::Interrupted => is_asked_to_stop,
                _ => false,
            };
            assert!(is_expected && stopped.resumable, "{what}: {stopped:?}");
            assert!(stopped.totals.failed() > 0, "{what}: it failed while the token was away");
            // when it is back and the run is gone on with,
            task.comes_back();
            stop.store(false, Ordering::Relaxed);
            let asked_before = task.asked.load(Ordering::Relaxed);
            let totals = run(&options(&input, "out", true), &task, report_of("report", true), &stop).unwrap();
            // then no message is left as it was, and most were not done twice.
            assert_eq!((totals.messages(), totals.failed()), (600, 0), "{what}");
            assert!(task.asked.load(Ordering::Relaxed) - asked_before < 200, "{what}: it began anew");
            let [expected, found] = if in_place { [whole, input] } else { [path("whole-out"), path("out")] };
            if in_what == "mbox" {
                assert!(fs::read(found).unwrap() == fs::read(expected).unwrap(), "{what}");
                assert_eq!(report(&path("report")).len(), 600);
            } else {
                // Which ones a token is asked for depends on the order in which files come.
                let shouted =
                    |root: &Path| files(root).values().filter(|text| text.starts_with(b"X-Shout")).count();
                assert_eq!(files(&found).len(), 600, "{what}");
                assert_eq!(shouted(&found), shouted(&expected), "{what}");
            }
        }
    }
}
