//! `hsmime explain`: which certificates an address has, and of each why it is encrypted to or not.

mod fate;
mod mail;

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent::{Foresight, Settings, chooser};
use anyhow::Result;
use certcache::{Candidate, Candidates};
use lookup::CacheStore;
use serde_json::{Value, json};
use smime::{Certificate, MailAddress};

use crate::{
    Done, cache,
    cert::{
        effect::{MOST_REMEDIES, remedy, state_words, why},
        entry_json, short, write_json,
    },
    table::{Table, count},
    time::{day, moment},
};

pub(crate) use fate::is_unasked;
pub(crate) use mail::{MailArguments, NO_RECIPIENT, explain as explain_mail};

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
        let foresight = Foresight::new(settings, Some(&cache));
        let is_own = write_own(settings, address, &own(&foresight, address, now), out)?;
        write(settings, address, &found, (is_own, is_absent), out)?;
    }
    chooser.flush(WRITING);
    Ok(if found.damaged.is_none() { Done::All } else { Done::Partly })
}

/// Our own certificates of an address, and why nothing is encrypted to one.
fn own(
    foresight: &Foresight,
    address: &MailAddress,
    now: SystemTime,
) -> Vec<(Certificate, Option<&'static str>)> {
    let with_fault = |certificate: &Certificate| {
        let fault = if !certificate.is_valid_at(now) {
            Some("not valid now")
        } else if !certificate.may_encrypt() {
            Some("not for encryption (keyUsage)")
        } else {
            None
        };
        (certificate.clone(), fault)
    };
    foresight.own_certificates(address).map(with_fault).collect()
}

/// Tells of the identities of an address. Gives whether mail to it is encrypted to any: then the cache is not asked.
fn write_own(
    settings: &Settings,
    address: &MailAddress,
    own: &[(Certificate, Option<&'static str>)],
    out: &mut dyn Write,
) -> Result<bool> {
    for (certificate, fault) in own {
        let identity = settings.identities().iter().find(|identity| identity.certificate == *certificate);
        let file = identity.map_or_else(String::new, |identity| identity.path.display().to_string());
        let is = fault.map_or_else(
            || "mail to it is encrypted to this".to_owned(),
            |fault| format!("nothing is encrypted to this: {fault}"),
        );
        writeln!(out, "{address} is ours: {} is the [[identity]] {file}; {is}", short(certificate))?;
    }
    Ok(own.iter().any(|(_, fault)| fault.is_none()))
}

fn write(
    settings: &Settings,
    address: &MailAddress,
    found: &Candidates,
    (is_own, is_absent): (bool, bool),
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
            state_words(candidate.entry.state).to_owned(),
            if candidate.is_taken() { "yes" } else { "no" }.to_owned(),
            why(candidate),
        ]);
    }
    if !found.candidates.is_empty() {
        if is_own {
            writeln!(out, "the cache has others, for which it is not asked:")?;
        }
        table.write(out)?;
        writeln!(out)?;
    }
    if let Some(damaged) = &found.damaged {
        writeln!(out, "a record cannot be read: {damaged}")?;
    }
    let taken = found.chosen().count();
    if is_own {
        return Ok(());
    }
    if taken > 0 {
        writeln!(out, "mail to {address} is encrypted to {}", count(taken, "certificate", "certificates"))?;
    } else if is_absent && found.candidates.is_empty() {
        writeln!(out, "no source has a certificate of {address}: that was asked not long ago")?;
    } else {
        let asked = if is_absent { "; the sources were asked not long ago" } else { "" };
        writeln!(out, "mail to {address} cannot be encrypted: {}{asked}", advice(settings, address, found))?;
        for remedy in remedies(&found.candidates, address) {
            writeln!(out, "{remedy}")?;
        }
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

/// What has those used that are not, each in a line.
fn remedies<'c>(candidates: impl IntoIterator<Item = &'c Candidate>, address: &MailAddress) -> Vec<String> {
    let remedies = candidates.into_iter().filter_map(|candidate| {
        let remedy = remedy(candidate, address)?;
        Some(format!("to use {}: {remedy}", short(&candidate.entry.certificate)))
    });
    remedies.take(MOST_REMEDIES).collect()
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
