//! Certificates from signed mail: eleven filters, because whoever can send a signed message could otherwise choose what
//! others encrypt to (CVE-2026-29140).
//!
//! Called after the verdict, with what it returned, by [`Harvester`] on a thread of its own. What does not pass every filter is not put in; what does, for an
//! address that has a key already, waits (`pending`) until that one ends or an administrator agrees.

mod thread;

use std::time::{Duration, SystemTime};

use certcache::{Announced, CacheError, Chooser, Fingerprint, Insertion, Source, TrustState};
use data_encoding::HEXLOWER;
use smime::{
    Certificate, MailAddress,
    cms::RecipientKey,
    message::{AuthResult, Verdict, VerifiedSigner},
    mime::{MimeEntity, single_originator},
    path::{Revocation, Strength, Trust, validate},
};

pub use thread::Harvester;

use crate::{
    Envelope, Identities,
    policy::{is_automatic, is_of_list},
};

/// How far the signing time may lie from now.
const MAX_AGE: Duration = Duration::from_hours(3 * 24);
/// How far a signer's clock may be ahead.
const MAX_AHEAD: Duration = Duration::from_mins(10);
/// How many certificates of one address are kept from mail.
pub const MAX_OF_ADDRESS: usize = 8;
/// How many new certificates of one sender's domain are kept from mail in one day.
pub const MAX_OF_DOMAIN: u32 = 100;
/// How many characters of a Message-ID are written into the log.
const MAX_MESSAGE_ID: usize = 200;

/// Where a message comes from, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From outside, by its author.
    Outside,
    /// Sent on by a list.
    List,
    /// An automatic answer, or a bounce.
    Automatic,
    /// From inside, or with one of our own addresses as its author.
    Own,
}

impl Origin {
    /// Where a message comes from that was received for others, by its envelope and header.
    pub fn of(
        envelope: &Envelope,
        message: &MimeEntity<'_>,
        sender: &MailAddress,
        ours: &Identities,
    ) -> Self {
        if envelope.login().is_some() || ours.owned_by(sender).next().is_some() {
            Self::Own
        } else if is_of_list(message) {
            Self::List
        } else if envelope.has_null_sender() || is_automatic(message) {
            Self::Automatic
        } else {
            Self::Outside
        }
    }
}

/// A received message whose certificates may be harvested once it is answered: what [`Mail`] borrows.
#[derive(Clone, Debug)]
pub struct Signed {
    verdict: Verdict,
    signers: Vec<VerifiedSigner>,
    sender: MailAddress,
    message_id: Option<String>,
    origin: Origin,
}

impl Signed {
    /// `None` for a message that the first filter or the tenth refuses, as they do nearly all of them.
    pub(crate) fn of(
        envelope: &Envelope,
        message: &MimeEntity<'_>,
        verdict: &Verdict,
        signers: Vec<VerifiedSigner>,
        ours: &Identities,
    ) -> Option<Self> {
        if verdict.result() != AuthResult::Pass || signers.is_empty() {
            return None;
        }
        let sender = single_originator(message).ok()?;
        let origin = Origin::of(envelope, message, &sender, ours);
        if origin != Origin::Outside {
            return None;
        }
        let message_id =
            message.header().all("Message-ID").next().map(|field| shown(Some(&field.unfolded())));
        Some(Self { verdict: verdict.clone(), signers, sender, message_id, origin })
    }

    /// As [`harvest`] wants it.
    pub fn mail(&self) -> Mail<'_> {
        Mail {
            verdict: &self.verdict,
            signers: &self.signers,
            sender: &self.sender,
            message_id: self.message_id.as_deref(),
            origin: self.origin,
        }
    }
}

