//! `hsmime cert check`: what ends soon, for monitoring.

use std::{io::Write, time::SystemTime};

use agent::Settings;
use anyhow::Result;
use certcache::{Cache, TrustState};
use serde_json::{Value, json};
use smime::Certificate;

use super::{addresses, certificate_json, encrypting_fault, short, write_json};
use crate::{Done, arguments::CheckArguments, cache, table::Table, time::day};

/// Somebody's last certificate.
struct Ending {
    /// Whose: `identity`, `anchor` or `recipient`.
    role: &'static str,
    certificate: Certificate,
    /// In days; negative since it ended.
    days: i64,
}

/// How many certificates that end are looked at.
const MAX_ENDING: usize = 100_000;
/// For how long one that has ended without a successor is still named.
const NAMED_AFTER_END: std::time::Duration = std::time::Duration::from_hours(30 * 24);

/// Names identities, anchors and recipients' certificates that end soon or have ended, and that nothing follows.
pub(crate) fn check(
    settings: &Settings,
    arguments: &CheckArguments,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let limit = now + arguments.expires_within;
    let mut ending = Vec::new();
    let identities: Vec<&Certificate> = settings.identities().iter().map(|own| &own.certificate).collect();
    let mut own = identities.iter().filter(|certificate| certificate.not_after() < limit);
    let own: Vec<_> =
        own.by_ref().filter(|certificate| !is_followed(certificate, &identities, limit)).collect();
    ending.extend(own.into_iter().map(|certificate| (("identity"), (*certificate).clone())));
    let anchors = settings.trust().anchors.iter().filter(|anchor| anchor.not_after() < limit);
    ending.extend(anchors.map(|anchor| ("anchor", anchor.clone())));
    if settings.cache().is_some() {
        let cache = cache::open(settings)?;
        let recipients = recipients(&cache, now, limit)?;
        ending.extend(recipients.into_iter().map(|certificate| ("recipient", certificate)));
    }
    let mut ending: Vec<Ending> = ending
        .into_iter()
        .map(|(role, certificate)| Ending { role, days: days(certificate.not_after(), now), certificate })
        .collect();
    ending.sort_by_key(|ending| ending.days);
    if arguments.json {
        let rows: Vec<Value> = ending.iter().map(|ending| row_json(ending, now)).collect();
        write_json(out, &json!({"expiring": rows}))?;
    } else if ending.is_empty() {
        writeln!(out, "nothing ends before {} without a successor", day(limit))?;
    } else {
        let mut table = Table::new(["IN DAYS", "ROLE", "FINGERPRINT", "ADDRESSES", "SUBJECT", "VALID UNTIL"]);
        for Ending { role, certificate, days } in &ending {
            table.row([
                days.to_string(),
                (*role).to_owned(),
                short(certificate),
                addresses(certificate),
                certificate.subject().to_string(),
                day(certificate.not_after()),
            ]);
        }
        table.write(out)?;
    }
    Ok(if ending.is_empty() { Done::All } else { Done::Partly })
}

/// Recipients' certificates in use that end before `limit`, or ended a while ago, and that nothing follows.
fn recipients(cache: &Cache, now: SystemTime, limit: SystemTime) -> Result<Vec<Certificate>> {
    let from = now.checked_sub(NAMED_AFTER_END).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut ending = Vec::new();
    for entry in cache.expiring(from, limit, MAX_ENDING)? {
        let certificate = entry.certificate;
        let is_used = matches!(entry.state, TrustState::Trusted | TrustState::Pinned);
        // What would not be encrypted to if it had not ended is missed by nobody.
        let was_usable = encrypting_fault(&certificate, certificate.not_after()).is_none();
        if !is_used || !was_usable || certificate.addresses().is_empty() {
            continue;
        }
        let mut is_last = false;
        for address in certificate.addresses() {
            let others = cache.by_address(&address)?;
            is_last |= !others.iter().any(|other| {
                matches!(other.state, TrustState::Trusted | TrustState::Pinned | TrustState::Pending)
                    && other.certificate.not_after() >= limit
                    && encrypting_fault(&other.certificate, other.certificate.not_after()).is_none()
            });
        }
        if is_last {
            ending.push(certificate);
        }
    }
    Ok(ending)
}

/// Whether each address of a certificate has another that lasts.
fn is_followed(certificate: &Certificate, all: &[&Certificate], limit: SystemTime) -> bool {
    certificate.addresses().iter().all(|address| {
        let lasts = |other: &&&Certificate| other.not_after() >= limit && other.addresses().contains(address);
        all.iter().find(lasts).is_some()
    })
}

fn days(end: SystemTime, now: SystemTime) -> i64 {
    let whole = |seconds: u64| i64::try_from(seconds / (24 * 60 * 60)).unwrap_or(i64::MAX);
    match end.duration_since(now) {
        Ok(left) => whole(left.as_secs()),
        Err(error) => -whole(error.duration().as_secs()) - 1,
    }
}

fn row_json(ending: &Ending, now: SystemTime) -> Value {
    let mut row = certificate_json(&ending.certificate, now);
    if let Some(object) = row.as_object_mut() {
        object.insert("role".to_owned(), ending.role.into());
        object.insert("days".to_owned(), ending.days.into());
    }
    row
}
