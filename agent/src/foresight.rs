//! What would become of mail on its way out: [`Agent::treat`] up to the last step, with keys that are none.
//!
//! Plan, look-up of certificates, groups and forms are the agent's own, so what is foreseen is what happens, but for what
//! only tokens and the sources of certificates know. What is signed here by no key is thrown away, never given out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use certcache::{Cache, CachedDistrust, Chooser};
use hsmpool::signature_algorithms;
use lookup::{CacheStore, Instead, MemoryStore, Refill, RevocationStore, Unasked};
use smime::{
    Certificate, MailAddress,
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    capabilities::Capabilities,
    key::{Decryptor, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped},
    mime::{Message, MimeEntity},
    store::{Lookup, RecipientCertificates, StoreError, Waited},
};

use crate::{
    Agent, AgentError, Envelope, Identities, Identity, Known, OpenStoreError, Plan, Settings, Share, chooser,
    encrypts,
    recipients::Certificates,
    settings::{IdentitySettings, LookupSettings, start_sources},
};

/// Who foresees.
#[derive(Debug)]
pub struct Foresight {
    agent: Agent,
    /// What its agent asks where there is no cache.
    uncached: Certificates,
    chooser: Option<Arc<Chooser>>,
    lookup: LookupSettings,
}

/// Whether sources of certificates are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// As the milter does.
    Sources,
    /// They are not, and this is taken for their answer.
    Nobody(Instead),
}

/// What would become of a message.
#[derive(Debug)]
pub struct Foreseen {
    /// The forms in which it leaves; or why it does not, now or at all.
    pub forms: Result<Vec<Form>, AgentError>,
    /// What is known of those to whom it is to be encrypted, in the order of the envelope.
    pub known: Vec<(String, Known)>,
    /// Those about whom sources would have been asked, and were not.
    pub unasked: Vec<MailAddress>,
}

/// One form of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Who gets it, as they were given.
    pub recipients: Vec<String>,
    /// Whether we sign it.
    pub is_signed: bool,
    /// Whether we encrypt it.
    pub is_encrypted: bool,
}

impl Foresight {
    /// For a configuration, and its cache where it has one.
    pub fn new(settings: &Settings, cache: Option<&Arc<Cache>>) -> Self {
        let kept: Box<dyn RevocationStore> = match cache {
            Some(cache) => Box::new(CacheStore::new(Arc::clone(cache))),
            None => Box::<MemoryStore>::default(),
        };
        let mut agent = Agent::with_store(settings, keyless(settings), kept);
        agent.can_split = settings.milter().is_some_and(|milter| milter.reinject.is_some());
        if let Some(cache) = cache {
            agent = agent.with_distrust(Arc::new(CachedDistrust::new(Arc::clone(cache))));
        }
        let chooser = cache
            .filter(|_| encrypts(settings))
            .map(|cache| Arc::new(chooser(settings, Arc::clone(cache), agent.trust())));
        let uncached = agent.certificates.clone();
        Self { agent, uncached, chooser, lookup: settings.lookup().clone() }
    }

    /// Who chooses certificates, where mail is encrypted to others.
    pub fn chooser(&self) -> Option<&Arc<Chooser>> {
        self.chooser.as_ref()
    }

    /// Our own certificates whose keys a recipient owns, ended ones too.
    pub fn own_certificates(&self, recipient: &MailAddress) -> impl Iterator<Item = &Certificate> {
        self.agent.identities().owned_by(recipient).map(Identity::certificate)
    }

    /// What becomes of a message to all of its recipients, which is on its way out.
    pub fn of(
        &mut self,
        envelope: &Envelope,
        message: &Message,
        asking: Asking,
        at: SystemTime,
    ) -> Result<Foreseen, OpenStoreError> {
        let once = envelope.once();
        let envelope = &*once;
        let (store, unasked) = self.store(asking)?;
        self.agent.certificates = store.map_or_else(|| self.uncached.clone(), Certificates::new);
        let entity = message.entity();
        let plan = self.agent.policy().plan(envelope, &entity, at);
        let recipients = to_encrypt_to(&plan, envelope);
        let forms = self.forms(plan, envelope, message, &entity, at);
        let known = envelope.recipients.iter().filter(|recipient| recipients.contains(recipient));
        let known = known
            .map(|recipient| (recipient.clone(), self.agent.known(recipient, at).unwrap_or(Known::Unknown)))
            .collect();
        let unasked = unasked.map(|unasked| unasked.noted()).unwrap_or_default();
        Ok(Foreseen { forms, known, unasked })
    }

