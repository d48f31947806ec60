//! A reader in order, workers, a writer in order; the byte gate between them.
//!
//! The calling thread reads, rayon's threads work, one thread writes, and one sits at the `desk` where messages wait
//! for the token. Each piece has a sequence number; the writer holds back what comes too early. The gate bounds what is
//! in flight, so nothing else needs a bound of its own, and a first message that waits for the token stops the
//! reader, not the memory. Small messages go from thread to thread some at a time: to wake one costs as much as to hash one.

mod bundle;
mod by_disk;
mod ends;
mod line;
mod ticket;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rayon::{ScopeFifo, ThreadPool};

pub use self::ends::{KeptBack, Mark, Noted, Observer, Outgoing, Sink, Source};
use self::{
    bundle::{ALONE, Bundle},
    by_disk::{ByDisk, Passed},
    line::Line,
    ticket::{CloseAtPanic, CloseDesk, Queued, Shared, Ticket, WORTH, Waiting, resume},
};
pub use crate::done::made::Made;
use crate::{
    basket::Basket,
    desk::Desk,
    digest::Summed,
    done::{Content, Done, Met},
    error::BatchError,
    form::Form,
    gate::{self, Gate},
    journal::Journal,
    outage::Outage,
    owner,
    render::ciphertext,
    stored::{Large, Origin, Piece, Stored, TooLarge},
    task::Task,
    worker::{Finished, Found},
    writer::Writer,
};

/// Notes how far a run is, and knows how far an earlier one was.
pub(crate) struct Keeping {
    pub(crate) journal: Journal,
    pub(crate) done: Done,
    /// How often to note it.
    pub(crate) every: Duration,
}

/// How a run is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    /// The threads that work.
    pub(crate) pool: &'a ThreadPool,
    /// The room between reader and writer, see [`gate`].
    pub(crate) room: u64,
    /// How many questions to private keys may be on their way.
    pub(crate) questions: usize,
    /// Set when somebody asked to stop.
    pub(crate) stop: &'a AtomicBool,
    /// How many messages came before, in other inputs.
    pub(crate) before: u64,
    /// Messages with more octets are copied as they are.
    pub(crate) max_message: u64,
    /// Where what is too large for memory is worked on: in the first of these folders in which that can be.
    pub(crate) scratch: &'a [PathBuf],
    /// Whether records tell what was written, or would have been.
    pub(crate) writes: bool,
    /// Whether text that was encrypted is put in the place of messages' files.
    pub(crate) opens_files: bool,
}

/// Runs the task on all that the source gives, and puts the sink's output in place. However that ends, gives what is known
/// of an earlier run, and how much of it was met.
pub(crate) fn run<'a>(
    run: Run<'_>,
    source: &mut dyn Source,
    task: &dyn Task,
    sink: Option<&'a mut dyn Sink>,
    observer: &'a mut dyn Observer,
    keeping: Option<Keeping>,
    outage: &'a mut Outage,
) -> (Done, Result<(), BatchError>) {
    let form = sink.as_ref().and_then(|sink| sink.form());
    let (journal, mut done) = match keeping {
        Some(Keeping { journal, done, every }) => (Some((journal, every)), done),
        None => (None, Done::default()),
    };
    let writer = Writer::new(sink, observer, run.writes, run.opens_files, journal, outage);
    let ended = passes(run, source, task, form, writer, &mut done);
    (done, ended)
}

/// Runs the task until there is nothing new.
fn passes(
    run: Run<'_>,
    source: &mut dyn Source,
    task: &dyn Task,
    form: Option<Form>,
    mut writer: Writer<'_>,
    done: &mut Done,
) -> Result<(), BatchError> {
    let mut messages = 0;
    loop {
        let run = Run { before: run.before + messages, ..run };
        let read = pass(run, source, task, form, &mut writer, done)?;
        messages += read.messages;
        writer.checkpoint(read.to_the_end)?;
        if !read.to_the_end {
            return Err(BatchError::Interrupted);
        }
        let again = source.look_again(&writer.take_lost());
        if !again.map_err(|error| failed(source, error))? {
            break;
        }
    }
    writer.finish()
}

