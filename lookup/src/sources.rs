//! Several sources as one: asked in the configuration's order, within one budget of time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use smime::{Certificate, MailAddress, store::Lookup};

use crate::{Answer, CertificateSource, Finding, Kind, LookupError, Pin, flight::Flights};

/// The sources of a configuration.
#[derive(Debug)]
pub struct Sources {
    slots: Vec<Slot>,
    budget: Duration,
    rest: Duration,
    flights: Flights<Search>,
    /// How many threads are asking, some of them in vain.
    asking: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Slot {
    source: Arc<dyn CertificateSource>,
    resting: Mutex<Option<Rest>>,
}

/// A source that failed is left alone until a time.
#[derive(Debug)]
struct Rest {
    until: Instant,
    reason: String,
}

/// What the sources answered.
#[derive(Debug, Default)]
pub struct Search {
    /// The answers, in order. Sources behind one that found what can be used were not asked, nor those behind SMIMEA
    /// records that could not be had.
    pub answers: Vec<Asked>,
}

/// One source's answer.
#[derive(Debug)]
pub struct Asked {
    /// The source's name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it said.
    pub answer: Answer,
    /// How long that took.
    pub took: Duration,
}

/// How long a source that cannot be used is left alone: mail shall not wait for it again and again.
const REST: Duration = Duration::from_secs(30);
/// How many threads may ask. One that hangs in a name look-up or a file system ends some time.
const MAX_ASKING: usize = 64;

impl Sources {
    /// Sources in the order in which they are asked, and how long a look-up may take in all.
    pub fn new(sources: Vec<Arc<dyn CertificateSource>>, budget: Duration) -> Self {
        let slots = sources.into_iter().map(|source| Slot { source, resting: Mutex::default() }).collect();
        let asking = Arc::new(AtomicUsize::new(0));
        Self { slots, budget, rest: REST, flights: Flights::default(), asking }
    }

