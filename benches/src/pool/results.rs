//! Everything that was measured in one run, and what was wanted.

use serde::{Deserialize, Serialize};

use super::{
    child::Times,
    contender::{Contender, Shape},
    load::Measured,
    operation::Operation,
    site::{LATENCY, Token},
    statistics::{Spread, percentile, spread},
};
use crate::wanted::Wanted;

/// What was measured, and where.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// The processor and how many of them.
    pub machine: String,
    /// When it began, UTC.
    pub date: String,
    /// Programs that took part.
    pub versions: Vec<String>,
    /// The system's load average before.
    pub load_before: String,
    /// How often everything was measured.
    pub rounds: usize,
    /// The length of each measurement of a rate.
    pub seconds: f64,
    /// `openssl speed`.
    pub limits: Vec<Limits>,
    /// Rates and latencies by callers.
    pub rates: Vec<Rate>,
    /// Waiting at half of the capacity.
    pub waits: Vec<Wait>,
    /// Interactive requests beside a backlog.
    pub lanes: Vec<Beside>,
    /// Starts with few and with many keys on the token.
    pub starts: Vec<Started>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// Signatures per second by `openssl speed`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// The key.
    pub key: String,
    /// Processes side by side.
    pub processes: usize,
    /// Signatures per second.
    pub rate: Spread,
}

/// One contender's rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// The operation.
    pub operation: Operation,
    /// The token.
    pub token: Token,
    /// The contender.
    pub contender: Contender,
    /// How it was asked.
    pub shape: Shape,
    /// One measurement per round.
    pub rounds: Vec<Measured>,
}

/// How long requests wait that arrive at half of the capacity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wait {
    /// The operation.
    pub operation: Operation,
    /// The contender.
    pub contender: Contender,
    /// Requests per second.
    pub rate: f64,
    /// Milliseconds that a lone raw call takes.
    pub service: f64,
    /// From arrival to answer, round by round.
    pub rounds: Vec<Times>,
}

/// Interactive requests beside nothing and beside a backlog.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beside {
    /// The operation.
    pub operation: Operation,
    /// The token.
    pub token: Token,
    /// The contender.
    pub contender: Contender,
    /// Bulk requests that wait at the beginning.
    pub backlog: usize,
    /// Milliseconds that a lone raw call takes.
    pub service: f64,
    /// 99 of 100 took at most so long beside nothing.
    pub idle: Spread,
    /// The same beside the backlog.
    pub busy: Spread,
    /// Half of them did, beside nothing and beside the backlog.
    pub p50: [Spread; 2],
    /// Bulk requests per second.
    pub bulk_rate: Spread,
}

/// A start on a token with so many keys, and P-256 signatures after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// The contender.
    pub contender: Contender,
    /// Private keys on the token.
    pub keys: usize,
    /// Milliseconds until it could be used.
    pub ready: Spread,
    /// Milliseconds per signature for a lone caller, half of them.
    pub p50: Spread,
    /// Microseconds of processor time per signature.
    pub cpu: Spread,
}

impl Rate {
    /// Operations per second.
    pub fn rate(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.rate))
    }

    /// Median latency in milliseconds.
    pub fn p50(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.p50))
    }

    /// 99th percentile of the latency in milliseconds.
    pub fn p99(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.p99))
    }

    /// Processor time per operation in microseconds.
    pub fn cpu(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.cpu))
    }
}

impl Wait {
    /// The 99th percentile of the waiting time, in milliseconds.
    pub fn p99(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|times| (share(times, 0.99) - self.service).max(0.0)))
    }

    /// Its median.
    pub fn p50(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|times| (share(times, 0.5) - self.service).max(0.0)))
    }
}

/// A percentile of times in milliseconds.
pub fn share(times: &Times, share: f64) -> f64 {
    let mut times: Vec<_> = times.iter().map(|time| std::time::Duration::from_secs_f64(time / 1e3)).collect();
    times.sort();
    percentile(&times, share)
}

