//! To whom a message is encrypted, and in how many messages.
//!
//! Everybody who is named in To or Cc gets the same message. Whoever is not gets one of their own: a RecipientInfo
//! names its recipient to all who receive it. Whoever has no certificate gets one that is not encrypted, where the
//! rule allows that.

mod circles;
mod devices;

use std::{fmt, io, sync::Arc, time::SystemTime};

use certcache::{Cache, CacheError, Chooser};
use lookup::Refill;
use smime::{
    Certificate, Fault,
    capabilities::Capabilities,
    cms::RecipientKey,
    mime::MimeEntity,
    path::Trust,
    profile::{Correspondent, PlanError, Profile, SealPlan, plan},
    store::{Lookup, RecipientCertificates, StoreError, Waited},
};
use tracing::info;

pub use self::devices::{Given, of_people};
use self::{
    circles::{AllReachable, Reachable, circles},
    devices::together,
};
use crate::{
    AgentError, Identities, Level, Mixed, NoCertificate, Protect, Requirement, Settings, WhenUnknown,
    harvest::Harvester,
    mailbox::Mailbox,
    settings::{SourcesError, start_sources},
};

/// Why there is no store of recipients' certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// The cache cannot be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A source cannot be used.
    #[error(transparent)]
    Sources(#[from] SourcesError),
}

impl OpenStoreError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Cache(error) => error.fault(),
            Self::Sources(error) => error.fault(),
        }
    }
}

/// Opens the cache, for a configuration that has one: certificates of recipients and senders, what is fetched of
/// revocation, and whom an administrator distrusts. A process opens it once.
pub fn open_cache(settings: &Settings) -> Result<Option<Arc<Cache>>, OpenStoreError> {
    Ok(settings.cache().map(Cache::open).transpose()?.map(Arc::new))
}

/// Whether a rule may encrypt.
pub fn encrypts(settings: &Settings) -> bool {
    settings.rules().iter().any(|rule| rule.encrypt != Level::Never)
}

/// The recipients' certificates of the cache and of the sources behind it, for a configuration that encrypts. What it
/// gives has a valid path to this trust, and is as surely not revoked as the configuration wants it for encryption.
pub fn store_of(
    settings: &Settings,
    cache: Arc<Cache>,
    trust: &Trust,
) -> Result<Option<Arc<dyn RecipientCertificates>>, OpenStoreError> {
    if !encrypts(settings) {
        return Ok(None);
    }
    let chooser = Arc::new(chooser(settings, cache, trust));
    let lookup = settings.lookup();
    if lookup.sources.is_empty() {
        return Ok(Some(chooser));
    }
    Ok(Some(Arc::new(Refill::new(chooser, start_sources(lookup)?, lookup.absent))))
}

/// Who puts senders' certificates into the cache, for a configuration that wants it.
pub fn harvester(settings: &Settings, cache: Arc<Cache>, trust: &Trust) -> io::Result<Option<Harvester>> {
    if !settings.harvest() {
        return Ok(None);
    }
    Harvester::start(chooser(settings, cache, trust), trust.clone()).map(Some)
}

/// Who chooses what is encrypted to by this trust, wherever that is asked: what one program found out is remembered for
/// all of them.
pub fn chooser(settings: &Settings, cache: Arc<Cache>, trust: &Trust) -> Chooser {
    Chooser::new(cache, settings.for_encryption().of(trust), settings.take())
}

/// Where certificates of recipients come from: our own identities, and a store.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    store: Option<Arc<dyn RecipientCertificates>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("has_store", &self.store.is_some()).finish()
    }
}

/// What is known of one recipient.
#[derive(Clone, Debug)]
pub enum Known {
    /// It is encrypted to all of these: which of them the recipient still has the key of, only the recipient knows.
    Certificates(Vec<Certificate>),
    /// There is none.
    Absent,
    /// There are some, and none of them can be used, for this reason.
    Unusable(String),
    /// Nothing is known, and there is nobody to ask.
    Unlisted,
    /// It could not be found out.
    Unknown,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificates(certificates) => {
                let all: Vec<String> = certificates.iter().map(ToString::to_string).collect();
                f.write_str(&all.join(", "))
            }
            Self::Absent => f.write_str("is known to have no certificate"),
            Self::Unusable(reason) => write!(f, "has no certificate that can be used: {reason}"),
            Self::Unlisted => f.write_str("nothing is known, and nobody can be asked"),
            Self::Unknown => f.write_str("it could not be found out"),
        }
    }
}

/// Somebody to encrypt to.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// The certificate, found valid and the recipient's.
    pub certificate: Certificate,
    /// What its owner has announced, where that is known.
    pub capabilities: Option<Capabilities>,
}

