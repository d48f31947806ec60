//! Messages that wait for a private key: no thread waits with them, what stands still keeps the memory bounded, and
//! what comes back comes out in order.

use std::{
    fs,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use agent::{Identity, Turn, settings::Logins};
use batch::{
    report::Report,
    run::{Options, run},
    task::{Done, Failed, Task, Work, Working},
};
use smime::{
    Certificate,
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{Decryptor, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped},
    question::Reply,
    testing::fixtures::certificate,
};

use crate::support::{answer, asked, options, question, run_with, sample_mbox};

/// A token that answers many together, from a thread of its own: who has fewer under way is slow.
pub(crate) struct Token(Arc<Hall>);

struct Hall {
    waiting: Mutex<Vec<Reply>>,
    came: Condvar,
    /// How many were there at one time at most.
    most: AtomicUsize,
}

impl Token {
    /// Answers when so many wait, or nobody has come for that long; then all of them.
    pub(crate) fn together(many: usize, patience: Duration) -> Self {
        let hall =
            Arc::new(Hall { waiting: Mutex::default(), came: Condvar::new(), most: AtomicUsize::new(0) });
        let served = Arc::downgrade(&hall);
        thread::spawn(move || {
            while let Some(hall) = served.upgrade() {
                let mut waiting = hall.waiting.lock().unwrap();
                while waiting.len() < many {
                    let (woken, over) = hall.came.wait_timeout(waiting, patience).unwrap();
                    waiting = woken;
                    if over.timed_out() {
                        break;
                    }
                }
                let replies = std::mem::take(&mut *waiting);
                drop(waiting);
                hall.most.fetch_max(replies.len(), Ordering::Relaxed);
                // The last first: what comes out must be in order nevertheless.
                for reply in replies.into_iter().rev() {
                    reply(Ok(answer()));
                }
            }
        });
        Self(hall)
    }

    pub(crate) fn identity(&self) -> Identity {
        let hall = Arc::clone(&self.0);
        asked(move |reply| {
            hall.waiting.lock().unwrap().push(reply);
            hall.came.notify_one();
        })
    }
}

/// Asks the key so many times for each message.
#[derive(Debug)]
struct Ask {
    identity: Identity,
    times: usize,
    /// How many messages were begun.
    begun: AtomicUsize,
    /// Panics at this one's answer.
    panics_at: Option<u64>,
}

impl Ask {
    fn new(identity: Identity, times: usize) -> Self {
        Self { identity, times, begun: AtomicUsize::new(0), panics_at: None }
    }

    fn turn(&self, index: u64, left: usize) -> Working<'_> {
        if left == 0 {
            return Turn::Done(Ok(Done::unchanged("asked")));
        }
        Turn::asking(&self.identity, question(), move |_, answer| {
            assert_ne!(self.panics_at, Some(index), "as it was told");
            match answer {
                Ok(_) => self.turn(index, left - 1),
                Err(error) => Turn::Done(Err(Failed::new(error.fault(), error.to_string()))),
            }
        })
    }
}

impl Task for Ask {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.turn(work.index, self.times)
    }
}

#[test]
fn one_thread_has_as_many_messages_at_the_token_as_may_be_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let mbox = sample_mbox(300);
    fs::write(&input, &mbox).unwrap();
    let token = Token::together(50, Duration::from_millis(500));
    let task = Ask::new(token.identity(), 2);
    let options = Options { jobs: 1, questions: 50, room: 64 << 20, ..options(&[&input], &output) };
    let ran = run_with(&options, &task).unwrap();
    assert_eq!(fs::read(&output).unwrap(), mbox, "in order, though answers were not");
    assert_eq!(ran.totals.messages(), 300);
    assert!(ran.report.iter().all(|line| line["action"] == "asked"));
    assert_eq!(token.0.most.load(Ordering::Relaxed), 50);
}

