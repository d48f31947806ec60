//! Words for people, on the standard error. Who does not read them does not stop the run.
//!
//! A thread of its own writes them. While it gets on, nothing is left out, however slow the reader is; when it has got
//! nowhere for a while, nobody waits for it any more, and what there is no room for is left out and counted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Says a line. What has lines in it, as a name of a file may, has no other that begins where ours begin.
pub fn say(line: &str) {
    write(format!("{}\n", one(line)));
}

/// Says lines that are all ours.
pub fn tell(lines: &str) {
    write(format!("{}\n", shown(lines)));
}

/// A line, with what may stand below it.
pub(crate) fn one(line: &str) -> String {
    shown(line).replace('\n', "\n    ")
}

/// Text without what does something to a terminal: names of files are whose mail it is to choose.
pub(crate) fn shown(text: &str) -> String {
    let is_mark = |letter| matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_odd = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t') || is_mark(letter);
    text.replace(is_odd, "\u{fffd}")
}

/// The same with all that is written, the end of the line too.
pub(crate) fn write(text: String) {
    STDERR.get().put(text, Urgency::Word);
}

/// Writes over what is in the last line of a terminal, if everything before is written: it will be out of date soon.
pub(crate) fn show(text: String) {
    STDERR.get().put(text, Urgency::View);
}

/// Says a line that is worth nobody's waiting.
pub(crate) fn mention(line: &str) {
    STDERR.get().put(format!("{}\n", one(line)), Urgency::Mention);
}

/// So many messages.
pub(crate) fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

/// What is said to who stops a run.
pub(crate) fn finishing(under_way: u64, time: Option<Duration>) -> String {
    let what = if under_way == 0 { "what is in flight".to_owned() } else { messages(under_way) };
    let time = time.filter(|_| under_way > 0);
    let time = time.map_or(String::new(), |time| format!(", about {} s", time.as_secs_f64().ceil()));
    format!("finishing {what}{time}; interrupt again to stop at once")
}

/// Waits until all is written, but not for a reader who does not read.
pub fn finish() {
    STDERR.get().finish();
}

/// For whoever writes lines without knowing this.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words;