impl Recipient {
    /// The owner of a certificate, with what a store knows of it.
    pub fn of(certificate: Certificate, store: Option<&dyn RecipientCertificates>) -> Self {
        let capabilities = store.and_then(|store| store.capabilities(&certificate));
        Self { certificate, capabilities }
    }
}

/// With what one message to all of these is encrypted, in mail as in archives.
pub(crate) fn seal_plan(recipients: &[Recipient], profile: &Profile) -> Result<SealPlan, PlanError> {
    let correspondents: Vec<_> = recipients
        .iter()
        .map(|Recipient { certificate, capabilities }| Correspondent {
            certificate,
            capabilities: capabilities.as_ref(),
            profile,
        })
        .collect();
    plan(&correspondents)
}

/// Some recipients who get the same message.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// As they were given.
    pub(crate) recipients: Vec<String>,
    /// `None`: it is not encrypted.
    pub(crate) seal: Option<SealPlan>,
}

impl Certificates {
    pub(crate) fn new(store: Arc<dyn RecipientCertificates>) -> Self {
        Self { store: Some(store) }
    }

    /// What is known of a recipient, given as in the envelope. How long others were waited for is added to the
    /// message's `waited`.
    pub(crate) fn known(
        &self,
        identities: &Identities,
        recipient: &str,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Known, StoreError> {
        let Mailbox::Address(address) = Mailbox::read(recipient) else {
            // What is no clear address stands in no certificate.
            return Ok(Known::Unlisted);
        };
        let own = identities.owned_by(&address).map(|identity| identity.certificate().clone());
        let (mut own, mut taken_back) = (usable(own, at), None);
        let Some(store) = &self.store else {
            return Ok(if own.is_empty() { Known::Unlisted } else { Known::Certificates(own) });
        };
        // What is ours needs no path, but whoever stole its key reads what is encrypted to it.
        for certificate in std::mem::take(&mut own) {
            match store.against(&certificate, at, waited)? {
                Some(why) => taken_back = Some(why),
                None => own.push(certificate),
            }
        }
        if !own.is_empty() {
            return Ok(Known::Certificates(own));
        }
        let lookup = store.lookup(&address, at, waited)?;
        if let (Lookup::Absent | Lookup::Unlisted, Some(why)) = (&lookup, taken_back) {
            return Ok(Known::Unusable(why));
        }
        Ok(match lookup {
            Lookup::Absent => Known::Absent,
            Lookup::Unusable(reason) => Known::Unusable(reason),
            Lookup::Unlisted => Known::Unlisted,
            Lookup::Unknown => Known::Unknown,
            Lookup::Found(found) => match usable(found.into_iter(), at) {
                found if found.is_empty() => {
                    Known::Unusable("not valid now, or not for encrypting".to_owned())
                }
                found => Known::Certificates(found),
            },
        })
    }

    /// Why a certificate is not to be encrypted to any more.
    pub(crate) fn against(
        &self,
        certificate: &Certificate,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Option<String>, StoreError> {
        self.store.as_ref().map_or(Ok(None), |store| store.against(certificate, at, waited))
    }

    /// The owner of a certificate, with what is known of it.
    pub(crate) fn recipient(&self, certificate: &Certificate) -> Recipient {
        Recipient::of(certificate.clone(), self.store.as_deref())
    }
}

/// Those that can be encrypted to at a time; one that cannot hides no other.
fn usable(certificates: impl Iterator<Item = Certificate>, at: SystemTime) -> Vec<Certificate> {
    let is_usable = |certificate: &Certificate| {
        certificate.is_valid_at(at)
            && certificate.is_for_email()
            && RecipientKey::new(certificate.clone()).is_ok()
    };
    certificates.filter(is_usable).collect()
}

/// Puts the recipients of a message that is to be encrypted into groups.
pub(crate) fn groups(
    protect: &Protect,
    recipients: &[String],
    message: &MimeEntity<'_>,
    mut known: impl FnMut(&str) -> Result<Known, StoreError>,
    against: impl FnMut(&Certificate) -> Result<Option<String>, StoreError>,
    recipient_of: impl Fn(&Certificate) -> Recipient,
) -> Result<Vec<Group>, AgentError> {
    let rule = &protect.rule;
    let required = protect.encrypt == Some(Requirement::Required);
    let (mut found, mut plain) = (Vec::new(), Vec::new());
    let (mut absent, mut unknown) = (Vec::new(), Vec::new());
    for recipient in recipients {
        match known(recipient)? {
            Known::Certificates(certificates) => {
                found.push((recipient, certificates));
                continue;
            }
            Known::Absent => absent.push(recipient.clone()),
            Known::Unusable(reason) => absent.push(format!("{recipient} that can be used ({reason})")),
            // Nobody kept us from asking.
            Known::Unlisted if !required => {}
            Known::Unlisted | Known::Unknown => unknown.push(recipient.clone()),
        }
        plain.push(recipient.clone());
    }
    if !unknown.is_empty() && (required || rule.unknown == WhenUnknown::Defer) {
        return Err(AgentError::UnknownCertificate { recipients: unknown.join(", ") });
    }
    if required && !absent.is_empty() {
        let recipients = absent.join(", ");
        let is_final = rule.no_certificate == NoCertificate::Refuse;
        return Err(AgentError::NoCertificate { recipients, is_final });
    }
    let also = Also::of(protect, known, against, &recipient_of)?;
    let mut reachable = AllReachable::default();
    for (recipient, certificates) in found {
        reachable.add(recipient, together(certificates, &also.named, &rule.profile, &recipient_of));
    }
    let mut groups = Vec::new();
    for circle in circles(reachable.all, message) {
        for (recipients, plan) in seal_plans(&circle, &also, &rule.profile, &recipient_of) {
            match plan {
                Ok(seal) => groups.push(Group { recipients, seal: Some(seal) }),
                Err(error) if required => return Err(AgentError::SealPlan(error)),
                Err(error) => {
                    // As text both are escaped in the log: certificates have the names that somebody chose.
                    let recipient = recipients.join(", ");
                    info!(recipient, error = error.to_string(), "cannot be encrypted to");
                    plain.extend(recipients);
                }
            }
        }
    }
    if !plain.is_empty() {
        // Required is settled above. Somebody in Bcc needs a message of their own, but is no reason to encrypt to nobody.
        if rule.mixed == Mixed::Plain {
            return Ok(vec![Group { recipients: recipients.to_vec(), seal: None }]);
        }
        groups.push(Group { recipients: plain, seal: None });
    }
    Ok(groups)
}

/// The certificates that a rule adds.
struct Also {
    /// Those it names: without them nothing leaves encrypted.
    named: Vec<Certificate>,
    /// The sender's.
    senders: Vec<Certificate>,
}

impl Also {
    fn of(
        protect: &Protect,
        mut known: impl FnMut(&str) -> Result<Known, StoreError>,
        mut against: impl FnMut(&Certificate) -> Result<Option<String>, StoreError>,
        recipient_of: impl Fn(&Certificate) -> Recipient,
    ) -> Result<Self, AgentError> {
        let rule = &protect.rule;
        let named = rule.also_to.clone();
        for certificate in &named {
            if let Some(why) = against(certificate)? {
                return Err(AgentError::AlsoTo { certificate: certificate.to_string(), why });
            }
        }
        // What the configuration names is no reason to encrypt to nobody.
        if !named.is_empty() {
            let all: Vec<_> = named.iter().map(&recipient_of).collect();
            seal_plan(&all, &rule.profile)?;
        }
        let mut senders = Vec::new();
        // Without one the sender cannot read what was sent, which harms nobody else.
        if rule.to_sender
            && let Known::Certificates(own) = known(protect.from.as_str())?
        {
            senders = own;
        }
        Ok(Self { named, senders })
    }
}

/// What there is for those who get the same message.
type Planned = (Vec<String>, Result<SealPlan, PlanError>);

/// One plan for a circle; or one for each in it where there is none for all, so that what one of them has announced is
/// nobody else's misfortune.
fn seal_plans(
    circle: &[Reachable<'_>],
    also: &Also,
    profile: &Profile,
    recipient_of: impl Fn(&Certificate) -> Recipient,
) -> Vec<Planned> {
    let with = |some: &[Reachable<'_>], senders: &[Certificate]| {
        let certificates = some.iter().flat_map(|one| &one.certificates);
        let all: Vec<Recipient> = certificates.chain(&also.named).chain(senders).map(&recipient_of).collect();
        seal_plan(&all, profile)
    };
    let names = |some: &[Reachable<'_>]| {
        let names = some.iter().flat_map(|one| &one.names);
        names.map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    // The sender's own may be what has nothing in common with them; then those of them that have.
    let together = |some: &[Reachable<'_>]| {
        with(some, &also.senders).or_else(|_| {
            let mut kept = Vec::new();
            for certificate in &also.senders {
                kept.push(certificate.clone());
                if with(some, &kept).is_err() {
                    kept.pop();
                }
            }
            with(some, &kept)
        })
    };
    match together(circle) {
        Err(_) if circle.len() > 1 => circle.chunks(1).map(|one| (names(one), together(one))).collect(),
        all => vec![(names(circle), all)],
    }
}
