//! What is measured, in which order, for how long.

use std::{fs, num::NonZero, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{
    child::{self, Job, Lanes, Start, Task, Times},
    contender::{Contender, Shape},
    load::Measured,
    openssl,
    operation::Operation,
    results::{Beside, Limits, Rate, Results, Started, Wait, share},
    server::Server,
    site::{Site, Token},
    statistics::Spread,
};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which operations.
    pub operations: Vec<Operation>,
    /// On which tokens.
    pub tokens: Vec<Token>,
    /// By whom; the raw loop is the measure of all others.
    pub contenders: Vec<Contender>,
    /// Which parts.
    pub parts: Vec<Part>,
    /// How often.
    pub rounds: usize,
    /// How long to measure each rate.
    pub seconds: f64,
    /// Callers of the pool.
    pub callers: Vec<usize>,
    /// Threads of the raw loop.
    pub threads: Vec<usize>,
    /// Bulk requests of a backlog.
    pub backlog: usize,
    /// Keys on the token that has many.
    pub keys: usize,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// `openssl speed`.
    Limits,
    /// Rates and latencies by callers.
    Rates,
    /// Waiting at half load.
    Waits,
    /// Interactive requests beside a backlog.
    Lanes,
    /// Many keys on the token.
    Keys,
}

/// How many requests a single thread has under way that waits for none.
const WINDOW: usize = 64;
/// Interactive requests per second beside a backlog.
const INTERACTIVE_RATE: f64 = 200.0;
/// How long interactive requests are measured beside nothing.
const IDLE_SECONDS: f64 = 1.5;
/// How long waiting is measured.
const WAIT_SECONDS: f64 = 2.0;
/// Requests at half load, and lanes on the emulated token, are of the operation that leaves the processor room.
const LIGHT: Operation = Operation::P256Sign;
/// Few keys on the token.
const FEW_KEYS: usize = 10;
/// Rounds of the parts that need fewer.
const FEW_ROUNDS: usize = 3;

impl Plan {
    /// Carries it out; `say` is told how far it is.
    pub fn carry_out(&self, say: &mut dyn FnMut(&str)) -> Result<Results> {
        // Latencies are to be those that are emulated, not the kernel's habit to wake sleepers 50 µs late.
        // Programs that are started inherit it.
        rustix::thread::set_current_timer_slack(NonZero::new(1))?;
        let mut results = Results {
            machine: crate::machine(),
            date: output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?,
            versions: vec![
                output("openssl", &["version"])?.split(" (").next().unwrap_or_default().to_owned(),
                format!("SoftHSM {}", output("softhsm2-util", &["--version"])?),
                format!("Linux {}", output("uname", &["-r"])?),
            ],
            load_before: fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned(),
            rounds: self.rounds,
            seconds: self.seconds,
            ..Results::default()
        };
        let site = Site::new()?;
        let server = if self.contenders.contains(&Contender::Keyd) { Some(Server::find()?) } else { None };
        let run = Run { plan: self, site: &site, server };
        let has = |part| self.parts.contains(&part);
        for round in 1..=self.rounds {
            if has(Part::Limits) && round % 2 == 1 {
                say(&format!("round {round} of {}: openssl speed", self.rounds));
                limits(&mut results)?;
            }
            if has(Part::Rates) {
                let mut say = |what: &str| say(&format!("round {round} of {}: {what}", self.rounds));
                run.rates(&mut results, &mut say)?;
            }
        }
        results.limits = summary(&results.limits);
        if has(Part::Waits) {
            run.waits(&mut results, say)?;
        }
        if has(Part::Lanes) {
            run.lanes(&mut results, say)?;
        }
        if has(Part::Keys) {
            run.keys(&mut results, say)?;
        }
        Ok(results)
    }
}

/// A plan being carried out.
struct Run<'a> {
    plan: &'a Plan,
    site: &'a Site,
    server: Option<Server>,
}

