//! `hsmime cert import` and `hsmime cert list`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use agent::Settings;
use anyhow::Result;
use certcache::{Cache, CacheError, Entry, Source};
use data_encoding::HEXLOWER;
use smime::{Certificate, MailAddress, path::validate};

use crate::{Done, cache, table::Table};

/// Puts the certificates of files into the cache. A file that fails is named and the others go on.
pub(crate) fn import(
    settings: &Settings,
    files: &[PathBuf],
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let cache = cache::open(settings)?;
    let mut table = Table::new(["FILE", "ADDRESSES", "SUBJECT", "VALID UNTIL", "RESULT"]);
    let mut done = Done::All;
    for file in files {
        let name = file.display().to_string();
        match read(file) {
            Ok(certificates) => {
                for certificate in &certificates {
                    let result = put_in(&cache, settings, certificate, &certificates, now);
                    let result = result.unwrap_or_else(|error| {
                        done = Done::Partly;
                        format!("FAILED: {error}")
                    });
                    let subject = certificate.subject().to_string();
                    let until = day(certificate.not_after());
                    table.row([name.clone(), addresses(certificate), subject, until, result]);
                }
            }
            Err(reason) => {
                done = Done::Partly;
                let empty = String::new;
                table.row([name, empty(), empty(), empty(), format!("FAILED: {reason}")]);
            }
        }
    }
    table.write(out)?;
    Ok(done)
}

fn read(file: &Path) -> Result<Vec<Certificate>, String> {
    let octets = fs::read(file).map_err(|error| error.to_string())?;
    let read = match octets.first() {
        Some(0x30) => Certificate::from_der(&octets).map(|certificate| vec![certificate]),
        _ => Certificate::from_pem(&String::from_utf8_lossy(&octets)),
    };
    read.map_err(|error| error.to_string())
}

/// What came of it in words: nobody should wonder later why a certificate is not used.
fn put_in(
    cache: &Cache,
    settings: &Settings,
    certificate: &Certificate,
    beside: &[Certificate],
    now: SystemTime,
) -> Result<String, CacheError> {
    // CA certificates often follow the one that is meant.
    if certificate.addresses().is_empty() {
        return Ok("skipped: it names no mail address".to_owned());
    }
    let inserted = cache.insert(certificate, Source::Imported, now)?;
    let mut words = vec![if inserted.new > 0 { "new".to_owned() } else { "known already".to_owned() }];
    if let Some(fault) = encrypting_fault(certificate, now) {
        words.push(format!("but {fault}"));
    }
    if !settings.trust().anchors.is_empty()
        && let Err(error) = validate(certificate, beside, settings.trust(), now)
    {
        words.push(format!("but not trusted: {error}"));
    }
    Ok(words.join(", "))
}

/// Lists the cache.
pub(crate) fn list(
    settings: &Settings,
    address: Option<&MailAddress>,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let cache = cache::open(settings)?;
    let mut table = Table::new(["FINGERPRINT", "ADDRESSES", "SUBJECT", "VALID UNTIL", "SOURCE", "STATE"]);
    let mut failed = None;
    if let Some(address) = address {
        cache.by_address(address)?.iter().for_each(|entry| table.row(row(entry, now)));
    } else {
        cache.for_each(|entry| {
            match entry {
                Ok(entry) => table.row(row(&entry, now)),
                Err(error) => failed = Some(error),
            }
            true
        })?;
    }
    table.write(out)?;
    failed.map_or(Ok(Done::All), |error| Err(error.into()))
}

fn row(entry: &Entry, now: SystemTime) -> [String; 6] {
    let certificate = &entry.certificate;
    let fingerprint = HEXLOWER.encode(certificate.fingerprint());
    [
        fingerprint.get(..16).unwrap_or_default().to_owned(),
        addresses(certificate),
        certificate.subject().to_string(),
        day(certificate.not_after()),
        entry.sources.names().collect::<Vec<_>>().join(", "),
        encrypting_fault(certificate, now).unwrap_or("usable").to_owned(),
    ]
}

/// Why nothing is encrypted to a certificate now.
fn encrypting_fault(certificate: &Certificate, now: SystemTime) -> Option<&'static str> {
    if !certificate.may_encrypt() {
        Some("not for encrypting (keyUsage)")
    } else if !certificate.is_for_email() {
        Some("not for e-mail (extKeyUsage)")
    } else if now < certificate.not_before() {
        Some("not valid yet")
    } else if !certificate.is_valid_at(now) {
        Some("expired")
    } else {
        None
    }
}

pub(crate) fn addresses(certificate: &Certificate) -> String {
    let addresses: Vec<String> = certificate.addresses().iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

/// A day in ISO 8601.
pub(crate) fn day(time: SystemTime) -> String {
    der::DateTime::try_from(time).map_or_else(
        |_| "?".to_owned(),
        |date| format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
    )
}
