//! Small messages that need nothing but a private key: they take no thread of their own, and hold nobody up.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, SystemTime};

use agent::identity::Identity;
use agent::settings::Logins;
use agent::{Edits, Envelope, Outcome, Turn};
use milter::{Failure, Limits, Treat};
use smime::Certificate;
use smime::algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm};
use smime::key::{Digest, KeyError, SignatureInput, SignatureValue, Signer};
use smime::mime::Message;
use smime::question::{Question, Reply, UnderWay};
use smime::testing::fixtures::{certificate, key};

use crate::mta::Mta;
use crate::running::{Running, edited};

/// A key that leaves its questions to the test, or takes none.
#[derive(Debug)]
struct Slow(Certificate, Option<Mutex<mpsc::Sender<Asked>>>);

/// A question, and what tells when it is withdrawn, or done with.
struct Asked(Reply, mpsc::Receiver<()>);

impl Signer for Slow {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        &[SignatureAlgorithm::RsaPkcs1(Sha256)]
    }

    fn sign(&self, _: &SignatureInput<'_>, _: SignatureAlgorithm) -> Result<SignatureValue, KeyError> {
        panic!("it is never waited for")
    }

    fn submit_at_once(&self, _: Question, reply: Reply) -> Option<UnderWay> {
        let asked = self.1.as_ref()?;
        let (tell, withdrawn) = mpsc::channel();
        asked.lock().unwrap().send(Asked(reply, withdrawn)).unwrap();
        Some(UnderWay::new(move || {
            // The test may look no more.
            let _ = tell.send(());
        }))
    }
}

/// A treatment that begins what its subject says, and delivers all else with a field.
struct Begins(Identity);

impl Treat for Begins {
    fn treat(&self, _: &Envelope, _: &Message, _: SystemTime) -> Result<Outcome, Failure> {
        Ok(with("X-Way", "thread"))
    }

    fn begin<'a>(
        &'a self,
        _: &'a Envelope,
        message: &Message,
        _: SystemTime,
    ) -> Option<Turn<'a, Result<Outcome, Failure>>> {
        let subject = message.entity().header().all("Subject").next().map(|field| field.unfolded());
        match subject.as_deref().map(str::trim) {
            Some("none") => None,
            Some("panic") => panic!("on purpose"),
            Some("done") => Some(Turn::Done(Ok(with("X-Way", "at once")))),
            _ => {
                let algorithm = SignatureAlgorithm::RsaPkcs1(Sha256);
                let question = Question::Sign { input: Digest::of(Sha256, b"").into(), algorithm };
                Some(Turn::asking(&self.0, question, |_, answer| match answer {
                    Err(KeyError::NoRandomness) => Turn::Done(Ok(with("X-Way", "answered"))),
                    _ => panic!("on purpose"),
                }))
            }
        }
    }
}

fn with(name: &str, value: &str) -> Outcome {
    edited(Edits { append: vec![(name.to_owned(), value.to_owned())], ..Edits::default() })
}

fn identity(asked: Option<mpsc::Sender<Asked>>) -> Identity {
    let signer = std::sync::Arc::new(Slow(certificate("alice"), asked.map(Mutex::new)));
    Identity::new(
        certificate("alice"),
        Vec::new(),
        Logins::Address,
        signer,
        std::sync::Arc::new(key("alice")),
    )
}

/// The value of the field that tells which way a message went, or the reply.
fn way(mta: &mut Mta, subject: &str, body: &[u8]) -> String {
    mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    told(&mta.message(&[("Subject", subject)], body))
}

fn told(answer: &crate::mta::Answer) -> String {
    let way = |text: &str| ["thread", "at once", "answered"].into_iter().find(|way| text.contains(way));
    if !answer.accepted() {
        return answer.smtp();
    }
    let texts: Vec<_> =
        answer.requests.iter().map(|(_, data)| String::from_utf8_lossy(data).into_owned()).collect();
    texts.iter().find_map(|text| way(text)).unwrap_or("neither").to_owned()
}

