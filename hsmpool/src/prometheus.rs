//! Metrics as text for Prometheus (exposition format 0.0.4).

use std::{
    fmt::{self, Display, Write},
    time::Duration,
};

use crate::{histogram::Distribution, metrics::TokenMetrics};

/// The upper ends of the histograms' buckets, in microseconds.
const BOUNDS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    20_000_000,
];

/// All metrics of all tokens.
pub fn prometheus(tokens: &[TokenMetrics]) -> String {
    let mut page = Page::default();
    // Writing into a String does not fail.
    let _ = page.write(tokens);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn write(&mut self, tokens: &[TokenMetrics]) -> fmt::Result {
        self.head("operations_total", "counter", "Operations that gave a result.")?;
        for token in tokens {
            for (kind, count) in &token.operations {
                self.line("operations_total", token, &[("operation", kind)], count)?;
            }
        }
        self.head("errors_total", "counter", "Calls that failed, also where another try helped.")?;
        for token in tokens {
            for (error, count) in &token.errors {
                let (function, code) = error.split_once(' ').unwrap_or((error, ""));
                self.line("errors_total", token, &[("function", function), ("rv", code)], count)?;
            }
        }
        self.each(tokens, "up", "gauge", "Whether the token works.", |token| u64::from(token.up))?;
        self.each(tokens, "retries_total", "counter", "Further tries.", |token| token.retries)?;
        self.each(tokens, "expired_total", "counter", "Requests whose time was over.", |token| {
            token.expired
        })?;
        self.each(tokens, "losses_total", "counter", "Connections that were lost.", |token| token.lost)?;
        self.each(tokens, "sessions", "gauge", "Sessions that work.", |token| token.sessions)?;
        self.each(tokens, "sessions_wanted", "gauge", "Sessions asked for.", |token| token.wanted)?;
        self.each(tokens, "hanging", "gauge", "Calls that do not come back.", |token| token.hanging)?;
        self.each(tokens, "running", "gauge", "Requests that are worked on.", |token| token.running)?;
        self.head("waiting", "gauge", "Requests that wait.")?;
        for token in tokens {
            self.line("waiting", token, &[("lane", "interactive")], token.interactive.waiting)?;
            self.line("waiting", token, &[("lane", "bulk")], token.bulk.waiting)?;
        }
        for (name, help) in
            [("wait_seconds", "How long requests waited."), ("service_seconds", "How long the token worked.")]
        {
            self.head(name, "histogram", help)?;
            for token in tokens {
                for (lane, times) in [("interactive", &token.interactive), ("bulk", &token.bulk)] {
                    let times = if name == "wait_seconds" { &times.wait } else { &times.service };
                    self.histogram(name, token, lane, times)?;
                }
            }
        }
        Ok(())
    }

    fn each<N: Display>(
        &mut self,
        tokens: &[TokenMetrics],
        name: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&TokenMetrics) -> N,
    ) -> fmt::Result {
        self.head(name, kind, help)?;
        tokens.iter().try_for_each(|token| self.line(name, token, &[], value(token)))
    }

    fn histogram(
        &mut self,
        name: &str,
        token: &TokenMetrics,
        lane: &str,
        times: &Distribution,
    ) -> fmt::Result {
        let bucket = format!("{name}_bucket");
        for bound in BOUNDS.map(Duration::from_micros) {
            let end = bound.as_secs_f64().to_string();
            self.line(&bucket, token, &[("lane", lane), ("le", &end)], times.at_most(bound))?;
        }
        self.line(&bucket, token, &[("lane", lane), ("le", "+Inf")], times.count())?;
        let sum = Duration::from_micros(times.sum_micros).as_secs_f64();
        self.line(&format!("{name}_sum"), token, &[("lane", lane)], sum)?;
        self.line(&format!("{name}_count"), token, &[("lane", lane)], times.count())
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        writeln!(self.0, "# HELP hsmime_token_{name} {help}\n# TYPE hsmime_token_{name} {kind}")
    }

    fn line(
        &mut self,
        name: &str,
        token: &TokenMetrics,
        labels: &[(&str, &str)],
        value: impl Display,
    ) -> fmt::Result {
        write!(self.0, "hsmime_token_{name}{{token=\"{}\"", escaped(&token.label))?;
        for (label, value) in labels {
            write!(self.0, ",{label}=\"{}\"", escaped(value))?;
        }
        writeln!(self.0, "}} {value}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::Meter, request::Lane};

    #[test]
    fn every_number_is_told_with_its_token() {
        let meter = Meter::default();
        meter.served(Lane::Bulk, Duration::from_millis(3), Duration::from_micros(700));
        let mut metrics =
            TokenMetrics { label: "ma\"il".into(), sessions: 3, wanted: 4, ..TokenMetrics::default() };
        meter.read(&mut metrics);
        metrics.errors.insert("C_Sign CKR_DEVICE_ERROR".into(), 2);
        let text = prometheus(&[metrics]);
        for line in [
            "hsmime_token_operations_total{token=\"ma\\\"il\",operation=\"sign\"} 0",
            "hsmime_token_errors_total{token=\"ma\\\"il\",function=\"C_Sign\",rv=\"CKR_DEVICE_ERROR\"} 2",
            "hsmime_token_sessions{token=\"ma\\\"il\"} 3",
            "hsmime_token_waiting{token=\"ma\\\"il\",lane=\"bulk\"} 0",
            "hsmime_token_wait_seconds_bucket{token=\"ma\\\"il\",lane=\"bulk\",le=\"0.0025\"} 0",
            "hsmime_token_wait_seconds_bucket{token=\"ma\\\"il\",lane=\"bulk\",le=\"0.005\"} 1",
            "hsmime_token_wait_seconds_sum{token=\"ma\\\"il\",lane=\"bulk\"} 0.003",
            "hsmime_token_service_seconds_count{token=\"ma\\\"il\",lane=\"bulk\"} 1",
            "hsmime_token_service_seconds_count{token=\"ma\\\"il\",lane=\"interactive\"} 0",
            "# TYPE hsmime_token_wait_seconds histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
