//! `hsmime cert import`.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use agent::Settings;
use anyhow::Result;
use certcache::{Cache, CacheError, Insertion, Source, TrustState};
use serde_json::{Value, json};
use smime::Certificate;

use super::{
    addresses, certificate_json,
    effect::{Effects, MOST_REMEDIES},
    encrypting_fault, short, write_json,
};
use crate::{
    Done,
    arguments::ImportArguments,
    cache,
    read::{Passwords, read},
    table::Table,
    time::day,
};

/// What became of one certificate, or of a file.
struct Item {
    file: String,
    certificate: Option<Certificate>,
    result: &'static str,
    words: String,
    /// Whether mail may be encrypted to it.
    is_for_mail: bool,
}

/// Puts the certificates of files into the cache. A file that fails is named and the others go on.
pub(crate) fn import(
    settings: &Settings,
    arguments: &ImportArguments,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    cache::folder(settings)?;
    let mut passwords = Passwords::new(arguments.password_file.clone());
    let files = arguments.files.iter().map(|path| (path.display().to_string(), read(path, &mut passwords)));
    // All of them before the cache: who opens that may not be who may read these.
    let files: Vec<_> = files.collect();
    let cache = Arc::new(cache::open(settings)?);
    let mut items: Vec<Item> = Vec::new();
    for (file, contents) in files {
        let other =
            |result, words| Item { file: file.clone(), certificate: None, result, words, is_for_mail: false };
        match contents {
            Ok(contents) => {
                for certificate in &contents.certificates {
                    let put = put_in(&cache, arguments, certificate, contents.certificates.len(), now);
                    let (result, words, is_for_mail) =
                        put.unwrap_or_else(|error| ("failed", format!("FAILED: {error}"), false));
                    let certificate = Some(certificate.clone());
                    items.push(Item { file: file.clone(), certificate, result, words, is_for_mail });
                }
                items.extend(contents.skipped.into_iter().map(|skipped| other("skipped", skipped)));
            }
            Err(reason) => items.push(other("failed", reason)),
        }
    }
    cache.keep_decided()?;
    let remedies = look(settings, &cache, &mut items, now)?;
    if arguments.json {
        let rows: Vec<Value> = items.iter().map(|item| row_json(item, now)).collect();
        write_json(out, &json!({"imported": rows}))?;
    } else {
        let mut table = Table::new(["FILE", "ADDRESSES", "SUBJECT", "VALID UNTIL", "RESULT"]);
        for item in &items {
            table.row(row(item));
        }
        table.write(out)?;
        for remedy in remedies {
            writeln!(out, "{remedy}")?;
        }
    }
    let failed = items.iter().any(|item| item.result == "failed");
    Ok(if failed { Done::Partly } else { Done::All })
}

fn row(item: &Item) -> [String; 5] {
    let Item { file, certificate, result, words, .. } = item;
    let Some(certificate) = certificate else {
        let prefix = if *result == "failed" { "FAILED" } else { result };
        let empty = String::new;
        return [file.clone(), empty(), empty(), empty(), format!("{prefix}: {words}")];
    };
    let (subject, until) = (certificate.subject().to_string(), day(certificate.not_after()));
    [file.clone(), addresses(certificate), subject, until, words.clone()]
}

fn row_json(item: &Item, now: SystemTime) -> Value {
    let Item { file, certificate, result, words, .. } = item;
    let mut row =
        certificate.as_ref().map_or_else(|| json!({}), |certificate| certificate_json(certificate, now));
    if let Value::Object(object) = &mut row {
        let added = [("file", file.as_str()), ("result", result), ("words", words)];
        object.extend(added.map(|(key, value)| (key.to_owned(), value.into())));
    }
    row
}

/// Puts one in. What came of it, in a word and in words, and whether mail may be encrypted to it.
fn put_in(
    cache: &Cache,
    arguments: &ImportArguments,
    certificate: &Certificate,
    in_file: usize,
    now: SystemTime,
) -> Result<(&'static str, String, bool), CacheError> {
    let is_leaf = !certificate.addresses().is_empty();
    // What is vouched for are people's certificates, not the authorities that came with them.
    let assigned = if is_leaf || in_file == 1 { arguments.assign.clone() } else { Vec::new() };
    let is_for_mail = is_leaf || !assigned.is_empty();
    let insertion = Insertion {
        state: if arguments.pin && is_leaf { TrustState::Pinned } else { TrustState::Trusted },
        assigned: Vec::new(),
        reason: &arguments.reason,
        ..Insertion::new(certificate, Source::Imported)
    };
    let inserted = match cache.put(&[Insertion { assigned: checked(cache, &assigned)?, ..insertion }], now) {
        Ok(inserted) => inserted,
        Err(CacheError::NoAddress { .. }) => {
            let words = "skipped: it names no mail address; --assign gives it one".to_owned();
            return Ok(("skipped", words, false));
        }
        Err(error) => return Err(error),
    };
    let (result, words) = if inserted.new > 0 { ("new", "new") } else { ("known", "known already") };
    let words = if is_for_mail { words.to_owned() } else { format!("{words}, a CA's") };
    Ok((result, words, is_for_mail))
}

/// Says of each to which mail is not encrypted why not: nobody should wonder later. Gives what to do. All are in the cache by
/// then, with the authorities that came with them.
fn look(settings: &Settings, cache: &Arc<Cache>, items: &mut [Item], now: SystemTime) -> Result<Vec<String>> {
    let begin = Instant::now();
    let effects = Effects::new(settings, cache);
    let mut remedies = Vec::new();
    for item in items.iter_mut().filter(|item| item.is_for_mail) {
        let Some(certificate) = &item.certificate else { continue };
        if begin.elapsed() > PATIENCE {
            let fault =
                encrypting_fault(certificate, now).unwrap_or("`hsmime explain` tells whether it is used");
            item.words = format!("{}, {fault}", item.words);
            continue;
        }
        let Some(entry) = cache.by_fingerprint(certificate.fingerprint())? else { continue };
        let effects = effects.of(&entry, now)?;
        let Some((effect, fault)) = effects.iter().find_map(|effect| Some((effect, effect.fault()?))) else {
            continue;
        };
        let yet = if effect.may_come() { " yet" } else { "" };
        item.words = format!("{}, but not used{yet}: {fault}", item.words);
        let remedy = effect.remedy().map(|remedy| format!("to use {}: {remedy}", short(certificate)));
        remedies.extend(remedy.filter(|_| remedies.len() < MOST_REMEDIES));
    }
    effects.flush();
    Ok(remedies)
}

/// CAs' servers are asked for this long, for all certificates; of the others it is found out when there is mail to them.
const PATIENCE: Duration = Duration::from_secs(20);

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