#[test]
fn a_message_is_treated_at_once_or_else_on_a_thread_and_a_panic_is_a_temporary_failure() {
    let milter = Running::by(Limits::default(), Begins(identity(None)));
    let mut mta = Mta::open(milter.address);
    for (subject, body, expected) in [
        (" done", &b"x\r\n"[..], "at once"),
        (" none", b"x\r\n", "thread"),
        (" done", &vec![b'x'; 200_000], "thread"),
        (" full", b"x\r\n", "thread"),
    ] {
        assert_eq!(way(&mut mta, subject, body), expected, "{subject}");
    }
    let refused = way(&mut mta, " panic", b"x\r\n");
    assert!(refused.starts_with("451 4.3.2"), "{refused}");
    assert_eq!(way(&mut mta, " done", b"x\r\n"), "at once", "the connection goes on");
}

#[test]
fn messages_that_wait_for_a_key_hold_up_nobody() {
    let (ask, asked) = mpsc::channel();
    let milter = Running::by(Limits::default(), Begins(identity(Some(ask))));
    let mut waiting: Vec<_> = (0..8).map(|_| Mta::open(milter.address)).collect();
    for mta in &mut waiting {
        mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
        mta.field("Subject", " asks");
        assert_eq!(mta.end_of_header().0, 'c');
        mta.send('E', b"");
    }
    let replies: Vec<_> = waiting.iter().map(|_| asked.recv().unwrap()).collect();
    let mut other = Mta::open(milter.address);
    assert_eq!(way(&mut other, " done", b"x\r\n"), "at once");
    assert_eq!(way(&mut other, " none", b"x\r\n"), "thread");
    // The last gets no answer at all, and the one before another than it can do with.
    for (at, Asked(reply, _)) in replies.into_iter().enumerate() {
        match at {
            7 => drop(reply),
            6 => reply(Err(KeyError::Deadline { token: "t".into(), deadline: Duration::ZERO })),
            _ => reply(Err(KeyError::NoRandomness)),
        }
    }
    let answers: Vec<_> = waiting.iter_mut().map(|mta| told(&mta.answer().unwrap())).collect();
    // Which of them asked first is not said.
    let count = |is: fn(&str) -> bool| answers.iter().filter(|answer| is(answer)).count();
    assert_eq!(count(|way| way == "answered"), 6, "{answers:?}");
    assert_eq!(count(|reply| reply.starts_with("451 4.3.2")), 2, "{answers:?}");
}

#[test]
fn a_question_is_withdrawn_where_nobody_waits_for_it_any_more() {
    let patience = Duration::from_mins(1);
    for gone in [false, true] {
        let (ask, asked) = mpsc::channel();
        // Either the deadline comes first, or the MTA is found to be gone.
        let limits = Limits {
            deadline: if gone { patience } else { Duration::from_millis(200) },
            progress: Duration::from_millis(50),
            ..Limits::default()
        };
        let milter = Running::by(limits, Begins(identity(Some(ask))));
        let mut mta = Mta::open(milter.address);
        mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
        mta.field("Subject", " asks");
        assert_eq!(mta.end_of_header().0, 'c');
        mta.send('E', b"");
        // Held, so that only the milter can end it.
        let Asked(reply, withdrawn) = asked.recv().unwrap();
        if gone {
            drop(mta);
        } else {
            let answer = mta.answer().unwrap();
            assert!(answer.smtp().starts_with("451 4.3.2"), "{}", answer.smtp());
        }
        withdrawn.recv_timeout(patience).unwrap_or_else(|_| panic!("still asked; gone: {gone}"));
        // An answer that comes all the same harms nobody.
        reply(Err(KeyError::NoRandomness));
        assert_eq!(way(&mut Mta::open(milter.address), " done", b"x\r\n"), "at once");
    }
}
