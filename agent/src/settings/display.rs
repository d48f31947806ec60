//! [`Settings`] as text for people: what `check-config` prints.

use std::{fmt, time::SystemTime};

use audit::AuditFile;
use certcache::Take;
use hsmpool::PinSource;
use smime::{
    MailAddress,
    mime::SenderRule,
    path::{LegacySignatures, RevocationMode},
};

use super::{Logins, LookupSettings, Milter, Reinject, Settings};
use crate::config::revocation_word;

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, text: fmt::Arguments<'_>| writeln!(f, "{name:<10} {text}");
        row("file", format_args!("{}", self.path.display()))?;
        for token in &self.tokens {
            let pin = match &token.pin {
                PinSource::File(path) => path.display().to_string(),
                PinSource::Credential(name) => format!("the credential {name}"),
                _ => "another place".to_owned(),
            };
            let sessions = match token.sessions {
                Some(sessions) => format!("{sessions} sessions"),
                None => "sessions as it allows".to_owned(),
            };
            row(
                "token",
                format_args!(
                    "\"{}\" of {}, PIN in {}, {sessions}, {} may wait in each lane, deadline {:?}",
                    token.label,
                    token.module.display(),
                    pin,
                    token.queue,
                    token.deadline
                ),
            )?;
        }
        match &self.pool_socket {
            Some(socket) => row("pool", format_args!("hsmime-keyd at {}", socket.display()))?,
            None => row("pool", format_args!("in each program"))?,
        }
        if let Some(keyd) = &self.keyd {
            let audit = audit_place(keyd.audit.as_ref());
            row("keyd", format_args!("at most {} connections, audit in {audit}", keyd.max_connections))?;
            for client in &keyd.clients {
                let operations: Vec<&str> = client.operations.iter().map(|o| o.as_str()).collect();
                let (operations, keys) = (operations.join(", "), &client.keys);
                row("", format_args!("{}: {operations} with {keys}", client.peer))?;
            }
        }
        match &self.cache {
            Some(path) => {
                row("cache", format_args!("{}{}{}", path.display(), self.harvest_note(), self.take_note()))?;
            }
            None => row("cache", format_args!("none"))?,
        }
        for (name, text) in self.trust_rows() {
            row(name, format_args!("{text}"))?;
        }
        for source in &self.lookup.sources {
            row("source", format_args!("{source}"))?;
        }
        if !self.lookup.sources.is_empty() {
            let LookupSettings { budget, absent, .. } = &self.lookup;
            row("", format_args!("asked within {budget:?} in all; absence is believed for {absent:?}"))?;
        }
        if let Some(milter) = &self.milter {
            row("milter", format_args!("{}", place(milter)))?;
            let networks: Vec<String> = milter.trusted_networks.iter().map(ToString::to_string).collect();
            row("", format_args!("trusted networks: {}", or_none(&networks.join(", "))))?;
            row("", format_args!("recipient delimiter: {}", or_none(&milter.recipient_delimiter)))?;
            if let Some(octets) = milter.mta_message_bytes {
                row(
                    "",
                    format_args!("the MTA takes mail of {octets} octets: opened mail may grow up to there"),
                )?;
            }
            let sender = milter.opened_mail_sender.as_ref().map_or("unchanged", MailAddress::as_str);
            row("", format_args!("sender of opened mail: {sender}"))?;
            if milter.audit.is_some() {
                row("", format_args!("audit in {}", audit_place(milter.audit.as_ref())))?;
            }
            if let Some(Reinject { server, state }) = &milter.reinject {
                row("", format_args!("copies go to {server}, and are kept in {}", state.display()))?;
            }
            for line in limits(milter) {
                row("", format_args!("{line}"))?;
            }
        }
        for identity in &self.identities {
            let addresses: Vec<&str> = identity.addresses.iter().map(MailAddress::as_str).collect();
            row("identity", format_args!("{}", addresses.join(", ")))?;
            let certificate = &identity.certificate;
            row("", format_args!("{certificate} in {}", identity.path.display()))?;
            let (begin, end) = (day(certificate.not_before()), day(certificate.not_after()));
            row(
                "",
                format_args!("valid from {begin} to {end}, {} further in its chain", identity.chain.len()),
            )?;
            let logins = match &identity.logins {
                Logins::Address => "for the login that is the address or its local part".to_owned(),
                Logins::Listed(logins) => format!("for the logins {}", logins.join(", ")),
                Logins::Any => "for every login".to_owned(),
            };
            row("", format_args!("{logins}"))?;
        }
        self.write_rules(&mut row)?;
        row("log", format_args!("{}, {}", self.log.format.as_str(), self.log.filter))
    }
}

