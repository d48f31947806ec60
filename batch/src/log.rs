//! What people see of a run, and what programs read: progress, failures by name, totals, the report.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use smime::Fault;

use crate::{
    archive::Kind,
    done::{Done, Moved},
    error::BatchError,
    html,
    journal::Checkpoint,
    mbox::Survey,
    pipeline::{Noted, Observer},
    progress::{Progress, Showing, Style, terminal},
    report::{Record, Report},
    run::Extent,
    select::NOT_SELECTED,
    statistics::Statistics,
    words,
};

/// Takes the records of a run.
pub struct Log {
    report: Report,
    totals: Totals,
    began: Instant,
    progress: Progress,
    /// Whether to speak of what goes well.
    is_quiet: bool,
    /// How many messages of this input had been replaced before, were there again as they were, and are done again.
    put_back: u64,
    /// For a summary for people, if one is asked for.
    statistics: Option<Statistics>,
}

/// What became of all messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Totals {
    /// For each action, and each verdict, how many messages and octets.
    rows: BTreeMap<(String, String), (u64, u64)>,
    failed: u64,
    /// Whose fault the last failure was.
    fault: Option<Fault>,
    elapsed: Duration,
}

/// Totals in a journal: each row, how many failed, and how long it took.
#[derive(Serialize, Deserialize)]
struct Saved(Vec<(String, String, u64, u64)>, u64, #[serde(default)] Duration);

impl From<Totals> for Saved {
    fn from(totals: Totals) -> Self {
        let rows = totals.rows.into_iter();
        let rows = rows.map(|((action, what), (messages, octets))| (action, what, messages, octets));
        Self(rows.collect(), totals.failed, totals.elapsed)
    }
}

impl From<Saved> for Totals {
    fn from(Saved(rows, failed, elapsed): Saved) -> Self {
        let rows = rows.into_iter();
        let rows = rows.map(|(action, what, messages, octets)| ((action, what), (messages, octets)));
        Self { rows: rows.collect(), failed, fault: None, elapsed }
    }
}

impl Totals {
    /// How many messages there were.
    pub fn messages(&self) -> u64 {
        self.rows.values().map(|(messages, _)| messages).sum()
    }

    /// How many of them failed.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Whose fault the last failure in this run was.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Whether there were messages, and none was selected.
    pub fn selected_nothing(&self) -> bool {
        let mut actions = self.rows.keys().map(|(action, _)| action.as_str());
        actions.next() == Some(NOT_SELECTED) && actions.next().is_none()
    }

    /// How long this run, and those that it goes on with, took.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// For each action and each verdict, how many messages and octets.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, &str, u64, u64)> {
        let rows = self.rows.iter();
        rows.map(|((action, what), (messages, octets))| (&**action, &**what, *messages, *octets))
    }

    /// How many octets there were.
    pub(crate) fn octets(&self) -> u64 {
        self.rows.values().map(|(_, octets)| octets).sum()
    }

    pub(crate) fn add(&mut self, record: &Record) {
        let what = match (&record.error, &record.verdict) {
            (Some(_), Some(verdict)) => Cow::Owned(format!("signature {verdict}")),
            (Some(error), None) => Cow::Owned(format!("{} fault", error.fault)),
            (None, Some(verdict)) => Cow::Borrowed(&**verdict),
            (None, None) => Cow::Borrowed(""),
        };
        // There are few, and most messages go into one that there is.
        let known = self.rows.iter_mut().find(|((action, of), _)| *action == record.action && *of == what);
        let row = match known {
            Some((_, row)) => row,
            None => self.rows.entry((record.action.to_owned(), what.into_owned())).or_default(),
        };
        row.0 += 1;
        row.1 += record.input.size;
        self.failed += u64::from(record.error.is_some());
        self.fault = record.error.as_ref().map(|error| error.fault).or(self.fault);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:>10} {:>10}", "", "messages", "octets")?;
        for ((action, what), (messages, octets)) in &self.rows {
            let row = match what.as_str() {
                "" => action.clone(),
                // What verification calls it where there is no signature.
                "none" => format!("{action}, not signed"),
                what => format!("{action}, {what}"),
            };
            writeln!(f, "{row:<32} {messages:>10} {:>10}", Octets(*octets))?;
        }
        let (messages, octets) = (self.messages(), self.octets());
        writeln!(f, "{:<32} {messages:>10} {:>10}", "total", Octets(octets))?;
        write!(f, "{:.1} s, {}", self.elapsed.as_secs_f64(), Rate { messages, octets, during: self.elapsed })
    }
}

