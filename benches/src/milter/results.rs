//! What was measured, and what is wanted of it.

use serde::Serialize;

use super::{
    cost::Cell,
    site::{Contender, Socket, Way},
    token::Rate,
};
use crate::{
    statistics::{self, Spread},
    wanted::Wanted,
};

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// When.
    pub date: String,
    /// On what.
    pub machine: String,
    /// How many processors were at work before.
    pub busy_before: f64,
    /// The MTA's release.
    pub postfix_version: String,
    /// What Postfix and the milters spoke through.
    pub socket: Socket,
    /// How often everything was measured.
    pub rounds: usize,
    /// How many delivered mails were looked at, and were in the form that they should have.
    pub samples: usize,
    /// What the token does by itself, in each round.
    pub token: Vec<TokenRates>,
    /// Through Postfix.
    pub postfix: Vec<Row>,
    /// Milters alone.
    pub alone: Vec<Row>,
    /// Latencies at half of the rate.
    pub latencies: Vec<Latency>,
}

/// What the token does by itself.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TokenRates {
    /// Signing with RSA-2048.
    pub sign_rsa: Rate,
    /// Signing with P-256.
    pub sign_p256: Rate,
    /// Decrypting with RSA-2048.
    pub open: Rate,
}

/// All contenders under one load.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The length of the messages.
    pub octets: usize,
    /// How many connections.
    pub connections: usize,
    /// One cell for each round.
    pub cells: Vec<(Contender, Vec<Cell>)>,
}

/// How much longer messages take that arrive independently of each other, at half of the most that a contender does.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Where.
    pub way: Way,
    /// The length of the messages.
    pub octets: usize,
    /// The milter.
    pub contender: Contender,
    /// One for each round.
    pub rounds: Vec<Added>,
}

/// A milter, the least for what it does, and the null milter at the same rate.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Added {
    /// Messages per second.
    pub rate: f64,
    /// The milter's.
    pub ours: Times,
    /// The least's.
    pub least: Times,
    /// The null milter's.
    pub null: Times,
    /// What they would be of the token by itself, with as many sessions as cores, each its own: the same arrivals wait for
    /// each other there, whatever is around it. Computed, not measured.
    pub token: Times,
}

/// How long messages took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// How many there were.
    pub messages: usize,
    /// Half of them at most.
    pub p50: f64,
    /// 99 in 100.
    pub p99: f64,
}

impl TokenRates {
    /// The operation that a contender needs one of for each message.
    pub fn of(&self, contender: Contender) -> Option<Rate> {
        match contender {
            Contender::None | Contender::Null | Contender::Replacing => None,
            Contender::LeastP256 | Contender::SignP256 | Contender::SignP256AtSite => Some(self.sign_p256),
            Contender::LeastRsa | Contender::SignRsa => Some(self.sign_rsa),
            Contender::LeastOpen | Contender::Open | Contender::OpenAtSite => Some(self.open),
        }
    }
}

impl Row {
    /// A contender's cells.
    pub fn of(&self, contender: Contender) -> Option<&[Cell]> {
        self.cells.iter().find(|(known, _)| *known == contender).map(|(_, cells)| cells.as_slice())
    }

    /// A contender's rate as a part of what `whole` makes of the null milter's in the same round, and of the token's.
    pub fn part(
        &self,
        contender: Contender,
        token: &[TokenRates],
        whole: impl Fn(f64, Rate) -> f64,
    ) -> Option<Spread> {
        self.part_beside(Contender::Null, contender, token, whole)
    }

    /// Messages of a contender in a second.
    pub fn rate(&self, contender: Contender) -> Option<f64> {
        Some(Spread::of(self.of(contender)?.iter().map(|cell| cell.rate)).median)
    }

    /// A part with the rates that it is of, for readers.
    fn beside(&self, part: Spread, contender: Contender, peer: Contender) -> String {
        let rates = self.rate(contender).zip(self.rate(peer));
        let rates = rates.map(|(ours, theirs)| format!(": {ours:.0}/s beside {theirs:.0}/s"));
        statistics::spread(part, 2, "") + &rates.unwrap_or_default()
    }

