//! What a run does that is asked to stop while messages wait for a token.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use agent::{Identity, Turn, settings::Logins};
use batch::{
    error::BatchError,
    report::Report,
    run::{Options, run},
    task::{Done, Failed, Task, Work, Working},
};
use smime::{
    Certificate,
    algorithm::SignatureAlgorithm,
    key::{Digest, KeyError, SignatureInput, SignatureValue, Signer},
    question::{Answer, Question, Reply},
    testing::fixtures::{certificate, key},
};

use crate::{
    resume::journaled,
    support::{sample_mbox, shouted},
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
        let algorithm = SignatureAlgorithm::RsaPkcs1(smime::algorithm::DigestAlgorithm::Sha256);
        let input = SignatureInput::from(Digest::of(algorithm.digest(), b""));
        Turn::asking(&self.0, Question::Sign { input, algorithm }, |message, answer| {
            Turn::Done(match answer {
                Ok(_) => Ok(shouted(message)),
                Err(error) => Err(Failed::new(error.fault(), error.to_string())),
            })
        })
    }
}

/// A token that takes its time for each question.
#[derive(Debug)]
struct Slow {
    asked: AtomicUsize,
    line: Mutex<Sender<Replies>>,
}

/// What waits for an answer.
struct Replies(Reply);

impl Slow {
    fn new(each: Duration) -> Arc<Self> {
        let (line, waiting) = mpsc::channel::<Replies>();
        thread::spawn(move || {
            for Replies(reply) in waiting {
                thread::sleep(each);
                reply(Ok(Answer::Signature(SignatureValue(vec![7]))));
            }
        });
        Arc::new(Self { asked: AtomicUsize::new(0), line: Mutex::new(line) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Signer for Slow {
    fn certificate(&self) -> &Certificate {
        unreachable!("nobody asks")
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        &[]
    }

    fn sign(&self, _: &SignatureInput<'_>, _: SignatureAlgorithm) -> Result<SignatureValue, KeyError> {
        unreachable!("nobody blocks")
    }

    fn submit(&self, _: Question, reply: Reply) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.line.lock().unwrap().send(Replies(reply)).unwrap();
    }
}

#[test]
fn what_has_asked_the_token_nothing_is_dropped_and_worked_on_by_the_run_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(2_000)).unwrap();
    let token = Slow::new(Duration::from_millis(20));
    let identity = Identity::new(
        certificate("alice"),
        Vec::new(),
        Logins::Address,
        token.clone(),
        Arc::new(key("alice")),
    );
    let (task, stop) = (Asking(identity), AtomicBool::new(false));
    // Given a run that has read all of it, of which the token has many minutes to do,
    let slow = Options { questions: 20, room: 64 << 20, ..journaled(&path("in"), &path("out"), true) };
    let (ended, took, asked) = thread::scope(|threads| {
        let running = threads.spawn(|| run(&slow, &task, Report::none(), &stop));
        while token.asked() < 50 {
            thread::sleep(Duration::from_millis(5));
        }
        // when it is asked to stop,
        let (asked, began) = (token.asked(), Instant::now());
        stop.store(true, Ordering::Relaxed);
        (running.join().unwrap(), began.elapsed(), asked)
    });
    // then the token is asked no more but for what comes before what it was asked,
    assert!(matches!(ended.unwrap_err().error, BatchError::Interrupted));
    let all = token.asked();
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
