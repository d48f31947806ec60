//! What is done with each piece in order: written, recorded, and the run stopped when nothing works.

use std::{
    collections::HashSet,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use smime::Fault;

use crate::{
    attributes::others_may_read,
    digest::{CopyError, Summed},
    done::Content,
    error::BatchError,
    journal::{self, Checkpoint, Journal},
    outage::{Asked, Hold, Outage},
    output::Copied,
    owner,
    pipeline::{KeptBack, Mark, Noted, Observer, Outgoing, Ready, Sink},
    report::{ErrorRecord, FAILED, KEPT, Record},
    stored::{Large, Origin, TooLarge},
    task::{Done, Failed},
    worker::Finished,
};

/// Takes the pieces in order.
pub(crate) struct Writer<'a> {
    sink: Option<&'a mut dyn Sink>,
    observer: &'a mut dyn Observer,
    writes: bool,
    /// Whether it is to be told if everybody may read a file in whose place comes what was opened: once.
    tells_readers: bool,
    /// What failed for a reason outside of it.
    outage: &'a mut Outage,
    notes: Option<Notes>,
    /// What is to be told when it is known which messages are in place.
    held: Vec<Record>,
    /// Messages that were gone when they were to be replaced.
    lost: Vec<PathBuf>,
}

/// What will be in the journal next.
struct Notes {
    journal: Journal,
    every: Duration,
    /// When it was noted last.
    noted: Instant,
    /// Octets since then.
    octets: u64,
    /// When the statistics were noted last.
    counted: Instant,
    next: Checkpoint,
    /// While messages are among those that may be the first of an outage.
    hold: Hold,
}

