//! `hsmime doctor`: tries everything the configuration names, as the milter would use it.
//!
//! It changes nothing: the cache is not made, the socket is not kept, and every PIN is tried once. A call that
//! hangs in a vendor's module is waited for some seconds and named.

mod cached;
mod findings;
mod keys;
mod postfix;
mod sendmail;
mod socket;
mod tokens;
mod validity;

use std::{io::Write, path::Path, time::SystemTime};

use agent::{
    ConfigError, Settings,
    settings::{IdentitySettings, Milter, Warning},
};
use anyhow::Result;
use rustix::process::geteuid;
use smime::path::{PathError, Revocation, validate};

use crate::{
    Done,
    cert::{addresses, write_json},
    table::count,
    time::day,
};
use findings::{Findings, Health, width};

/// Examines all, and writes what was found and what to do.
pub(crate) fn examine(config: &Path, is_json: bool, now: SystemTime, out: &mut dyn Write) -> Result<Done> {
    let mut findings = Findings::default();
    let settings = settings(config, now, &mut findings);
    if let Some(settings) = &settings {
        // Before this process has the tokens' files open, which another one would inherit where a module lets it.
        let cached = settings.cache().map(|path| (path, cached::certificates(settings, path)));
        let up = tokens::examine(settings, &mut findings);
        for identity in settings.identities() {
            keys::examine(identity, &up, settings.pool_socket().is_some(), &mut findings);
            if validity::examine(identity, settings, now, &mut findings) {
                path(identity, settings, now, &mut findings);
            }
        }
        validity::signers(settings, now, &mut findings);
        tokens::measure(&up, &mut findings);
        if let Some((path, found)) = cached {
            cache(path, found, &mut findings);
        }
        if let Some(milter) = settings.milter() {
            socket::examine(&milter.listen, &mut findings);
            // What Postfix says of its limit says more.
            if !postfix::examine(milter, settings.rules(), settings.incoming(), &mut findings)
                && settings.hints().contains(&Warning::UnknownSize)
            {
                findings.add(Health::Warn, "milter", Warning::UnknownSize.to_string());
            }
            sendmail::examine(&milter.listen, &mut findings);
            user(milter, geteuid().is_root(), &mut findings);
        }
    }
    if is_json {
        write_json(out, &findings.to_json())?;
    } else {
        findings.write(width(), out)?;
    }
    let failures = findings.how_many(Health::Fail);
    Ok(match (settings, failures) {
        (None, _) => Done::NotStarted,
        (Some(_), 0) => Done::All,
        (Some(_), _) => Done::Partly,
    })
}

fn settings(config: &Path, now: SystemTime, findings: &mut Findings) -> Option<Settings> {
    let what = "configuration";
    match Settings::load(config) {
        Ok(settings) => {
            findings.add(Health::Ok, what, config.display().to_string());
            // What ends is told of each certificate.
            let is_elsewhere = |warning: &Warning| match warning {
                Warning::ExpiresSoon { .. } => true,
                Warning::CannotSign { certificate, .. } => !certificate.is_valid_at(now),
                _ => false,
            };
            for warning in settings.warnings(now).into_iter().filter(|warning| !is_elsewhere(warning)) {
                findings.add(Health::Warn, what, warning.to_string());
            }
            for hint in settings.hints().into_iter().filter(|hint| *hint != Warning::UnknownSize) {
                findings.add(Health::Warn, what, hint.to_string());
            }
            Some(settings)
        }
        Err(ConfigError::Invalid { path, complaints }) => {
            for complaint in complaints {
                findings.add(Health::Fail, what, format!("{}: {complaint}", path.display()));
            }
            None
        }
        Err(error) => {
            findings.add(Health::Fail, what, error.to_string());
            None
        }
    }
}

/// What a finding about an identity is called.
fn name(identity: &IdentitySettings) -> String {
    let certificate = &identity.certificate;
    format!("{} (serial {})", addresses(certificate), certificate.serial_hex())
}

/// Whether those who get mail signed with a certificate, which is valid now, can trust it.
fn path(identity: &IdentitySettings, settings: &Settings, now: SystemTime, findings: &mut Findings) {
    let certificate = &identity.certificate;
    let what = format!("path of {}", name(identity));
    let until = day(certificate.not_after());
    if !certificate.may_sign() {
        findings.add(Health::Ok, what, format!("valid until {until}, not for signing"));
        return;
    }
    if settings.trust().anchors.is_empty() {
        findings.add(Health::Warn, what, "not checked: [trust] names no anchors");
        return;
    }
    match validate(certificate, &identity.chain, &settings.fetching_trust(), now) {
        Ok(path) => {
            let anchor = path.chain().last().map_or_else(String::new, |anchor| anchor.subject().to_string());
            let found = format!("valid until {until}, leads to {anchor:?}");
            match path.revocation() {
                Revocation::Unknown(reason) => {
                    findings.add(Health::Warn, what, format!("{found}, revocation unknown: {reason}"));
                }
                _ => findings.add(Health::Ok, what, found),
            }
        }
        Err(error @ PathError::NoPath { .. }) => {
            let advice = "add the missing CA certificate to `chain`, or its root to `anchors`";
            findings.add(Health::Fail, what, format!("{error}; {advice}"));
        }
        Err(error @ PathError::Revoked { .. }) => {
            findings.add(Health::Fail, what, format!("{error}; get a new one"));
        }
        Err(error) => findings.add(Health::Fail, what, error.to_string()),
    }
}

/// Root may read what the milter may not: PIN, keys in SoftHSM's files, cache.
fn user(milter: &Milter, is_root: bool, findings: &mut Findings) {
    if let Some(user) = milter.user.as_deref().filter(|user| is_root && *user != "root") {
        let found =
            format!("root tried all this, the milter is {user:?}: runuser -u {user} -- hsmime doctor");
        findings.add(Health::Warn, "user", found);
    }
}

fn cache(path: &Path, found: Result<Option<usize>, String>, findings: &mut Findings) {
    let what = format!("cache {}", path.display());
    match found {
        Ok(None) => findings.add(Health::Ok, what, "not there yet: it will be made when it is first used"),
        Ok(Some(number)) => findings.add(Health::Ok, what, count(number, "certificate", "certificates")),
        Err(error) => findings.add(Health::Fail, what, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_told_that_the_milter_is_somebody_else() {
        let milter = |user: &str| {
            let text =
                format!("[milter]\nlisten = \"inet:127.0.0.1:1\"\nauthserv-id = \"a.example\"\n{user}");
            Settings::parse(&text, Path::new("/hsmime.toml")).unwrap().milter().unwrap().clone()
        };
        for (line, is_root, warned) in [
            ("user = \"nobody\"", true, true),
            ("user = \"nobody\"", false, false),
            ("user = \"root\"", true, false),
            ("", true, false),
        ] {
            let mut findings = Findings::default();
            user(&milter(line), is_root, &mut findings);
            assert_eq!(findings.how_many(Health::Warn) == 1, warned, "{line} {is_root}");
        }
    }
}