    /// The part of what the least does that a contender's messages take.
    pub fn of_least(&self, contender: Contender) -> Option<Spread> {
        let (ours, least) = (self.of(contender)?, self.of(contender.least()?)?);
        Some(Spread::of(ours.iter().zip(least).map(|(ours, least)| ours.rate / least.rate)))
    }

    fn part_beside(
        &self,
        beside: Contender,
        contender: Contender,
        token: &[TokenRates],
        whole: impl Fn(f64, Rate) -> f64,
    ) -> Option<Spread> {
        let (ours, null) = (self.of(contender)?, self.of(beside)?);
        let rounds = ours.iter().zip(null).zip(token);
        let parts = rounds
            .filter_map(|((ours, null), token)| Some(ours.rate / whole(null.rate, token.of(contender)?)));
        Some(Spread::of(parts))
    }

    /// The part of what is left where the time of a null milter that replaces bodies for a message and the token's come one
    /// after the other, as they must where both take all of the processor.
    pub fn of_bound(&self, contender: Contender, token: &[TokenRates]) -> Option<Spread> {
        let one_at_a_time = self.connections == 1;
        self.part_beside(Contender::Replacing, contender, token, |null, token| {
            let operation = if one_at_a_time { token.one_ms / 1e3 } else { 1.0 / token.rate };
            1.0 / (1.0 / null + operation)
        })
    }
}

impl Latency {
    /// How many messages each percentile is told from, at least.
    pub fn messages(&self) -> usize {
        let counts = self
            .rounds
            .iter()
            .flat_map(|round| [round.ours.messages, round.least.messages, round.null.messages]);
        counts.min().unwrap_or_default()
    }

    /// Milliseconds by which the 99th percentile is above the null milter's, round by round.
    pub fn added(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.ours.p99 - round.null.p99))
    }

    /// The same of the least.
    pub fn added_by_least(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.least.p99 - round.null.p99))
    }
}

impl Results {
    /// The median over the rounds of how long the token takes for one operation of a contender, in milliseconds.
    pub fn one_ms(&self, contender: Contender) -> f64 {
        Spread::of(self.token.iter().filter_map(|token| Some(token.of(contender)?.one_ms))).median
    }

    /// What is wanted.
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut all = Vec::new();
        for row in &self.postfix {
            // At a site nothing is wanted but to know.
            let p256 = row.part(Contender::SignP256, &self.token, |null, _| null);
            let rsa = |contender| row.part(contender, &self.token, |null, token| null.min(token.rate));
            let smaller = "the smaller of the null milter's rate and the token's";
            for (contender, part, of) in [
                (Contender::SignP256, p256, "the null milter's rate"),
                (Contender::SignRsa, rsa(Contender::SignRsa), smaller),
                (Contender::Open, rsa(Contender::Open), smaller),
            ] {
                let Some(part) = part else { continue };
                all.push(Wanted {
                    what: format!(
                        "{}, {} KB, {} connections",
                        contender.title(),
                        row.octets / 1000,
                        row.connections
                    ),
                    limit: format!("at least {WANTED} of {of}"),
                    measured: row.beside(part, contender, Contender::Null),
                    met: part.median >= WANTED,
                });
            }
            for contender in Contender::BAREST {
                let Some((part, least)) = row.of_least(contender).zip(contender.least()) else { continue };
                all.push(Wanted {
                    what: format!(
                        "{}, {} KB, {} connections, beside the least",
                        contender.title(),
                        row.octets / 1000,
                        row.connections
                    ),
                    limit: format!("at least {WANTED} of the least's rate"),
                    measured: row.beside(part, contender, least),
                    met: part.median >= WANTED,
                });
            }
        }
        for latency in &self.latencies {
            let limit = 2.0 * self.one_ms(latency.contender) + 2.0;
            let added = latency.added();
            all.push(Wanted {
                what: format!(
                    "p99 added by {} under half load, {} KB, {}",
                    latency.contender.title(),
                    latency.octets / 1000,
                    latency.way.title()
                ),
                limit: format!("below two operations of the token and 2 ms: {limit:.2} ms"),
                measured: statistics::spread(added, 2, " ms"),
                met: added.median < limit,
            });
        }
        all
    }
}