impl Notes {
    /// Whether there is nothing to be noted yet, for a while at most.
    fn is_in_doubt(&self) -> bool {
        self.hold.holds(self.next.inputs.len(), self.octets)
    }
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        sink: Option<&'a mut dyn Sink>,
        observer: &'a mut dyn Observer,
        writes: bool,
        tells_readers: bool,
        journal: Option<(Journal, Duration)>,
        outage: &'a mut Outage,
    ) -> Self {
        let notes = journal.map(|(journal, every)| Notes {
            journal,
            every,
            noted: Instant::now(),
            octets: 0,
            counted: Instant::now(),
            next: Checkpoint::default(),
            hold: Hold::default(),
        });
        Self { sink, observer, writes, tells_readers, outage, notes, held: Vec::new(), lost: Vec::new() }
    }

    pub(crate) fn write(&mut self, ready: Ready) -> Result<(), BatchError> {
        self.note(&ready);
        self.write_piece(ready)?;
        let is_due = |notes: &Notes| {
            (notes.octets >= NOTE_OCTETS || notes.noted.elapsed() >= notes.every) && !notes.is_in_doubt()
        };
        let is_whole = self.sink.as_ref().is_some_and(|sink| sink.is_whole());
        if is_whole && self.notes.as_ref().is_some_and(is_due) { self.mark(false) } else { Ok(()) }
    }

    /// Somebody has stopped the run.
    pub(crate) fn stopping(&mut self, messages: u64, time: Option<Duration>) {
        self.observer.stopping(messages, time);
    }

    fn note(&mut self, ready: &Ready) {
        let Some(notes) = self.notes.as_mut() else { return };
        let (origin, size, content) = match ready {
            Ready::Finished(finished) => {
                (&finished.place.origin, finished.input.size, Content::Sum(&finished.input.sha256))
            }
            Ready::Large { large, .. } | Ready::Verbatim { large, .. } => {
                (&large.origin, large.size(), large.content())
            }
            Ready::Unreadable { .. } | Ready::Vanished { .. } => return,
        };
        notes.octets = notes.octets.saturating_add(size);
        match origin.offset {
            Some(offset) => notes.next.offset = Some(offset),
            None => notes.next.inputs.push(notes.journal.input_name(origin, &content)),
        }
    }

    /// Makes all so far durable and notes it in the journal, if there is one; or as much of it as is whole, unless it is all
    /// that comes.
    pub(crate) fn checkpoint(&mut self, all_came: bool) -> Result<(), BatchError> {
        if let (Some(sink), true) = (&mut self.sink, all_came) {
            sink.all_came()?;
        }
        if !all_came && self.notes.as_ref().is_some_and(Notes::is_in_doubt) {
            return self.settle();
        }
        self.mark(true)
    }

    /// The same; with all that is counted, or with that only now and then.
    fn mark(&mut self, with_statistics: bool) -> Result<(), BatchError> {
        self.settle()?;
        let (Some(notes), Some(sink)) = (&mut self.notes, &mut self.sink) else { return Ok(()) };
        let mut next = Checkpoint { offset: notes.next.offset, ..Checkpoint::default() };
        match sink.checkpoint()? {
            None => {
                (notes.noted, notes.octets) = (Instant::now(), 0);
                notes.hold.failed();
                return Ok(());
            }
            Some(Mark::Length { durable, missing }) => {
                (next.output, next.inode, next.missing) =
                    (Some(durable.length), Some(durable.inode), missing);
            }
            Some(Mark::Files { folder, added, lengths }) => {
                next.inode = folder;
                next.outputs = added.iter().map(|path| journal::output_name(path)).collect();
                let lengths = lengths.iter();
                next.lengths = lengths.map(|(path, length)| (journal::output_name(path), *length)).collect();
            }
        }
        next.inputs = std::mem::take(&mut notes.next.inputs);
        let Noted { report, archive, totals, statistics } = self.observer.checkpoint()?;
        (next.report, next.archive, next.totals, next.statistics) = (report, archive, totals, statistics);
        next.messages = next.totals.messages();
        if with_statistics || notes.counted.elapsed() >= COUNT_EVERY {
            notes.counted = Instant::now();
        } else {
            next.statistics = None;
        }
        notes.journal.checkpoint(next)?;
        sink.noted()?;
        tell_kept(*sink, self.observer)?;
        (notes.noted, notes.octets) = (Instant::now(), 0);
        notes.hold.end();
        Ok(())
    }

    /// Those that were gone since somebody asked.
    pub(crate) fn take_lost(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.lost)
    }

    /// Tells what became of a message, as soon as that is known.
    fn tell(&mut self, record: Record) -> Result<(), BatchError> {
        let Some(sink) = &self.sink else { return self.observer.record(&record) };
        let is_due = sink.is_settled() || sink.is_full();
        self.held.push(record);
        if is_due || self.held.len() >= HELD { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> Result<(), BatchError> {
        let mut lost = match &mut self.sink {
            Some(sink) => {
                let coming = sink.take_coming();
                if let Some(notes) = self.notes.as_mut().filter(|_| !coming.is_empty()) {
                    notes.journal.begin_replacing(&coming)?;
                }
                sink.settle()?
            }
            None => HashSet::new(),
        };
        for mut record in std::mem::take(&mut self.held) {
            // Who failed is not replaced; who is replaced is lost once.
            if let Some(path) = record.output.as_ref().and_then(|_| lost.take(&*record.source.file)) {
                self.lost.push(path);
                if let Some(notes) = &mut self.notes {
                    let name = notes.journal.input_name(&record.source, &Content::Sum(&record.input.sha256));
                    // Another one may have its name and octets.
                    if let Some(at) = notes.next.inputs.iter().rposition(|noted| *noted == name) {
                        notes.next.inputs.remove(at);
                    }
                }
                let reason = "it was moved or deleted meanwhile".to_owned();
                let error = Some(ErrorRecord { fault: Fault::Transient, reason });
                record = Record { action: FAILED, reason: None, error, output: None, ..record };
            }
            self.observer.record(&record)?;
        }
        Ok(())
    }

    fn write_piece(&mut self, ready: Ready) -> Result<(), BatchError> {
        match ready {
            Ready::Finished(finished) => self.finished(*finished),
            Ready::Large { index, large, why } => self.large(index, large, &why),
            Ready::Verbatim { index, large, is_doubtful } => self.verbatim(index, large, is_doubtful),
            Ready::Unreadable { index, origin, error } => self.unreadable(index, origin, error),
            Ready::Vanished { index, origin } => {
                self.missing(index, origin, Fault::Transient, "it was deleted during the run".into())
            }
        }
    }

    /// Puts the output in place, after the last [`Self::checkpoint`].
    pub(crate) fn finish(mut self) -> Result<(), BatchError> {
        if let Some(notes) = &mut self.notes {
            notes.journal.complete()?;
        }
        if let Some(sink) = self.sink {
            sink.finish()?;
            tell_kept(sink, self.observer)?;
        }
        self.notes.map_or(Ok(()), |notes| notes.journal.remove())
    }

    fn finished(&mut self, mut finished: Finished) -> Result<(), BatchError> {
        if finished.result.is_ok() && finished.input != finished.output {
            let why = self.sink.as_ref().and_then(|sink| sink.keeps_back(&finished.place));
            if let Some(reason) = why {
                finished.output = finished.input.clone();
                finished.result = Err(Failed::new(Fault::Operator, reason));
            }
        }
        let mut is_written = false;
        if let Some(sink) = &mut self.sink
            && (finished.result.is_ok() || sink.takes_failed())
        {
            is_written = true;
            let changed = finished.input != finished.output;
            let (place, file) = (&finished.place, &finished.place.origin.file);
            let mode = || place.attributes.as_ref().map_or(0, |attributes| attributes.metadata().mode());
            if self.tells_readers && changed && others_may_read(file, mode()) {
                self.tells_readers = false;
                self.observer.others_may_read(file);
            }
            let Finished { index, place, octets, input, output, .. } = &finished;
            sink.message(&Outgoing { index: *index, input, place, octets, output, changed })?;
        }
        let mut record = Record {
            again: finished.again,
            message_id: finished.message_id,
            year: finished.year,
            layers: finished.contents.layers,
            is_no_message: finished.is_no_message,
            output: (self.writes && (is_written || self.sink.is_none())).then_some(finished.output),
            elapsed_ms: u64::try_from(finished.elapsed.as_millis()).unwrap_or(u64::MAX),
            ..Record::new(finished.index, finished.place.origin, finished.input)
        };
        let lost = self.count(&finished.asked, &finished.result);
        match finished.result {
            Ok(Done { action, verdict, signers, mut keys, reason, .. }) => {
                let key = keys.first().cloned();
                if keys.len() < 2 {
                    keys.clear();
                }
                record = Record { action, verdict, signers, key, keys, reason, ..record };
                self.tell(record)
            }
            Err(Failed { fault, reason, verdict }) => {
                let lost = lost.map(|messages| BatchError::TokenLost { messages, reason: reason.clone() });
                record = Record { verdict, error: Some(ErrorRecord { fault, reason }), ..record };
                self.tell(record)?;
                let Some(lost) = lost else { return Ok(()) };
                self.settle()?;
                Err(lost)
            }
        }
    }

    /// An outage shall stop the run, not turn the rest of the archive into failures one by one. Nor shall who goes on find in
    /// the journal, as done, what failed in one.
    fn count(&mut self, asked: &Asked, result: &Result<Done, Failed>) -> Option<usize> {
        let is_transient = result.as_ref().is_err_and(|failed| failed.fault == Fault::Transient);
        let lost = self.outage.add(asked, is_transient);
        if let Some(notes) = &mut self.notes {
            if !self.outage.is_in_doubt() {
                notes.hold.end();
            } else if is_transient {
                notes.hold.begin();
            }
        }
        lost
    }

    fn large(&mut self, index: u64, large: Large, why: &TooLarge) -> Result<(), BatchError> {
        let source = large.origin.clone();
        let copied = self.copy(large)?;
        let is_written = self.writes && self.sink.as_ref().is_none_or(|sink| sink.takes_failed());
        self.tell(Record {
            error: Some(ErrorRecord { fault: why.fault(), reason: why.to_string() }),
            output: is_written.then_some(copied.written),
            ..Record::new(index, source, copied.read)
        })
    }

    /// Octets that belong to no message have a line of their own in the report, or nobody could prove that the output has
    /// these there, and no others.
    fn verbatim(&mut self, index: u64, large: Large, is_doubtful: bool) -> Result<(), BatchError> {
        let source = large.origin.clone();
        let copied = self.copy(large)?;
        let record = Record {
            is_no_message: true,
            output: self.writes.then_some(copied.written),
            ..Record::new(index, source, copied.read)
        };
        self.tell(if is_doubtful {
            let reason = format!(
                "{} octets before the first message may be one, but begin with no proper From_ line",
                record.input.size
            );
            Record { error: Some(ErrorRecord { fault: Fault::Message, reason }), ..record }
        } else {
            Record {
                action: KEPT,
                reason: Some("not a message, but what is before the first".into()),
                ..record
            }
        })
    }

    fn copy(&mut self, mut large: Large) -> Result<Copied, BatchError> {
        if let Some(sink) = &mut self.sink {
            return sink.copy(large);
        }
        let copied =
            Summed::of_copy(&mut large.octets, &mut std::io::sink()).map_err(|error| match error {
                CopyError::Read(source) | CopyError::Write(source) => {
                    BatchError::Read { origin: large.origin.to_string(), source }
                }
            })?;
        Ok(Copied::as_is(copied))
    }

    /// An output without this message would look complete, so there is none. What the owner of mail may not read there, with
    /// whose rights root works in place, stays where it is.
    fn unreadable(&mut self, index: u64, source: Origin, error: std::io::Error) -> Result<(), BatchError> {
        let is_anothers = error.kind() == std::io::ErrorKind::PermissionDenied && owner::is_acting();
        if self.sink.is_some() && !is_anothers {
            return Err(BatchError::Read { origin: source.to_string(), source: error });
        }
        self.missing(index, source, Fault::Operator, format!("cannot be read: {error}"))
    }

    fn missing(
        &mut self,
        index: u64,
        source: Origin,
        fault: Fault,
        reason: String,
    ) -> Result<(), BatchError> {
        self.tell(Record {
            error: Some(ErrorRecord { fault, reason }),
            ..Record::new(index, source, Summed::of(b""))
        })
    }
}

/// Tells of messages that stay as they were, although it was told already what became of them: their lines take the place of
/// those.
fn tell_kept(sink: &mut dyn Sink, observer: &mut dyn Observer) -> Result<(), BatchError> {
    for KeptBack { index, file, folder, sum } in sink.take_kept() {
        let reason = "what it became was moved or deleted at once, so it is there as it was".to_owned();
        observer.record(&Record {
            again: Some(folder),
            error: Some(ErrorRecord { fault: Fault::Transient, reason }),
            output: Some(sum.clone()),
            ..Record::new(index, Origin { file: file.into(), offset: None }, sum)
        })?;
    }
    Ok(())
}

/// How often the statistics are noted while a run goes on.
const COUNT_EVERY: Duration = Duration::from_mins(5);

/// After how many octets it is noted how far the run is.
pub(crate) const NOTE_OCTETS: u64 = 64 << 20;

/// How many records wait at most for what becomes of their messages.
const HELD: usize = 1024;
