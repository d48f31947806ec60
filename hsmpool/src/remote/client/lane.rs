//! The life of a lane's thread: it connects, hands out answers, and connects again.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use smime::key::KeyError;

use super::{Ended, Phase, Remote};
use crate::{
    PoolError,
    remote::{
        connector::NoConnection,
        frame::{FrameError, FrameReader, Shared, decode},
        link::Link,
        outbox::{Cork, Outbox},
        wire::{FromServer, Greeting, Hello, MAGIC, VERSION},
    },
    request::Lane,
    router::Failed,
};

impl Remote {
    /// All of it.
    pub(super) fn run(&self, lane: Lane) {
        let link = self.link(lane);
        let (first, longest) = self.connector.pauses();
        let mut pause = first;
        let mut connected_before = false;
        let mut alone_since = Instant::now();
        let mut told = false;
        while !self.closed.load(Ordering::Acquire) {
            match self.establish(lane) {
                Ok((mut reader, outbox, window)) => {
                    let since = Instant::now();
                    if told {
                        tracing::info!(server = self.label(), ?lane, "the server of keys is back");
                        told = false;
                    }
                    // First the phase: what comes back to the router may be meant for here.
                    if lane == Lane::Interactive {
                        self.interactive.admit();
                        self.bulk.admit();
                        self.set_phase(Phase::Up);
                    }
                    link.connect(&outbox, window);
                    if self.closed.load(Ordering::Acquire) {
                        outbox.close();
                    }
                    let ended = self.hand_out(link, &mut reader);
                    outbox.close();
                    if lane == Lane::Interactive && !self.closed.load(Ordering::Acquire) {
                        self.set_phase(Phase::Connecting);
                    }
                    self.lose(link, &ended);
                    (connected_before, alone_since) = (true, Instant::now());
                    if since.elapsed() > STEADY {
                        pause = first;
                        continue;
                    }
                }
                Err(error) => {
                    let grace = if connected_before { RESTART_GRACE } else { START_GRACE };
                    if error.is_final() || alone_since.elapsed() >= grace {
                        let reason = self.unreachable(&error.to_string());
                        if !told && !self.closed.load(Ordering::Acquire) {
                            told = true;
                            tracing::error!(%reason, fault = %reason.fault(), ?lane, "the server of keys is away");
                        }
                        self.turn_away_from(lane, link, &reason);
                    }
                    if error.is_final() {
                        pause = longest;
                    }
                }
            }
            self.pause(pause);
            pause = (pause * 2).min(longest);
        }
        self.turn_away(link, &PoolError::Closed);
        if lane == Lane::Interactive {
            // A process may be made to end with the thread that started it, which is this one.
            self.connector.close();
        }
    }

    /// Connects and introduces itself.
    fn establish(&self, lane: Lane) -> Result<(FrameReader<Shared>, Arc<Outbox>, usize), NoConnection> {
        let stream = Arc::new(self.connector.connect(lane)?);
        let unusable =
            |error: FrameError| NoConnection::Refused { reason: error.to_string(), transient: true };
        stream.set_read_timeout(Some(GREETING_LIMIT))?;
        let outbox = Outbox::new(Arc::clone(&stream));
        self.link(lane).is_opening(&outbox);
        if self.closed.load(Ordering::Acquire) {
            outbox.close();
        }
        outbox.post(&Hello { magic: MAGIC, version: VERSION, lane: lane.into() }).map_err(unusable)?;
        let mut reader = FrameReader::new(Shared(Arc::clone(&stream)));
        let greeting = match reader.wait().map_err(unusable)? {
            Some(frame) => decode::<Greeting>(frame).map_err(unusable)?,
            None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        };
        stream.set_read_timeout(None)?;
        match greeting {
            Greeting::Welcome { window } => Ok((reader, outbox, usize::try_from(window).unwrap_or(1))),
            Greeting::Refused { reason, transient } => {
                Err(NoConnection::Refused { reason: reason.0, transient })
            }
        }
    }

    /// Hands answers to those who wait for them, until the connection ends.
    fn hand_out(&self, link: &Link, reader: &mut FrameReader<Shared>) -> Ended {
        loop {
            // What those who are answered ask next goes out together.
            let cork = Cork::new();
            loop {
                match reader.next() {
                    Ok(Some(frame)) => {
                        if let Err(ended) = self.take(link, frame) {
                            return ended;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return error.into(),
                }
            }
            drop(cork);
            match reader.fill() {
                Ok(true) => {}
                Ok(false) => return Ended::Closed,
                Err(error) => return error.into(),
            }
        }
    }

    fn take(&self, link: &Link, frame: &[u8]) -> Result<(), Ended> {
        let decoded = decode(frame).map_err(|error| Ended::Message { what: kind_of(frame), error });
        match decoded? {
            FromServer::Answer { id, result } => {
                let Some(request) = link.answered(id)? else { return Ok(()) };
                match result {
                    Ok(answer) => {
                        self.know(&request.key, true);
                        let impossible = || self.unavailable(&self.unreachable("it answered what cannot be"));
                        request.answer(answer.to_answer().ok_or_else(impossible));
                    }
                    Err(error) => {
                        let error = error.about(&request.key.description);
                        if matches!(error, KeyError::NoSuchKey { .. }) {
                            self.know(&request.key, false);
                        }
                        self.hand_back(request, Failed::Refused(error));
                    }
                }
            }
            FromServer::Report { id, report } => link.reported(id, report),
            FromServer::Notice(notice) => {
                let number = notice.number;
                if let Some(kept) = self.connector.notice(notice) {
                    link.acknowledge(number, kept);
                }
            }
        }
        Ok(())
    }
}

/// What a server's message is, by its first octet.
fn kind_of(frame: &[u8]) -> &'static str {
    match frame.first() {
        Some(0) => "an answer",
        Some(1) => "a report",
        Some(2) => "a notice",
        _ => "a message",
    }
}

/// How long a server may take to greet.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// For so long after a start requests wait for the server instead of failing at once …
const START_GRACE: Duration = Duration::from_secs(3);
/// … and for so long after a loss: a restart of the server is nobody's error.
const RESTART_GRACE: Duration = Duration::from_secs(5);
/// A connection that lasted so long is made again at once, and the pauses begin anew.
const STEADY: Duration = Duration::from_secs(5);