/// Runs the task on what the source has now, and waits until all of it is written.
fn pass(
    run: Run<'_>,
    source: &mut dyn Source,
    task: &dyn Task,
    form: Option<Form>,
    writer: &mut Writer<'_>,
    done: &mut Done,
) -> Result<Read, BatchError> {
    let (gate, line, finished) = (Gate::new(run.room), Line::new(run.stop), Basket::new());
    let (read, written) = thread::scope(|threads| {
        let (gate, line, finished) = (&gate, &line, &finished);
        let writing = threads.spawn(move || write_all(finished, gate, line, writer));
        // However this ends, by a panic too, the writer shall not wait for more.
        let no_more = CloseBasket(finished);
        let (desk, clerk) = Desk::new(run.questions);
        let shared = Shared { task, form, gate, line, finished, desk: &desk };
        let read = run.pool.in_place_scope_fifo(|scope| {
            thread::scope(|threads| {
                threads.spawn(move || {
                    let _closing = CloseAtPanic(shared.gate);
                    let asks = |waiting: &mut Waiting<'_>| waiting.asks(shared.line);
                    // A token's connection begins with its first question, and shall be that of the process.
                    owner::as_process(|| {
                        clerk.serve(shared.desk, asks, |some| {
                            scope.spawn_fifo(move |_| resume(some, shared));
                        });
                    });
                });
                // However reading ends, by a panic too, the clerk goes home.
                let _closing = CloseDesk(shared.desk);
                let read = read_all(run, source, shared, done, scope);
                gate.wait_until_empty();
                read
            })
        });
        drop(no_more);
        (read, writing.join())
    });
    let written: Written = written.unwrap_or(Err(BatchError::Incomplete { read: 0, written: 0 }))?;
    let read = read?;
    if read.pieces != written.pieces {
        return Err(BatchError::Incomplete { read: read.pieces, written: written.pieces });
    }
    Ok(Read { to_the_end: read.to_the_end && !written.is_cut, ..read })
}

fn failed(source: &dyn Source, error: io::Error) -> BatchError {
    BatchError::Read { origin: source.path().display().to_string(), source: error }
}

/// How much was read.
#[derive(Default)]
struct Read {
    pieces: u64,
    messages: u64,
    to_the_end: bool,
}

/// What the writer does something with.
pub(crate) enum Ready {
    Finished(Box<Finished>),
    Large { index: u64, large: Large, why: TooLarge },
    Verbatim { index: u64, large: Large, is_doubtful: bool },
    Unreadable { index: u64, origin: Origin, error: io::Error },
    Vanished { index: u64, origin: Origin },
}

fn read_all<'scope, 'task: 'scope>(
    run: Run<'_>,
    source: &mut dyn Source,
    shared: Shared<'scope, 'task>,
    done: &mut Done,
    scope: &ScopeFifo<'scope>,
) -> Result<Read, BatchError> {
    let gate = shared.gate;
    let mut read = Read::default();
    let mut bundle = Bundle::default();
    let mut by_disk = ByDisk::new(run, shared.task);
    while !run.stop.load(Ordering::Relaxed) && !gate.is_closed() {
        let piece = source.next_piece().map_err(|error| {
            gate.close();
            failed(source, error)
        })?;
        let Some(piece) = piece else {
            read.to_the_end = true;
            break;
        };
        let mut again = match met(&piece, done) {
            Met::New => None,
            Met::Done => continue,
            Met::PutBack(folder) => Some(folder),
        };
        let charge = match &piece {
            Piece::Message(stored) if shared.task.works_on_objects() && ciphertext(stored).is_some() => {
                gate::light_charge(stored.octets.len())
            }
            Piece::Message(stored) => gate::charge(stored.octets.len()),
            // It is worked on alone.
            Piece::Large(large) if by_disk.takes(large) => run.room,
            // An open file and a copying buffer; not many shall wait for the writer.
            Piece::Large(_) | Piece::Verbatim { .. } => run.room / 16,
            Piece::Unreadable { .. } | Piece::Vanished { .. } => gate::OVERHEAD,
        };
        // Nobody shall wait for room that the bundle takes.
        if !gate.may_enter(charge) {
            bundle.hand_over(shared, scope);
        }
        if !gate.enter(charge) {
            break;
        }
        let (piece, scratch, too_large) = match by_disk.pass(piece, &mut again, done) {
            Ok(Passed::On { piece, scratch, too_large }) => (piece, scratch, too_large),
            Ok(Passed::Done) => {
                gate.leave(charge);
                continue;
            }
            Ok(Passed::Stopped) => {
                gate.leave(charge);
                break;
            }
            Err(error) => {
                gate.close();
                return Err(error);
            }
        };
        read.messages += 1;
        let index = run.before + read.messages;
        let ready = match *piece {
            Piece::Message(stored) => {
                // What takes long by itself neither waits for others nor has them wait.
                let is_alone = stored.octets.len() >= ALONE;
                if is_alone {
                    bundle.hand_over(shared, scope);
                }
                bundle.octets += stored.octets.len();
                let ticket = Ticket { sequence: read.pieces, charge, has_asked: false };
                bundle.messages.push((ticket, Found { stored, index, again, scratch }));
                if is_alone || bundle.is_full() {
                    bundle.hand_over(shared, scope);
                }
                None
            }
            Piece::Large(large) => Some(Ready::Large { index, large, why: too_large }),
            Piece::Verbatim { large, is_doubtful } => Some(Ready::Verbatim { index, large, is_doubtful }),
            Piece::Unreadable { origin, error } => Some(Ready::Unreadable { index, origin, error }),
            Piece::Vanished { origin } => Some(Ready::Vanished { index, origin }),
        };
        if let Some(ready) = ready {
            // A writer that is gone has closed the gate and tells why itself.
            shared.finished.put([Queued { sequence: read.pieces, charge, ready: Some(ready) }]);
        }
        read.pieces += 1;
    }
    bundle.hand_over(shared, scope);
    Ok(read)
}

