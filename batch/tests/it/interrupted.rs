//! What a run does that is asked to stop while messages wait for a token.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use agent::{Identity, Turn};
use batch::{
    error::BatchError,
    report::Report,
    run::{Options, run},
    task::{Done, Failed, Task, Work, Working},
};
use smime::question::Reply;

use crate::{
    resume::journaled,
    support::{answer, asked, question, sample_mbox, shouted},
    turns::Token,
};

/// Asks a token for two of three messages, and then writes their bodies in capitals.
#[derive(Debug)]
pub(crate) struct Asking(Identity);

impl Asking {
    pub(crate) fn a_token() -> Self {
        Self(Token::together(4, Duration::from_millis(1)).identity())
    }
}

impl Task for Asking {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        let digits = work.message.header().iter().filter(|octet| octet.is_ascii_digit());
        if digits.map(|digit| usize::from(*digit)).sum::<usize>() % 3 == 0 {
            return Turn::Done(Ok(shouted(work.message)));
        }
        Turn::asking(&self.0, question(), |message, answer| {
            Turn::Done(match answer {
                Ok(_) => Ok(shouted(message)),
                Err(error) => Err(Failed::new(error.fault(), error.to_string())),
            })
        })
    }
}

/// Whoever has a key in a token that takes its time for each question, and how many it was asked.
fn slow(each: Duration) -> (Identity, Arc<AtomicUsize>) {
    let (line, waiting) = mpsc::channel::<Reply>();
    thread::spawn(move || {
        for reply in waiting {
            thread::sleep(each);
            reply(Ok(answer()));
        }
    });
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let take = move |reply| {
        counted.fetch_add(1, Ordering::Relaxed);
        line.send(reply).unwrap();
    };
    (asked(take), count)
}

#[test]
fn what_has_asked_the_token_nothing_is_dropped_and_worked_on_by_the_run_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(2_000)).unwrap();
    let (identity, count) = slow(Duration::from_millis(20));
    let asked = || count.load(Ordering::Relaxed);
    let (task, stop) = (Asking(identity), AtomicBool::new(false));
    // Given a run that has read all of it, of which the token has many minutes to do,
    let slow = Options { questions: 20, room: 64 << 20, ..journaled(&path("in"), &path("out"), true) };
    let (ended, took, asked) = thread::scope(|threads| {
        let running = threads.spawn(|| run(&slow, &task, Report::none(), &stop));
        while asked() < 50 {
            thread::sleep(Duration::from_millis(5));
        }
        // when it is asked to stop,
        let (asked, began) = (asked(), Instant::now());
        stop.store(true, Ordering::Relaxed);
        (running.join().unwrap(), began.elapsed(), asked)
    });
    // then the token is asked no more but for what comes before what it was asked,
    assert!(matches!(ended.unwrap_err().error, BatchError::Interrupted));
    let all = count.load(Ordering::Relaxed);
    assert!(all < asked + 500 && took < Duration::from_secs(20), "{asked} of {all}, {took:?}");
    // nothing that it was asked for is lost,
    stop.store(false, Ordering::Relaxed);
    let fast = Asking::a_token();
    let before = fs::read_to_string(path("out.hsmime-partial")).unwrap().matches("X-Shout").count();
    assert!(before >= all, "{before} of {all}");
    // and the next run goes on.
    run(&slow, &fast, Report::none(), &stop).unwrap();
    run(&journaled(&path("in"), &path("whole"), false), &fast, Report::none(), &stop).unwrap();
    assert!(fs::read(path("out")).unwrap() == fs::read(path("whole")).unwrap());
}
