//! `hsmime token bench`: how fast the configured tokens are by themselves, and how many sessions are worth
//! having.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use agent::settings::Tokens;
use anyhow::{Context as _, Result, bail};
use hsmpool::{
    TokenSettings,
    keys::KeySpec,
    measure::{self, Keys, Point, Report, Series, Subject},
};
use serde_json::{Value, json};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use smime::Certificate;

use crate::{
    Done,
    arguments::{BenchArguments, KeyKind},
    key::some_tokens,
    table::{Table, count},
};

/// What an interrupted program says by its exit code: 128 and the signal's number.
const INTERRUPTED: i32 = 128 + SIGINT;

/// Measures each token after the other. A token that fails is named after the others' rates.
pub(crate) fn bench(configured: &Tokens, arguments: &BenchArguments, out: &mut dyn Write) -> Result<Done> {
    let tokens = some_tokens(configured, arguments.token.as_deref())?;
    let certificates: Vec<&Certificate> =
        configured.identities().iter().map(|identity| &identity.certificate).collect();
    let kinds: Vec<KeySpec> = arguments.generate.iter().map(|kind| kind.spec()).collect();
    let keys = if kinds.is_empty() { Keys::Of(certificates) } else { Keys::Temporary(kinds) };
    let stop = stop_at_a_signal().context("signals cannot be watched")?;
    let mut done = Done::All;
    let mut failed = None;
    let mut reports = Vec::new();
    for token in tokens {
        let length = Duration::from_secs_f64(arguments.seconds);
        match measure::measure(token, &keys, arguments.max_threads, length, &stop, &mut tell) {
            Ok(report) => {
                if report.series.is_empty() && !report.interrupted {
                    failed = Some(no_key(token));
                } else if arguments.json {
                    reports.push(as_json(token, &report));
                } else {
                    write(token, &report, out)?;
                }
                if report.interrupted || report.series.iter().any(|series| series.failure.is_some()) {
                    done = Done::Partly;
                }
                if report.interrupted {
                    break;
                }
            }
            Err(error) => failed = Some(error.into()),
        }
    }
    if arguments.json {
        writeln!(out, "{:#}", json!({ "tokens": reports }))?;
    }
    failed.map_or(Ok(done), Err)
}

/// A flag that the first signal sets. The second ends the program at once: a call may hang in the module.
fn stop_at_a_signal() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Shows a person that something is going on.
fn tell(subject: &Subject, point: &Point) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let threads = count(point.threads, "thread", "threads");
        // Telling is all that this is for.
        let _ = writeln!(stderr, "{} {}, {threads}: {:.0}/s", subject.key, subject.used, point.rate);
    }
}

fn no_key(token: &TokenSettings) -> anyhow::Error {
    anyhow::anyhow!(
        "token {:?} has no key of an [[identity]]; say --generate to measure with temporary keys",
        token.label
    )
}

fn write(token: &TokenSettings, report: &Report, out: &mut dyn Write) -> Result<()> {
    let model = format!("{} {}", report.token.manufacturer, report.token.model);
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let processors = count(processors, "processor", "processors");
    writeln!(out, "token {:?}, {model}; {processors} here", token.label)?;
    let mut table = Table::new(["KEY", "USE", "THREADS", "PER SECOND", "P50 MS", "P99 MS", ""]);
    for series in &report.series {
        let recommended = series.recommended();
        for point in &series.points {
            let mark = if recommended == Some(*point) { "<- enough" } else { "" };
            table.row([
                series.subject.key.clone(),
                series.subject.used.to_string(),
                point.threads.to_string(),
                format!("{:.0}", point.rate),
                milliseconds(point.p50),
                milliseconds(point.p99),
                mark.to_owned(),
            ]);
        }
    }
    table.write(out)?;
    for series in &report.series {
        if let Some(failure) = &series.failure {
            writeln!(out, "{} {} ended: {failure}", series.subject.key, series.subject.used)?;
        }
    }
    if let Some(limit) = report.session_limit {
        writeln!(out, "the token gives no more than {}", count(limit, "session", "sessions"))?;
    }
    if report.interrupted {
        writeln!(out, "interrupted; this is what was measured until then")?;
    }
    match report.recommended_sessions() {
        Some(sessions) => {
            let configured =
                token.sessions.map_or("as the token allows".to_owned(), |sessions| sessions.to_string());
            writeln!(out, "recommended: sessions = {sessions} (configured: {configured})")?;
        }
        None => writeln!(out, "nothing can be recommended")?,
    }
    Ok(())
}

fn as_json(token: &TokenSettings, report: &Report) -> Value {
    let point = |point: &Point| {
        json!({
            "threads": point.threads,
            "per_second": point.rate,
            "p50_ms": point.p50.as_secs_f64() * 1e3,
            "p99_ms": point.p99.as_secs_f64() * 1e3,
        })
    };
    let series = |series: &Series| {
        json!({
            "key": series.subject.key,
            "use": series.subject.used.to_string(),
            "points": series.points.iter().map(point).collect::<Vec<_>>(),
            "enough_threads": series.recommended().map(|point| point.threads),
            "failure": series.failure,
        })
    };
    json!({
        "label": token.label,
        "module": token.module.display().to_string(),
        "manufacturer": report.token.manufacturer,
        "model": report.token.model,
        "series": report.series.iter().map(series).collect::<Vec<_>>(),
        "session_limit": report.session_limit,
        "configured_sessions": token.sessions,
        "recommended_sessions": report.recommended_sessions(),
        "interrupted": report.interrupted,
    })
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

impl KeyKind {
    fn spec(self) -> KeySpec {
        match self {
            Self::Rsa2048 => KeySpec::Rsa(2048),
            Self::Rsa3072 => KeySpec::Rsa(3072),
            Self::Rsa4096 => KeySpec::Rsa(4096),
            Self::P256 => KeySpec::P256,
            Self::P384 => KeySpec::P384,
            Self::P521 => KeySpec::P521,
            Self::Ed25519 => KeySpec::Ed25519,
        }
    }
}

/// Seconds as a number that makes sense for a measurement.
pub(crate) fn seconds(text: &str) -> Result<f64> {
    let seconds: f64 = text.parse()?;
    if !(0.05..=600.0).contains(&seconds) {
        bail!("from 0.05 to 600 seconds");
    }
    Ok(seconds)
}
