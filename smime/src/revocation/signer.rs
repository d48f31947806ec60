//! Who signed a CRL, and whether that one may: cRLSign, and a path to the anchor of the certificate that is asked
//! about (RFC 5280 section 6.3.3 f and g).

use std::time::SystemTime;

use x509_cert::ext::pkix::KeyUsage;

use super::{Checker, Crl, Standing};
use crate::{
    Certificate,
    path::{PathError, Purpose, RevocationMode, Trust, is_cheap, validate_for},
};

impl Checker<'_> {
    /// The certificate of the key that signed `crl`, valid up to the anchor. The issuers of the path come first; a CA
    /// may have another key for CRLs, and an indirect CRL is another's, so that the other certificates are looked at too.
    pub(super) fn signer_of(&mut self, crl: &Crl) -> Result<Result<Certificate, String>, PathError> {
        let (chain, surplus) = (self.chain, self.surplus);
        let issuers = chain.iter().skip(1).chain(chain.first());
        let theirs = surplus.iter().filter(|other| is_cheap(other));
        let others = self.trust.intermediates.iter().chain(theirs).filter(|other| !chain.contains(other));
        let mut reason = String::from("there is no certificate of who signed it");
        for signer in issuers.chain(others) {
            if !signer.prepared_subject().is(crl.prepared_issuer()) || !has_key(signer, crl.authority_key()) {
                continue;
            }
            if !may_sign_crls(signer) {
                reason = "its issuer's keyUsage has no cRLSign".into();
                continue;
            }
            self.budget.step()?;
            if !self.is_signed_by(crl, signer)? {
                reason = "its signature does not verify".into();
                continue;
            }
            match self.is_valid_signer(signer, crl.this_update().max(self.at))? {
                Ok(()) => return Ok(Ok(signer.clone())),
                // The key may have another certificate that is.
                Err(why) => reason = format!("the certificate of who signed it is not good: {why}"),
            }
        }
        Ok(Err(reason))
    }

    pub(super) fn is_signed_by(&mut self, crl: &Crl, signer: &Certificate) -> Result<bool, PathError> {
        if crl.is_known_to_be_of(signer) {
            return Ok(true);
        }
        let check = || crl.check_signature(signer);
        let found = self.budget.signed(signer, crl.fingerprint(), check)?;
        Ok(self.takes(found))
    }

    /// Whether `signer` has a valid path to the same anchor, none of it revoked. One whose own revocation is told by
    /// the list that it signs, or further on in a circle, is believed as far as that goes: there is nobody else to ask.
    fn is_valid_signer(
        &mut self,
        signer: &Certificate,
        at: SystemTime,
    ) -> Result<Result<(), String>, PathError> {
        // The certificates of the path are valid, and asked about by themselves.
        if self.chain.contains(signer) || self.pending.contains(signer.fingerprint()) {
            return Ok(Ok(()));
        }
        if self.pending.len() >= MAX_PENDING {
            return Ok(Err("too many other certificates depend on it".into()));
        }
        let anchors = self.chain.last().cloned().into_iter().collect();
        let structure = Trust {
            anchors,
            intermediates: self.trust.intermediates.clone(),
            legacy: self.trust.legacy,
            revocation: RevocationMode::Off,
            ..Trust::default()
        };
        let surplus: Vec<Certificate> = self.chain.iter().skip(1).chain(self.surplus).cloned().collect();
        let path = match validate_for(Purpose::CrlSigning, self.budget, signer, &surplus, &structure, at) {
            Ok(path) => path,
            Err(PathError::TooManyChecks) => return Err(PathError::TooManyChecks),
            Err(error) => return Ok(Err(error.to_string())),
        };
        *self.strength = self.strength.and(path.strength());
        self.pending.push(*signer.fingerprint());
        let mut inner = Checker {
            chain: path.chain(),
            surplus: &surplus,
            trust: self.trust,
            at: self.at,
            budget: self.budget,
            pending: self.pending,
            strength: self.strength,
        };
        let found = inner.is_unrevoked(self.chain);
        self.pending.pop();
        found
    }

    /// Asks for the certificates of this path that are not of another.
    fn is_unrevoked(&mut self, known: &[Certificate]) -> Result<Result<(), String>, PathError> {
        let chain = self.chain;
        for (certificate, issuer) in chain.iter().zip(chain.iter().skip(1)) {
            if known.contains(certificate) {
                continue;
            }
            match self.status(certificate, issuer)? {
                Ok(found) if found.standing == Standing::Good => {}
                Ok(_) => return Ok(Err(format!("{certificate} was revoked"))),
                Err(reason) => return Ok(Err(format!("{certificate}: {reason}"))),
            }
        }
        Ok(Ok(()))
    }
}

/// Whether a certificate may be of the key with this identifier.
pub(super) fn has_key(certificate: &Certificate, key: Option<&[u8]>) -> bool {
    match (key, certificate.subject_key_identifier()) {
        (Some(wanted), Some(has)) => wanted == has.as_slice(),
        _ => true,
    }
}

fn may_sign_crls(certificate: &Certificate) -> bool {
    match certificate.extension::<KeyUsage>() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.crl_sign(),
        Err(_) => false,
    }
}

/// How many certificates may depend on each other's revocation.
const MAX_PENDING: usize = 3;
