//! How much the milter takes on, and how long it waits.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agent::settings::Milter;

/// Limits of the whole server and of each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at a time. Every SMTP session of the MTA holds one, so this must not be below the sum
    /// of its process limits; a connection above it is closed at once, which the MTA takes as a temporary failure.
    pub max_connections: usize,
    /// The largest message, header and body, in octets. One that is larger is refused with `552 5.3.4`, because
    /// whether it may pass untouched is known only from the whole of it. At or above the MTA's own limit
    /// (Postfix: `message_size_limit`) this never happens.
    pub max_message_octets: usize,
    /// Messages under way at a time, from `MAIL` to the answer; one client may have half of them. More are refused
    /// with 451.
    pub messages: usize,
    /// Messages treated at a time, each on a thread of its own, but for small ones that wait for nothing but a key, which
    /// need none; more wait, by turns of their clients and senders.
    pub workers: usize,
    /// Octets of memory for messages and what is made of them. A quarter is for those that come in, of which large
    /// bodies go to the disk; the rest for those that are treated, counted by what they may take at most. A quarter
    /// of that rest, and of the workers, is for small messages alone, of which it has room for four at least; a message
    /// that may take more than is for all is treated with only small ones beside it.
    pub memory: usize,
    /// Octets of bodies on the disk while they come in. With more, messages are refused with 451.
    pub disk: u64,
    /// The folder for these.
    pub folder: PathBuf,
    /// How long a message may wait and be treated. Keep it below the MTA's `milter_content_timeout` and what
    /// clients wait for, since a client that gave up sends the message again.
    pub deadline: Duration,
    /// How often a waiting MTA is told that work goes on.
    pub progress: Duration,
    /// How long a graceful stop waits for messages in flight.
    pub drain: Duration,
    /// How long a new connection may take to begin the milter protocol.
    pub negotiation: Duration,
    /// How long the MTA may take to send the content of a message, which it has when it begins. A connection that
    /// takes longer is closed.
    pub content: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_message_octets: 100 << 20,
            messages: 1024,
            workers: 16,
            memory: 1 << 30,
            disk: 8 << 30,
            folder: PathBuf::from("/var/tmp"),
            deadline: Duration::from_mins(1),
            progress: Duration::from_secs(20),
            drain: Duration::from_secs(25),
            negotiation: Duration::from_secs(30),
            content: Duration::from_mins(5),
        }
    }
}

impl Limits {
    /// Whether bodies can be written.
    pub fn check_folder(&self) -> io::Result<()> {
        tempfile::tempfile_in(&self.folder).map(drop)
    }
}

impl From<&Milter> for Limits {
    fn from(settings: &Milter) -> Self {
        Self {
            max_connections: settings.max_connections,
            max_message_octets: settings.max_message_bytes,
            messages: settings.messages,
            workers: settings.workers,
            memory: settings.memory,
            disk: settings.disk,
            folder: settings.folder.clone(),
            ..Self::default()
        }
    }
}
