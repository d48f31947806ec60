//! `hsmime explain`: which certificates an address has, and of each why it is encrypted to or not.

mod fate;
mod mail;

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent::{Settings, chooser};
use anyhow::Result;
use certcache::{Candidate, Candidates};
use lookup::CacheStore;
use serde_json::{Value, json};
use smime::MailAddress;

use crate::{
    Done, cache,
    cert::{entry_json, short, write_json},
    table::{Table, count},
    time::{day, moment},
};

pub(crate) use fate::is_unasked;
pub(crate) use mail::{MailArguments, explain as explain_mail};

/// How long to wait until what was found out is written down for the other programs.
pub(crate) const WRITING: Duration = Duration::from_secs(5);

/// Prints the candidates of an address.
pub(crate) fn explain(
    settings: &Settings,
    address: &MailAddress,
    (anew, json): (bool, bool),
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let cache = Arc::new(cache::open(settings)?);
    // As the milter does: what is found out here is remembered there.
    let trust = settings.fetching_trust_in(Box::new(CacheStore::new(Arc::clone(&cache))));
    let chooser = chooser(settings, Arc::clone(&cache), &trust);
    let found =
        if anew { chooser.candidates_anew(address, now)? } else { chooser.candidates(address, now)? };
    let is_absent = cache.is_absent(address, None, now)?;
    if json {
        write_json(out, &to_json(address, &found, is_absent, now))?;
    } else {
        write(settings, address, &found, is_absent, out)?;
    }
    chooser.flush(WRITING);
    Ok(if found.damaged.is_none() { Done::All } else { Done::Partly })
}

fn write(
    settings: &Settings,
    address: &MailAddress,
    found: &Candidates,
    is_absent: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let mut table =
        Table::new(["FINGERPRINT", "VALID FROM", "VALID UNTIL", "SOURCE", "STATE", "TAKEN", "WHY"]);
    for candidate in &found.candidates {
        let certificate = &candidate.entry.certificate;
        table.row([
            short(certificate),
            day(certificate.not_before()),
            day(certificate.not_after()),
            candidate.entry.sources.names().collect::<Vec<_>>().join(", "),
            candidate.entry.state.name().to_owned(),
            if candidate.is_taken() { "yes" } else { "no" }.to_owned(),
            why(candidate),
        ]);
    }
    if !found.candidates.is_empty() {
        table.write(out)?;
        writeln!(out)?;
    }
    if let Some(damaged) = &found.damaged {
        writeln!(out, "a record cannot be read: {damaged}")?;
    }
    let taken = found.chosen().count();
    if taken > 0 {
        writeln!(out, "mail to {address} is encrypted to {}", count(taken, "certificate", "certificates"))?;
    } else if is_absent && found.candidates.is_empty() {
        writeln!(out, "no source has a certificate of {address}: that was asked not long ago")?;
    } else {
        let asked = if is_absent { "; the sources were asked not long ago" } else { "" };
        writeln!(out, "mail to {address} cannot be encrypted: {}{asked}", advice(settings, address, found))?;
    }
    Ok(())
}

/// What to do where nothing can be encrypted to.
fn advice(settings: &Settings, address: &MailAddress, found: &Candidates) -> String {
    if !found.candidates.is_empty() {
        return "none of its certificates is taken".to_owned();
    }
    let import = "import one with `hsmime cert import FILE`";
    if settings.lookup().sources.is_empty() {
        format!("the cache has no certificate of it; {import}")
    } else {
        format!(
            "the cache has no certificate of it; ask the sources with `hsmime cert find {address} --store`, or {import}"
        )
    }
}

fn why(candidate: &Candidate) -> String {
    match (&candidate.refusal, &candidate.remark) {
        (Some(refusal), _) => refusal.to_string(),
        (None, Some(remark)) => remark.clone(),
        (None, None) if candidate.entry.preferred.is_some() => "its owner asked for it".to_owned(),
        (None, None) => "the newest that is valid".to_owned(),
    }
}

fn to_json(address: &MailAddress, found: &Candidates, is_absent: bool, now: SystemTime) -> Value {
    let candidates = found.candidates.iter().map(|candidate| {
        let mut row = entry_json(&candidate.entry, now);
        if let Some(object) = row.as_object_mut() {
            object.insert("taken".to_owned(), candidate.is_taken().into());
            object.insert("refusal".to_owned(), candidate.refusal.as_ref().map(ToString::to_string).into());
            object.insert("remark".to_owned(), candidate.remark.clone().into());
        }
        row
    });
    json!({
        "address": address.as_str(),
        "candidates": candidates.collect::<Vec<_>>(),
        "damaged": found.damaged.as_ref().map(ToString::to_string),
        "absent": is_absent,
        "until": moment(found.until),
    })
}