    /// The same, with another time for which failed sources are left alone.
    #[cfg(test)]
    pub(crate) fn with_rest(self, rest: Duration) -> Self {
        Self { rest, ..self }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Asks for the certificates of an address that can be used at `at`. Whoever asks the same at the same time gets the
    /// same answer. It takes no longer than the budget, whatever the sources do.
    pub fn find(&self, address: &MailAddress, at: SystemTime) -> Arc<Search> {
        let started = Instant::now();
        let deadline = started + self.budget;
        let search = self.flights.join(address.as_str(), deadline, || self.search(address, at, deadline));
        search.unwrap_or_else(|| {
            let late = |slot: &Slot| {
                slot.asked(Answer::Unknown(LookupError::Late { after: started.elapsed() }), started)
            };
            Arc::new(Search { answers: self.slots.iter().map(late).collect() })
        })
    }

    fn search(&self, address: &MailAddress, at: SystemTime, deadline: Instant) -> Search {
        let mut search = Search::default();
        for (slot, behind) in self.slots.iter().zip((1..=self.slots.len()).rev()) {
            let started = Instant::now();
            // Each has a share of what is left, so that a slow one leaves something to those behind it.
            let share =
                deadline.saturating_duration_since(started) / u32::try_from(behind).unwrap_or(u32::MAX);
            let answer = self.ask(slot, address, started + share);
            let may_have_pins = slot.source.kind() == Kind::Smimea && matches!(answer, Answer::Unknown(_));
            search.answers.push(slot.asked(answer, started));
            // What those behind it have would count only if a pin matched: whoever stops the DNS must not choose it.
            if may_have_pins || search.certificates().iter().any(|(one, _)| is_usable(one, at)) {
                break;
            }
        }
        search
    }

    fn ask(&self, slot: &Slot, address: &MailAddress, deadline: Instant) -> Answer {
        let started = Instant::now();
        if let Some(resting) = slot.resting(started) {
            return Answer::Unknown(resting);
        }
        let answer = self.ask_apart(slot, address, deadline);
        let is_down = match &answer {
            Answer::Unknown(LookupError::Unreachable { .. } | LookupError::Unreadable { .. }) => true,
            // That a name in the DNS has no answer says nothing of the next one.
            Answer::Unknown(LookupError::Late { .. }) => slot.source.kind() != Kind::Smimea,
            _ => false,
        };
        let rest = match &answer {
            Answer::Unknown(error) if is_down => {
                Some(Rest { until: Instant::now() + self.rest, reason: error.to_string() })
            }
            _ => None,
        };
        *slot.resting.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        answer
    }

    /// Asks on another thread, which is left behind at the deadline: the system's calls know none.
    fn ask_apart(&self, slot: &Slot, address: &MailAddress, deadline: Instant) -> Answer {
        let started = Instant::now();
        let busy = |reason: &str| {
            let server = slot.source.name().to_owned();
            Answer::Unknown(LookupError::Server { server, reason: reason.to_owned() })
        };
        let asking = Asking::begin(&self.asking);
        if asking.before >= MAX_ASKING {
            return busy("too many look-ups wait for an answer");
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let (source, address) = (Arc::clone(&slot.source), address.clone());
        let ask = move || {
            let _asking = asking;
            let _ = answer.send(source.find(&address, deadline));
        };
        if let Err(error) = thread::Builder::new().name("lookup".to_owned()).spawn(ask) {
            return busy(&format!("no thread: {error}"));
        }
        // Those who see the deadline themselves have the better words.
        let left = deadline.saturating_duration_since(started) + Duration::from_millis(50);
        match answered.recv_timeout(left) {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Answer::Unknown(LookupError::Late { after: started.elapsed() })
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => busy("the look-up broke off"),
        }
    }
}

impl Slot {
    fn asked(&self, answer: Answer, started: Instant) -> Asked {
        let source = &self.source;
        Asked { name: source.name().to_owned(), kind: source.kind(), answer, took: started.elapsed() }
    }

    fn resting(&self, now: Instant) -> Option<LookupError> {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let Rest { until, reason } = resting.as_ref()?;
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then(|| LookupError::Resting { left, reason: reason.clone() })
    }
}

impl Search {
    /// The certificates that were found, each once, with who has it. Where DNS has pins, only those that match one.
    pub fn certificates(&self) -> Vec<(&Certificate, Kind)> {
        let pins: Vec<&Pin> = self.findings().flat_map(|(finding, _)| &finding.pins).collect();
        let mut found: Vec<(&Certificate, Kind)> = Vec::new();
        for (finding, kind) in self.findings() {
            for certificate in &finding.certificates {
                let is_pinned = pins.is_empty() || pins.iter().any(|pin| pin.matches(certificate));
                if is_pinned && !found.iter().any(|(known, _)| *known == certificate) {
                    found.push((certificate, kind));
                }
            }
        }
        found
    }

    /// Those that were found and that no pin matches.
    pub fn refused(&self) -> Vec<(&Certificate, Kind)> {
        let taken = self.certificates();
        let all = self.findings().flat_map(|(f, kind)| f.certificates.iter().map(move |c| (c, kind)));
        all.filter(|(certificate, _)| !taken.iter().any(|(known, _)| known == certificate)).collect()
    }

    /// The CA certificates that came with what was found, each once, with who has it.
    pub fn issuers(&self) -> Vec<(&Certificate, Kind)> {
        let mut issuers: Vec<(&Certificate, Kind)> = Vec::new();
        for (finding, kind) in self.findings() {
            for issuer in &finding.issuers {
                if !issuers.iter().any(|(known, _)| *known == issuer) {
                    issuers.push((issuer, kind));
                }
            }
        }
        issuers
    }

    /// The objects that were signed beside what was found, with what is said in them not checked.
    pub fn signed(&self) -> impl Iterator<Item = &[u8]> {
        self.findings().flat_map(|(finding, _)| finding.signed.iter().map(Vec::as_slice))
    }

    /// The three answers in one: found, where any certificate was; unknown, where any source did not know.
    pub fn lookup(&self) -> Lookup {
        let found = self.certificates();
        if !found.is_empty() {
            Lookup::Found(found.into_iter().map(|(certificate, _)| certificate.clone()).collect())
        } else if self.is_unknown() {
            Lookup::Unknown
        } else {
            Lookup::Absent
        }
    }

    /// Whether any source did not know.
    pub fn is_unknown(&self) -> bool {
        self.answers.iter().any(|asked| matches!(asked.answer, Answer::Unknown(_)))
    }

    /// Whether there may be certificates that no source has told of.
    pub(crate) fn is_partial(&self) -> bool {
        self.is_unknown() || self.findings().any(|(finding, _)| finding.is_partial)
    }

    fn findings(&self) -> impl Iterator<Item = (&Finding, Kind)> {
        self.answers.iter().filter_map(|asked| match &asked.answer {
            Answer::Found(finding) => Some((finding, asked.kind)),
            _ => None,
        })
    }
}

/// Whether there is any sense in what was found; its path is validated by whoever chooses.
fn is_usable(certificate: &Certificate, at: SystemTime) -> bool {
    certificate.may_encrypt() && certificate.is_for_email() && certificate.is_valid_at(at)
}

/// Counts a thread for as long as it runs.
struct Asking {
    asking: Arc<AtomicUsize>,
    before: usize,
}

impl Asking {
    fn begin(asking: &Arc<AtomicUsize>) -> Self {
        Self { before: asking.fetch_add(1, Ordering::SeqCst), asking: Arc::clone(asking) }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
