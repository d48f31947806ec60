//! `hsmime explain --from … --to …`: the rule for each recipient of a mail, what it plans, what comes of it, the certificates
//! that come into question, and why.
//!
//! No private key is used, no source is asked but the cache unless that is wanted, and nothing is sent.

use std::{collections::BTreeMap, fs, io::Write, net::IpAddr, path::PathBuf, sync::Arc, time::SystemTime};

use agent::{Envelope, Foresight, Incoming, IncomingShare, Plan, Policy, Settings};
use anyhow::{Context as _, Result, ensure};
use certcache::{Candidate, Candidates};
use clap::Args;
use serde_json::{Value, json};
use smime::{
    Certificate, MailAddress,
    mime::{Message, named_recipients},
};

use super::{fate::Fate, own, remedies, why};
use crate::{
    Done, cache,
    cert::{certificate_json, short, write_json},
    table::Table,
};

/// What is missing where only the sender is given.
pub(crate) const NO_RECIPIENT: &str = "--from needs to know whom the mail is to, since rules, certificates and what \
    becomes of it depend on that: say --to bob@partner.example, or a mail's FILE, whose To and Cc are taken then";

/// A mail to explain.
#[derive(Args, Clone, Debug)]
pub(crate) struct MailArguments {
    /// Its envelope sender, and its author where no mail is given; "<>" is the null sender.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<String>,
    /// Its recipients, also given several times; without it, those in To and Cc of the mail.
    #[arg(long, value_name = "ADDRESS,…", value_delimiter = ',')]
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
    /// Asks the configured sources of certificates, as the milter would, and keeps what they have in the cache.
    #[arg(long)]
    pub(crate) ask: bool,
}

/// What is said of one recipient.
struct Row {
    recipient: String,
    rule: Option<(usize, String)>,
    plan: Plan,
    outcome: String,
    known: Option<String>,
    certificates: Vec<Considered>,
    /// What has those used that are not, where none is.
    remedies: Vec<String>,
}

/// Prints rule, plan, outcome and certificates for each recipient.
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
    let recipients = if arguments.to.is_empty() {
        let named = named_recipients(&entity);
        ensure!(!named.is_empty(), "{} has no To and no Cc that can be read; say --to", given(arguments));
        named.iter().map(ToString::to_string).collect()
    } else {
        arguments.to.clone()
    };
    let login = match (&arguments.login, arguments.client) {
        (Some(login), _) => Some(login.clone()),
        (None, None) if !sender.is_empty() => Some(sender.to_owned()),
        (None, _) => None,
    };
    let envelope = Envelope {
        sender: sender.to_owned(),
        recipients,
        client: arguments.client,
        login,
        listener: arguments.listener.clone(),
        queue_id: None,
        asked: agent::Asked::default(),
        told: agent::Told::AsWritten,
    };
    let policy = Policy::new(settings);
    let plan = policy.plan(&envelope, &entity, now);
    if let Plan::Receive(reason) = plan {
        let shares = Incoming::new(settings).shares(&envelope, &entity);
        return received(&reason.to_string(), &shares, is_json, out);
    }
    if plan == Plan::Hold {
        if is_json {
            write_json(
                out,
                &json!({"direction": "outgoing", "plan": "hold", "why": plan.to_string(), "recipients": []}),
            )?;
        } else {
            writeln!(out, "outgoing mail is held: {plan}")?;
        }
        return Ok(Done::Partly);
    }
    let cache = settings.cache().is_some().then(|| cache::open(settings)).transpose()?.map(Arc::new);
    let mut foresight = Foresight::new(settings, cache.as_ref());
    let mut fate = Fate::of(&mut foresight, settings, &envelope, &message, arguments.ask, now)?;
    let mut rows = Vec::new();
    for (recipient, rule) in policy.rules_for(&envelope, &entity) {
        let alone = Envelope { recipients: vec![recipient.clone()], ..envelope.clone() };
        let plan = policy.plan(&alone, &entity, now);
        let (certificates, remedies) =
            if encrypts(&plan) { considered(&foresight, &recipient, now)? } else { Default::default() };
        let outcome = fate.for_one(&recipient, encrypts(&plan));
        let known = fate.known(&recipient);
        let rule = rule.map(|rule| (rule.line, rule.to_string()));
        rows.push(Row { recipient, rule, plan, outcome, known, certificates, remedies });
    }
    fate.remedies = rows.iter().flat_map(|row| row.remedies.clone()).collect();
    if is_json {
        write_json(out, &to_json(&plan, &fate, &rows, now))?;
    } else {
        write(&fate, &rows, out)?;
        if let (None, None, Some(login)) = (&arguments.login, arguments.client, &envelope.login) {
            writeln!(
                out,
                "\nThis is of a client that has logged in as {login}; what becomes of mail from others, tell --client and \
                 --login"
            )?;
        }
    }
    if let Some(chooser) = foresight.chooser() {
        chooser.flush(super::WRITING);
    }
    Ok(if fate.leaves() == Some(false) { Done::Partly } else { Done::All })
}

