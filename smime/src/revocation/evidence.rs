//! What may tell of the revocation of a certificate, and who is asked for more of it.

use std::{fmt, time::Duration};

use der::asn1::ObjectIdentifier;

use super::{Crl, OcspResponse};
use crate::{
    Certificate,
    ber::{Tag, Tree},
    path::Trust,
};

/// CRLs and OCSP responses. They are checked like those that come with a message: nothing here is trusted for
/// where it comes from.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// CRLs, complete and delta.
    pub crls: Vec<Crl>,
    /// OCSP responses.
    pub ocsp: Vec<OcspResponse>,
    /// Why there is not more, in words: it is shown where revocation is not known.
    pub unavailable: Option<String>,
}

/// Who has evidence, or fetches it.
///
/// It is asked about certificates whose path has reached a trust anchor, all signatures on it verified, and about no
/// others: their senders would learn that the mail was read, and could make us ask whomever they like
/// (RFC 8550 section 6).
pub trait RevocationSource: fmt::Debug + Send + Sync {
    /// What is known of `certificate`, which `issuer` issued. `waited` is how long answers were waited for on
    /// behalf of this message; the source adds to it, and stops waiting where it is too much.
    fn evidence(&self, certificate: &Certificate, issuer: &Certificate, waited: &mut Duration) -> Evidence;
}

impl Evidence {
    /// From the `crls` of a CMS object: CRLs and, by RFC 5940, OCSP responses. What cannot be read is no evidence.
    pub(crate) fn from_cms(choices: &[&[u8]]) -> Self {
        let mut evidence = Self::default();
        for choice in choices {
            // DER, as it is signed; but an object in BER may have been written without lengths.
            let Ok(tree) = Tree::parse(choice) else {
                evidence.crls.extend(Crl::from_der(choice));
                continue;
            };
            let root = tree.root();
            if root.tag() == Tag::SEQUENCE {
                let read = Crl::from_der(choice)
                    .or_else(|error| root.to_der().map_or(Err(error), |der| Crl::from_der(&der)));
                evidence.crls.extend(read);
            } else if root.tag() == OTHER_FORMAT {
                let mut fields = root.children();
                let (Some(format), Some(info)) = (fields.next(), fields.next()) else { continue };
                if format.object_identifier() == Ok(ID_RI_OCSP_RESPONSE)
                    && let Ok(der) = info.to_der()
                {
                    evidence.ocsp.extend(OcspResponse::from_der(&der));
                }
            }
        }
        evidence
    }

    /// Whether each of these can be read.
    pub(crate) fn is_all(choices: &[&[u8]]) -> bool {
        let Self { crls, ocsp, .. } = Self::from_cms(choices);
        crls.len() + ocsp.len() == choices.len()
    }
}

impl Trust {
    /// The same trust with what came with a message beside what is at hand.
    #[must_use]
    pub fn with_evidence(&self, evidence: Evidence) -> Self {
        let mut trust = self.clone();
        trust.enclosed.crls.extend(evidence.crls);
        trust.enclosed.ocsp.extend(evidence.ocsp);
        trust
    }
}

/// `[1] IMPLICIT` OtherRevocationInfoFormat (RFC 5652 10.2.1).
const OTHER_FORMAT: Tag = Tag(0xA1);
/// id-ri-ocsp-response (RFC 5940 2.1).
const ID_RI_OCSP_RESPONSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.16.2");