impl Results {
    /// All rates of a contender, in the order of their shapes.
    pub fn of(&self, operation: Operation, token: Token, contender: Contender) -> Vec<&Rate> {
        let is_it =
            |rate: &&Rate| (rate.operation, rate.token, rate.contender) == (operation, token, contender);
        self.rates.iter().filter(is_it).collect()
    }

    /// A contender's best rate.
    pub fn best(&self, operation: Operation, token: Token, contender: Contender) -> Option<&Rate> {
        let all = self.of(operation, token, contender).into_iter();
        all.max_by(|a, b| a.rate().median.total_cmp(&b.rate().median))
    }

    /// A contender's best rate as a share of the raw loop's best rate, round by round.
    pub fn ratio(&self, operation: Operation, token: Token, contender: Contender) -> Option<Spread> {
        let raw = self.best(operation, token, Contender::Raw)?;
        let other = self.best(operation, token, contender)?;
        let pairs = other.rounds.iter().zip(&raw.rounds);
        Some(Spread::of(pairs.map(|(other, raw)| other.rate / raw.rate.max(f64::MIN_POSITIVE))))
    }

    /// Milliseconds that a lone raw call takes.
    pub fn service(&self, operation: Operation, token: Token) -> Option<f64> {
        let lone = |rate: &&&Rate| rate.shape == Shape::Callers(1);
        Some(self.of(operation, token, Contender::Raw).iter().find(lone)?.p50().median)
    }

    /// What is wanted of what was measured.
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut all = Vec::new();
        for contender in [Contender::Pool, Contender::Keyd] {
            self.want_rates(contender, &mut all);
            self.want_latency_hidden(contender, &mut all);
        }
        self.waits.iter().for_each(|wait| all.push(wait.wanted()));
        self.lanes.iter().for_each(|beside| all.push(beside.wanted()));
        self.want_keys(&mut all);
        all.extend(self.failures.iter().map(|failure| Wanted {
            what: failure.clone(),
            limit: "to be measured at all".to_owned(),
            measured: "nothing".to_owned(),
            met: false,
        }));
        all
    }

    fn want_rates(&self, contender: Contender, all: &mut Vec<Wanted>) {
        for operation in [Operation::Rsa2048Sign, Operation::Rsa2048Decrypt, Operation::P256Sign] {
            let limit = match (contender, operation) {
                (Contender::Keyd, Operation::P256Sign) => 0.6,
                (Contender::Keyd, _) => 0.93,
                (_, Operation::P256Sign) => 0.85,
                _ => 0.95,
            };
            let Some(ratio) = self.ratio(operation, Token::Plain, contender) else { continue };
            all.push(Wanted {
                what: format!("{} of the raw loop's best rate: {}", contender.title(), operation.title()),
                limit: format!("at least {limit}"),
                measured: spread(ratio, 2, ""),
                met: ratio.median >= limit,
            });
        }
    }

    /// With 2 ms latency, sessions are worth their number, where the processor allows it: that shows in the raw
    /// loop.
    fn want_latency_hidden(&self, contender: Contender, all: &mut Vec<Wanted>) {
        #[expect(clippy::cast_precision_loss, reason = "16 sessions")]
        let ideal = Token::Emulated.sessions() as f64 / LATENCY.as_secs_f64();
        for operation in [Operation::P256Sign, Operation::Rsa2048Sign] {
            let best = |contender| Some(self.best(operation, Token::Emulated, contender)?.rate().median);
            let (Some(rate), Some(raw)) = (best(contender), best(Contender::Raw)) else { continue };
            let ratio = self.ratio(operation, Token::Emulated, contender).unwrap_or_default().median;
            all.push(Wanted {
                what: format!(
                    "{} with {} ms latency: {}",
                    contender.title(),
                    LATENCY.as_millis(),
                    operation.title()
                ),
                limit: format!("at least 0.95 of {ideal:.0}/s, or of the raw loop where that is less"),
                measured: format!(
                    "{rate:.0}/s: {:.2} of {ideal:.0}/s, {ratio:.2} of the raw loop's {raw:.0}/s",
                    rate / ideal
                ),
                met: rate >= 0.95 * ideal || ratio >= 0.95,
            });
        }
    }

    fn want_keys(&self, all: &mut Vec<Wanted>) {
        let of = |contender| {
            let mut starts: Vec<&Started> =
                self.starts.iter().filter(|start| start.contender == contender).collect();
            starts.sort_by_key(|start| start.keys);
            Some((starts.first().copied()?, starts.last().copied()?))
        };
        let (Some((few, many)), Some((raw_few, raw_many))) = (of(Contender::Pool), of(Contender::Raw)) else {
            return;
        };
        // What the token itself takes more with many objects is not the pool's.
        let token = raw_many.cpu.median - raw_few.cpu.median;
        let more = (many.cpu.median - few.cpu.median - token) / few.cpu.median;
        all.push(Wanted {
            what: format!("processor time of a signature with {} keys on the token", many.keys),
            limit: format!("that with {} keys, and at most 5 % more", few.keys),
            measured: format!(
                "{:.1} against {:.1} µs (raw loop: {:.1} against {:.1}); started in {:.0} ms",
                many.cpu.median, few.cpu.median, raw_many.cpu.median, raw_few.cpu.median, many.ready.median
            ),
            met: more <= 0.05,
        });
    }
}

