//! What is measured, in which order, how often.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use testkit::smtp::Client;

use super::{
    cost::{Cell, Used},
    mta::{Mail, Mta},
    results::{Added, Latency, Results, Row, Times, TokenRates},
    site::{Contender, Site, Socket, Way},
    token::{self, Rate},
};
use crate::{
    pool::{load, operation::Operation},
    results,
    statistics::percentile,
};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The lengths of messages.
    pub sizes: Vec<usize>,
    /// The numbers of connections.
    pub connections: Vec<usize>,
    /// How often.
    pub rounds: usize,
    /// How many messages go through Postfix each time; a third of it over a single connection.
    pub messages: usize,
    /// How long a milter is measured alone.
    pub length: Duration,
    /// How many messages a latency is told from at least, of a milter alone; a third of it through Postfix.
    pub timed: usize,
    /// What Postfix and the milters speak through.
    pub socket: Socket,
}

impl Plan {
    /// Measures all of it; within a round each contender comes after the other under each load, beginning with another
    /// one in each round.
    pub fn carry_out(&self, say: &mut dyn FnMut(&str)) -> Result<Results> {
        let busy_before = results::busy_processors()?;
        if busy_before > results::QUIET {
            say(&format!(
                "NOT QUIET: {busy_before:.2} processors are at work before; rates and latencies will be wrong"
            ));
        }
        let mut site = Site::start(self.socket)?;
        let mut results = Results {
            date: results::date()?,
            machine: crate::machine(),
            busy_before,
            postfix_version: site.postfix_version()?,
            socket: self.socket,
            rounds: self.rounds,
            samples: site.look_at_samples(&self.sizes)?,
            token: Vec::new(),
            postfix: self.rows(&Contender::ALL),
            alone: self.rows(&Contender::ALL[1..]),
            latencies: self.latencies(),
        };
        for round in 0..self.rounds {
            say(&format!("round {}: the token", round + 1));
            results.token.push(self.token(&site)?);
            for (row, alone) in results.postfix.iter_mut().zip(&mut results.alone) {
                say(&format!("round {}: {} octets, {} connections", round + 1, row.octets, row.connections));
                let count = if row.connections == 1 { self.messages.div_ceil(3) } else { self.messages };
                let (octets, connections) = (row.octets, row.connections);
                for (contender, cells) in from(round, &mut row.cells) {
                    let mail = site.mail(*contender, octets)?;
                    cells.push(site.through_postfix(*contender, &mail, connections, count)?);
                }
                for (contender, cells) in from(round, &mut alone.cells) {
                    cells.push(self.alone(&site, *contender, octets, connections)?);
                }
            }
            for latency in &mut results.latencies {
                let contender = latency.contender;
                let (octets, way) = (latency.octets, latency.way);
                say(&format!(
                    "round {}: latency, {octets} octets, {}, {}",
                    round + 1,
                    contender.title(),
                    way.title()
                ));
                let rows = if way == Way::Alone { &results.alone } else { &results.postfix };
                let rate = self.most(rows, contender, octets)? / 2.0;
                let one = results.token.last().and_then(|token| token.of(contender)).unwrap_or_default();
                let ours = self.latency(&site, way, (contender, octets), rate, one, round)?;
                latency.rounds.push(ours);
            }
        }
        results.samples += site.look_at_samples(&self.sizes)?;
        site.check()?;
        Ok(results)
    }

    fn rows(&self, contenders: &[Contender]) -> Vec<Row> {
        let mut rows = Vec::new();
        for &octets in &self.sizes {
            for &connections in &self.connections {
                let cells = contenders.iter().map(|contender| (*contender, Vec::new())).collect();
                rows.push(Row { octets, connections, cells });
            }
        }
        rows
    }

    fn token(&self, site: &Site) -> Result<TokenRates> {
        let lab = site.lab(Contender::SignRsa)?;
        let length = self.length / 2;
        Ok(TokenRates {
            sign_rsa: token::measure(lab, &lab.alice, "alice", Operation::Rsa2048Sign, length)?,
            sign_p256: token::measure(lab, &lab.carol, "carol", Operation::P256Sign, length)?,
            open: token::measure(lab, &lab.bob, "bob", Operation::Rsa2048Decrypt, length)?,
        })
    }

    fn alone(&self, site: &Site, contender: Contender, octets: usize, connections: usize) -> Result<Cell> {
        let listen = site.listen(contender)?;
        let mail = site.mail(contender, octets)?;
        let (before, process) = (site.treated(contender)?, site.process(contender)?);
        let begun = Instant::now();
        let used = Used::now(process)?;
        let measured = load::closed(connections, self.length, &|| ask(listen, &mail))?;
        // With those before and after the time that counts.
        let treated = if contender.action().is_none() {
            measured.rate * begun.elapsed().as_secs_f64()
        } else {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            let treated = (site.treated(contender)? - before) as f64;
            let counted = measured.rate * self.length.as_secs_f64();
            ensure!(treated >= counted, "{counted} messages were answered and {treated} treated");
            treated
        };
        let cell = used.until(Used::now(process)?, treated, begun.elapsed());
        Ok(Cell { rate: measured.rate, ..cell })
    }

    /// Latencies are told of the most connections.
    fn hands(&self) -> Result<usize> {
        self.connections.iter().copied().max().context("no connections")
    }

