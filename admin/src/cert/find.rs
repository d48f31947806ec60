//! `hsmime cert find`: what the configured sources say of an address.

use std::{io::Write, sync::Arc, time::SystemTime};

use agent::{Settings, settings::start_sources};
use anyhow::{Result, bail};
use lookup::{Answer, Asked, Kind, Refill, Search};
use serde_json::{Value, json};
use smime::{Certificate, MailAddress, store::Waited};

use super::{addresses, certificate_json, encrypting_fault, path_fault, short, write_json};
use crate::{
    Done, cache,
    table::{Table, count},
    time::day,
};

/// Asks the sources, and puts what they have into the cache if that is wanted.
pub(crate) fn find(
    settings: &Settings,
    address: &MailAddress,
    (store, json): (bool, bool),
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    if settings.lookup().sources.is_empty() {
        bail!("there is no [[source]] in {}; write one for each place to ask", settings.path().display());
    }
    let sources = start_sources(settings.lookup())?;
    let search = sources.find(address, now);
    let keep = || {
        let (cache, trust) =
            (Arc::new(cache::open(settings)?), settings.for_encryption().of(settings.trust()));
        anyhow::Ok(Refill::keep(&cache, (address, &search), &trust, now, &mut Waited::default())?)
    };
    let stored = if store { keep()? } else { 0 };
    if json {
        write_json(out, &to_json(address, &search, settings, now))?;
    } else {
        write(&search, settings, now, out)?;
        if store {
            writeln!(out, "{} put into the cache", count(stored, "new certificate", "new certificates"))?;
        }
    }
    Ok(if search.is_unknown() { Done::Partly } else { Done::All })
}

fn write(search: &Search, settings: &Settings, now: SystemTime, out: &mut dyn Write) -> Result<()> {
    let mut answers = Table::new(["SOURCE", "KIND", "MS", "ANSWER"]);
    for asked in &search.answers {
        answers.row([asked.name.clone(), asked.kind.to_string(), millis(asked).to_string(), words(asked)]);
    }
    answers.write(out)?;
    let mut table = Table::new(["FINGERPRINT", "SOURCE", "ADDRESSES", "SUBJECT", "VALID UNTIL", "STATE"]);
    let mut row = |certificate: &Certificate, kind: Kind, state: String| {
        let (subject, until) = (certificate.subject().to_string(), day(certificate.not_after()));
        table.row([short(certificate), kind.to_string(), addresses(certificate), subject, until, state]);
    };
    for (certificate, kind) in search.certificates() {
        row(
            certificate,
            kind,
            state(certificate, search, settings, now).unwrap_or_else(|| "usable".to_owned()),
        );
    }
    for (certificate, kind) in search.refused() {
        row(certificate, kind, NOT_PINNED.to_owned());
    }
    if search.answers.iter().any(|asked| matches!(asked.answer, Answer::Found(_))) {
        writeln!(out)?;
        table.write(out)?;
    }
    Ok(())
}

const NOT_PINNED: &str = "not taken: DNS names another one (SMIMEA)";

fn state(certificate: &Certificate, search: &Search, settings: &Settings, now: SystemTime) -> Option<String> {
    let issuers: Vec<Certificate> = search.issuers().into_iter().map(|(issuer, _)| issuer.clone()).collect();
    let fault = encrypting_fault(certificate, now).map(str::to_owned);
    fault.or_else(|| {
        path_fault(certificate, &issuers, settings, now).map(|fault| format!("not trusted: {fault}"))
    })
}

fn words(asked: &Asked) -> String {
    match &asked.answer {
        Answer::Found(finding) => {
            let mut words = count(finding.certificates.len(), "certificate", "certificates");
            if !finding.pins.is_empty() {
                words = format!("{words}, {}", count(finding.pins.len(), "pin", "pins"));
            }
            words
        }
        Answer::Absent => "absent".to_owned(),
        Answer::Unknown(error) => format!("UNKNOWN: {error}"),
    }
}

fn millis(asked: &Asked) -> u64 {
    u64::try_from(asked.took.as_millis()).unwrap_or(u64::MAX)
}

fn to_json(address: &MailAddress, search: &Search, settings: &Settings, now: SystemTime) -> Value {
    let answers = search.answers.iter().map(|asked| {
        let (answer, reason) = match &asked.answer {
            Answer::Found(_) => ("found", None),
            Answer::Absent => ("absent", None),
            Answer::Unknown(error) => ("unknown", Some(error.to_string())),
        };
        json!({
            "source": asked.name,
            "kind": asked.kind.as_str(),
            "milliseconds": millis(asked),
            "answer": answer,
            "reason": reason,
        })
    });
    let row = |certificate: &Certificate, kind: Kind, reason: Option<String>| {
        let mut row = certificate_json(certificate, now);
        if let Some(object) = row.as_object_mut() {
            object.insert("kind".to_owned(), kind.as_str().into());
            object.insert("refused".to_owned(), reason.into());
        }
        row
    };
    let taken =
        search.certificates().into_iter().map(|(c, kind)| row(c, kind, state(c, search, settings, now)));
    let refused = search.refused().into_iter().map(|(c, kind)| row(c, kind, Some(NOT_PINNED.to_owned())));
    let (answers, certificates) = (answers.collect::<Vec<_>>(), taken.chain(refused).collect::<Vec<_>>());
    json!({"address": address.as_str(), "answers": answers, "certificates": certificates})
}
