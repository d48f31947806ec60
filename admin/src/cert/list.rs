//! `hsmime cert list` and `hsmime cert show`.

use std::{io::Write, sync::Arc, time::SystemTime};

use agent::Settings;
use anyhow::Result;
use certcache::{CacheError, Entry, TrustState};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::json;

use super::{
    addresses,
    effect::{Effects, state_words},
    encrypting_fault, entry_json, entry_of, path_fault, short, write_json,
};
use crate::{
    Done,
    arguments::ListArguments,
    cache,
    table::Table,
    time::{day, moment},
};

/// Lists the cache.
pub(crate) fn list(
    settings: &Settings,
    arguments: &ListArguments,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let cache = cache::open(settings)?;
    let is_meant = |entry: &Entry| arguments.state.is_none_or(|state| entry.state == state);
    let mut entries: Vec<Entry> = Vec::new();
    let mut failed: Option<CacheError> = None;
    if let Some(address) = &arguments.address {
        entries = cache.by_address(address)?;
        entries.retain(is_meant);
    } else {
        cache.for_each(|entry| {
            match entry {
                Ok(entry) => entries.extend(Some(entry).filter(is_meant)),
                Err(error) => failed = Some(error),
            }
            true
        })?;
    }
    if arguments.json {
        let rows: Vec<_> = entries.iter().map(|entry| entry_json(entry, now)).collect();
        write_json(out, &json!({"certificates": rows}))?;
    } else {
        let mut table = Table::new(["FINGERPRINT", "ADDRESSES", "SUBJECT", "VALID UNTIL", "SOURCE", "STATE"]);
        for entry in &entries {
            table.row(row(entry, now));
        }
        table.write(out)?;
    }
    failed.map_or(Ok(Done::All), |error| Err(error.into()))
}

fn row(entry: &Entry, now: SystemTime) -> [String; 6] {
    let certificate = &entry.certificate;
    let mut of = vec![addresses(certificate)];
    of.extend(entry.assigned.iter().map(|text| format!("{text} (assigned)")));
    of.retain(|text| !text.is_empty());
    [
        short(certificate),
        of.join(", "),
        certificate.subject().to_string(),
        day(certificate.not_after()),
        entry.sources.names().collect::<Vec<_>>().join(", "),
        state(entry, now),
    ]
}

/// Its state, or what the certificate itself has against being used.
fn state(entry: &Entry, now: SystemTime) -> String {
    match (entry.state, encrypting_fault(&entry.certificate, now)) {
        (TrustState::Trusted, None)
            if entry.certificate.addresses().is_empty() && entry.assigned.is_empty() =>
        {
            "a CA's".to_owned()
        }
        (state, None) => state_words(state).to_owned(),
        (state, Some(fault)) => format!("{}, {fault}", state_words(state)),
    }
}

/// Shows one certificate.
pub(crate) fn show(
    settings: &Settings,
    fingerprint: &str,
    (pem, json): (bool, bool),
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let cache = Arc::new(cache::open(settings)?);
    let entry = entry_of(&cache, fingerprint)?;
    let certificate = &entry.certificate;
    if pem {
        writeln!(out, "-----BEGIN CERTIFICATE-----")?;
        for line in BASE64.encode(certificate.der()).as_bytes().chunks(64) {
            writeln!(out, "{}", String::from_utf8_lossy(line))?;
        }
        writeln!(out, "-----END CERTIFICATE-----")?;
        return Ok(Done::All);
    }
    if json {
        let mut value = entry_json(&entry, now);
        if let Some(object) = value.as_object_mut() {
            object.insert("der".to_owned(), BASE64.encode(certificate.der()).into());
        }
        write_json(out, &value)?;
        return Ok(Done::All);
    }
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let mut table = Table::new(["FIELD", "VALUE"]);
    for (field, value) in [
        ("fingerprint", HEXLOWER.encode(certificate.fingerprint())),
        ("subject", certificate.subject().to_string()),
        ("issuer", certificate.issuer().to_string()),
        ("serial number", certificate.serial_hex()),
        ("addresses", or_none(addresses(certificate))),
        ("assigned", or_none(entry.assigned.join(", "))),
        ("valid from", moment(certificate.not_before())),
        ("valid until", moment(certificate.not_after())),
        ("state", state_words(entry.state).to_owned()),
        ("sources", entry.sources.names().collect::<Vec<_>>().join(", ")),
        ("message", or_none(entry.message_id.clone().unwrap_or_default())),
        ("first seen", moment(entry.first_seen)),
        ("last seen", day(entry.last_seen)),
    ] {
        table.row([field.to_owned(), value]);
    }
    let effects = Effects::new(settings, &cache);
    let found = effects.of(&entry, now)?;
    if found.is_empty() {
        let path = path_fault(certificate, &[], settings, now);
        table.row(["path".to_owned(), path.unwrap_or_else(|| "leads to an anchor".to_owned())]);
    }
    let is_one = found.len() == 1;
    for effect in &found {
        let of = if is_one { String::new() } else { format!(" to {}", effect.address) };
        table.row([format!("encrypting{of}"), effect.answer()]);
        if let Some(remedy) = effect.remedy() {
            table.row(["to use it".to_owned(), remedy]);
        }
    }
    effects.flush();
    table.write(out)?;
    Ok(Done::All)
}
