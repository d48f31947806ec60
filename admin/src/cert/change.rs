//! `hsmime cert remove`, `trust`, `distrust` and `rules`: what an administrator decides.
//!
//! Each decision is in the cache's log with its reason, and in `decided.jsonl` beside the cache.

use std::{io::Write, path::Path, sync::Arc, time::SystemTime};

use agent::Settings;
use anyhow::{Result, bail};
use certcache::{Cache, TrustState};
use der::{Decode, Encode};
use serde_json::json;
use smime::Certificate;
use x509_cert::name::Name;

use super::{
    addresses,
    effect::{Effects, state_words},
    entry_of, short, write_json,
};
use crate::{
    Done,
    arguments::{DistrustArguments, TrustArguments},
    cache,
    read::{Passwords, read},
    table::{Table, count},
    time::{day, moment},
};

/// Takes certificates out.
pub(crate) fn remove(
    settings: &Settings,
    fingerprints: &[String],
    reason: &str,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let cache = cache::open(settings)?;
    // All of them are found before any is taken out.
    let entries = fingerprints.iter().map(|text| entry_of(&cache, text)).collect::<Result<Vec<_>>>()?;
    for entry in entries {
        cache.remove_because(entry.certificate.fingerprint(), reason, now)?;
        writeln!(out, "removed {} of {}", short(&entry.certificate), owner(&entry.certificate))?;
    }
    cache.keep_decided()?;
    Ok(Done::All)
}

/// Has certificates used, and says at once where mail is not encrypted to them all the same.
pub(crate) fn trust(
    settings: &Settings,
    arguments: &TrustArguments,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let cache = Arc::new(cache::open(settings)?);
    let effects = Effects::new(settings, &cache);
    let mut done = Done::All;
    let state = if arguments.pin { TrustState::Pinned } else { TrustState::Trusted };
    let entries =
        arguments.fingerprint.iter().map(|text| entry_of(&cache, text)).collect::<Result<Vec<_>>>()?;
    for entry in entries {
        let fingerprint = entry.certificate.fingerprint();
        for text in &arguments.assign {
            cache.assign(fingerprint, text, &arguments.reason, now)?;
        }
        cache.set_state(fingerprint, state, &arguments.reason, now)?;
        let certificate = &entry.certificate;
        let is = format!("{} of {} is {}", short(certificate), owner(certificate), state_words(state));
        let before =
            if entry.state == state { String::new() } else { format!(" (was {})", state_words(entry.state)) };
        let Some(entry) = cache.by_fingerprint(fingerprint)? else { continue };
        let effects = effects.of(&entry, now)?;
        let without: Vec<_> = effects.iter().filter(|effect| effect.fault().is_some()).collect();
        if without.is_empty() {
            writeln!(out, "{is}{before}")?;
        }
        for effect in without {
            done = Done::Partly;
            let fault = effect.fault().unwrap_or_default();
            write!(
                out,
                "{is}{before}, but mail to {} is still not encrypted to it: {fault}",
                effect.address
            )?;
            match effect.remedy() {
                Some(remedy) => writeln!(out, ". To use it: {remedy}")?,
                None => writeln!(out)?,
            }
        }
    }
    cache.keep_decided()?;
    effects.flush();
    Ok(done)
}

/// Keeps certificates out of use.
pub(crate) fn distrust(
    settings: &Settings,
    arguments: &DistrustArguments,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    cache::folder(settings)?;
    let of_file = arguments.issuer.as_deref().map(issuer_of_file).transpose()?.flatten();
    let cache = cache::open(settings)?;
    if let Some(text) = &arguments.issuer {
        let issuer = of_file.map_or_else(|| issuer_named(&cache, settings, text), Ok)?;
        let number = cache.add_rule(&issuer, arguments.after, &arguments.reason, now)?;
        let mut affected = 0;
        cache.for_each(|entry| {
            let is_meant = entry.is_ok_and(|entry| {
                entry.certificate.issuer().to_der().is_ok_and(|name| name == issuer)
                    && arguments.after.is_none_or(|after| entry.certificate.not_before() > after)
            });
            affected += usize::from(is_meant);
            true
        })?;
        let since =
            arguments.after.map_or_else(String::new, |after| format!(" that begin after {}", day(after)));
        writeln!(
            out,
            "rule {number}: certificates of \"{}\"{since} are not used, and none that they issued; {} in the cache",
            name(&issuer),
            count(affected, "is", "are")
        )?;
    } else {
        let entries = arguments.fingerprint.iter().map(|text| entry_of(&cache, text));
        for entry in entries.collect::<Result<Vec<_>>>()? {
            cache.set_state(
                entry.certificate.fingerprint(),
                TrustState::Distrusted,
                &arguments.reason,
                now,
            )?;
            writeln!(out, "{} of {} is distrusted", short(&entry.certificate), owner(&entry.certificate))?;
        }
    }
    cache.keep_decided()?;
    Ok(Done::All)
}

