//! Whole-system tests: real programs, real sockets, SoftHSM, Postfix, and other S/MIME software as judges.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod batch;
#[cfg(test)]
mod bounces;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod common;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod copies;
#[cfg(test)]
#[path = "../../batch/tests/it/disk.rs"]
#[expect(
    dead_code,
    clippy::print_stderr,
    reason = "no disk here is to be full; a test that does nothing says so"
)]
mod disk;
#[cfg(test)]
mod dkim;
#[cfg(test)]
mod documented;
#[cfg(test)]
mod edges;
#[cfg(test)]
#[expect(clippy::print_stdout, reason = "what was ended and compared is worth reading")]
mod ended;
#[cfg(test)]
#[expect(clippy::print_stdout, reason = "what was counted and measured is worth reading")]
mod endurance;
#[cfg(test)]
mod evading_rules;
#[cfg(test)]
mod every_mta;
#[cfg(test)]
mod filtered;
#[cfg(test)]
mod forged;
#[cfg(test)]
mod full;
#[cfg(test)]
mod harvest;
#[cfg(test)]
mod header;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod incoming;
#[cfg(test)]
mod injection;
#[cfg(test)]
mod keyd;
#[cfg(test)]
mod limits;
#[cfg(test)]
#[expect(clippy::print_stdout, reason = "what a load test measured is worth reading")]
mod load;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod module;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod outgoing;
#[cfg(test)]
mod promises;
#[cfg(test)]
#[path = "../../milter/tests/it/mta.rs"]
#[expect(dead_code, reason = "the milter's own tests say more of its protocol")]
mod protocol;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod rewritten;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod senders;
#[cfg(test)]
mod sendmail;
#[cfg(test)]
mod site;
#[cfg(test)]
#[expect(clippy::print_stdout, reason = "what a soak test measured is worth reading")]
mod soak;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod submitted;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod token;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod trust;
#[cfg(test)]
mod unlucky;
#[cfg(test)]
mod verdicts;
