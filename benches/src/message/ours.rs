//! The crate `smime`, from octets to octets.

use anyhow::{Context as _, Result, bail, ensure};
use smime::{
    Certificate,
    algorithm::SignatureAlgorithm,
    cms::Object,
    key::{KeyError, SignatureInput, SignatureValue, Signer},
    message::{self, AuthResult, Wrapped},
    mime::{Canonical, MimeEntity, single_originator},
    testing::MemoryKey,
};

use super::{contender::Run, material::Task, operation::Operation};

/// A key that says no more of its signatures than a token's does.
#[derive(Debug)]
struct AsToken<'k>(&'k MemoryKey);

impl Signer for AsToken<'_> {
    fn certificate(&self) -> &Certificate {
        Signer::certificate(self.0)
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        self.0.algorithms()
    }

    fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        self.0.sign(input, algorithm)
    }
}

/// Prepares a task.
pub fn prepare<'t>(task: &'t Task<'_>) -> Result<Run<'t>> {
    let (person, material) = (task.person, task.material);
    Ok(match task.operation {
        Operation::Sign => Box::new(move || {
            let canonical = Canonical::from_entity(&MimeEntity::parse(&task.input))?;
            Ok(message::sign_in_place(canonical, &person.key, &material.chain, material.now)?.body.len())
        }),
        Operation::SignChecked => Box::new(move || {
            let canonical = Canonical::from_entity(&MimeEntity::parse(&task.input))?;
            let key = AsToken(&person.key);
            Ok(message::sign_in_place(canonical, &key, &material.chain, material.now)?.body.len())
        }),
        Operation::Verify => Box::new(move || {
            let entity = MimeEntity::parse(&task.input);
            let sender = single_originator(&entity);
            let (verdict, _) = message::verify(&entity, sender, &material.trust, material.now);
            ensure!(verdict.result() == AuthResult::Pass, "not verified: {verdict:?}");
            Ok(0)
        }),
        Operation::EncryptCbc | Operation::EncryptGcm => {
            let plan = person.plan(task.operation)?;
            Box::new(move || {
                let canonical = Canonical::from_entity(&MimeEntity::parse(&task.input))?;
                Ok(message::seal(&canonical, &plan)?.body.len())
            })
        }
        Operation::DecryptCbc | Operation::DecryptGcm => Box::new(move || {
            let Some(Wrapped::Opaque(object)) = Wrapped::read(&MimeEntity::parse(&task.input))? else {
                bail!("not S/MIME")
            };
            let Object::EnvelopedData(enveloped) = Object::parse(&object)? else { bail!("not encrypted") };
            let recipient = enveloped.recipient_for(&person.certificate).context("not for this key")?;
            Ok(enveloped.open(recipient, &person.key)?.len())
        }),
    })
}
