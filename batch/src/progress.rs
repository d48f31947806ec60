//! How far a run is, for people: a bar on a terminal, a line now and then elsewhere.
//!
//! A thread of its own writes it, so that it is also seen that nothing goes on. What else is said goes through here as well,
//! so that it does not get into the bar.

use std::{
    collections::VecDeque,
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{archive::Kind, log::Octets, weigh::weigh, words};

/// How progress is shown.
#[derive(Clone, Debug)]
pub struct Showing {
    /// How often a line is written where there is no terminal.
    pub every: Duration,
    /// What tells how busy the tokens are, if any are used.
    pub tokens: Option<Tokens>,
}

/// How often a line is written where there is no terminal, if nobody says.
pub const LINE_EVERY: Duration = Duration::from_secs(30);

/// Whom to ask how busy the tokens are.
#[derive(Clone)]
pub struct Tokens(Arc<dyn Fn() -> Busy + Send + Sync>);

impl Tokens {
    /// Asks like this.
    pub fn new(ask: impl Fn() -> Busy + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// What tokens do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// How many sessions there are.
    pub sessions: usize,
    /// How many of them work at the moment.
    pub running: usize,
    /// How long all of them together have worked so far.
    pub worked: Duration,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Messages that are done, those of an earlier run that is gone on with among them.
    pub(crate) messages: u64,
    /// Their octets.
    pub(crate) octets: u64,
    /// How many of them failed.
    pub(crate) failed: u64,
    /// How many octets there are in all, if that is known.
    pub(crate) of: Option<u64>,
}

/// Where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// One line of a terminal so wide, always written anew.
    Bar(usize),
    /// A new line at a time.
    Lines,
}

/// What is shown at one instant after the other; what time it is, is for others to say.
#[derive(Debug)]
pub(crate) struct View {
    style: Style,
    /// What was reached when, of the last while.
    samples: VecDeque<(Duration, Reached, Busy)>,
}

impl View {
    pub(crate) fn new(style: Style) -> Self {
        Self { style, samples: VecDeque::new() }
    }

    /// The text for now.
    pub(crate) fn text(&mut self, now: Duration, reached: Reached, busy: Busy) -> String {
        while self.samples.len() > 1 && self.samples.get(1).is_some_and(|(at, ..)| *at + RECENT <= now) {
            self.samples.pop_front();
        }
        let (since, before, worked) = *self.samples.front().unwrap_or(&(now, reached, busy));
        self.samples.push_back((now, reached, busy));
        let seconds = now.saturating_sub(since).as_secs_f64();
        let rate = |new: u64, old: u64| {
            if seconds > 0.0 { number(new.saturating_sub(old)) / seconds } else { 0.0 }
        };
        let (messages, octets) =
            (rate(reached.messages, before.messages), rate(reached.octets, before.octets));
        let share = reached.of.filter(|of| *of > 0).map(|of| (number(reached.octets) / number(of)).min(1.0));
        let left = reached.of.filter(|_| octets > 0.0);
        let left = left.map(|of| number(of.saturating_sub(reached.octets)) / octets);
        let busy = share_of_sessions(busy, worked, seconds);
        let mut words = Vec::new();
        words.extend(share.map(|share| format!("{:.0} %", (share * 100.0).floor())));
        words.extend(left.map(|left| format!("{} left", Clock(left))));
        if reached.failed > 0 {
            words.push(format!("{} failed", reached.failed));
        }
        words.push(format!("{} messages", reached.messages));
        words.push(Octets(reached.octets).to_string());
        words.push(format!("{messages:.0} messages/s"));
        words.push(format!("{}/s", Octets(whole(octets))));
        words.extend(busy.map(|busy| format!("token {:.0} % busy", busy * 100.0)));
        match self.style {
            Style::Lines => words.join(", "),
            Style::Bar(width) => {
                let bar = share.map(|share| {
                    let filled = usize::try_from(whole(share * number(BAR))).unwrap_or(0);
                    format!("[{:<20}] ", "#".repeat(filled))
                });
                // What does not fit would make the terminal begin another line.
                let text = format!("{}{}", bar.unwrap_or_default(), words.join("  "));
                text.chars().take(width.saturating_sub(1)).collect()
            }
        }
    }
}

/// Which share of the sessions worked, of late.
fn share_of_sessions(now: Busy, before: Busy, seconds: f64) -> Option<f64> {
    if now.sessions == 0 {
        return None;
    }
    let sessions = number(now.sessions as u64);
    let worked = now.worked.saturating_sub(before.worked).as_secs_f64();
    // Calls that last have no end yet that could have been counted.
    let share = if worked > 0.0 && seconds > 0.0 { worked / seconds } else { number(now.running as u64) };
    Some((share / sessions).min(1.0))
}

/// Seconds as a clock shows them.
struct Clock(f64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = whole(self.0.ceil());
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}:{minutes:02}:{seconds:02}")
        } else {
            write!(f, "{minutes}:{seconds:02}")
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn number(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is not negative")]
fn whole(number: f64) -> u64 {
    number as u64
}

/// What is shown, and what else is said.
pub(crate) struct Progress {
    inner: Arc<Inner>,
    /// The thread that shows it, and what tells that it is done.
    writing: Option<(JoinHandle<()>, Receiver<()>)>,
}

struct Inner {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    reached: Reached,
    has_ended: bool,
    /// Whether there is a bar in the last line of the terminal.
    has_bar: bool,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What takes the bar away, if there is one.
    fn erasing(&self) -> &'static str {
        if std::mem::take(&mut self.state().has_bar) { "\r\x1b[K" } else { "" }
    }

    /// Finds out how much there is to do, while it is begun with.
    fn weigh(&self, inputs: &[(PathBuf, Kind)]) {
        let weight = weigh(inputs, || !self.state().has_ended);
        let mut state = self.state();
        state.reached.of = state.reached.of.or(weight);
    }
}

impl Progress {
    /// Shows it, if somebody wants to see it, of these inputs.
    pub(crate) fn new(showing: Option<(Showing, Style)>, inputs: Vec<(PathBuf, Kind)>) -> Self {
        let inner = Arc::new(Inner { state: Mutex::default(), ended: Condvar::new() });
        let writing = showing.and_then(|(showing, style)| {
            let inner = Arc::clone(&inner);
            let (done, is_done) = mpsc::channel();
            let thread = thread::Builder::new().name("progress".into());
            // Without one the run is what it is.
            thread
                .spawn(move || {
                    inner.weigh(&inputs);
                    show(&inner, &showing, style);
                    drop(done);
                })
                .ok()
                .map(|thread| (thread, is_done))
        });
        Self { inner, writing }
    }

    /// So far the run is now.
    pub(crate) fn reached(&self, messages: u64, octets: u64, failed: u64) {
        let mut state = self.inner.state();
        state.reached = Reached { messages, octets, failed, ..state.reached };
    }

    /// So many octets there are in all.
    pub(crate) fn expect(&self, of: u64) {
        self.inner.state().reached.of = Some(of);
    }

    /// Words for people.
    pub(crate) fn say(&self, line: &str) {
        words::write(format!("{}hsmime-batch: {}\n", self.inner.erasing(), words::one(line)));
    }

    /// Shows nothing more, and sees that all that was said is written.
    pub(crate) fn end(&mut self) {
        self.inner.state().has_ended = true;
        self.inner.ended.notify_all();
        // It may wait for a key server; the run shall not.
        if let Some((thread, is_done)) = self.writing.take()
            && is_done.recv_timeout(END) == Err(RecvTimeoutError::Disconnected)
        {
            let _ = thread.join();
        }
        words::finish();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn show(inner: &Inner, showing: &Showing, style: Style) {
    let (began, mut view) = (Instant::now(), View::new(style));
    let every = if style == Style::Lines { showing.every } else { BAR_EVERY };
    loop {
        let state = inner.state();
        let waited = inner.ended.wait_timeout_while(state, every, |state| !state.has_ended);
        drop(waited);
        // A key server may be slow to answer; nobody shall wait for that.
        let busy = showing.tokens.as_ref().map(|Tokens(ask)| ask()).unwrap_or_default();
        let mut state = inner.state();
        if state.has_ended {
            drop(state);
            words::write(inner.erasing().into());
            return;
        }
        let reached = state.reached;
        state.has_bar = style != Style::Lines;
        drop(state);
        let text = view.text(began.elapsed(), reached, busy);
        match style {
            Style::Lines => words::mention(&format!("hsmime-batch: {text}")),
            Style::Bar(_) => words::show(format!("\r\x1b[K{text}")),
        }
    }
}

/// How wide the terminal of the standard error is, if it is one.
pub(crate) fn terminal() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    Some(if size.ws_col == 0 { 80 } else { usize::from(size.ws_col) })
}

/// A rate is that of so long.
const RECENT: Duration = Duration::from_secs(30);
const BAR_EVERY: Duration = Duration::from_millis(250);
/// How long the end of a run waits for what shows it.
const END: Duration = Duration::from_secs(1);
/// How long the bar is.
const BAR: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(messages: u64, failed: u64) -> Reached {
        Reached { messages, octets: messages * 20_000, failed, of: Some(20_000_000) }
    }

    fn busy(seconds: u64) -> Busy {
        Busy { sessions: 4, running: 2, worked: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_line_tells_share_time_left_failures_rates_and_how_busy_the_token_is() {
        let mut view = View::new(Style::Lines);
        for (second, messages, failed, worked, expected) in [
            (0, 0, 0, 0, "0 %, 0 messages, 0 B, 0 messages/s, 0 B/s, token 50 % busy"),
            (
                10,
                100,
                0,
                36,
                "10 %, 1:30 left, 100 messages, 2.0 MB, 10 messages/s, 200.0 kB/s, token 90 % busy",
            ),
            (
                30,
                150,
                2,
                44,
                "15 %, 2:50 left, 2 failed, 150 messages, 3.0 MB, 5 messages/s, 100.0 kB/s, token 37 % busy",
            ),
            // Only the last half minute counts for rates,
            (
                60,
                160,
                2,
                44,
                "16 %, 42:00 left, 2 failed, 160 messages, 3.2 MB, 0 messages/s, 6.7 kB/s, token 50 % busy",
            ),
            // and where nothing goes on, no time is told.
            (95, 160, 2, 44, "16 %, 2 failed, 160 messages, 3.2 MB, 0 messages/s, 0 B/s, token 50 % busy"),
            (
                100,
                1_000,
                2,
                200,
                "100 %, 0:00 left, 2 failed, 1000 messages, 20.0 MB, 21 messages/s, 420.0 kB/s, token 98 % busy",
            ),
        ] {
            let text = view.text(Duration::from_secs(second), reached(messages, failed), busy(worked));
            assert_eq!(text, expected, "after {second} s");
        }
        assert!(view.samples.len() < 5);
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let mut view = View::new(Style::Lines);
        let reached = Reached { of: None, ..reached(100, 0) };
        view.text(Duration::ZERO, Reached { of: None, ..Reached::default() }, Busy::default());
        let text = view.text(Duration::from_hours(2), reached, Busy::default());
        assert_eq!(text, "100 messages, 2.0 MB, 0 messages/s, 277 B/s");
        assert_eq!(Clock(7_384.2).to_string(), "2:03:05");
    }

    #[test]
    fn a_bar_is_as_long_as_its_share_and_no_wider_than_the_terminal() {
        let mut view = View::new(Style::Bar(200));
        view.text(Duration::ZERO, reached(0, 0), Busy::default());
        let text = view.text(Duration::from_secs(5), reached(250, 1), Busy::default());
        let words = "25 %  0:15 left  1 failed  250 messages  5.0 MB  50 messages/s  1.0 MB/s";
        assert_eq!(text, format!("[#####               ] {words}"));
        let mut narrow = View::new(Style::Bar(40));
        assert_eq!(narrow.text(Duration::ZERO, reached(500, 0), Busy::default()).chars().count(), 39);
        // Of an archive that grew meanwhile there is never more than all.
        let grown = Reached { of: Some(1), ..reached(1_000, 0) };
        assert!(
            view.text(Duration::from_secs(9), grown, busy(0)).contains("[####################] 100 %  0:00")
        );
    }
}
