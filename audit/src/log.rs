//! The audit as those who use keys see it: it takes lines from any thread, and owes those that it could not write.
//!
//! Where a line cannot be written, the answer is withheld, its line is kept and written as soon as that works again, and
//! until then no key is used.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
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
}

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
        let log = Self { state: Mutex::new(State { writer, owed: VecDeque::new(), failed: None }) };
        log.lock().begin(torn)?;
        Ok(log)
    }

    /// Opens the file of that name anew, which may be another now, and goes on with the numbers. Where it cannot be, all
    /// stays as it was.
    pub fn reopen(&self, to: &AuditFile) -> io::Result<()> {
        let mut state = self.lock();
        let torn = state.writer.reopen(to)?;
        state.pay()?;
        state.failed = None;
        state.begin(torn)
    }

    /// Writes a line on a use of a key, with the beginning of each text that is long. The error: it was not written, and the use's result must not be used; the line will
    /// be written when that works again.
    pub fn record(&self, facts: &impl Serialize, owe: Owe) -> io::Result<()> {
        let line = Line::new("use", facts);
        self.lock().write(line, owe)
    }

    /// Whether uses can be recorded. Else no key may be used.
    pub fn is_writable(&self) -> io::Result<()> {
        self.lock().settle()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let Some(failed) = self.failed else { return Ok(()) };
        if failed.elapsed() < RETRY {
            return Err(io::Error::other("the audit cannot be written at the moment"));
        }
        self.pay()?;
        self.failed = None;
        info!(path = %self.writer.path().display(), "the audit can be written again");
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
/// With so many lines owed, some are not kept any more.
const MOST_OWED: usize = 10_000;

#[cfg(test)]
mod tests;
