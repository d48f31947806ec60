//! What becomes of a mail on its way out: whether it leaves, waits or is refused, and what to do.

use std::{collections::HashMap, io::Write, time::SystemTime};

use agent::{AgentError, Asking, Envelope, Foreseen, Foresight, Form, Known, RefuseReason, Settings};
use anyhow::Result;
use lookup::Instead;
use serde_json::{Value, json};
use smime::{Fault, MailAddress, mime::Message};

/// What becomes of a mail, as far as that can be known.
pub(super) struct Fate {
    /// With the sources' answers; or, where they were not asked, as if one of them did not answer.
    seen: Foreseen,
    /// As if no source had anything, where it matters that none was asked.
    if_none: Option<Foreseen>,
    /// The names of the sources.
    sources: Vec<String>,
    /// By recipient, what is known of those to whom it is encrypted.
    known: HashMap<String, String>,
    /// What has the recipients' certificates used that are not.
    pub(super) remedies: Vec<String>,
}

impl Fate {
    pub(super) fn of(
        foresight: &mut Foresight,
        settings: &Settings,
        envelope: &Envelope,
        message: &Message,
        asks: bool,
        now: SystemTime,
    ) -> Result<Self> {
        let asking = if asks { Asking::Sources } else { Asking::Nobody(Instead::Silence) };
        let seen = foresight.of(envelope, message, asking, now)?;
        let if_none = match seen.unasked.as_slice() {
            [] => None,
            _ => Some(foresight.of(envelope, message, Asking::Nobody(Instead::Nothing), now)?),
        };
        let sources = settings.lookup().sources.iter().map(|source| source.name.clone()).collect();
        let words = |known: &Known, recipient: &str| match known {
            Known::Certificates(_) => "there is a certificate to encrypt to".to_owned(),
            Known::Unknown if is_unasked(&seen, recipient) => "the sources were not asked".to_owned(),
            other => other.to_string(),
        };
        let known = seen.known.iter().map(|(recipient, known)| (recipient.clone(), words(known, recipient)));
        let known = known.collect();
        Ok(Self { seen, if_none, sources, known, remedies: Vec::new() })
    }

    /// Whether it leaves; `None` where sources that were not asked decide that.
    pub(super) fn leaves(&self) -> Option<bool> {
        if self.if_none.is_some() { None } else { Some(self.seen.forms.is_ok()) }
    }

    /// What is known of the certificates of a recipient to whom it is encrypted.
    pub(super) fn known(&self, recipient: &str) -> Option<String> {
        self.known.get(recipient).cloned()
    }

    /// What becomes of it for one recipient, in a few words.
    pub(super) fn for_one(&self, recipient: &str, was_to_encrypt: bool) -> String {
        if let Some(if_none) = &self.if_none {
            if is_unasked(&self.seen, recipient) {
                return "what the sources say".to_owned();
            }
            return match self.seen.forms.as_ref().or(if_none.forms.as_ref()) {
                Ok(forms) => form_for(forms, recipient, was_to_encrypt),
                Err(_) => "waits for the others".to_owned(),
            };
        }
        match &self.seen.forms {
            Ok(forms) => form_for(forms, recipient, was_to_encrypt),
            Err(error) => short(error).to_owned(),
        }
    }

    /// Says it, and what to do.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<()> {
        let Some(if_none) = &self.if_none else {
            writeln!(out, "outgoing mail {}", sentence(&self.seen.forms))?;
            if let Err(error) = &self.seen.forms {
                writeln!(out, "what to do: {}", self.advice(error, &self.seen))?;
            }
            return Ok(());
        };
        let of: Vec<&str> = self.seen.unasked.iter().map(MailAddress::as_str).collect();
        writeln!(out, "outgoing mail: what becomes of it is for sources to say, which were not asked")?;
        writeln!(
            out,
            "  the milter would ask {} about {}; so does --ask",
            self.sources.join(", "),
            of.join(", ")
        )?;
        writeln!(out, "  where one does not answer, it {}", sentence(&self.seen.forms))?;
        writeln!(out, "  where none has a certificate, it {}", sentence(&if_none.forms))?;
        if let Err(error) = &if_none.forms {
            writeln!(out, "what to do then: {}", self.advice(error, if_none))?;
        }
        Ok(())
    }

    /// What helps against an error: first what has certificates used that are there.
    fn advice(&self, error: &AgentError, seen: &Foreseen) -> String {
        match error {
            AgentError::UnknownCertificate { .. } | AgentError::NoCertificate { .. }
                if !self.remedies.is_empty() =>
            {
                self.remedies.join("; ")
            }
            error => advice(error, seen, !self.sources.is_empty()),
        }
    }

    /// The same for programs.
    pub(super) fn to_json(&self) -> Value {
        let one = |seen: &Foreseen| {
            let forms = seen.forms.as_ref().map(|forms| {
                let form = |form: &Form| {
                    json!({"recipients": form.recipients, "signed": form.is_signed, "encrypted": form.is_encrypted})
                };
                forms.iter().map(form).collect::<Vec<_>>()
            });
            let (error, forms) = (seen.forms.as_ref().err(), forms.ok());
            json!({
                "fate": error.map_or("leaves", short),
                "why": error.map(ToString::to_string),
                "advice": error.map(|error| self.advice(error, seen)),
                "forms": forms,
            })
        };
        let Some(if_none) = &self.if_none else { return one(&self.seen) };
        let unasked: Vec<&str> = self.seen.unasked.iter().map(MailAddress::as_str).collect();
        json!({
            "fate": "undecided",
            "why": "sources of certificates were not asked",
            "advice": "--ask",
            "forms": null,
            "unasked": unasked,
            "sources": self.sources,
            "if_silent": one(&self.seen),
            "if_absent": one(if_none),
        })
    }
}

