//! One outgoing message as the rules see it: what is behind its claims, and what kind of mail it is.

use std::time::SystemTime;

use smime::mime::{Crypto, MimeEntity, Special, is_smime_or_pgp, special};

use super::{
    PassReason, Plan, RefuseReason, Requirement, Step,
    protection::{Protection, is_ciphertext, protection},
};
use crate::{Envelope, Level, mailbox::Mailbox, settings::Rule};

/// What is the same whichever rule decides.
pub(super) struct Case<'a> {
    pub(super) envelope: &'a Envelope,
    pub(super) message: &'a MimeEntity<'a>,
    pub(super) at: SystemTime,
    pub(super) protection: Protection,
    claim: Option<Crypto>,
    is_ciphertext: bool,
}

impl<'a> Case<'a> {
    pub(super) fn of(envelope: &'a Envelope, message: &'a MimeEntity<'a>, at: SystemTime) -> Self {
        let claim = is_smime_or_pgp(message);
        let protection = protection(message, claim);
        let is_ciphertext = is_ciphertext(message, protection);
        Self { envelope, message, at, protection, claim, is_ciphertext }
    }

    /// The recipients as they were given and as they are read; where there is none, nobody.
    pub(super) fn recipients(&self) -> impl Iterator<Item = (Option<&'a str>, Mailbox)> {
        let recipients = self.envelope.recipients.iter();
        let read = recipients.map(|name| (Some(name.as_str()), Mailbox::read(name)));
        read.chain(self.envelope.recipients.is_empty().then_some((None, Mailbox::Nobody)))
    }

    /// Why the message passes as it is where nothing is wanted of it.
    pub(super) fn pass_reason(&self) -> Option<PassReason> {
        match self.protection {
            Protection::Whole(crypto) => Some(PassReason::AlreadySecured(crypto)),
            _ if self.envelope.has_null_sender() => Some(PassReason::NullSender),
            Protection::None | Protection::Doubtful => None,
        }
    }

    /// Whether a rule requires something of it that it has not.
    pub(super) fn is_demanded_by(&self, rule: &Rule) -> bool {
        self.is_demanded_beyond(rule, None)
    }

    /// Whether a rule requires something of it that it has not, and that it does not surely have by a plan.
    pub(super) fn is_demanded_beyond(&self, rule: &Rule, plan: Option<&Plan>) -> bool {
        let required = Some(Requirement::Required);
        let (is_signed, is_encrypted) = match plan {
            Some(Plan::Protect(protect)) => (protect.sign == required, protect.encrypt == required),
            _ => (false, false),
        };
        let signature = !is_signed && rule.sign == Level::Required && self.pass_reason().is_none();
        let encryption = !is_encrypted && rule.encrypt == Level::Required && self.is_to_be_encrypted();
        signature || encryption
    }

    /// Whether a rule has it signed, as far as the message itself decides.
    pub(super) fn signature(&self, rule: &Rule) -> Step {
        if let Some(reason) = self.pass_reason() {
            return Step::Leave(reason);
        }
        match rule.sign {
            Level::Never => Step::Leave(PassReason::RuleNever { line: rule.line }),
            Level::WhenPossible => match self.exemption() {
                Some(reason) => Step::Leave(reason),
                None => Step::Do(Requirement::WhenPossible),
            },
            Level::Required if self.protection == Protection::Doubtful => {
                Step::Refuse(RefuseReason::DoubtfulProtection)
            }
            Level::Required => Step::Do(Requirement::Required),
        }
    }

    /// Whether a rule has it encrypted.
    pub(super) fn encryption(&self, rule: &Rule) -> Step {
        match rule.encrypt {
            Level::Never => Step::Leave(PassReason::RuleNever { line: rule.line }),
            Level::Required if !self.is_to_be_encrypted() => {
                Step::Leave(self.pass_reason().unwrap_or(PassReason::NullSender))
            }
            Level::Required if self.protection == Protection::Doubtful => {
                Step::Refuse(RefuseReason::DoubtfulProtection)
            }
            Level::Required => Step::Do(Requirement::Required),
            Level::WhenPossible => {
                let is_done = self.is_ciphertext || self.envelope.has_null_sender();
                let reason = self.pass_reason().filter(|_| is_done);
                match reason.or_else(|| self.exemption()) {
                    Some(reason) => Step::Leave(reason),
                    None => Step::Do(Requirement::WhenPossible),
                }
            }
        }
    }

    /// Whether it is what a rule means that requires encryption: no ciphertext yet, and not a notice that tells of
    /// other mail. Everybody can write the null sender and any header: whoever logged in sends no notices, and what calls
    /// itself automatic is no more than a text.
    fn is_to_be_encrypted(&self) -> bool {
        let is_notice =
            self.envelope.has_null_sender() && self.envelope.login().is_none() && is_notice(self.message);
        !self.is_ciphertext && !is_notice
    }

    /// Why a message that need not be signed or encrypted is better not.
    fn exemption(&self) -> Option<PassReason> {
        if let Some(claim) = self.claim.filter(|_| !matches!(self.protection, Protection::Whole(_))) {
            return Some(PassReason::ClaimsProtection(claim));
        }
        match special(self.message) {
            Some(Special::Calendar) => return Some(PassReason::Calendar),
            Some(Special::Tnef) => return Some(PassReason::Tnef),
            _ => {}
        }
        is_of_list(self.message).then_some(PassReason::MailingList)
    }
}

/// Mail that a list sends on (RFC 2919, RFC 2369), or that calls itself bulk.
pub(crate) fn is_of_list(message: &MimeEntity<'_>) -> bool {
    let header = message.header();
    header.fields().any(|field| {
        field.is("List-Id")
            || field.is("List-Post")
            || (field.is("Precedence")
                && ["list", "bulk", "junk"].contains(&field.unfolded().to_ascii_lowercase().as_str()))
    })
}

/// A report on other mail (RFC 6522: DSN and MDN), or an automatic answer (RFC 3834), as far as the message itself says so.
pub(crate) fn is_automatic(message: &MimeEntity<'_>) -> bool {
    let is_report = message.content_type().is_ok_and(|known| known.is("multipart/report"));
    let mut automatic = message.header().all("Auto-Submitted");
    is_report || automatic.any(|field| !field.unfolded().trim().eq_ignore_ascii_case("no"))
}

/// A report of what became of other mail, of which it holds the header at most: RFC 6522's two or three parts, the second
/// for machines (RFC 3464, RFC 8098, RFC 6533). Everything but the first is then nobody's text.
fn is_notice(message: &MimeEntity<'_>) -> bool {
    let is = |entity: &MimeEntity<'_>, types: &[&str]| {
        entity.content_type().is_ok_and(|known| types.iter().any(|one| known.is(one)))
    };
    if !is(message, &["multipart/report"]) {
        return false;
    }
    match message.parts().as_deref() {
        Ok([text, report, header @ ..]) => {
            is(text, &["text/plain", "text/html"])
                && is(report, &REPORTS)
                && header.len() <= 1
                && header.iter().all(|header| is(header, &HEADERS))
        }
        _ => false,
    }
}

const REPORTS: [&str; 4] = [
    "message/delivery-status",
    "message/global-delivery-status",
    "message/disposition-notification",
    "message/global-disposition-notification",
];

/// What is returned of a message without its text.
const HEADERS: [&str; 2] = ["text/rfc822-headers", "message/global-headers"];