impl Log {
    /// Begins the log of a run on these inputs. Without `showing` it is quiet.
    pub(crate) fn new(mut report: Report, showing: Option<&Showing>, inputs: Vec<(PathBuf, Kind)>) -> Self {
        // Lines of the report on the same terminal are progress enough.
        let seen = showing.filter(|_| !report.is_on_terminal());
        report.expect_inputs(inputs.len());
        let style = || terminal().map_or(Style::Lines, Style::Bar);
        let progress = Progress::new(seen.map(|showing| (showing.clone(), style())), inputs);
        Self {
            report,
            totals: Totals::default(),
            began: Instant::now(),
            progress,
            is_quiet: showing.is_none(),
            put_back: 0,
            statistics: None,
        }
    }

    /// Counts for a summary for people.
    pub(crate) fn keep_statistics(&mut self) {
        self.statistics = Some(Statistics::new());
    }

    /// That summary, an HTML file, if it was asked for.
    pub(crate) fn page(&self) -> Option<String> {
        self.statistics.as_ref().map(|statistics| html::page(statistics, &self.totals()))
    }

    /// What became of the messages so far.
    pub fn totals(&self) -> Totals {
        Totals { elapsed: self.elapsed(), ..self.totals.clone() }
    }

    /// How long this run has worked, and those before it that it goes on with.
    fn elapsed(&self) -> Duration {
        self.totals.elapsed + self.began.elapsed()
    }

    /// Goes on where an earlier run was: with what it had counted, and a report of that length.
    pub(crate) fn go_on(&mut self, last: &Checkpoint) -> Result<(), BatchError> {
        let Checkpoint { totals, report, archive, statistics, .. } = last;
        self.totals = totals.clone();
        if let (Some(kept), Some(statistics)) = (&mut self.statistics, statistics) {
            kept.clone_from(statistics);
        }
        self.report.cut(*report, totals.messages(), *archive)?;
        if totals.messages() > 0 {
            self.say(&format!("going on after {}", words::messages(totals.messages())));
        }
        Ok(())
    }

    /// Says which folders an input has lost since it was begun, and how much of them is done.
    pub(crate) fn folders_gone(&self, folders: &[&Path], messages: u64) {
        if folders.is_empty() {
            return;
        }
        let mut names: Vec<String> =
            folders.iter().take(NAMED).map(|path| path.display().to_string()).collect();
        if folders.len() > NAMED {
            names.push("others".into());
        }
        let number = folders.len();
        self.say(&format!(
            "gone since this run was begun: {number} folders of the input ({})",
            names.join(", ")
        ));
        self.say(&format!("{messages} messages of them are done and stay done"));
    }

    /// Says which messages of an input are not where they were, and how many were put back and done again.
    pub(crate) fn moved(&self, moved: &Moved) {
        let (Moved { again, missing, alike }, put_back) = (moved, self.put_back);
        if *again > 0 {
            self.say(&format!(
                "{again} messages done before are now in folders that came since; they are not done again, and are \
                 in the output under the folders' old names"
            ));
        }
        if *missing > 0 {
            self.say(&format!(
                "{missing} messages done before are no longer where they were, and stay in the output; any that was \
                 moved or changed, not deleted, is there twice"
            ));
        }
        if put_back > 0 {
            self.say(&format!(
                "{put_back} messages that were replaced before are there again as they were; they are done again, and \
                 the report has a line of both"
            ));
        }
        if *alike > 0 {
            self.say(&format!(
                "{alike} messages over --max-message, in folders that came since, have name and length of ones done \
                 before; they are copied again, and any that is the same is in the output twice"
            ));
        }
    }

    /// Tells from the lines of the report that are kept which messages were put back since they were replaced.
    pub(crate) fn tell_put_back(&self, done: &mut Done) -> Result<(), BatchError> {
        self.report.tell_put_back(done)
    }

    /// There is nothing to go on with: a report that is there is another run's.
    pub(crate) fn begin_anew(&self) -> Result<(), BatchError> {
        self.report.check_new()
    }

    /// Messages of another input come next.
    pub(crate) fn next_archive(&mut self, root: &Path, kind: Kind) {
        self.put_back = 0;
        self.report.next_archive(root, kind);
    }

    /// So many octets there are in all.
    pub(crate) fn expect(&self, octets: u64) {
        self.progress.expect(octets);
    }

    /// Says what a look at an mbox found, at all of it or at as much as was read.
    pub(crate) fn survey(&self, path: &Path, survey: &Survey, read: Extent) {
        let Survey { messages, preamble, doubtful, disputed, hidden, wrong_lengths, .. } = survey;
        let variant = survey.variant().as_str();
        let writer = survey.writer.map_or(String::new(), |writer| format!(" of {}", writer.as_str()));
        if !self.is_quiet {
            let up_to_here = if read == Extent::Whole { "" } else { " as far as it was read" };
            let path = path.display();
            let count = words::messages(*messages);
            self.say(&format!("{path}: {count}{up_to_here}, read as {variant}{writer}"));
        }
        if *wrong_lengths > 0 {
            self.say(&format!(
                "{}: the Content-Length of {wrong_lengths} messages is wrong and not believed",
                path.display()
            ));
        }
        if *preamble > 3 {
            self.say(&format!("{}: {preamble} octets before the first message are kept", path.display()));
        }
        if *doubtful > 0 {
            self.say(&format!(
                "{}: {doubtful} messages may be two each; they are not touched",
                path.display()
            ));
        }
        if *disputed > 0 {
            self.say(&format!(
                "{}: {disputed} messages may be parts of one, by a Content-Length; they are not touched",
                path.display()
            ));
        }
        if *hidden > 0 {
            self.say(&format!(
                "{}: {hidden} messages may hide others, by a Content-Length; they are not touched",
                path.display()
            ));
        }
    }