/// The part of the null milter's rate.
const WANTED: f64 = 0.9;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn cells(rates: [f64; 3]) -> Vec<Cell> {
        rates.map(|rate| Cell { rate, ..Cell::default() }).into()
    }

    fn row(connections: usize) -> Row {
        let cells = vec![
            (Contender::Null, cells([100.0, 200.0, 400.0])),
            (Contender::Replacing, cells([80.0, 160.0, 200.0])),
            (Contender::SignRsa, cells([90.0, 190.0, 100.0])),
            (Contender::LeastRsa, cells([100.0, 190.0, 250.0])),
        ];
        Row { octets: 4000, connections, cells }
    }

    fn token(rate: f64, one_ms: f64) -> Vec<TokenRates> {
        vec![TokenRates { sign_rsa: Rate { rate, one_ms }, ..TokenRates::default() }; 3]
    }

    #[test]
    fn parts_are_those_of_each_round() {
        let (row, token) = (row(8), token(100.0, 20.0));
        let of_null = row.part(Contender::SignRsa, &token, |null, _| null).unwrap();
        assert_eq!((of_null.median, of_null.min), (0.9, 0.25));
        let of_smaller = row.part(Contender::SignRsa, &token, |null, token| null.min(token.rate)).unwrap();
        assert!((of_smaller.max - 1.9).abs() < 1e-9 && (of_smaller.min - 0.9).abs() < 1e-9);
        assert!(row.part(Contender::Open, &token, |null, _| null).is_none());
    }

    #[test]
    fn the_part_of_the_least_is_that_of_its_own_kind_and_round() {
        let of_least = row(8).of_least(Contender::SignRsa).unwrap();
        assert_eq!((of_least.median, of_least.min, of_least.max), (0.9, 0.4, 1.0));
        assert!(row(8).of_least(Contender::SignP256).is_none());
        assert!(row(8).of_least(Contender::Null).is_none());
    }

    #[test]
    fn the_bound_adds_the_time_of_all_sessions_or_of_the_one_that_is_waited_for() {
        // In the second round 6.25 ms and 10 ms; with one connection 6.25 ms and 20 ms.
        let token = token(100.0, 20.0);
        let first = |row: Row| row.of_bound(Contender::SignRsa, &token).unwrap().max;
        assert!((first(row(8)) - 190.0 * (1.0 / 160.0 + 0.01)).abs() < 1e-9);
        assert!((first(row(1)) - 190.0 * (1.0 / 160.0 + 0.02)).abs() < 1e-9);
    }

    /// With two latencies: 3.9 ms added, and 4.1.
    pub(in crate::milter) fn example() -> Results {
        let latency = |ours: f64| Latency {
            way: Way::Alone,
            octets: 4000,
            contender: Contender::SignRsa,
            rounds: vec![Added {
                rate: 10.0,
                ours: Times { messages: 3000, p50: 1.0, p99: ours },
                least: Times { messages: 2000, p50: 1.0, p99: 6.5 },
                null: Times { messages: 3000, p50: 1.0, p99: 5.0 },
                token: Times::default(),
            }],
        };
        Results {
            date: String::new(),
            machine: String::new(),
            busy_before: 0.0,
            postfix_version: String::new(),
            socket: Socket::Unix,
            rounds: 3,
            samples: 0,
            token: token(1000.0, 1.0),
            postfix: vec![row(8)],
            alone: Vec::new(),
            latencies: vec![latency(8.9), latency(9.1)],
        }
    }

    #[test]
    fn what_falls_short_is_said() {
        let results = example();
        let met: Vec<bool> = results.wanted().iter().map(|one| one.met).collect();
        // The part of the null milter's rate, of the least's (0.9, 1 and 0.4), and two latencies.
        assert_eq!(met, [true, true, true, false], "{:#?}", results.wanted());
        assert_eq!(results.latencies[0].messages(), 2000);
        assert!((results.latencies[0].added_by_least().median - 1.5).abs() < 1e-9);
        let slow = Results { token: token(300.0, 1.0), ..results };
        assert!(slow.wanted()[0].met, "400 of the null milter are more than the token's 300, which count");
    }
}