/// Lists the rules, or takes one back.
pub(crate) fn rules(
    settings: &Settings,
    remove: Option<u64>,
    reason: &str,
    json: bool,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let cache = cache::open(settings)?;
    if let Some(number) = remove {
        if !cache.remove_rule(number, reason, now)? {
            bail!("there is no rule {number}; see `hsmime cert rules`");
        }
        cache.keep_decided()?;
        writeln!(out, "rule {number} is taken back")?;
        return Ok(Done::All);
    }
    let rules = cache.rules()?;
    if json {
        let rows = rules.iter().map(|rule| {
            json!({
                "number": rule.number,
                "issuer": name(&rule.issuer),
                "after": rule.after.map(moment),
                "comment": rule.comment,
            })
        });
        write_json(out, &json!({"rules": rows.collect::<Vec<_>>()}))?;
        return Ok(Done::All);
    }
    let mut table = Table::new(["RULE", "ISSUER", "AFTER", "COMMENT"]);
    for rule in rules {
        let after = rule.after.map_or_else(|| "always".to_owned(), day);
        table.row([rule.number.to_string(), name(&rule.issuer), after, rule.comment]);
    }
    table.write(out)?;
    Ok(Done::All)
}

/// An issuer's name in DER: that of the certificate in a file, if it is one.
fn issuer_of_file(text: &str) -> Result<Option<Vec<u8>>> {
    let path = Path::new(text);
    if path.is_file() {
        let contents = match read(path, &mut Passwords::new(None)) {
            Ok(contents) => contents,
            Err(reason) => bail!("{text}: {reason}"),
        };
        let [certificate] = contents.certificates.as_slice() else {
            bail!(
                "{text} holds {} certificates; give a file with the issuer's alone",
                contents.certificates.len()
            );
        };
        return Ok(Some(certificate.subject().to_der()?));
    }
    if text.contains('/') && !text.contains('=') {
        bail!("{text}: there is no such file");
    }
    Ok(None)
}

/// An issuer's name in DER that is known by how it is written.
fn issuer_named(cache: &Cache, settings: &Settings, text: &str) -> Result<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut see = |name: &Name| {
        if name.to_string() == text
            && let Ok(der) = name.to_der()
            && !found.contains(&der)
        {
            found.push(der);
        }
    };
    settings.trust().anchors.iter().for_each(|anchor| see(anchor.subject()));
    cache.for_each(|entry| {
        if let Ok(entry) = entry {
            see(entry.certificate.issuer());
        }
        true
    })?;
    match (found.pop(), found.pop()) {
        (Some(name), None) => Ok(name),
        // Written alike and encoded otherwise they are two names, and the file says which.
        (Some(_), Some(_)) => {
            bail!("several issuers write their name so; give the file of the issuer's certificate")
        }
        (None, _) => bail!(
            "no certificate in the cache has the issuer {text:?}; give it as `hsmime cert show` writes it, or the file of \
             the issuer's certificate"
        ),
    }
}

fn name(der: &[u8]) -> String {
    Name::from_der(der).map_or_else(|_| data_encoding::HEXLOWER.encode(der), |name| name.to_string())
}

fn owner(certificate: &Certificate) -> String {
    let addresses = addresses(certificate);
    if addresses.is_empty() { certificate.subject().to_string() } else { addresses }
}