#[test]
fn a_token_that_does_not_answer_stops_the_reader_and_not_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, sample_mbox(2000)).unwrap();
    let token = Token::together(usize::MAX, Duration::from_millis(1500));
    let task = Ask::new(token.identity(), 1);
    // Room for some 90 of the sample's messages: each is charged 8 KiB and a little.
    let options = Options { jobs: 2, questions: 200, room: 1 << 20, ..options(&[&input], &output) };
    let stop = AtomicBool::new(false);
    let outcome = thread::scope(|threads| {
        let (options, task, stop) = (&options, &task, &stop);
        let running = threads.spawn(move || run(options, task, Report::none(), stop));
        thread::sleep(Duration::from_secs(1));
        let begun = task.begun.load(Ordering::Relaxed);
        assert!((10..200).contains(&begun), "{begun} are in memory");
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap()
    });
    assert!(outcome.is_err(), "it was interrupted");
    // All that was begun was finished, and nothing else was begun.
    let begun = task.begun.load(Ordering::Relaxed);
    assert!(begun < 400, "{begun}");
}

#[test]
fn a_panic_at_an_answer_is_the_failure_of_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let mbox = sample_mbox(20);
    fs::write(&input, &mbox).unwrap();
    let token = Token::together(1, Duration::from_millis(5));
    let task = Ask { panics_at: Some(7), ..Ask::new(token.identity(), 1) };
    let ran = run_with(&options(&[&input], &output), &task).unwrap();
    assert_eq!(fs::read(&output).unwrap(), mbox);
    assert_eq!(ran.totals.failed(), 1);
    assert_eq!(ran.report[6]["error"]["fault"], "internal");
}

/// A key whose token is lost at first, and comes back.
#[derive(Debug)]
struct Flickering(AtomicUsize);

impl Flickering {
    fn answer(&self) -> Result<SignatureValue, KeyError> {
        if self.0.fetch_add(1, Ordering::Relaxed) < 8 {
            return Err(KeyError::Unavailable { token: "mail".into(), reason: "lost".into() });
        }
        Ok(SignatureValue(vec![7]))
    }
}

impl Signer for Flickering {
    fn certificate(&self) -> &Certificate {
        unreachable!("nobody asks")
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        &[]
    }

    fn sign(&self, _: &SignatureInput<'_>, _: SignatureAlgorithm) -> Result<SignatureValue, KeyError> {
        self.answer()
    }
}

impl Decryptor for Flickering {
    fn certificate(&self) -> &Certificate {
        unreachable!("nobody asks")
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        unreachable!("nobody decrypts")
    }
}

#[test]
fn messages_wait_side_by_side_for_a_fault_to_pass_and_are_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, sample_mbox(8)).unwrap();
    let key = Arc::new(Flickering(AtomicUsize::new(0)));
    let identity = Identity::new(certificate("alice"), Vec::new(), Logins::Address, key.clone(), key.clone());
    let task = Ask::new(identity, 1);
    let began = Instant::now();
    let ran = run_with(&Options { jobs: 1, ..options(&[&input], &output) }, &task).unwrap();
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (8, 0));
    assert_eq!(task.begun.load(Ordering::Relaxed), 16, "each was begun twice");
    assert!(began.elapsed() >= Duration::from_millis(200), "a fault is given time to pass");
}

/// The first message is done when the third has begun, or somebody lost patience.
#[derive(Default)]
struct First {
    third: Mutex<bool>,
    begun: Condvar,
}

impl Task for First {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let mut third = self.third.lock().unwrap();
        if work.index == 3 {
            *third = true;
            self.begun.notify_all();
        } else if work.index == 1 {
            let patience = Duration::from_secs(20);
            let (third, _) = self.begun.wait_timeout_while(third, patience, |third| !*third).unwrap();
            return Ok(Done::unchanged(if *third { "soon" } else { "late" }));
        }
        Ok(Done::unchanged("copied"))
    }
}

#[test]
fn a_large_message_that_is_only_still_to_be_written_makes_room_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let large =
        format!("From a@b Mon Jun  1 10:00:00 2020\nA: b\n\n{}\n", "all of this text\n".repeat(180_000));
    let mbox = format!("From a@b Mon Jun  1 10:00:00 2020\nA: b\n\nx\n\n{large}{large}");
    fs::write(&input, &mbox).unwrap();
    // Each of the two is counted as 30 MB while it is worked on.
    let options = Options { jobs: 2, room: 40 << 20, max_message: 8 << 20, ..options(&[&input], &output) };
    let ran = run_with(&options, &First::default()).unwrap();
    assert_eq!(ran.report[0]["action"], "soon");
    assert_eq!(ran.report.len(), 3);
    assert!(fs::read_to_string(&output).unwrap() == mbox);
}