fn given(arguments: &MailArguments) -> String {
    arguments.mail.as_ref().map_or_else(String::new, |path| path.display().to_string())
}

fn encrypts(plan: &Plan) -> bool {
    matches!(plan, Plan::Protect(protect) if protect.encrypt.is_some())
}

/// A certificate of a recipient's: where it is from, whether it is taken, and why.
type Considered = (Certificate, &'static str, bool, String);

/// All of a recipient's, and what to do where none is taken.
fn considered(
    foresight: &Foresight,
    recipient: &str,
    now: SystemTime,
) -> Result<(Vec<Considered>, Vec<String>)> {
    let Ok(address) = MailAddress::parse(recipient) else { return Ok(Default::default()) };
    let own = own(foresight, &address, now).into_iter().map(|(certificate, fault)| {
        (certificate, "identity", fault.is_none(), fault.unwrap_or("one of ours").to_owned())
    });
    let mut all: Vec<Considered> = own.collect();
    if all.iter().any(|(_, _, is_taken, _)| *is_taken) {
        return Ok((all, Vec::new()));
    }
    let mut to_do = Vec::new();
    if let Some(chooser) = foresight.chooser() {
        let Candidates { candidates, .. } = chooser.candidates(&address, now)?;
        if !candidates.iter().any(Candidate::is_taken) {
            to_do = remedies(&candidates, &address);
        }
        all.extend(candidates.into_iter().map(|candidate| {
            let (is_taken, why) = (candidate.is_taken(), why(&candidate));
            (candidate.entry.certificate, "cache", is_taken, why)
        }));
    }
    Ok((all, to_do))
}

fn write(fate: &Fate, rows: &[Row], out: &mut dyn Write) -> Result<()> {
    fate.write(out)?;
    writeln!(out)?;
    let mut table = Table::new(["RECIPIENT", "RULE", "PLAN", "OUTCOME", "WHY"]);
    for Row { recipient, rule, plan, outcome, known, .. } in rows {
        let rule = rule.as_ref().map_or("none".to_owned(), |(line, _)| format!("line {line}"));
        let why = match known {
            Some(known) => format!("{plan}; {known}"),
            None => plan.to_string(),
        };
        table.row([recipient.clone(), rule, plan.action().to_owned(), outcome.clone(), why]);
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
        if encrypts(plan) && certificates.is_empty() {
            let nothing = "none is in the cache".to_owned();
            table.row([recipient.clone(), "-".into(), "-".into(), "no".into(), nothing]);
        }
    }
    if rows.iter().any(|row| encrypts(&row.plan)) {
        writeln!(out)?;
        table.write(out)?;
        // Where mail leaves in clear, that is not an error, and still may not be meant.
        if fate.leaves() == Some(true) {
            for remedy in &fate.remedies {
                writeln!(out, "{remedy}")?;
            }
        }
    }
    Ok(())
}

fn signer(plan: &Plan) -> Option<&Certificate> {
    match plan {
        Plan::Protect(protect) => protect.signer.as_ref(),
        _ => None,
    }
}

fn to_json(plan: &Plan, fate: &Fate, rows: &[Row], now: SystemTime) -> Value {
    let rows = rows.iter().map(|Row { recipient, rule, plan, outcome, known, certificates, .. }| {
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
            "outcome": outcome,
            "known": known,
            "signer": signer(plan).map(|signer| certificate_json(signer, now)),
            "certificates": certificates.collect::<Vec<_>>(),
        })
    });
    json!({
        "direction": "outgoing",
        "plan": plan.action(),
        "why": plan.to_string(),
        "outcome": fate.to_json(),
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