/// What an earlier run has to do with a piece.
fn met(piece: &Piece, done: &mut Done) -> Met {
    match piece {
        Piece::Message(Stored { origin, octets, .. }) => {
            // Summed only where it is asked for.
            let sum = if done.knows_files() && origin.offset.is_none() {
                Summed::of(octets).sha256
            } else {
                String::new()
            };
            done.meets(origin, &Content::Sum(&sum))
        }
        Piece::Large(large) | Piece::Verbatim { large, .. } => done.meets(&large.origin, &large.content()),
        Piece::Unreadable { .. } | Piece::Vanished { .. } => Met::New,
    }
}

/// What came to the writer.
struct Written {
    pieces: u64,
    /// Whether some at the end were dropped, because somebody has stopped the run.
    is_cut: bool,
}

/// Writes in order, up to the first piece that was dropped.
fn write_all(
    finished: &Basket<Queued>,
    gate: &Gate,
    line: &Line<'_>,
    writer: &mut Writer<'_>,
) -> Result<Written, BatchError> {
    // However this ends, by a panic too, the reader must not wait for room that nobody will make.
    let _closing = CloseAtEnd(gate);
    let mut early = BTreeMap::new();
    let (mut next, mut is_cut, mut is_told) = (0, false, false);
    while let Some(some) = finished.take(Some(Instant::now() + LOOK), WRITTEN_TOGETHER) {
        if line.is_stopped() && !is_told {
            is_told = true;
            let (messages, time) = line.under_way();
            writer.stopping(messages, time);
        }
        early.extend(some.into_iter().map(|queued| (queued.sequence, queued)));
        let mut left = 0;
        while let Some(queued) = early.remove(&next) {
            match queued.ready {
                // That would be copied for as long as it is.
                Some(Ready::Large { .. }) if line.ends_before(next) => is_cut = true,
                Some(ready) if !is_cut => writer.write(ready)?,
                _ => is_cut = true,
            }
            next += 1;
            left += queued.charge;
            if left >= WORTH {
                gate.leave(std::mem::take(&mut left));
            }
        }
        if left > 0 {
            gate.leave(left);
        }
    }
    Ok(Written { pieces: next, is_cut })
}

/// How long nothing may come until the writer looks whether the run was stopped.
const LOOK: Duration = Duration::from_millis(200);

/// For how many messages the writer is woken, behind the first.
const WRITTEN_TOGETHER: usize = 16;

struct CloseBasket<'a>(&'a Basket<Queued>);

impl Drop for CloseBasket<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct CloseAtEnd<'a>(&'a Gate);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
