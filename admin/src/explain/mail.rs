//! `hsmime explain --from … --to …`: the rule for each recipient of a mail, what it plans, the certificates that come
//! into question, and why.
//!
//! No private key is used, no source is asked but the cache, and nothing is sent.

use std::{collections::BTreeMap, fs, io::Write, net::IpAddr, path::PathBuf, sync::Arc, time::SystemTime};

use agent::{Envelope, Incoming, IncomingShare, Plan, Policy, Settings, chooser};
use anyhow::{Context as _, Result};
use certcache::{Candidates, Chooser};
use clap::Args;
use lookup::CacheStore;
use serde_json::{Value, json};
use smime::{Certificate, MailAddress, mime::Message};

use super::why;
use crate::{
    Done, cache,
    cert::{certificate_json, short, write_json},
    table::Table,
};

/// A mail to explain.
#[derive(Args, Debug)]
pub(crate) struct MailArguments {
    /// Its envelope sender, and its author where no mail is given; "<>" is the null sender.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<String>,
    /// Its recipients.
    #[arg(long, value_name = "ADDRESS,…", value_delimiter = ',', num_args = 1..)]
    pub(crate) to: Vec<String>,
    /// Who its client logged in as; without --client it is the sender.
    #[arg(long, value_name = "NAME")]
    pub(crate) login: Option<String>,
    /// The client's address: without --login it has not logged in.
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<IpAddr>,
    /// The MTA's name of the service that took it.
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: Option<String>,
    /// The mail itself, for rules about its header and for what is signed or encrypted already.
    #[arg(long, value_name = "FILE")]
    pub(crate) mail: Option<PathBuf>,
}

/// What is said of one recipient.
struct Row {
    recipient: String,
    rule: Option<(usize, String)>,
    plan: Plan,
    certificates: Vec<(Certificate, &'static str, bool, String)>,
}

/// Prints rule, plan and certificates for each recipient.
pub(crate) fn explain(
    settings: &Settings,
    from: &str,
    arguments: &MailArguments,
    is_json: bool,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let sender = if from == "<>" { "" } else { from };
    let message = match &arguments.mail {
        Some(path) => fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => format!("From: {sender}\r\nTo: {}\r\n\r\n", arguments.to.join(", ")).into_bytes(),
    };
    let message = Message::from_stored(&message);
    let entity = message.entity();
    let login = match (&arguments.login, arguments.client) {
        (Some(login), _) => Some(login.clone()),
        (None, None) if !sender.is_empty() => Some(sender.to_owned()),
        (None, _) => None,
    };
    let envelope = Envelope {
        sender: sender.to_owned(),
        recipients: arguments.to.clone(),
        client: arguments.client,
        login,
        listener: arguments.listener.clone(),
        queue_id: None,
        asked: agent::Asked::default(),
    };
    let policy = Policy::new(settings);
    let plan = policy.plan(&envelope, &entity, now);
    if let Plan::Receive(reason) = plan {
        let shares = Incoming::new(settings).shares(&envelope, &entity);
        return received(&reason.to_string(), &shares, is_json, out);
    }
    let store = Store::open(settings)?;
    let rules = policy.rules_for(&envelope, &entity);
    let mut rows = Vec::new();
    for (recipient, rule) in rules {
        let alone = Envelope { recipients: vec![recipient.clone()], ..envelope.clone() };
        let plan = policy.plan(&alone, &entity, now);
        let encrypts = matches!(&plan, Plan::Protect(protect) if protect.encrypt.is_some());
        let certificates = if encrypts { store.considered(settings, &recipient, now)? } else { Vec::new() };
        let rule = rule.map(|rule| (rule.line, rule.to_string()));
        rows.push(Row { recipient, rule, plan, certificates });
    }
    if is_json {
        write_json(out, &to_json(&plan, &rows, now))?;
    } else {
        write(&plan, &rows, out)?;
        if let (None, None, Some(login)) = (&arguments.login, arguments.client, &envelope.login) {
            writeln!(
                out,
                "\nThis is of a client that has logged in as {login}; what becomes of mail from others, tell --client and \
                 --login"
            )?;
        }
    }
    store.flush();
    let is_refused = matches!(plan, Plan::Refuse(_));
    Ok(if is_refused { Done::Partly } else { Done::All })
}

/// The cache, where there is one.
struct Store(Option<Arc<Chooser>>);

impl Store {
    fn open(settings: &Settings) -> Result<Self> {
        if settings.cache().is_none() {
            return Ok(Self(None));
        }
        let cache = Arc::new(cache::open(settings)?);
        let trust = settings.fetching_trust_in(Box::new(CacheStore::new(Arc::clone(&cache))));
        Ok(Self(Some(Arc::new(chooser(settings, cache, &trust)))))
    }

