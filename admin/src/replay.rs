//! `hsmime replay`: the policy over an archive, and how often each rule would have done what: also what would wait, or be
//! refused. No private key is used, no source of certificates is asked, and nothing is written but the counts, and into the
//! cache which certificates were chosen.
//!
//! An archive has no envelopes. Mail whose author is in a domain of our identities counts as sent by its author with a login,
//! all other mail as received; recipients are those in To, Cc and Bcc. Signatures are judged as of the time that they
//! name. What is inside of ciphertext only its key would tell.

mod archive;
mod outgoing;

use std::{
    collections::{BTreeMap, HashSet},
    io::Write,
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use agent::{Agent, AsOf, Envelope, Foresight, Identities, Incoming, Opening, Plan, Policy, Settings};
use anyhow::{Context as _, Result};
use serde_json::json;
use smime::mime::{Crypto, Message, MimeEntity, is_smime_or_pgp, named_recipients, single_originator};

use self::archive::Archive;
use crate::{
    Done, cache,
    cert::write_json,
    explain::WRITING,
    table::{Table, count},
};

/// What happens: direction, the rule's line, the action, and what it is about.
type Fate = (&'static str, usize, &'static str, &'static str);

struct Replay<'s> {
    policy: Policy,
    foresight: Foresight,
    incoming: Incoming,
    agent: Agent,
    domains: HashSet<String>,
    settings: &'s Settings,
    now: SystemTime,
    messages: usize,
    /// How many of them may be parts of one, or several.
    doubtful: u64,
    fates: BTreeMap<Fate, usize>,
}

/// Runs the policy over an archive.
pub(crate) fn replay(
    settings: &Settings,
    archive: &Path,
    is_json: bool,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Done> {
    let addresses = settings.identities().iter().flat_map(|identity| &identity.addresses);
    let domains = addresses.map(|address| domain_of(&address.folded()).to_owned()).collect();
    let read = || format!("cannot read {}", archive.display());
    // Before the cache: who opens that may not be who may read this.
    let opened = Archive::open(archive).with_context(read)?;
    let cache = settings.cache().is_some().then(|| cache::open(settings)).transpose()?.map(Arc::new);
    let mut replay = Replay {
        policy: Policy::new(settings),
        foresight: Foresight::new(settings, cache.as_ref()),
        incoming: Incoming::new(settings),
        agent: Agent::with_identities(settings, Identities::from_parts([], "")),
        domains,
        settings,
        now,
        messages: 0,
        doubtful: 0,
        fates: BTreeMap::new(),
    };
    replay.doubtful = opened.each(|octets| replay.message(octets)).with_context(read)?;
    replay.write(is_json, out)?;
    if let Some(chooser) = replay.foresight.chooser() {
        chooser.flush(WRITING);
    }
    Ok(Done::All)
}

impl Replay<'_> {
    fn message(&mut self, octets: &[u8]) -> Result<()> {
        self.messages += 1;
        let message = Message::from_stored(octets);
        let entity = message.entity();
        let from = single_originator(&entity).ok();
        let is_ours = from.as_ref().is_some_and(|from| self.domains.contains(domain_of(&from.folded())));
        let sender = from.map(|from| from.as_str().to_owned()).unwrap_or_default();
        let recipients = named_recipients(&entity).iter().map(|one| one.as_str().to_owned()).collect();
        let login = is_ours.then(|| sender.clone());
        let envelope = Envelope { sender, recipients, login, ..Envelope::default() };
        let fates = match self.policy.plan(&envelope, &entity, self.now) {
            Plan::Receive(_) => self.received(&envelope, &message, &entity),
            _ => outgoing::fates(&mut self.foresight, &self.policy, &envelope, &message, self.now)?,
        };
        for fate in fates {
            *self.fates.entry(fate).or_default() += 1;
        }
        Ok(())
    }

    fn received(&self, envelope: &Envelope, message: &Message, entity: &MimeEntity<'_>) -> HashSet<Fate> {
        let is_encrypted = is_smime_or_pgp(entity) == Some(Crypto::SmimeOther);
        let result = self.agent.verify_stored(message, AsOf::SigningTime(self.now)).result();
        let shares = self.incoming.shares(envelope, entity);
        let fates = shares.into_iter().map(|share| {
            if is_encrypted {
                return ("incoming", share.rule.line, "decrypt", "encrypted: its key decides");
            }
            let decision = share.rule.decide(&Opening::NotEncrypted, result);
            ("incoming", share.rule.line, decision.action.as_str(), result.as_str())
        });
        fates.collect()
    }

    fn write(&self, is_json: bool, out: &mut dyn Write) -> Result<()> {
        if is_json {
            let rows: Vec<_> = self
                .fates
                .iter()
                .map(|((direction, line, action, about), count)| {
                    let rule = (*line > 0).then_some(*line);
                    json!({"direction": direction, "rule": rule, "action": action, "about": about, "messages": count})
                })
                .collect();
            return write_json(
                out,
                &json!({"messages": self.messages, "doubtful": self.doubtful, "fates": rows}),
            );
        }
        let mut table = Table::new(["DIRECTION", "RULE", "ACTION", "ABOUT", "MESSAGES"]);
        for ((direction, line, action, about), count) in &self.fates {
            let rule = if *line > 0 { format!("line {line}") } else { "none".to_owned() };
            table.row([
                (*direction).to_owned(),
                rule,
                (*action).to_owned(),
                (*about).to_owned(),
                count.to_string(),
            ]);
        }
        table.write(out)?;
        let rules = self.settings.rules().iter().map(|rule| rule.line);
        let unused: Vec<String> = rules
            .chain(self.settings.incoming().iter().map(|rule| rule.line))
            .filter(|line| !self.fates.keys().any(|(_, used, ..)| used == line))
            .map(|line| format!("line {line}"))
            .collect();
        writeln!(out, "\n{}", count(self.messages, "message", "messages"))?;
        if self.doubtful > 0 {
            writeln!(
                out,
                "where {} of them begin or end is in doubt: see what hsmime-batch scan says of them",
                self.doubtful
            )?;
        }
        if !unused.is_empty() {
            writeln!(out, "rules about none of them: {}", unused.join(", "))?;
        }
        Ok(())
    }
}

fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}
