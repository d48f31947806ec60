//! `hsmime cert`: recipients' certificates in the cache.

pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod effect;
pub(crate) mod find;
pub(crate) mod import;
pub(crate) mod list;

use std::time::SystemTime;

use agent::Settings;
use anyhow::{Result, bail};
use certcache::{Cache, Entry};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use smime::{Certificate, path::validate};

use crate::time::moment;

/// How many digits of a fingerprint tables show, and how few name one.
const SHORT: usize = 16;
const SHORTEST: usize = 8;

/// The beginning of a certificate's fingerprint.
pub(crate) fn short(certificate: &Certificate) -> String {
    let mut text = HEXLOWER.encode(certificate.fingerprint());
    text.truncate(SHORT);
    text
}

/// The addresses it names.
pub(crate) fn addresses(certificate: &Certificate) -> String {
    let addresses: Vec<String> = certificate.addresses().iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

/// Why nothing is encrypted to a certificate now, as far as it says so itself.
pub(crate) fn encrypting_fault(certificate: &Certificate, now: SystemTime) -> Option<&'static str> {
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

/// Why a certificate has no path to an anchor; `None` where it has one, or there is no anchor to lead to.
pub(crate) fn path_fault(
    certificate: &Certificate,
    beside: &[Certificate],
    settings: &Settings,
    now: SystemTime,
) -> Option<String> {
    if settings.trust().anchors.is_empty() {
        return None;
    }
    validate(certificate, beside, settings.trust(), now).err().map(|error| error.to_string())
}

/// What is known of a certificate, for programs; `docs/json.md` describes it.
pub(crate) fn certificate_json(certificate: &Certificate, now: SystemTime) -> Value {
    let addresses: Vec<String> = certificate.addresses().iter().map(ToString::to_string).collect();
    json!({
        "fingerprint": HEXLOWER.encode(certificate.fingerprint()),
        "subject": certificate.subject().to_string(),
        "issuer": certificate.issuer().to_string(),
        "serial": certificate.serial_hex(),
        "addresses": addresses,
        "not_before": moment(certificate.not_before()),
        "not_after": moment(certificate.not_after()),
        "fault": encrypting_fault(certificate, now),
    })
}

/// The same with what the cache knows of it.
pub(crate) fn entry_json(entry: &Entry, now: SystemTime) -> Value {
    let mut value = certificate_json(&entry.certificate, now);
    if let Value::Object(object) = &mut value {
        object.extend([
            ("state".to_owned(), entry.state.name().into()),
            ("sources".to_owned(), entry.sources.names().collect::<Vec<_>>().into()),
            ("assigned".to_owned(), entry.assigned.clone().into()),
            ("first_seen".to_owned(), moment(entry.first_seen).into()),
            ("last_seen".to_owned(), moment(entry.last_seen).into()),
            ("message_id".to_owned(), entry.message_id.clone().into()),
        ]);
    }
    value
}

/// The one certificate whose fingerprint begins so.
pub(crate) fn entry_of(cache: &Cache, fingerprint: &str) -> Result<Entry> {
    let digits: String = fingerprint.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    if digits.len() < SHORTEST || digits.len() > 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        bail!(
            "{fingerprint:?} is no fingerprint: give at least {SHORTEST} digits of one that `hsmime cert list` shows"
        );
    }
    if let Ok(whole) = HEXLOWER.decode(digits.as_bytes())
        && let Ok(whole) = <[u8; 32]>::try_from(whole)
    {
        return match cache.by_fingerprint(&whole)? {
            Some(entry) => Ok(entry),
            None => bail!("no certificate in the cache has the fingerprint {digits}"),
        };
    }
    let mut found: Vec<Entry> = Vec::new();
    cache.for_each(|entry| {
        // A record that cannot be read is not the one that is meant; `cache check` names it.
        let matching =
            entry.ok().filter(|e| HEXLOWER.encode(e.certificate.fingerprint()).starts_with(&digits));
        found.extend(matching);
        found.len() < 2
    })?;
    match (found.pop(), found.pop()) {
        (Some(entry), None) => Ok(entry),
        (Some(one), Some(other)) => {
            let [one, other] = [one, other].map(|entry| HEXLOWER.encode(entry.certificate.fingerprint()));
            bail!("several certificates begin with {digits}, such as {one} and {other}; give more of it")
        }
        (None, _) => bail!("no certificate in the cache begins with {digits}; see `hsmime cert list`"),
    }
}

/// Writes a value for programs.
pub(crate) fn write_json(out: &mut dyn std::io::Write, value: &Value) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}