    /// What a contender did of messages of this length over them in this round.
    fn most(&self, rows: &[Row], contender: Contender, octets: usize) -> Result<f64> {
        let hands = self.hands()?;
        let row = rows.iter().find(|row| (row.octets, row.connections) == (octets, hands));
        let cell = row.and_then(|row| row.of(contender)?.last()).context("not measured")?;
        Ok(cell.rate)
    }

    fn latency(
        &self,
        site: &Site,
        way: Way,
        (contender, octets): (Contender, usize),
        rate: f64,
        token: Rate,
        round: usize,
    ) -> Result<Added> {
        let mut added = Added { rate, ..Added::default() };
        let least = contender.least().context("nothing is less")?;
        let Added { ours, least: of_least, null, .. } = &mut added;
        let mut all = [(contender, ours), (least, of_least), (Contender::Null, null)];
        for (contender, times) in from(round, &mut all) {
            **times = self.times(site, way, (*contender, octets), rate)?;
        }
        let sessions = thread::available_parallelism()?.get();
        let one = Duration::from_secs_f64(token.one_ms / 1e3);
        added.token = times_of(&load::ideal(sessions, one, rate, added.ours.messages));
        Ok(added)
    }

    /// So long that enough of them arrive: of so few as 200, the 99th percentile is the second worst of a round.
    fn length_of(&self, way: Way, rate: f64) -> Duration {
        let timed = if way == Way::Alone { self.timed } else { self.timed.div_ceil(3) };
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let seconds = timed as f64 / rate.max(1.0);
        // A tenth more: as many as arrive on average arrive in half of all cases.
        Duration::from_secs_f64(seconds * 1.1).max(self.length * 2)
    }

    /// Of messages that arrive independently of each other.
    fn times(
        &self,
        site: &Site,
        way: Way,
        (contender, octets): (Contender, usize),
        rate: f64,
    ) -> Result<Times> {
        let hands = self.hands()?;
        let mail = site.mail(contender, octets)?;
        let smtp = site.smtp_port(contender)?;
        let listen = site.listen(contender)?;
        let make = || match way {
            Way::Alone => ask(listen, &mail),
            Way::Postfix => send(smtp, &mail),
        };
        let before = site.treated(contender)?;
        let stop = AtomicBool::new(false);
        let mut times = thread::scope(|scope| {
            let open = scope.spawn(|| load::open(hands, rate, &stop, &make));
            thread::sleep(self.length_of(way, rate));
            stop.store(true, Ordering::Relaxed);
            open.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked"))
        })?;
        site.until_queue_is_empty()?;
        let treated = site.treated(contender)? - before;
        ensure!(
            contender.action().is_none() || treated == times.len(),
            "{treated} of {} were treated",
            times.len()
        );
        times.sort();
        Ok(times_of(&times))
    }

    fn latencies(&self) -> Vec<Latency> {
        let mut all = Vec::new();
        for way in [Way::Alone, Way::Postfix] {
            for &octets in &self.sizes {
                all.extend(Contender::BAREST.map(|contender| Latency {
                    way,
                    octets,
                    contender,
                    rounds: Vec::new(),
                }));
            }
        }
        all
    }
}

/// Of times in their order.
fn times_of(times: &[Duration]) -> Times {
    Times { messages: times.len(), p50: percentile(times, 0.5), p99: percentile(times, 0.99) }
}

/// All of them in turn, from another one in each round, so that what one leaves behind does not always hit the same.
fn from<T>(round: usize, all: &mut [T]) -> impl Iterator<Item = &mut T> {
    let first = round % all.len().max(1);
    let (head, tail) = all.split_at_mut(first);
    tail.iter_mut().chain(head)
}

fn ask<'m>(listen: &str, mail: &'m Mail) -> Result<load::Ask<'m>> {
    let mut mta = Mta::open(listen)?;
    Ok(Box::new(move || mta.message(mail).map(drop)))
}

fn send(port: u16, mail: &Mail) -> Result<load::Ask<'_>> {
    let mut client = Client::connect_from([127, 0, 0, 1], port)?;
    Ok(Box::new(move || {
        let reply = client.send(&mail.from, &[&mail.to], &mail.octets)?;
        ensure!(reply.code == 250, "{reply:?}");
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_from_enough_messages_at_any_rate() {
        let plan = Plan {
            sizes: vec![1],
            connections: vec![1],
            rounds: 1,
            messages: 1,
            length: Duration::from_millis(600),
            timed: 3000,
            socket: Socket::Unix,
        };
        for (way, rate, enough) in
            [(Way::Alone, 2500.0, 3000.0), (Way::Alone, 10.0, 3000.0), (Way::Postfix, 500.0, 1000.0)]
        {
            let arrive = plan.length_of(way, rate).as_secs_f64() * rate;
            assert!((enough * 1.05..enough * 1.15).contains(&arrive), "{way:?} {rate}: {arrive}");
        }
        assert_eq!(plan.length_of(Way::Postfix, 1e9), Duration::from_millis(1200));
    }

    #[test]
    fn each_round_begins_with_another_one_and_has_all() {
        let mut all = ['a', 'b', 'c'];
        let mut order = |round| from(round, &mut all).map(|one| *one).collect::<String>();
        assert_eq!([order(0), order(1), order(2), order(3)], ["abc", "bca", "cab", "abc"]);
    }
}