    /// Says which files beside the messages do not get into the output; first those that may have mail in them.
    pub(crate) fn left_out(&self, root: &Path, paths: &[PathBuf], doubtful: &[PathBuf]) {
        self.name(root, doubtful, &format!("left out, {DOUBTFUL}"));
        let doubtful: HashSet<&PathBuf> = doubtful.iter().collect();
        let others: Vec<PathBuf> = paths.iter().filter(|path| !doubtful.contains(path)).cloned().collect();
        self.name(root, &others, "not mail, left out");
    }

    /// Says what in a Maildir that is replaced stays as it is, though it may be mail.
    pub(crate) fn not_replaced(&self, root: &Path, doubtful: &[PathBuf]) {
        self.name(root, doubtful, &format!("stays as it is, {DOUBTFUL}"));
    }

    fn name(&self, root: &Path, paths: &[PathBuf], what: &str) {
        for path in paths.iter().take(NAMED) {
            self.say(&format!("{}: {what}", root.join(path).display()));
        }
        if paths.len() > NAMED {
            self.say(&format!("{} more: {what}", paths.len() - NAMED));
        }
    }

    /// Makes the report, unless there is one.
    pub(crate) fn begin_report(&mut self) -> Result<(), BatchError> {
        self.report.begin()
    }

    /// Nothing was done: an empty report shall not stay.
    pub(crate) fn abandon_report(&mut self) {
        self.report.abandon();
    }

    /// Sees that the report is on the disk.
    pub(crate) fn finish(&mut self) -> Result<(), BatchError> {
        self.progress.end();
        self.report.finish()
    }

    fn failure(&self, record: &Record) {
        let Some(error) = &record.error else { return };
        let before = self.totals.failed;
        if before <= NAMED as u64 || !self.report.is_some() {
            let line = format!(
                "message {}, {}: {} ({} fault)",
                record.index, record.source, error.reason, error.fault
            );
            self.say(&line);
        } else if before == NAMED as u64 + 1 {
            self.say("further failures are named in the report");
        }
    }

    /// Words for people.
    pub(crate) fn say(&self, line: &str) {
        self.progress.say(line);
    }
}

impl Observer for Log {
    fn stopping(&mut self, messages: u64, time: Option<Duration>) {
        self.say(&words::finishing(messages, time));
    }

    fn others_may_read(&mut self, file: &Path) {
        self.say(&format!(
            "warning: everybody may read {}, and so what is opened there: rights stay as they are in place; take them \
             away with chmod -R o=",
            file.display()
        ));
    }

    fn checkpoint(&mut self) -> Result<Noted, BatchError> {
        let (totals, statistics) = (self.totals(), self.statistics.clone());
        Ok(Noted { report: self.report.sync()?, archive: self.report.archive(), totals, statistics })
    }

    fn record(&mut self, record: &Record) -> Result<(), BatchError> {
        self.report.add(record)?;
        self.totals.add(record);
        self.put_back += u64::from(record.again.is_some() && record.output.is_some());
        let elapsed = self.elapsed();
        if let Some(statistics) = &mut self.statistics {
            statistics.add(record, elapsed);
        }
        self.failure(record);
        self.progress.reached(self.totals.messages(), self.totals.octets(), self.totals.failed);
        Ok(())
    }
}

/// A number of octets for people.
pub(crate) struct Octets(pub(crate) u64);

impl fmt::Display for Octets {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            0..1_000 => format!("{} B", self.0),
            1_000..1_000_000 => format!("{:.1} kB", self.0 as f64 / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} MB", self.0 as f64 / 1e6),
            _ => format!("{:.1} GB", self.0 as f64 / 1e9),
        };
        f.pad(&text)
    }
}

struct Rate {
    messages: u64,
    octets: u64,
    during: Duration,
}

impl fmt::Display for Rate {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.during.as_secs_f64().max(0.001);
        let octets = Octets((self.octets as f64 / seconds) as u64);
        write!(f, "{:.0} messages/s, {octets}/s", self.messages as f64 / seconds)
    }
}

/// What is said of what lies beside the messages of a Maildir and may be mail.
const DOUBTFUL: &str =
    "though it may be mail or lead to some: only files in cur and new are read, and no link is followed";

/// How many failures or files are named on the terminal.
const NAMED: usize = 20;
