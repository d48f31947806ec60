//! The audit as those who use keys see it: it takes lines from any thread, and owes those that it could not write.
//!
//! Where a line cannot be written, the answer is withheld, its line is kept and written as soon as that works again, and
//! until then no key is used. A disk that hangs holds whoever writes, but nobody else for long.

use std::{
    collections::VecDeque,
    io, mem,
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use tracing::{error, info};

use crate::{
    AuditFile,
    line::Line,
    writer::{Torn, Writer},
};

/// An audit that is open.
#[derive(Debug)]
pub struct AuditLog {
    state: Mutex<State>,
    turn: Mutex<Turn>,
    ended: Condvar,
    /// How long somebody waits for others to write, or stands back from one who takes so long.
    patience: Duration,
}

/// Whose turn it is to write.
#[derive(Debug, Default)]
struct Turn {
    /// Since when somebody writes.
    taken: Option<Instant>,
    /// Lines of those who could not wait.
    late: VecDeque<Line>,
    /// Whether it was told that somebody hangs.
    told: bool,
}

/// One's turn to write.
struct Writing<'a> {
    /// Given back before others are told.
    state: MutexGuard<'a, State>,
    _end: End<'a>,
}

struct End<'a>(&'a AuditLog);

/// Whether a line that cannot be written is kept until it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owe {
    /// Yes: there can be few of them, since nothing is done while lines cannot be written.
    Always,
    /// Unless there are very many, of which anybody may cause more.
    UnlessMany,
}

#[derive(Debug)]
struct State {
    writer: Writer,
    /// Lines that could not be written yet, without their numbers.
    owed: VecDeque<Line>,
    /// When writing failed last.
    failed: Option<Instant>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct TornFacts {
    octets: u64,
}

impl AuditLog {
    /// Opens a file and goes on with its numbers. What a crash left of a last line stays, and the next line tells of it.
    /// Somebody else who writes to it is waited for: one that is ending may have some lines to write.
    pub fn open(to: &AuditFile, patience: Duration) -> io::Result<Self> {
        let until = Instant::now() + patience;
        let (writer, torn) = loop {
            match Writer::open(to, 1) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() >= until {
                        return Err(io::Error::new(error.kind(), "another process writes to it"));
                    }
                    thread::sleep(HELD_PAUSE);
                }
                opened => break opened?,
            }
        };
        let mut state = State { writer, owed: VecDeque::new(), failed: None };
        state.begin(torn)?;
        Ok(Self {
            state: Mutex::new(state),
            turn: Mutex::default(),
            ended: Condvar::new(),
            patience: PATIENCE,
        })
    }

    /// Opens the file of that name anew, which may be another now, and goes on with the numbers. Where it cannot be, all
    /// stays as it was.
    pub fn reopen(&self, to: &AuditFile) -> io::Result<()> {
        let mut state = self.begin().map_err(|mut turn| self.hangs(&mut turn))?;
        let torn = state.writer.reopen(to)?;
        state.pay()?;
        state.failed = None;
        state.begin(torn)
    }

    /// Writes a line on a use of a key, with the beginning of each text that is long. The error: it was not written, and
    /// the use's result must not be used; the line will be written when that works again.
    pub fn record(&self, facts: &impl Serialize, owe: Owe) -> io::Result<()> {
        let line = Line::new("use", facts);
        match self.begin() {
            Ok(mut state) => state.write(line, owe),
            Err(mut turn) => {
                if owe == Owe::Always || turn.late.len() < MOST_OWED {
                    turn.late.push_back(line);
                }
                Err(self.hangs(&mut turn))
            }
        }
    }

    /// Whether uses can be recorded. Else no key may be used.
    pub fn is_writable(&self) -> io::Result<()> {
        self.begin().map_err(|mut turn| self.hangs(&mut turn))?.settle()
    }

    /// Waits for one's turn. The error: somebody else has had it for too long.
    fn begin(&self) -> Result<Writing<'_>, MutexGuard<'_, Turn>> {
        let until = Instant::now() + self.patience;
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(taken) = turn.taken {
            let left = until.min(taken + self.patience).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(turn);
            }
            turn = self.ended.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        turn.taken = Some(Instant::now());
        let late = mem::take(&mut turn.late);
        if mem::take(&mut turn.told) {
            info!("the audit can be written again");
        }
        drop(turn);
        let mut writing = Writing { state: self.lock(), _end: End(self) };
        writing.owed.extend(late);
        Ok(writing)
    }

    fn hangs(&self, turn: &mut Turn) -> io::Error {
        if !mem::replace(&mut turn.told, true) {
            let limit = self.patience;
            error!(
                ?limit,
                fault = "operator",
                "writing the audit takes too long: no key is used until it is done"
            );
        }
        io::Error::new(io::ErrorKind::TimedOut, "writing the audit takes too long")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Writing<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner).taken = None;
        self.0.ended.notify_one();
    }
}

impl State {
    /// The first lines after a file was opened.
    fn begin(&mut self, torn: Option<Torn>) -> io::Result<()> {
        if let Some(Torn { octets }) = torn {
            self.write(Line::new("torn", &TornFacts { octets }), Owe::Always)?;
        }
        self.write(Line::new("opened", &Nothing {}), Owe::Always)
    }

    fn write(&mut self, line: Line, owe: Owe) -> io::Result<()> {
        let written = match self.settle() {
            // Waiting for the next try must not put it off.
            Err(error) => Err(error),
            Ok(()) => self.writer.append(&line).inspect_err(|error| self.fail(error)),
        };
        let is_one_too_many = owe == Owe::UnlessMany && self.owed.len() >= MOST_OWED;
        if written.is_err() && !is_one_too_many {
            self.owed.push_back(line);
        }
        written
    }

    /// Writes what is owed.
    fn settle(&mut self) -> io::Result<()> {
        if self.failed.is_some_and(|failed| failed.elapsed() < RETRY) {
            return Err(io::Error::other("the audit cannot be written at the moment"));
        }
        self.pay()?;
        if self.failed.take().is_some() {
            info!(path = %self.writer.path().display(), "the audit can be written again");
        }
        Ok(())
    }

    fn pay(&mut self) -> io::Result<()> {
        while let Some(line) = self.owed.front() {
            if let Err(error) = self.writer.append(line) {
                self.fail(&error);
                return Err(error);
            }
            self.owed.pop_front();
        }
        Ok(())
    }

    fn fail(&mut self, reason: &io::Error) {
        if self.failed.is_none() {
            let path = self.writer.path().display();
            error!(%path, %reason, fault = "operator", "the audit cannot be written: no key is used until it can");
        }
        self.failed = Some(Instant::now());
    }
}

const HELD_PAUSE: Duration = Duration::from_millis(20);
/// How often writing is tried while it fails.
const RETRY: Duration = Duration::from_millis(500);
/// Far more than a disk takes that is well, and less than who waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// With so many lines owed, some are not kept any more.
const MOST_OWED: usize = 10_000;

#[cfg(test)]
mod tests;