/// A message that was verified.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// What its signature is worth.
    pub verdict: &'a Verdict,
    /// The signers that were found good.
    pub signers: &'a [VerifiedSigner],
    /// The single address of its From field.
    pub sender: &'a MailAddress,
    /// Its Message-ID.
    pub message_id: Option<&'a str>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A filter that a message or certificate did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Filter {
    /// The whole message is not signed by its sender, or not well.
    #[error("1: the verdict is not pass, or no signer is the sender")]
    Verdict,
    /// The signed preference names a certificate that is not the sender's or not in the message.
    #[error("2: the preferred certificate is not the sender's")]
    OtherCertificate,
    /// No path, revoked, not valid now, or not for encrypting mail. Where nobody could say that it is not revoked, it is
    /// kept, but as a candidate: never used before somebody can.
    #[error("3: no valid path, or not for encrypting mail")]
    Path,
    /// A key too weak.
    #[error("4: the key is too weak")]
    Weak,
    /// Signed too long ago, in the future, or before what is known.
    #[error("6: the signing time is missing, far from now, or older than what is known")]
    SigningTime,
    /// The certificate is known of one of its addresses, and this one has another key.
    #[error("7: it is another address's certificate, and this address has a key")]
    OtherAddress,
    /// The address or domain has sent enough.
    #[error("8: too many certificates of this address or domain")]
    TooMany,
    /// A list, an automatic answer, our own mail.
    #[error("10: mail of a list, an automaton or our own")]
    Origin,
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Harvested {
    /// The certificate is in the cache, in this state.
    Kept {
        /// Which.
        fingerprint: Fingerprint,
        /// Whether it may be used.
        state: TrustState,
        /// Whether it was not there before.
        is_new: bool,
    },
    /// Nothing was put in, because of this filter.
    Refused(Filter),
    /// The signer's certificate is not for encrypting, and no other is named.
    Nothing,
}

/// Puts the certificate that the sender wants to be encrypted to into the cache, if all filters let it pass, and leaves a
/// line in the cache's log with the Message-ID and the rule (the eleventh).
pub fn harvest(
    chooser: &Chooser,
    trust: &Trust,
    mail: &Mail<'_>,
    now: SystemTime,
) -> Result<Harvested, CacheError> {
    // Nothing is written for what anybody can send without a certificate: it would push others out of the log.
    if mail.origin != Origin::Outside {
        return Ok(Harvested::Refused(Filter::Origin));
    }
    let bound = |signer: &&VerifiedSigner| signer.certificate().addresses().contains(mail.sender);
    let passes = mail.verdict.result() == AuthResult::Pass;
    let Some(signer) = mail.signers.iter().find(bound).filter(|_| passes) else {
        return Ok(Harvested::Refused(Filter::Verdict));
    };
    match pass(chooser, trust, mail, signer, now)? {
        Ok(Some(kept)) => Ok(kept),
        Ok(None) => Ok(Harvested::Nothing),
        Err(filter) => {
            let subject = HEXLOWER.encode(signer.certificate().fingerprint());
            let reason = format!("harvest, {filter}, {}", shown(mail.message_id));
            chooser.cache().note("refuse", &subject, &reason, now)?;
            Ok(Harvested::Refused(filter))
        }
    }
}

type Passed = Result<Result<Option<Harvested>, Filter>, CacheError>;

fn pass(
    chooser: &Chooser,
    trust: &Trust,
    mail: &Mail<'_>,
    signer: &VerifiedSigner,
    now: SystemTime,
) -> Passed {
    let cache = chooser.cache();
    let Some(signed_at) = signer.signing_time().filter(|at| is_near(*at, now)) else {
        return Ok(Err(Filter::SigningTime));
    };
    let (certificate, status) = match wanted(signer, mail.sender, trust, now) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Ok(None)),
        Err(filter) => return Ok(Err(filter)),
    };
    let fingerprint = *certificate.fingerprint();
    let found = chooser.candidates(mail.sender, now)?;
    if let Some(damaged) = found.damaged {
        return Err(damaged);
    }
    let is_own = |it: &Certificate| *it.fingerprint() == fingerprint;
    let entries = || found.candidates.iter().map(|candidate| &candidate.entry);
    // Filter 6 once more: a message from before what is known of the address is an old one sent again.
    let last = entries()
        .filter(|entry| entry.is_of(mail.sender))
        .filter_map(|entry| entry.preferred.max(entry.announced.as_ref().map(|it| it.at)))
        .max();
    if last.is_some_and(|last| signed_at < last) {
        return Ok(Err(Filter::SigningTime));
    }
    let known = cache.by_fingerprint(&fingerprint)?;
    let harvested = entries().filter(|entry| entry.sources.contains(Source::Harvested)).count();
    if known.is_none() && harvested >= MAX_OF_ADDRESS {
        return Ok(Err(Filter::TooMany));
    }
    let has_other = found.candidates.iter().any(|it| it.comes_first() && !is_own(&it.entry.certificate));
    let is_known_here = known.as_ref().is_some_and(|entry| entry.is_used_for(mail.sender));
    if known.is_some() && !is_known_here && has_other {
        return Ok(Err(Filter::OtherAddress));
    }
    let is_good = status == Status::Good;
    let state = match has_other {
        _ if !is_good => TrustState::Candidate,
        true => TrustState::Pending,
        false => TrustState::Trusted,
    };
    // Whoever signs with a key that waits itself does not choose between those that are in use.
    let signer_is_in_use = entries()
        .filter(|entry| entry.certificate == *signer.certificate())
        .any(|entry| entry.state >= TrustState::Trusted && entry.is_used_for(mail.sender));
    let is_signers = is_own(signer.certificate());
    let speaks = is_good && (is_signers || known.is_none() || signer_is_in_use);
    let is_preferred = signer.encryption_key_preference().is_some_and(|named| named.names(&certificate));
    let announced =
        signer.capabilities().map(|list| Announced { at: signed_at, capabilities: list.octets().to_vec() });
    let message_id = shown(mail.message_id);
    let mut insertions = vec![Insertion {
        state,
        message_id: Some(&message_id),
        announced: announced.filter(|_| speaks),
        preferred: (is_preferred && speaks).then_some(signed_at),
        only: Some(mail.sender),
        reason: if is_good {
            "harvested, all filters passed"
        } else {
            "harvested, 3: it is not known whether it is revoked"
        },
        ..Insertion::new(&certificate, Source::Harvested)
    }];
    // Of a pair the half that signs, so that its next message is known to be of the same person.
    if !is_signers && known.is_none() && !signer.certificate().may_encrypt() {
        insertions.push(Insertion {
            state,
            message_id: Some(&message_id),
            only: Some(mail.sender),
            reason: "harvested, signs for the one before",
            ..Insertion::new(signer.certificate(), Source::Harvested)
        });
    }
    // What leads from it to an anchor was in the message and may not be here yet.
    let chain = signer.path().chain();
    let issuers = chain.get(1..chain.len().saturating_sub(1)).unwrap_or_default();
    insertions.extend(issuers.iter().map(|issuer| Insertion::helper(issuer, Source::Harvested)));
    if cache.put_capped(&insertions, mail.sender.ascii_domain(), MAX_OF_DOMAIN, now)?.is_none() {
        return Ok(Err(Filter::TooMany));
    }
    let state = cache.by_fingerprint(&fingerprint)?.map_or(state, |entry| entry.state);
    Ok(Ok(Some(Harvested::Kept { fingerprint, state, is_new: known.is_none() })))
}