impl Run<'_> {
    /// Lets a process measure; where `hsmime-keyd` is asked, that runs meanwhile.
    fn measure<T: serde::de::DeserializeOwned>(
        &self,
        contender: Contender,
        operation: Operation,
        token: Token,
        task: Task,
    ) -> Result<T> {
        let mut place = self.site.place(token)?;
        let running = match (&self.server, contender) {
            (Some(server), Contender::Keyd) => {
                let running = server.start(self.site, &place, self.plan.backlog)?;
                place.socket = Some(running.socket().to_owned());
                Some(running)
            }
            _ => None,
        };
        let measured = child::run(&Job { contender, operation, place, task }, self.site)?;
        drop(running);
        Ok(measured)
    }

    fn rates(&self, results: &mut Results, say: &mut dyn FnMut(&str)) -> Result<()> {
        for operation in &self.plan.operations {
            for token in &self.plan.tokens {
                for contender in &self.plan.contenders {
                    say(&format!("{}, {}, {}", operation.name(), token.name(), contender.name()));
                    self.rate(results, *operation, *token, *contender)?;
                }
            }
        }
        Ok(())
    }

    fn rate(
        &self,
        results: &mut Results,
        operation: Operation,
        token: Token,
        contender: Contender,
    ) -> Result<()> {
        let shapes: Vec<Shape> = if contender == Contender::Raw {
            self.plan.threads.iter().copied().map(Shape::Callers).collect()
        } else {
            let callers = self.plan.callers.iter().copied().map(Shape::Callers);
            callers.chain([Shape::Window(WINDOW)]).collect()
        };
        let task = Task::Rates(shapes.clone(), self.plan.seconds);
        let measured: Vec<Measured> = self.measure(contender, operation, token, task)?;
        ensure!(measured.len() == shapes.len(), "{} answers to {} questions", measured.len(), shapes.len());
        for (shape, measured) in shapes.into_iter().zip(measured) {
            let is_it = |rate: &&mut Rate| {
                (rate.operation, rate.token, rate.contender, rate.shape)
                    == (operation, token, contender, shape)
            };
            match results.rates.iter_mut().find(is_it) {
                Some(rate) => rate.rounds.push(measured),
                None => {
                    results.rates.push(Rate { operation, token, contender, shape, rounds: vec![measured] });
                }
            }
        }
        Ok(())
    }

    /// A lone raw call's time, and the best raw rate, measured now if they have not been before.
    fn raw(&self, results: &mut Results, operation: Operation, token: Token) -> Result<(f64, f64)> {
        if results.best(operation, token, Contender::Raw).is_none() {
            self.rate(results, operation, token, Contender::Raw)?;
        }
        let service =
            results.service(operation, token).context("the raw loop was not asked by one thread")?;
        let best = results.best(operation, token, Contender::Raw).context("no raw rate")?;
        Ok((service, best.rate().median))
    }

    fn pools(&self) -> impl Iterator<Item = Contender> {
        self.plan.contenders.iter().copied().filter(|contender| *contender != Contender::Raw)
    }

    fn waits(&self, results: &mut Results, say: &mut dyn FnMut(&str)) -> Result<()> {
        for operation in [LIGHT, Operation::Rsa2048Sign] {
            let (service, best) = self.raw(results, operation, Token::Emulated)?;
            for contender in self.pools() {
                say(&format!("waiting at half load: {}, {}", operation.name(), contender.name()));
                let task = Task::Arrivals(best / 2.0, WAIT_SECONDS);
                let round = |_| self.measure(contender, operation, Token::Emulated, task.clone());
                let rounds = (0..self.plan.rounds).map(round).collect::<Result<Vec<Times>>>();
                let Some(rounds) = known(rounds, "waiting at half load", &mut results.failures) else {
                    continue;
                };
                results.waits.push(Wait { operation, contender, rate: best / 2.0, service, rounds });
            }
        }
        Ok(())
    }

    fn lanes(&self, results: &mut Results, say: &mut dyn FnMut(&str)) -> Result<()> {
        let backlog = self.plan.backlog;
        for (operation, token) in [(Operation::Rsa2048Sign, Token::Plain), (LIGHT, Token::Emulated)] {
            let (service, _) = self.raw(results, operation, token)?;
            for contender in self.pools() {
                say(&format!("beside a backlog: {}, {}", token.name(), contender.name()));
                let task = Task::Backlog(INTERACTIVE_RATE, IDLE_SECONDS, backlog);
                let round = |_| self.measure(contender, operation, token, task.clone());
                let rounds = (0..self.plan.rounds).map(round).collect::<Result<Vec<Lanes>>>();
                let Some(rounds) = known(rounds, "lanes", &mut results.failures) else { continue };
                let of = |which: fn(&Lanes) -> &Times, part| {
                    Spread::of(rounds.iter().map(|round| share(which(round), part)))
                };
                results.lanes.push(Beside {
                    operation,
                    token,
                    contender,
                    backlog,
                    service,
                    idle: of(|round| &round.idle, 0.99),
                    busy: of(|round| &round.busy, 0.99),
                    p50: [of(|round| &round.idle, 0.5), of(|round| &round.busy, 0.5)],
                    bulk_rate: Spread::of(rounds.iter().map(|round| round.bulk_rate)),
                });
            }
        }
        Ok(())
    }

    fn keys(&self, results: &mut Results, say: &mut dyn FnMut(&str)) -> Result<()> {
        for keys in [FEW_KEYS, self.plan.keys] {
            say(&format!("making {keys} keys"));
            let site = Site::new()?;
            let run = Run { plan: self.plan, site: &site, server: None };
            let missing = keys.saturating_sub(super::operation::KEYS.len());
            let _: f64 = run.measure(Contender::Raw, LIGHT, Token::Plain, Task::Fill(missing))?;
            for contender in [Contender::Raw, Contender::Pool] {
                say(&format!("starting with {keys} keys: {}", contender.name()));
                let task = Task::Start(vec![Shape::Callers(1)], 2.0 * self.plan.seconds);
                let round = |_| run.measure(contender, LIGHT, Token::Plain, task.clone());
                let rounds =
                    (0..FEW_ROUNDS.min(self.plan.rounds)).map(round).collect::<Result<Vec<Start>>>()?;
                let of = |value: fn(&Measured) -> f64| {
                    Spread::of(rounds.iter().filter_map(|round| round.rates.first().map(value)))
                };
                results.starts.push(Started {
                    contender,
                    keys,
                    ready: Spread::of(rounds.iter().map(|round| round.ready)),
                    p50: of(|measured| measured.p50),
                    cpu: of(|measured| measured.cpu),
                });
            }
        }
        Ok(())
    }
}

/// The outcome, or a note that there is none: what else was measured is worth keeping.
fn known<T>(outcome: Result<T>, what: &str, failures: &mut Vec<String>) -> Option<T> {
    outcome.map_err(|error| failures.push(format!("{what}: {error:#}"))).ok()
}

fn limits(results: &mut Results) -> Result<()> {
    for processes in [1, 2] {
        for limit in openssl::measure(processes, 1)? {
            let rate = Spread::of([limit.rate]);
            results.limits.push(Limits { key: limit.key, processes, rate });
        }
    }
    Ok(())
}

/// One line for each key and number of processes.
fn summary(limits: &[Limits]) -> Vec<Limits> {
    let mut all: Vec<Limits> = Vec::new();
    for limit in limits {
        let same = |other: &&Limits| (&other.key, other.processes) == (&limit.key, limit.processes);
        if !all.iter().any(|other| same(&other)) {
            let rates = limits.iter().filter(same).map(|limit| limit.rate.median);
            all.push(Limits { rate: Spread::of(rates), ..limit.clone() });
        }
    }
    all
}

/// What a program says in one line.
fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("{program} cannot be run; it is needed here"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
