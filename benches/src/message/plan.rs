//! What is measured, in which order, for how long.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    contender::{Contender, Run},
    material::{Material, Task},
    memory,
    operation::{Key, Operation},
    results::{Results, Row},
};
use crate::{python, results, statistics::Spread};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which operations.
    pub operations: Vec<Operation>,
    /// With which keys.
    pub keys: Vec<Key>,
    /// On messages of about so many octets.
    pub sizes: Vec<usize>,
    /// By whom.
    pub contenders: Vec<Contender>,
    /// How often.
    pub rounds: usize,
    /// How long each contender works in a round, if one message does not take longer.
    pub length: Duration,
    /// The length of the messages whose memory is measured; 0 for none.
    pub memory: usize,
}

impl Plan {
    /// Measures all of it. What cannot be measured ends it: then nothing was compared.
    pub fn carry_out(&self, say: &mut dyn FnMut(&str)) -> Result<Results> {
        let mut results = Results {
            machine: crate::machine(),
            date: results::date()?,
            versions: vec![
                results::openssl_version()?,
                format!("in this process {}", openssl::version::version()),
                results::gpgsm_version()?,
                python::cryptography()?,
            ],
            load_before: results::load_average(),
            rounds: self.rounds,
            seconds: self.length.as_secs_f64(),
            rows: Vec::new(),
            memory: Vec::new(),
        };
        let material = Material::new()?;
        for &size in &self.sizes {
            for &operation in &self.operations {
                for &key in &self.keys {
                    say(&format!("{}, {}, {} KB", operation.title(), key.title(), size / 1000));
                    let task = material.task(operation, key, size)?;
                    let times = self.compare(&task)?;
                    results.rows.push(Row { operation, key, size, input_len: task.input.len(), times });
                }
            }
        }
        if self.memory > 0 {
            say(&format!("memory, {} MB", self.memory / 1_000_000));
            results.memory = memory::measure(self.memory);
        }
        Ok(results)
    }

    /// Microseconds of each contender, round by round.
    fn compare(&self, task: &Task<'_>) -> Result<Vec<(Contender, Spread, Vec<f64>)>> {
        let mut runs: Vec<(Contender, Run<'_>, u32, Vec<f64>)> = Vec::new();
        for &contender in self.contenders.iter().filter(|contender| contender.can(task)) {
            let what = || format!("{}: {}", contender.title(), task.operation.title());
            let mut run = contender.prepare(task).with_context(what)?;
            // Once for the caches, once for the clock.
            let len = run().with_context(what)?;
            check(task, contender, len)?;
            let begun = Instant::now();
            run()?;
            let calls = self.length.as_secs_f64() / begun.elapsed().as_secs_f64().max(1e-9);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
            runs.push((contender, run, calls.clamp(1.0, 1e6) as u32, Vec::new()));
        }
        for round in 0..self.rounds {
            // Nobody always comes after the same other.
            runs.rotate_left(usize::from(round > 0));
            for (_, run, calls, times) in &mut runs {
                // What the one before left of caches and of the allocator's memory is not this one's merit or fault.
                run()?;
                let begun = Instant::now();
                for _ in 0..*calls {
                    black_box(run()?);
                }
                times.push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(*calls));
            }
        }
        runs.sort_by_key(|(contender, ..)| Contender::ALL.iter().position(|one| one == contender));
        Ok(runs
            .into_iter()
            .map(|(contender, _, _, times)| (contender, Spread::of(times.iter().copied()), times))
            .collect())
    }
}

/// That a contender has done its work: as much came out as must.
fn check(task: &Task<'_>, contender: Contender, len: usize) -> Result<()> {
    let least = match task.operation {
        _ if contender == Contender::Limit => 0,
        Operation::Verify => 0,
        // The signature alone.
        Operation::Sign if contender == Contender::Gpgsm => 300,
        Operation::Sign | Operation::SignChecked | Operation::DecryptCbc | Operation::DecryptGcm => {
            task.content_len
        }
        Operation::EncryptCbc | Operation::EncryptGcm => task.content_len / 3 * 4,
    };
    ensure!(len >= least, "{} gave {len} octets and not {least}", contender.title());
    Ok(())
}