/// The certificate that the sender wants to be encrypted to: what the signed preference names, or else the signer's own
/// where it is for that. Never another one of the message.
fn wanted(
    signer: &VerifiedSigner,
    sender: &MailAddress,
    trust: &Trust,
    now: SystemTime,
) -> Result<Option<(Certificate, Status)>, Filter> {
    let own = signer.certificate();
    let Some(named) = signer.encryption_key_preference() else {
        if !own.may_encrypt() {
            return Ok(None);
        }
        return check(own, signer, trust, now).map(|status| Some((own.clone(), status)));
    };
    if named.names(own) && !own.may_encrypt() {
        return Ok(None);
    }
    let mut refused = Filter::OtherCertificate;
    for certificate in signer.encryption_certificates() {
        if !certificate.addresses().contains(sender) {
            continue;
        }
        match check(certificate, signer, trust, now) {
            Ok(status) => return Ok(Some((certificate.clone(), status))),
            Err(filter) => refused = filter,
        }
    }
    Err(refused)
}

/// What is known of a certificate that has a valid path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// Its issuer says that it is not revoked.
    Good,
    /// Nobody says so, or nobody was asked.
    Unknown,
}

/// Filters 3 and 4.
fn check(
    certificate: &Certificate,
    signer: &VerifiedSigner,
    trust: &Trust,
    now: SystemTime,
) -> Result<Status, Filter> {
    if !certificate.may_encrypt() || !certificate.is_for_email() {
        return Err(Filter::Path);
    }
    if RecipientKey::new(certificate.clone()).is_err() || certcache::is_weak(certificate) {
        return Err(Filter::Weak);
    }
    let path = validate(certificate, signer.path().chain(), trust, now).map_err(|_| Filter::Path)?;
    match path.revocation() {
        _ if path.strength() != Strength::Strong => Err(Filter::Weak),
        Revocation::Good { .. } => Ok(Status::Good),
        Revocation::Unknown(_) | Revocation::NotChecked => Ok(Status::Unknown),
    }
}

fn is_near(signed_at: SystemTime, now: SystemTime) -> bool {
    match now.duration_since(signed_at) {
        Ok(age) => age <= MAX_AGE,
        Err(ahead) => ahead.duration() <= MAX_AHEAD,
    }
}

/// A Message-ID for the log: what a stranger wrote, in printable ASCII and not too long.
fn shown(message_id: Option<&str>) -> String {
    let text = message_id.unwrap_or("no Message-ID").trim();
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_MESSAGE_ID).collect()
}