/// Where it listens, and for whom.
fn place(milter: &Milter) -> String {
    let place = format!("listens at {} as {}", milter.listen, milter.authserv_id);
    match &milter.control {
        Some(control) => format!("{place}, takes commands at {}", control.display()),
        None => place,
    }
}

fn audit_place(audit: Option<&AuditFile>) -> String {
    let Some(AuditFile { path, max_bytes, files }) = audit else { return "nowhere".to_owned() };
    format!("{}, of {max_bytes} octets at most, and {files} full ones", path.display())
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// A day in ISO 8601, or what the system says of a time outside of its calendar.
fn day(time: SystemTime) -> String {
    match der::DateTime::try_from(time) {
        Ok(date) => format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
        Err(_) => "?".to_owned(),
    }
}

impl Settings {
    fn trust_rows(&self) -> Vec<(&'static str, String)> {
        let trust = &self.trust;
        let (anchors, crls, revocation) =
            (trust.anchors.len(), trust.crls.len(), revocation_word(trust.revocation));
        let mut rows = vec![
            ("trust", format!("{anchors} anchors, {crls} revocation lists, revocation {revocation}")),
            ("", format!("for encryption: revocation {}", self.for_encryption)),
        ];
        let mut also = |text: String| rows.push(("", text));
        if !trust.intermediates.is_empty() {
            also(format!("{} CA certificates on the way to anchors", trust.intermediates.len()));
        }
        if let Some(policies) = &trust.policies.initial_policy_set {
            let policies: Vec<String> = policies.iter().map(ToString::to_string).collect();
            also(format!("paths must be for a policy of {}", policies.join(", ")));
        }
        if trust.legacy == LegacySignatures::Marked {
            also("paths with signatures too weak today are marked, and never pass".to_owned());
        }
        if self.sender_rule == SenderRule::FromOrSender {
            also("signers may also be those in Sender".to_owned());
        }
        also(match &self.fetch {
            Some(fetch) if [trust.revocation, self.for_encryption.revocation] != [RevocationMode::Off; 2] => {
                format!("CRLs and OCSP responses are fetched within {} ms", fetch.budget.as_millis())
            }
            _ => "no CRLs or OCSP responses are fetched".to_owned(),
        });
        rows
    }

    fn write_rules(&self, row: &mut dyn FnMut(&str, fmt::Arguments<'_>) -> fmt::Result) -> fmt::Result {
        for rule in &self.rules {
            row("rule", format_args!("{rule}"))?;
        }
        row("rule", format_args!("all others: sign never"))?;
        for rule in &self.incoming {
            row("incoming", format_args!("{rule}"))?;
        }
        Ok(())
    }

    fn harvest_note(&self) -> &'static str {
        if self.harvest { ", with certificates of senders" } else { "" }
    }

    fn take_note(&self) -> &'static str {
        if self.take == Take::All { ", all of a recipient are taken" } else { "" }
    }
}

/// How much the milter takes on.
fn limits(milter: &Milter) -> [String; 3] {
    let Milter { max_connections, max_message_bytes, workers, messages, memory, disk, folder, .. } = milter;
    let (memory, disk, folder) = (memory >> 20, disk >> 20, folder.display());
    [
        format!(
            "at most {max_connections} connections, {max_message_bytes} octets, {workers} messages at once"
        ),
        format!("at most {messages} messages under way"),
        format!("at most {memory} MiB of them in memory, {disk} MiB of bodies in {folder}"),
    ]
}
