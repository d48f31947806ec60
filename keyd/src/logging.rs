//! The log: text or JSON on stderr.

use std::{
    io,
    panic::{self, PanicHookInfo},
};

use agent::{LogFormat, settings::Log};
use tracing::error;
use tracing_subscriber::{
    Layer as _, Registry,
    filter::{EnvFilter, ParseError},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

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
    Registry::default().with(filter).with(lines).init();
    panic::set_hook(Box::new(report_panic));
    Ok(())
}

/// Says where, not why: the text of a panic may quote what it stumbled over.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    error!(place, "panic");
}
