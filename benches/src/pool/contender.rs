//! Who does the work: the raw loop, the pool in this process, the pool in `hsmime-keyd`.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use hsmpool::{Lane, PinSource, Pool, TokenKey, TokenSettings};
use serde::{Deserialize, Serialize};
use smime::key::{Decryptor as _, KeyError, SignatureInput, SignatureValue, Signer as _, Unwrapped};

use super::{
    load::{Ask, Measured, Window, closed},
    operation::{Operation, Question, SECRET},
    raw,
    site::{LABEL, Place},
};

/// How long the pool may take until its token can be used.
const START_LIMIT: Duration = Duration::from_mins(5);
/// No request of a benchmark ends by its deadline.
const DEADLINE: Duration = Duration::from_mins(5);

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// A loop of bare calls.
    Raw,
    /// The pool, inside the program that asks.
    Pool,
    /// The pool in `hsmime-keyd`, asked through its socket.
    Keyd,
}

/// How many ask at a time, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// So many threads, each waiting for its answer.
    Callers(usize),
    /// One thread that has so many requests under way and waits for none: continuations.
    Window(usize),
}

/// A key of a pool, and what it is asked.
#[derive(Clone, Debug)]
pub struct Client {
    key: TokenKey,
    question: Question,
}

impl Contender {
    /// All.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Pool, Self::Keyd];

    /// Short, for files and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Pool => "pool",
            Self::Keyd => "keyd",
        }
    }

    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Raw => "raw loop",
            Self::Pool => "pool",
            Self::Keyd => "pool through keyd",
        }
    }
}

impl Shape {
    /// How many ask at a time.
    pub fn width(self) -> usize {
        match self {
            Self::Callers(width) | Self::Window(width) => width,
        }
    }
}

/// Measures the raw loop.
pub fn raw_rates(
    place: &Place,
    operation: Operation,
    shapes: &[Shape],
    length: Duration,
) -> Result<Vec<Measured>> {
    let question = operation.question(&place.certificate(operation.key())?)?;
    let token = raw::Token::open(&place.module, LABEL, &place.pin()?)?;
    let make = || {
        let mut session = token.session(operation.key().name, &question)?;
        let ask: Ask<'_> = Box::new(move || session.ask());
        Ok(ask)
    };
    let measure = |shape: &Shape| match shape {
        Shape::Callers(callers) => closed(*callers, length, &make),
        Shape::Window(_) => bail!("the raw loop has no continuations"),
    };
    shapes.iter().map(measure).collect()
}

/// The pool, once its token can be used.
pub fn start(contender: Contender, place: &Place, queue: usize) -> Result<Pool> {
    let pool = match contender {
        Contender::Pool => Pool::start(&[TokenSettings {
            module: place.module.clone(),
            label: LABEL.to_owned(),
            pin: PinSource::File(place.pin_file.clone()),
            sessions: Some(place.sessions),
            queue,
            deadline: DEADLINE,
        }])?,
        Contender::Keyd => {
            let socket = place.socket.as_ref().context("hsmime-keyd has no socket")?;
            Pool::connect(socket, DEADLINE)?
        }
        Contender::Raw => bail!("the raw loop is no pool"),
    };
    pool.ready(START_LIMIT)?;
    Ok(pool)
}

impl Client {
    /// The key of an operation, in a lane.
    pub fn new(pool: &Pool, lane: Lane, place: &Place, operation: Operation) -> Result<Self> {
        let certificate = place.certificate(operation.key())?;
        let key = pool.lane(lane).with_deadline(DEADLINE).key(&certificate);
        Ok(Self { key, question: operation.question(&certificate)? })
    }

    /// Asks once and waits.
    pub fn ask(&self) -> Result<()> {
        match &self.question {
            Question::Sign(digest, algorithm) => {
                signed(self.key.sign(&SignatureInput::Digest(*digest), *algorithm))
            }
            Question::Decrypt(octets, algorithm) => decrypted(self.key.decrypt_key(octets, algorithm)),
        }
    }

    /// Asks once and goes on; `reply` is told the outcome.
    pub fn submit(&self, reply: impl FnOnce(Result<()>) + Send + 'static) {
        match &self.question {
            Question::Sign(digest, algorithm) => {
                let input = SignatureInput::Digest(*digest);
                self.key.submit_sign(&input, *algorithm, |outcome| reply(signed(outcome)));
            }
            Question::Decrypt(octets, algorithm) => {
                self.key.submit_decrypt_key(octets, algorithm, |outcome| reply(decrypted(outcome)));
            }
        }
    }

    /// Measures it.
    pub fn rates(&self, shapes: &[Shape], length: Duration) -> Result<Vec<Measured>> {
        let make = || {
            let client = self.clone();
            let ask: Ask<'_> = Box::new(move || client.ask());
            Ok(ask)
        };
        let measure = |shape: &Shape| match shape {
            Shape::Callers(callers) => closed(*callers, length, &make),
            Shape::Window(width) => self.window(*width, length),
        };
        shapes.iter().map(measure).collect()
    }

    /// Keeps so many requests under way from one thread, as an archive's program does.
    fn window(&self, width: usize, length: Duration) -> Result<Measured> {
        let (sender, receiver) = mpsc::channel::<(Instant, Instant, Result<()>)>();
        let submit = || {
            let (sender, begun) = (sender.clone(), Instant::now());
            // Nobody listens any more after an error.
            self.submit(move |outcome| drop(sender.send((begun, Instant::now(), outcome))));
        };
        let window = Window::of(length);
        std::thread::scope(|scope| {
            let cpu = scope.spawn(move || window.watch());
            for _ in 0..width {
                submit();
            }
            let mut operations = Vec::with_capacity(4096);
            let mut under_way = width;
            while under_way > 0 {
                let (begun, ended, outcome) = receiver.recv()?;
                outcome?;
                operations.push((ended, ended - begun));
                under_way -= 1;
                if !window.is_over() {
                    submit();
                    under_way += 1;
                }
            }
            let cpu = cpu.join().map_err(|_| anyhow!("a measuring thread panicked"))?;
            Ok(window.measured(&operations, cpu))
        })
    }
}

fn signed(outcome: Result<SignatureValue, KeyError>) -> Result<()> {
    let signature = outcome?;
    ensure!(signature.0.len() >= 64, "a signature of {} octets", signature.0.len());
    Ok(())
}

fn decrypted(outcome: Result<Unwrapped, KeyError>) -> Result<()> {
    match outcome? {
        Unwrapped::Key(key) if key.expose() == SECRET => Ok(()),
        other => bail!("a decryption gave {other:?}"),
    }
}
