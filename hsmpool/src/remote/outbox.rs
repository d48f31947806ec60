//! Sending without ever waiting: many threads share one socket, and none of them is held up by who reads it.
//!
//! Whoever has something to send appends it, and sends all there is if nobody else is at it; so the more there
//! is to do, the more goes into one system call. Where the socket is full, a thread of the connection's own
//! sends the rest. A [`Cork`] has a thread send once for a whole batch.

use std::{
    cell::RefCell,
    mem,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{SendFlags, send},
};
use serde::Serialize;

use super::{
    buffer::Buffer,
    frame::{self, FrameError},
};

/// A peer that takes not one octet for so long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// The sending side of a socket.
pub(super) struct Outbox {
    stream: Arc<UnixStream>,
    state: Mutex<State>,
    /// Something was sent, or the outbox was closed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Not taken by a sender yet.
    waiting: Buffer,
    /// An empty buffer to go on with.
    spare: Buffer,
    /// Octets that were posted and are not sent.
    backlog: usize,
    /// Somebody sends, or has left it to the flusher.
    sending: bool,
    /// What the flusher has to send first.
    rest: Option<(Buffer, usize)>,
    flusher: bool,
    closed: bool,
    /// Threads that wait for `changed`: to notify nobody is a system call too.
    watchers: usize,
}

impl Outbox {
    pub(super) fn new(stream: Arc<UnixStream>) -> Arc<Self> {
        Arc::new(Self { stream, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Sends a message, now or as soon as the peer takes it. Where the connection has ended nothing happens:
    /// its reader finds out.
    pub(super) fn post<T: Serialize>(self: &Arc<Self>, message: &T) -> Result<(), FrameError> {
        self.append(message)?;
        self.send_soon();
        Ok(())
    }

    /// Adds a message to those that are sent with the next.
    pub(super) fn append<T: Serialize>(&self, message: &T) -> Result<(), FrameError> {
        let mut state = self.lock();
        if state.closed {
            return Ok(());
        }
        let before = state.waiting.len();
        frame::append(&mut state.waiting, message)?;
        state.backlog += state.waiting.len() - before;
        Ok(())
    }

    /// Sends what was added: now, or when this thread is uncorked.
    pub(super) fn send_soon(self: &Arc<Self>) {
        if !Cork::holds(self) {
            self.flush();
        }
    }

    /// Waits until fewer than so many octets are to be sent, or the outbox is closed.
    pub(super) fn wait_below(&self, octets: usize) {
        if self.lock().backlog < octets {
            return;
        }
        // They may be what a cork of this very thread holds.
        flush_corked();
        let mut state = self.lock();
        while state.backlog >= octets && !state.closed {
            state = self.wait(state, None);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until all is sent, the outbox is closed, or the time is over.
    pub(super) fn wait_until_sent(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.backlog > 0 && !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, Some(left));
        }
    }

    /// Waits until something was sent, or the outbox was closed.
    fn wait<'s>(&self, mut state: MutexGuard<'s, State>, limit: Option<Duration>) -> MutexGuard<'s, State> {
        state.watchers += 1;
        state = match limit {
            Some(limit) => self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.watchers -= 1;
        state
    }

    fn tell(&self, state: &State) {
        if state.watchers > 0 {
            self.changed.notify_all();
        }
    }

    /// Ends the connection in both directions; what was not sent is forgotten.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        state.rest = None;
        state.backlog = 0;
        drop(state);
        self.changed.notify_all();
        // It may have ended already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn flush(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.sending {
            return;
        }
        while !state.closed && !state.waiting.is_empty() {
            state.sending = true;
            let spare = mem::take(&mut state.spare);
            let mut batch = mem::replace(&mut state.waiting, spare);
            drop(state);
            let sent = self.send(batch.as_slice());
            state = self.lock();
            let Ok(len) = sent else {
                drop(state);
                self.close();
                state = self.lock();
                break;
            };
            state.backlog = state.backlog.saturating_sub(len);
            self.tell(&state);
            if len < batch.len() {
                self.leave_to_flusher(state, batch, len);
                return;
            }
            batch.clear();
            batch.shrink();
            state.spare = batch;
        }
        state.sending = false;
    }

