//! The signature of a report: whose it is to be is found out before there is work that would be for nothing.

use std::{path::Path, time::SystemTime};

use agent::{Agent, Identity, Settings};
use anyhow::{Context, Result, bail};
use batch::{manifest, words::say};
use hsmpool::Pool;
use smime::MailAddress;

use crate::TOKEN_LIMIT;

/// Who signs a report of this name. An error if nobody can, or if there is a signature of it.
pub(crate) fn signer<'a>(
    agent: &'a Agent,
    pool: &Pool,
    address: &MailAddress,
    report: &Path,
    at: SystemTime,
) -> Result<&'a Identity> {
    let identity = agent.identities().signing_identity(address, at);
    let identity =
        identity.with_context(|| format!("there is no [[identity]] that can sign for {address}"))?;
    let certificate = identity.certificate();
    // What a token that is away has is not known.
    if pool.missing_keys([certificate], TOKEN_LIMIT).is_ok_and(|missing| !missing.is_empty()) {
        bail!("no token has the key of {certificate}, which is to sign the report");
    }
    let signature = manifest::signature_of(report);
    if signature.symlink_metadata().is_ok() {
        bail!("the signature {} is there already: name another report, or remove it", signature.display());
    }
    Ok(identity)
}

/// Signs a report.
pub(crate) fn sign(report: &Path, by: &Identity, at: SystemTime) -> Result<()> {
    let signature = manifest::sign(report, by.signer(), by.chain(), at)?;
    say(&format!("hsmime-batch: signed the report: {}", signature.display()));
    Ok(())
}

/// Signs a report that was checked.
pub(crate) fn sign_later(
    settings: &Settings,
    pool: &Pool,
    address: &MailAddress,
    report: &Path,
) -> Result<()> {
    let agent = Agent::new(settings, pool);
    let now = SystemTime::now();
    sign(report, signer(&agent, pool, address, report, now)?, now)
}