    fn forms(
        &self,
        plan: Plan,
        envelope: &Envelope,
        message: &Message,
        entity: &MimeEntity<'_>,
        at: SystemTime,
    ) -> Result<Vec<Form>, AgentError> {
        let shares = match plan {
            Plan::Refuse(reason) => return Err(AgentError::Refused(reason)),
            Plan::Receive(_) | Plan::Hold => return Err(AgentError::NoSuchShare),
            Plan::Split(shares) => shares,
            plan @ (Plan::Protect(_) | Plan::Pass(_)) => {
                vec![Share { recipients: envelope.recipients.clone(), plan }]
            }
        };
        let drafts = self.agent.drafts(&shares, envelope, entity, at)?;
        let forms = drafts.forms().map(|(recipients, is_signed, is_encrypted)| Form {
            recipients: recipients.to_vec(),
            is_signed,
            is_encrypted,
        });
        let forms = forms.collect();
        // What cannot be written does not leave.
        drafts.finish(message, entity, &[], &mut |_| Ok(()))?;
        Ok(forms)
    }

    /// The store that the milter would ask, as far as it is to be asked.
    #[expect(clippy::type_complexity, reason = "a store, and the one in it that notes what it was not asked")]
    fn store(
        &self,
        asking: Asking,
    ) -> Result<(Option<Arc<dyn RecipientCertificates>>, Option<Arc<Unasked>>), OpenStoreError> {
        let Some(chooser) = &self.chooser else { return Ok((None, None)) };
        let chooser = Arc::clone(chooser);
        let (inner, unasked): (Arc<dyn RecipientCertificates>, _) = match asking {
            _ if self.lookup.sources.is_empty() => (chooser, None),
            Asking::Sources => {
                (Arc::new(Refill::new(chooser, start_sources(&self.lookup)?, self.lookup.absent)), None)
            }
            Asking::Nobody(instead) => {
                let unasked = Arc::new(Unasked::new(chooser, instead));
                (Arc::clone(&unasked) as _, Some(unasked))
            }
        };
        Ok((Some(Arc::new(Once { inner, answers: Mutex::default() })), unasked))
    }
}

/// Those to whom a plan encrypts, as they were given.
fn to_encrypt_to(plan: &Plan, envelope: &Envelope) -> Vec<String> {
    let encrypts = |plan: &Plan| matches!(plan, Plan::Protect(protect) if protect.encrypt.is_some());
    match plan {
        Plan::Split(shares) => {
            let shares = shares.iter().filter(|share| encrypts(&share.plan));
            shares.flat_map(|share| share.recipients.clone()).collect()
        }
        plan if encrypts(plan) => envelope.recipients.clone(),
        _ => Vec::new(),
    }
}

/// A store that is asked once for each address, and gives the same answer again.
struct Once {
    inner: Arc<dyn RecipientCertificates>,
    answers: Mutex<HashMap<String, Lookup>>,
}

impl RecipientCertificates for Once {
    fn lookup(
        &self,
        address: &MailAddress,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Lookup, StoreError> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(&address.folded()) {
            return Ok(answer.clone());
        }
        let answer = self.inner.lookup(address, at, waited)?;
        answers.insert(address.folded(), answer.clone());
        Ok(answer)
    }

    fn capabilities(&self, certificate: &Certificate) -> Option<Capabilities> {
        self.inner.capabilities(certificate)
    }

    fn against(
        &self,
        certificate: &Certificate,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Option<String>, StoreError> {
        self.inner.against(certificate, at, waited)
    }
}

/// Our identities, without their keys.
fn keyless(settings: &Settings) -> Identities {
    let identity = |of: &IdentitySettings| {
        let key = Arc::new(NoKey {
            certificate: of.certificate.clone(),
            algorithms: signature_algorithms(&of.certificate),
        });
        Identity::new(of.certificate.clone(), of.chain.clone(), of.logins.clone(), key.clone(), key)
    };
    let delimiter = settings.milter().map_or("", |milter| &milter.recipient_delimiter);
    Identities::from_parts(settings.identities().iter().map(identity), delimiter)
}

/// Stands in the place of a key, and signs nothing.
#[derive(Debug)]
struct NoKey {
    certificate: Certificate,
    algorithms: &'static [SignatureAlgorithm],
}

impl Signer for NoKey {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        self.algorithms
    }

    fn sign(&self, _: &SignatureInput<'_>, _: SignatureAlgorithm) -> Result<SignatureValue, KeyError> {
        Ok(SignatureValue(vec![0; 64]))
    }

    fn must_be_checked(&self) -> bool {
        false
    }
}

impl Decryptor for NoKey {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        let certificate = self.certificate.to_string();
        Err(KeyError::Unsupported { certificate, operation: "decryption without a key".to_owned() })
    }
}
