//! What the token does by itself: bare PKCS#11 calls, in a process of their own that knows its configuration.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use smime::Certificate;
use testkit::{Lab, pki::Person, softhsm::SoftHsm};

use crate::pool::{load, operation::Operation, raw};

/// The command line of such a process begins with this.
pub const ARGUMENT: &str = "token-rate";

/// What one key does.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Rate {
    /// Operations per second with as many sessions as the processor has cores, or twice that.
    pub rate: f64,
    /// Milliseconds for one, when there is one session.
    pub one_ms: f64,
}

/// Measures a key of the lab's token, three times for so long.
pub fn measure(
    lab: &Lab,
    person: &Person,
    label: &str,
    operation: Operation,
    length: Duration,
) -> Result<Rate> {
    let mut command = Command::new(std::env::current_exe()?);
    command.envs(lab.token.environment()?).arg(ARGUMENT);
    command.args([label, operation.name(), &length.as_millis().to_string()]).arg(&person.certificate);
    let done = command.output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// What is in a file of PEM.
pub(super) fn certificate(file: &Path) -> Result<Certificate> {
    let pem = fs::read_to_string(file)?;
    let pem = pem.get(pem.find("-----BEGIN").unwrap_or_default()..).unwrap_or_default();
    Certificate::from_pem(pem)?.pop().context("no certificate")
}

/// The process: label, operation, milliseconds, certificate.
pub fn main(arguments: &[String]) -> Result<()> {
    let [label, operation, millis, certificate_file] = arguments else { anyhow::bail!("four arguments") };
    let length = Duration::from_millis(millis.parse()?);
    let operation = Operation::named(operation)?;
    let question = operation.question(&certificate(Path::new(certificate_file))?)?;
    let token = raw::Token::open(Path::new(SoftHsm::MODULE), SoftHsm::LABEL, SoftHsm::PIN)?;
    let make = || -> Result<load::Ask<'_>> {
        let mut session = token.session(label, &question)?;
        Ok(Box::new(move || session.ask()))
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let one = load::closed(1, length, &make)?;
    let all = [cores, 2 * cores].into_iter().map(|threads| load::closed(threads, length, &make));
    let rate = all.collect::<Result<Vec<_>>>()?.iter().map(|measured| measured.rate).fold(one.rate, f64::max);
    serde_json::to_writer(std::io::stdout(), &Rate { rate, one_ms: 1e3 / one.rate })?;
    Ok(())
}