    /// Each certificate of a recipient's: where it is from, whether it is taken, and why.
    fn considered(
        &self,
        settings: &Settings,
        recipient: &str,
        now: SystemTime,
    ) -> Result<Vec<(Certificate, &'static str, bool, String)>> {
        let Ok(address) = MailAddress::parse(recipient) else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for identity in settings.identities() {
            if !identity.addresses.iter().any(|own| own.folded() == address.folded()) {
                continue;
            }
            let certificate = identity.certificate.clone();
            let fault = if !certificate.is_valid_at(now) {
                "not valid now"
            } else if !certificate.may_encrypt() {
                "not for encryption (keyUsage)"
            } else {
                "one of ours"
            };
            all.push((certificate, "identity", fault == "one of ours", fault.to_owned()));
        }
        if all.iter().any(|(_, _, is_taken, _)| *is_taken) {
            return Ok(all);
        }
        if let Some(chooser) = &self.0 {
            let Candidates { candidates, .. } = chooser.candidates(&address, now)?;
            all.extend(candidates.into_iter().map(|candidate| {
                let (is_taken, why) = (candidate.is_taken(), why(&candidate));
                (candidate.entry.certificate, "cache", is_taken, why)
            }));
        }
        Ok(all)
    }

    fn flush(&self) {
        if let Some(chooser) = &self.0 {
            chooser.flush(super::WRITING);
        }
    }
}

fn write(plan: &Plan, rows: &[Row], out: &mut dyn Write) -> Result<()> {
    writeln!(out, "outgoing mail: {}", plan.action())?;
    let mut table = Table::new(["RECIPIENT", "RULE", "PLAN", "WHY"]);
    for Row { recipient, rule, plan, .. } in rows {
        let rule = rule.as_ref().map_or("none".to_owned(), |(line, _)| format!("line {line}"));
        table.row([recipient.clone(), rule, plan.action().to_owned(), plan.to_string()]);
    }
    table.write(out)?;
    let rules: BTreeMap<usize, &str> =
        rows.iter().filter_map(|row| row.rule.as_ref()).map(|(line, text)| (*line, text.as_str())).collect();
    for (line, text) in rules {
        writeln!(out, "\nthe rule of line {line}: {text}")?;
    }
    if let Some(signer) = rows.iter().find_map(|row| signer(&row.plan)) {
        writeln!(out, "\nsigned with {signer}")?;
    }
    let mut table = Table::new(["RECIPIENT", "CERTIFICATE", "FROM", "TAKEN", "WHY"]);
    for Row { recipient, certificates, plan, .. } in rows {
        for (certificate, source, is_taken, why) in certificates {
            let taken = if *is_taken { "yes" } else { "no" };
            table.row([
                recipient.clone(),
                short(certificate),
                (*source).to_owned(),
                taken.to_owned(),
                why.clone(),
            ]);
        }
        let encrypts = matches!(plan, Plan::Protect(protect) if protect.encrypt.is_some());
        if encrypts && certificates.is_empty() {
            let nothing = "no certificate is in the cache; sources may have one (hsmime cert find)";
            table.row([recipient.clone(), "-".into(), "-".into(), "no".into(), nothing.into()]);
        }
    }
    if rows.iter().any(|row| matches!(&row.plan, Plan::Protect(protect) if protect.encrypt.is_some())) {
        writeln!(out)?;
        table.write(out)?;
    }
    Ok(())
}

fn signer(plan: &Plan) -> Option<&Certificate> {
    match plan {
        Plan::Protect(protect) => protect.signer.as_ref(),
        _ => None,
    }
}

fn to_json(plan: &Plan, rows: &[Row], now: SystemTime) -> Value {
    let rows = rows.iter().map(|Row { recipient, rule, plan, certificates }| {
        let certificates = certificates.iter().map(|(certificate, source, is_taken, why)| {
            let mut row = certificate_json(certificate, now);
            if let Some(object) = row.as_object_mut() {
                object.insert("from".to_owned(), (*source).into());
                object.insert("taken".to_owned(), (*is_taken).into());
                object.insert("why".to_owned(), why.clone().into());
            }
            row
        });
        json!({
            "recipient": recipient,
            "rule": rule.as_ref().map(|(line, text)| json!({"line": line, "text": text})),
            "plan": plan.action(),
            "why": plan.to_string(),
            "signer": signer(plan).map(|signer| certificate_json(signer, now)),
            "certificates": certificates.collect::<Vec<_>>(),
        })
    });
    json!({
        "direction": "outgoing",
        "plan": plan.action(),
        "why": plan.to_string(),
        "recipients": rows.collect::<Vec<_>>(),
    })
}

/// Mail from elsewhere: which rule decides what becomes of it, once its signature is known.
fn received(why: &str, shares: &[IncomingShare], is_json: bool, out: &mut dyn Write) -> Result<Done> {
    if is_json {
        let rows = shares.iter().flat_map(|IncomingShare { recipients, rule }| {
            let rule = (rule.line > 0).then(|| json!({"line": rule.line, "text": rule.to_string()}));
            recipients.iter().map(move |recipient| {
                json!({"recipient": recipient, "rule": rule, "plan": "receive", "certificates": []})
            })
        });
        let rows: Vec<Value> = rows.collect();
        write_json(
            out,
            &json!({"direction": "incoming", "plan": "receive", "why": why, "recipients": rows}),
        )?;
        return Ok(Done::All);
    }
    writeln!(out, "incoming mail: {why}")?;
    let mut table = Table::new(["RECIPIENT", "RULE", "WHAT IT SAYS"]);
    for IncomingShare { recipients, rule } in shares {
        for recipient in recipients {
            let line = if rule.line > 0 { format!("line {}", rule.line) } else { "none".to_owned() };
            let text = if rule.line > 0 { rule.to_string() } else { "decrypt, verify, deliver".to_owned() };
            table.row([recipient.clone(), line, text]);
        }
    }
    table.write(out)?;
    Ok(Done::All)
}
