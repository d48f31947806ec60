//! A first look at a whole mbox: how many messages, which variant, and who wrote it.

use std::io::{self, BufRead};

use crate::{
    found::{Found, Part},
    probe::Probe,
    quoting::Quoting,
    splitter::Splitter,
    variant::Variant,
};

/// What a first look at an mbox found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many messages it holds.
    pub messages: u64,
    /// How many octets are before the first.
    pub preamble: u64,
    /// How many octets there are in all, without compression.
    pub octets: u64,
    /// Lines `>From `, `>>From ` and so on.
    pub quoted: u64,
    /// Of these the ones with more than one `>`.
    pub requoted: u64,
    /// Lines `From ` in bodies.
    pub bare: u64,
    /// Of these the ones that only a `Content-Length` keeps from being a From_ line.
    pub protected: u64,
    /// Messages that may be two.
    pub doubtful: u64,
    /// Messages with a right `Content-Length`.
    pub right_lengths: u64,
    /// Of these the ones of which that is seen without believing it: no From_ line in them is text by their length alone.
    pub confirmed_lengths: u64,
    /// Messages with a wrong one.
    pub wrong_lengths: u64,
    /// Messages without one that have no body either.
    pub bare_headers: u64,
    /// Messages that may be parts of others, by a length that is not believed.
    pub disputed: u64,
    /// Messages that may hide others by a length that is believed.
    pub hidden: u64,
    /// Messages whose From_ line ends in CRLF.
    pub crlf: u64,
    /// Who wrote it, if the From_ lines tell.
    pub writer: Option<Writer>,
}

/// A writer that is known by its From_ lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// `From - `, or nothing but `From `.
    Thunderbird,
    /// `From 1545668983435175434@xxx`.
    Takeout,
}

impl Writer {
    fn of(from_line: &[u8]) -> Option<Self> {
        let rest = from_line.strip_prefix(b"From ")?;
        let first = rest.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        match first.strip_suffix(b"@xxx") {
            Some(number) if number.iter().all(u8::is_ascii_digit) => Some(Self::Takeout),
            _ if first == b"-" || rest.trim_ascii().is_empty() => Some(Self::Thunderbird),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thunderbird => "Thunderbird",
            Self::Takeout => "Google Takeout",
        }
    }
}

impl Survey {
    /// Reads all of an mbox.
    pub fn of(input: impl BufRead, probe: &(impl Probe + ?Sized)) -> io::Result<Self> {
        let mut survey = Self::default();
        // Only the From_ line of a message is looked at.
        let mut splitter = Splitter::new(input, probe, 0);
        while let Some(part) = splitter.next_part()? {
            match part {
                Part::Preamble { len, .. } => (survey.preamble, survey.octets) = (len, len),
                Part::Message(found) => survey.add(&found),
            }
        }
        Ok(survey)
    }

    /// Takes in one message more.
    pub fn add(&mut self, found: &Found) {
        if self.messages == 0 {
            self.writer = Writer::of(&found.first_line);
        } else if self.writer != Writer::of(&found.first_line) {
            self.writer = None;
        }
        self.messages += 1;
        self.octets += found.len;
        self.quoted += found.quoted;
        self.requoted += found.requoted;
        self.bare += found.bare + found.protected;
        self.protected += found.protected;
        self.doubtful += u64::from(found.doubt.is_some());
        self.right_lengths += u64::from(found.length == Some(true));
        self.confirmed_lengths += u64::from(found.length == Some(true) && found.protected == 0);
        self.bare_headers += u64::from(found.length.is_none() && found.is_bare_header);
        self.disputed += u64::from(found.disputed.is_some());
        self.hidden += u64::from(found.hidden.is_some());
        self.wrong_lengths += u64::from(found.length == Some(false));
        self.crlf += u64::from(found.first_line.ends_with(b"\r\n"));
    }

    /// Whether the writer of the archive tells the length of every message, as far as it can be told: each has a right one,
    /// and for each From_ line that is text because of one there is another message at least that needs no such belief. So
    /// one message does not decide what of the others is shown. Who sent all the others that are not hidden does.
    pub fn tells_lengths(&self) -> bool {
        self.has_lengths() && self.confirmed_lengths >= self.protected
    }

    /// Whether all lengths are right.
    fn has_lengths(&self) -> bool {
        self.right_lengths > 0 && self.right_lengths + self.bare_headers == self.messages
    }

    /// The variant, as far as it can be told.
    ///
    /// Where all lengths are right, bare lines show that nothing is quoted (mboxcl2). Elsewhere a bare `From ` shows
    /// a writer that does not quote every one, so `>From ` may be what the author wrote (mboxo). Else it is taken for
    /// mboxrd: undoing it gives the author's words for all writers but those of mboxo and mboxcl, and for these too
    /// unless the author wrote `>From `.
    pub fn variant(&self) -> Variant {
        match (self.has_lengths(), self.bare, self.quoted) {
            (true, 1.., _) => Variant::Mboxcl2,
            (true, 0, 1..) if self.requoted == 0 => Variant::Mboxcl,
            (false, 1.., _) => Variant::Mboxo,
            _ => Variant::Mboxrd,
        }
    }

    /// How lines of bodies are to be read.
    pub fn quoting(&self) -> Option<Quoting> {
        match self.variant() {
            Variant::Mboxcl => Some(Quoting::Mboxrd),
            variant => variant.quoting(),
        }
    }
}
