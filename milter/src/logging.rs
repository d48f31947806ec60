//! The log: text or JSON on stderr.

use std::io;
use std::panic::{self, PanicHookInfo};

use agent::LogFormat;
use agent::settings::Log;
use tracing::{Level, Metadata, error};
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

/// Whether the configuration's filter can be used.
pub(crate) fn check(log: &Log) -> Result<(), ParseError> {
    EnvFilter::try_new(&log.filter).map(drop)
}

/// Sends everything that the configuration lets through to stderr, panics included.
pub(crate) fn start(log: &Log) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&log.filter)?;
    let lines = match log.format {
        LogFormat::Text => fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(false).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
    };
    Registry::default().with(filter).with(lines.with_filter(filter_fn(is_fit_to_log))).init();
    panic::set_hook(Box::new(report_panic));
    Ok(())
}

/// Says where, not why: the text of a panic may quote what it stumbled over, and that may be mail.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    error!(place, "panic");
}

/// Below a warning, indymilter writes out each packet, and packets hold mail. No filter turns that on.
fn is_fit_to_log(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("indymilter") || *metadata.level() <= Level::WARN
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

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

    #[test]
    fn a_panic_is_logged_with_its_place_and_without_its_text() {
        let written = Written::default();
        let subscriber = Registry::default().with(fmt::layer().with_writer(written.clone()));
        tracing::subscriber::with_default(subscriber, || {
            panic::set_hook(Box::new(report_panic));
            panic::catch_unwind(|| panic!("the body")).unwrap_err();
            let _ = panic::take_hook();
        });
        let text = written.text();
        assert!(!text.contains("the body") && text.contains("logging.rs:"), "{text}");
    }
}
