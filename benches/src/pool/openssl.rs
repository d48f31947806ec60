//! The physical limit: `openssl speed` with the same keys, in memory, with nothing around them.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::operation::KEYS;

/// How many signatures a second OpenSSL makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// The key's name, as [`super::operation::Key::name`].
    pub key: String,
    /// Processes side by side.
    pub processes: usize,
    /// Signatures per second of all of them.
    pub rate: f64,
}

/// Measures all keys with so many processes, each for so many seconds and about as long again for what is not
/// wanted here: `openssl speed` measures verification too.
pub fn measure(processes: usize, seconds: u32) -> Result<Vec<Limit>> {
    let mut command = Command::new("openssl");
    command.args(["speed", "-mr", "-seconds", &seconds.to_string(), "-multi", &processes.to_string()]);
    let output = command.args(KEYS.map(|key| key.speed)).output();
    let output = output.context("openssl cannot be run; install the package openssl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "openssl speed: {}", String::from_utf8_lossy(&output.stderr));
    let limits = parse(&text, processes);
    ensure!(limits.len() == KEYS.len(), "openssl speed gave {limits:?} only: {text}");
    Ok(limits)
}

/// Lines like `+F2:2:2048:2145.00:41283.86`: F2 is RSA, F4 is ECDSA; then index, bits, signatures per
/// second, verifications per second.
fn parse(text: &str, processes: usize) -> Vec<Limit> {
    let line = |line: &str| {
        let mut fields = line.strip_prefix("+F")?.split(':');
        let (kind, _, bits) = (fields.next()?, fields.next()?, fields.next()?);
        let rate = fields.next()?.parse().ok()?;
        let name = match (kind, bits) {
            ("2", bits) => format!("rsa{bits}"),
            ("4", "256") => "p256".to_owned(),
            _ => return None,
        };
        let key = KEYS.iter().find(|key| key.name == name)?;
        Some(Limit { key: key.name.to_owned(), processes, rate })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_of_all_processes_are_read_and_nothing_else() {
        let text = "Got: +F2:2:2048:973.0:20113.8 from 0\n+DTP:2048:private:rsa:1\n\
                    +F2:2:2048:2145.5:41283.861386\n+F2:6:15360:1.0:2.0\n+F4:3:256:29076.415842:10461.9\n";
        let rates: Vec<(String, f64)> =
            parse(text, 2).into_iter().map(|limit| (limit.key, limit.rate)).collect();
        assert_eq!(rates, [("rsa2048".to_owned(), 2145.5), ("p256".to_owned(), 29_076.415_842)]);
    }
}
