//! How much the milter takes on, and how long it waits.

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
    /// Messages treated at a time, each on a thread of its own; more wait.
    pub workers: usize,
    /// How long a message may wait and be treated. Keep it below the MTA's `milter_content_timeout` and what
    /// clients wait for, since a client that gave up sends the message again.
    pub deadline: Duration,
    /// How often a waiting MTA is told that work goes on.
    pub progress: Duration,
    /// How long a graceful stop waits for messages in flight.
    pub drain: Duration,
    /// How long a new connection may take to begin the milter protocol.
    pub negotiation: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_message_octets: 100 << 20,
            workers: 16,
            deadline: Duration::from_mins(1),
            progress: Duration::from_secs(20),
            drain: Duration::from_secs(25),
            negotiation: Duration::from_secs(30),
        }
    }
}

impl From<&Milter> for Limits {
    fn from(settings: &Milter) -> Self {
        Self {
            max_connections: settings.max_connections,
            max_message_octets: settings.max_message_bytes,
            workers: settings.workers,
            ..Self::default()
        }
    }
}
