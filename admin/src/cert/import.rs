//! `hsmime cert import`.

use std::{io::Write, time::SystemTime};

use agent::Settings;
use anyhow::Result;
use certcache::{Cache, CacheError, Insertion, Source, TrustState};
use serde_json::{Value, json};
use smime::Certificate;

use super::{addresses, certificate_json, encrypting_fault, path_fault, write_json};
use crate::{
    Done,
    arguments::ImportArguments,
    cache,
    read::{Passwords, read},
    table::Table,
    time::day,
};

/// Puts the certificates of files into the cache. A file that fails is named and the others go on.
pub(crate) fn import(
    settings: &Settings,
    arguments: &ImportArguments,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let cache = cache::open(settings)?;
    let mut passwords = Passwords::new(arguments.password_file.clone());
    let mut table = Table::new(["FILE", "ADDRESSES", "SUBJECT", "VALID UNTIL", "RESULT"]);
    let mut rows: Vec<Value> = Vec::new();
    let mut done = Done::All;
    for file in &arguments.files {
        let name = file.display().to_string();
        let failed = |reason: &str| {
            let empty = String::new;
            let cells = [name.clone(), empty(), empty(), empty(), format!("FAILED: {reason}")];
            (cells, json!({"file": name, "result": "failed", "words": reason}))
        };
        match read(file, &mut passwords) {
            Ok(contents) => {
                for certificate in &contents.certificates {
                    let put = put_in(&cache, settings, arguments, certificate, &contents.certificates, now);
                    let (result, words) = put.unwrap_or_else(|error| {
                        done = Done::Partly;
                        ("failed", format!("FAILED: {error}"))
                    });
                    let (subject, until) = (certificate.subject().to_string(), day(certificate.not_after()));
                    let mut row = certificate_json(certificate, now);
                    if let Value::Object(object) = &mut row {
                        let added = [("file", &name), ("result", &result.to_owned()), ("words", &words)];
                        object.extend(added.map(|(key, value)| (key.to_owned(), value.clone().into())));
                    }
                    rows.push(row);
                    table.row([name.clone(), addresses(certificate), subject, until, words]);
                }
                for skipped in contents.skipped {
                    rows.push(json!({"file": name, "result": "skipped", "words": skipped}));
                    let empty = String::new;
                    table.row([name.clone(), empty(), empty(), empty(), format!("skipped: {skipped}")]);
                }
            }
            Err(reason) => {
                done = Done::Partly;
                let (cells, row) = failed(&reason);
                table.row(cells);
                rows.push(row);
            }
        }
    }
    cache.keep_decided()?;
    if arguments.json {
        write_json(out, &json!({"imported": rows}))?;
    } else {
        table.write(out)?;
    }
    Ok(done)
}

/// What came of it, in a word and in words: nobody should wonder later why a certificate is not used.
fn put_in(
    cache: &Cache,
    settings: &Settings,
    arguments: &ImportArguments,
    certificate: &Certificate,
    beside: &[Certificate],
    now: SystemTime,
) -> Result<(&'static str, String), CacheError> {
    let is_leaf = !certificate.addresses().is_empty();
    // What is vouched for are people's certificates, not the authorities that came with them.
    let assigned = if is_leaf || beside.len() == 1 { arguments.assign.clone() } else { Vec::new() };
    let insertion = Insertion {
        state: if arguments.pin && is_leaf { TrustState::Pinned } else { TrustState::Trusted },
        assigned: Vec::new(),
        reason: &arguments.reason,
        ..Insertion::new(certificate, Source::Imported)
    };
    let inserted = match cache.put(&[Insertion { assigned: checked(cache, &assigned)?, ..insertion }], now) {
        Ok(inserted) => inserted,
        Err(CacheError::NoAddress { .. }) => {
            return Ok(("skipped", "skipped: it names no mail address; --assign gives it one".to_owned()));
        }
        Err(error) => return Err(error),
    };
    let (result, mut text) = if inserted.new > 0 { ("new", "new") } else { ("known", "known already") };
    let words = if !is_leaf && assigned.is_empty() {
        text = if inserted.new > 0 { "new, a CA's" } else { "known already, a CA's" };
        vec![text.to_owned()]
    } else {
        let mut words = vec![text.to_owned()];
        words.extend(encrypting_fault(certificate, now).map(|fault| format!("but {fault}")));
        if !arguments.pin {
            let fault = path_fault(certificate, beside, settings, now);
            words.extend(fault.map(|fault| format!("but not trusted: {fault}")));
        }
        words
    };
    Ok((result, words.join(", ")))
}

/// The addresses and domains, if they are such; the cache takes any text.
fn checked(cache: &Cache, assigned: &[String]) -> Result<Vec<String>, CacheError> {
    for text in assigned {
        let address = text.strip_prefix('@').map_or_else(|| text.clone(), |domain| format!("x@{domain}"));
        if smime::MailAddress::parse(&address).is_err() {
            return Err(CacheError::NotAnAddress { path: cache.path().to_owned(), text: text.clone() });
        }
    }
    Ok(assigned.to_vec())
}