impl Write for Words {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        STDERR.get().put(shown(&String::from_utf8_lossy(octets)), Urgency::Word);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static STDERR: Stderr = Stderr(std::sync::OnceLock::new());

/// The standard error, once for the program.
struct Stderr(std::sync::OnceLock<Queue>);

impl Stderr {
    fn get(&self) -> &Queue {
        self.0.get_or_init(|| Queue::to(io::stderr()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// Somebody wants to know it.
    Word,
    /// It is left out where there is no room.
    Mention,
    /// It is left out where there is anything else.
    View,
}

/// What is to be written.
struct Queue {
    shared: Arc<Shared>,
    /// Whether there is a thread that writes it.
    is_served: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    patience: Duration,
}

#[derive(Default)]
struct State {
    texts: VecDeque<String>,
    octets: usize,
    /// Whether something is being written now.
    is_writing: bool,
    /// How many times something was written.
    written: u64,
    /// Whether the reader is known not to read, since so many were written.
    given_up_at: Option<u64>,
    lost: u64,
}

impl Queue {
    fn to(sink: impl Write + Send + 'static) -> Self {
        Self::with(sink, PATIENCE)
    }

    fn with(sink: impl Write + Send + 'static, patience: Duration) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), patience });
        let serving = Arc::clone(&shared);
        let thread = thread::Builder::new().name("words".into());
        let is_served = thread.spawn(move || serving.serve(sink)).is_ok();
        Self { shared, is_served }
    }

    fn put(&self, text: String, urgency: Urgency) {
        if !self.is_served {
            let _ = io::stderr().write_all(text.as_bytes());
            return;
        }
        let mut state = self.shared.state();
        match urgency {
            Urgency::View if state.is_writing || !state.texts.is_empty() => return,
            Urgency::Word => state = self.shared.wait(state, |state| !state.is_full()),
            Urgency::View | Urgency::Mention => {}
        }
        if state.is_full() {
            state.lost += 1;
            return;
        }
        state.octets += text.len();
        state.texts.push_back(text);
        drop(state);
        self.shared.changed.notify_all();
    }

    fn finish(&self) {
        if self.is_served {
            let is_done = |state: &State| state.texts.is_empty() && !state.is_writing;
            drop(self.shared.wait(self.shared.state(), is_done));
        }
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.octets >= ROOM
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is so, or the reader has not read for a while: for that is waited once.
    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        is_so: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        while !is_so(&state) && state.given_up_at != Some(state.written) {
            let before = state.written;
            let waited = self
                .changed
                .wait_timeout_while(state, self.patience, |state| state.written == before && !is_so(state));
            let (again, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            if waited.timed_out() && state.written == before {
                state.given_up_at = Some(before);
            }
        }
        state
    }

    /// Writes what comes, without the lock.
    fn serve(&self, mut sink: impl Write) {
        let mut state = self.state();
        loop {
            let Some(text) = state.texts.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.octets -= text.len();
            state.is_writing = true;
            let lost = std::mem::take(&mut state.lost);
            drop(state);
            // A standard error that is gone is no reason to stop.
            let _ = sink.write_all(text.as_bytes());
            if lost > 0 {
                let _ = writeln!(sink, "hsmime-batch: {lost} lines were not read in time, and are left out");
            }
            state = self.state();
            state.is_writing = false;
            state.written += 1;
            self.changed.notify_all();
        }
    }
}

/// How many octets may wait.
const ROOM: usize = 64 << 10;
/// How long a reader may take for a line.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Instant};

    use super::*;

    const LINES: usize = 3_000;

    fn line(number: usize) -> String {
        format!("line {number} {}\n", "of many ".repeat(10))
    }

    #[test]
    fn no_name_that_somebody_chose_does_anything_to_a_terminal() {
        for (text, expected) in [
            ("m/x\u{1b}]0;pwn\u{7}\u{1b}[2Jy", "m/x\u{fffd}]0;pwn\u{fffd}\u{fffd}[2Jy"),
            ("a\u{9b}2Jb\rc\u{202e}d", "a\u{fffd}2Jb\u{fffd}c\u{fffd}d"),
            ("two\n\tlines, größer", "two\n\tlines, größer"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(one("m/x\nhsmime-batch: 5 messages"), "m/x\n    hsmime-batch: 5 messages");
    }

    #[test]
    fn who_stops_a_run_is_told_how_much_is_left_and_how_long_it_takes_if_that_is_known() {
        for (under_way, time, expected) in [
            (16, Some(Duration::from_millis(3_200)), "finishing 16 messages, about 4 s"),
            (1, None, "finishing 1 message"),
            (0, Some(Duration::ZERO), "finishing what is in flight"),
        ] {
            let told = finishing(under_way, time);
            assert_eq!(told, format!("{expected}; interrupt again to stop at once"));
        }
    }

    #[test]
    fn a_slow_reader_gets_every_line() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = Queue::with(writer, Duration::from_mins(1));
        let lines = LINES;
        let slow = thread::spawn(move || {
            let mut text = Vec::new();
            let mut some = [0; 4096];
            while memchr::memchr_iter(b'\n', &text).count() < lines {
                thread::sleep(Duration::from_millis(2));
                let read = reader.read(&mut some).unwrap();
                text.extend_from_slice(&some[..read]);
            }
            text
        });
        for number in 0..lines {
            queue.put(line(number), Urgency::Word);
        }
        assert!(slow.join().unwrap() == (0..lines).map(line).collect::<String>().into_bytes());
    }

    #[test]
    fn a_reader_who_does_not_read_is_waited_for_once_and_told_when_he_does() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = Queue::with(writer, Duration::from_millis(500));
        // What fills the pipe and the room goes in, and then he is waited for once.
        let lines = LINES;
        let began = Instant::now();
        for number in 0..lines {
            queue.put(line(number), Urgency::Word);
        }
        queue.finish();
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(500), "{waited:?}");
        let lost = queue.shared.state().lost;
        assert!(lost > 0 && lost < lines as u64, "{lost}");
        // What is only for now does not wait in line.
        let before = queue.shared.state().texts.len();
        queue.put("a bar".into(), Urgency::View);
        assert_eq!(queue.shared.state().texts.len(), before);

        let reading = thread::spawn(move || {
            let mut text = Vec::new();
            let mut some = [0; 4096];
            while memchr::memmem::find(&text, b"lines were not read").is_none() {
                let read = reader.read(&mut some).unwrap();
                text.extend_from_slice(&some[..read]);
            }
            String::from_utf8(text).unwrap()
        });
        assert!(reading.join().unwrap().contains(&format!("hsmime-batch: {lost} lines were not read")));
    }
}