/// Whether sources would have been asked about a recipient, and were not.
pub(crate) fn is_unasked(seen: &Foreseen, recipient: &str) -> bool {
    let parsed = MailAddress::parse(recipient);
    parsed.is_ok_and(|parsed| seen.unasked.iter().any(|address| address.folded() == parsed.folded()))
}

fn form_for(forms: &[Form], recipient: &str, was_to_encrypt: bool) -> String {
    let form = forms.iter().find(|form| form.recipients.iter().any(|one| one == recipient));
    let words = match form {
        None => "does not get it",
        Some(Form { is_signed: true, is_encrypted: true, .. }) => "signed and encrypted",
        Some(Form { is_signed: false, is_encrypted: true, .. }) => "encrypted",
        Some(Form { is_signed: true, is_encrypted: false, .. }) if was_to_encrypt => "signed, in clear",
        Some(Form { is_signed: true, is_encrypted: false, .. }) => "signed",
        Some(_) if was_to_encrypt => "in clear",
        Some(_) => "as it is",
    };
    words.to_owned()
}

fn short(error: &AgentError) -> &'static str {
    if error.fault().may_pass() { "waits" } else { "is refused" }
}

/// Behind the word mail, or "it".
fn sentence(forms: &Result<Vec<Form>, AgentError>) -> String {
    match forms {
        Ok(forms) => match forms.as_slice() {
            [] | [_] => "leaves".to_owned(),
            several => format!(
                "leaves in {} forms, of which {} are copies that go back by `reinject`",
                several.len(),
                several.len() - 1
            ),
        },
        Err(error) if error.fault().may_pass() => format!("waits (451): {error}"),
        Err(error) => {
            let code = if error.fault() == Fault::Message { "554" } else { "550" };
            format!("is refused ({code}): {error}")
        }
    }
}

/// What helps against an error.
fn advice(error: &AgentError, seen: &Foreseen, has_sources: bool) -> String {
    let first = |is: fn(&Known) -> bool| seen.known.iter().find(|(_, known)| is(known)).map(|(name, _)| name);
    match error {
        AgentError::UnknownCertificate { .. } => {
            if let Some(recipient) = first(|known| matches!(known, Known::Unknown)) {
                let ask = if has_sources {
                    format!("; `hsmime cert find {recipient}` tells which source does not answer")
                } else {
                    String::new()
                };
                format!("`hsmime explain {recipient}` tells what is not known of its certificates{ask}")
            } else {
                "import their certificates (`hsmime cert import FILE`), write a [[source]] that has them, or a rule that \
                 does not require encryption to them"
                    .to_owned()
            }
        }
        AgentError::NoCertificate { .. } => {
            let recipient = first(|known| matches!(known, Known::Absent | Known::Unusable(_)));
            let recipient = recipient.map_or("ADDRESS", String::as_str);
            format!(
                "`hsmime explain {recipient}` tells of the certificates there are; import one that can be used \
                 (`hsmime cert import FILE`), or write a rule that does not require encryption to them"
            )
        }
        AgentError::CannotSplit { .. } => {
            "write `reinject` into [milter], or another `mixed` into the rule".to_owned()
        }
        AgentError::Mixed { .. } => {
            "send to these recipients one by one, or write another `mixed` into the rule".to_owned()
        }
        AgentError::NoIdentity(_) | AgentError::Refused(RefuseReason::NoIdentity { .. }) => {
            "write an [[identity]] with a certificate that is valid now; `hsmime doctor` tells of those there are"
                .to_owned()
        }
        AgentError::Refused(RefuseReason::LoginMayNotUse { .. }) => {
            "name the login in `logins` of the [[identity]]".to_owned()
        }
        AgentError::Store(_) => "`hsmime cache check` tells what is wrong with it".to_owned(),
        error => match error.fault() {
            Fault::Message => "mend the mail".to_owned(),
            Fault::Policy => "another rule, or another mail".to_owned(),
            Fault::Transient => "it is tried again by itself".to_owned(),
            Fault::Operator | Fault::Internal => "`hsmime doctor` tells what is missing".to_owned(),
        },
    }
}