impl Wait {
    fn wanted(&self) -> Wanted {
        Wanted {
            what: format!(
                "p99 wait at half load ({:.0}/s), {} ms latency, {} sessions, {}: {}",
                self.rate,
                LATENCY.as_millis(),
                Token::Emulated.sessions(),
                self.contender.title(),
                self.operation.title()
            ),
            limit: format!("below 2 service times, {:.2} ms", 2.0 * self.service),
            measured: spread(self.p99(), 2, " ms"),
            met: self.p99().median < 2.0 * self.service,
        }
    }
}

impl Beside {
    fn wanted(&self) -> Wanted {
        let limit = self.idle.median + 2.0 * self.service;
        Wanted {
            what: format!(
                "interactive p99 beside {} bulk requests, {}, {}: {}",
                self.backlog,
                self.token.title(),
                self.contender.title(),
                self.operation.title()
            ),
            limit: format!("at most {limit:.2} ms: idle {:.2} + 2 × {:.2}", self.idle.median, self.service),
            measured: spread(self.busy, 2, " ms"),
            met: self.busy.median <= limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(contender: Contender, shape: Shape, rates: &[f64]) -> Rate {
        let rounds = rates.iter().map(|rate| Measured { rate: *rate, p50: 0.5, ..Measured::default() });
        let (operation, token) = (Operation::P256Sign, Token::Plain);
        Rate { operation, token, contender, shape, rounds: rounds.collect() }
    }

    #[test]
    fn a_ratio_is_taken_round_by_round_at_the_best_shapes() {
        let results = Results {
            rates: vec![
                rate(Contender::Raw, Shape::Callers(1), &[90.0, 90.0, 40.0]),
                rate(Contender::Raw, Shape::Callers(2), &[100.0, 100.0, 50.0]),
                // One lucky round does not make a shape the best one.
                rate(Contender::Pool, Shape::Callers(1), &[200.0, 10.0, 10.0]),
                rate(Contender::Pool, Shape::Callers(4), &[90.0, 80.0, 45.0]),
            ],
            ..Results::default()
        };
        let ratio = results.ratio(Operation::P256Sign, Token::Plain, Contender::Pool).unwrap();
        assert_eq!(ratio, Spread { median: 0.9, min: 0.8, max: 0.9 });
        let wanted = results.wanted();
        assert!(matches!(&wanted[..], [one] if one.met), "{wanted:?}");
    }
}