    /// As much as the socket takes without waiting.
    fn send(&self, octets: &[u8]) -> Result<usize, Errno> {
        let mut sent = 0;
        while let Some(rest) = octets.get(sent..).filter(|rest| !rest.is_empty()) {
            match send(&*self.stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(len) => sent += len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn leave_to_flusher(self: &Arc<Self>, mut state: MutexGuard<'_, State>, batch: Buffer, sent: usize) {
        state.rest = Some((batch, sent));
        if state.flusher {
            return self.tell(&state);
        }
        state.flusher = true;
        drop(state);
        let outbox = Arc::clone(self);
        let spawned = thread::Builder::new().name("outbox".into()).spawn(move || outbox.run_flusher());
        if spawned.is_err() {
            self.close();
        }
    }

    /// The flusher's life: until the outbox is closed.
    fn run_flusher(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let (mut batch, mut sent) = loop {
                if state.closed {
                    return;
                }
                if let Some(rest) = state.rest.take() {
                    break rest;
                }
                state = self.wait(state, None);
            };
            drop(state);
            while sent < batch.len() {
                let room = self.wait_for_room();
                match self.send(batch.as_slice().get(sent..).unwrap_or_default()) {
                    Ok(len) if room && len > 0 => {
                        sent += len;
                        let mut state = self.lock();
                        state.backlog = state.backlog.saturating_sub(len);
                        self.tell(&state);
                    }
                    Ok(_) if room => {}
                    _ => return self.close(),
                }
            }
            batch.clear();
            let mut state = self.lock();
            state.sending = false;
            drop(state);
            self.flush();
        }
    }

    fn wait_for_room(&self) -> bool {
        let limit = Timespec { tv_sec: i64::try_from(STALL_LIMIT.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
        let mut watched = [PollFd::new(&*self.stream, PollFlags::OUT)];
        loop {
            match poll(&mut watched, Some(&limit)) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// The outboxes that a corked thread has posted to.
    static CORKED: RefCell<Option<Vec<Arc<Outbox>>>> = const { RefCell::new(None) };
}

/// While it lives, what its thread posts is kept, and sent when it is dropped.
pub(crate) struct Cork(());

impl Cork {
    pub(crate) fn new() -> Self {
        CORKED.with_borrow_mut(|corked| {
            corked.get_or_insert_default();
        });
        Self(())
    }

    fn holds(outbox: &Arc<Outbox>) -> bool {
        CORKED.with_borrow_mut(|corked| match corked {
            Some(outboxes) => {
                if !outboxes.iter().any(|other| Arc::ptr_eq(other, outbox)) {
                    outboxes.push(Arc::clone(outbox));
                }
                true
            }
            None => false,
        })
    }
}

impl Drop for Cork {
    fn drop(&mut self) {
        let outboxes = CORKED.take().unwrap_or_default();
        outboxes.iter().for_each(Outbox::flush);
    }
}

/// Sends what this thread has posted: before it waits for something that may depend on it.
pub(crate) fn flush_corked() {
    let outboxes = CORKED.with_borrow_mut(|corked| corked.as_mut().map(mem::take)).unwrap_or_default();
    outboxes.iter().for_each(Outbox::flush);
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::remote::frame::{FrameReader, decode};

    fn pair() -> (Arc<Outbox>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Outbox::new(Arc::new(ours)), theirs)
    }

    #[test]
    fn what_many_threads_post_arrives_whole_and_in_each_ones_order() {
        let (outbox, peer) = pair();
        let reader = thread::spawn(move || {
            let mut reader = FrameReader::new(peer);
            let mut last = [0_u32; 8];
            for _ in 0..8 * 2000 {
                let (who, number, text) =
                    decode::<(usize, u32, String)>(reader.wait().unwrap().unwrap()).unwrap();
                assert_eq!((number, text.len()), (last[who] + 1, 100 * who));
                last[who] = number;
            }
        });
        thread::scope(|scope| {
            for who in 0..8_usize {
                let outbox = &outbox;
                scope.spawn(move || {
                    for number in 1..=2000_u32 {
                        outbox.post(&(who, number, "x".repeat(100 * who))).unwrap();
                    }
                });
            }
        });
        reader.join().unwrap();
    }

    #[test]
    fn a_peer_that_does_not_read_holds_nobody_up_and_gets_it_all_later() {
        let (outbox, peer) = pair();
        let text = "x".repeat(1000);
        let begun = Instant::now();
        for number in 0..5000_u32 {
            outbox.post(&(number, &text)).unwrap();
        }
        // Posting 5 MB into a socket of 200 kB takes milliseconds; waiting for the peer would be for ever.
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(outbox.lock().backlog > 1_000_000);
        let mut reader = FrameReader::new(peer);
        for number in 0..5000_u32 {
            let (arrived, _) = decode::<(u32, String)>(reader.wait().unwrap().unwrap()).unwrap();
            assert_eq!(arrived, number);
        }
        outbox.wait_below(1);
        // And so it goes on.
        outbox.post(&(1_u32, "again")).unwrap();
        assert_eq!(decode::<(u32, String)>(reader.wait().unwrap().unwrap()).unwrap().1, "again");
    }

    #[test]
    fn a_corked_thread_sends_when_it_is_uncorked_or_asked() {
        let (outbox, peer) = pair();
        peer.set_nonblocking(true).unwrap();
        let mut octets = [0; 100];
        let cork = Cork::new();
        outbox.post(&"one").unwrap();
        assert!((&peer).read(&mut octets).is_err());
        flush_corked();
        assert_eq!((&peer).read(&mut octets).unwrap(), 8);
        outbox.post(&"two").unwrap();
        outbox.post(&"three").unwrap();
        assert!((&peer).read(&mut octets).is_err());
        drop(cork);
        assert_eq!((&peer).read(&mut octets).unwrap(), 18);
        outbox.post(&"four").unwrap();
        assert_eq!((&peer).read(&mut octets).unwrap(), 9);
    }

    #[test]
    fn a_corked_thread_does_not_wait_for_what_it_keeps_itself() {
        let (outbox, _peer) = pair();
        let _cork = Cork::new();
        (0..10).for_each(|_| outbox.post(&"one").unwrap());
        outbox.wait_below(1);
        assert_eq!(outbox.lock().backlog, 0);
    }

    #[test]
    fn after_the_peer_has_left_posting_does_nothing() {
        let (outbox, peer) = pair();
        drop(peer);
        for _ in 0..3 {
            outbox.post(&"anybody?").unwrap();
        }
        outbox.wait_below(1);
        assert!(outbox.lock().closed);
    }
}
