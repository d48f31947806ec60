//! The log: text or JSON on stderr.

use std::{
    io,
    panic::{self, PanicHookInfo},
};

use agent::{LogFormat, settings::Log};
use tracing::{Metadata, error};
pub use tracing_subscriber::filter::ParseError;
use tracing_subscriber::{
    Layer as _, Registry,
    filter::{EnvFilter, filter_fn},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Whether the configuration's filter can be used.
pub fn check(log: &Log) -> Result<(), ParseError> {
    EnvFilter::try_new(&log.filter).map(drop)
}

/// Sends everything that the configuration lets through, and that is fit to be logged, to stderr, panics included.
pub fn start(log: &Log, is_fit: fn(&Metadata<'_>) -> bool) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&log.filter)?;
    let lines = match log.format {
        LogFormat::Text => fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(false).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
    };
    Registry::default().with(filter).with(lines.with_filter(filter_fn(is_fit))).init();
    panic::set_hook(Box::new(report_panic));
    Ok(())
}

/// Says where, not why: the text of a panic may quote what it stumbled over, and that may be mail.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    error!(place, "panic");
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
