//! What of the milter's own parts is never logged.

use agent::settings::Log;
use daemon::logging::{self, ParseError};
use tracing::{Level, Metadata};

/// Sends everything that the configuration lets through to stderr, but for packets.
pub(crate) fn start(log: &Log) -> Result<(), ParseError> {
    logging::start(log, is_fit_to_log)
}

/// Below a warning, indymilter writes out each packet, and packets hold mail. No filter turns that on.
fn is_fit_to_log(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("indymilter") || *metadata.level() <= Level::WARN
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::filter::{EnvFilter, filter_fn};
    use tracing_subscriber::fmt::{self, MakeWriter};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{Layer as _, Registry};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Written {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn no_filter_lets_packets_into_the_log() {
        let written = Written::default();
        let lines = fmt::layer().with_writer(written.clone()).with_filter(filter_fn(is_fit_to_log));
        let subscriber = Registry::default().with(EnvFilter::new("trace")).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "indymilter::connection", msg = "the body", "message read");
            tracing::warn!(target: "indymilter::session", "misused");
            tracing::trace!(target: "milter", "ours");
        });
        let text = written.text();
        assert!(!text.contains("the body") && text.contains("misused") && text.contains("ours"), "{text}");
    }
}
