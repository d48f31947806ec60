//! The result of verification as data, in the words of RFC 7281.

use super::{Form, LayerReport, Reason, SignerReport};
use crate::{Certificate, MailAddress, path::PathError};

/// The results that RFC 7281 section 3 defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthResult {
    /// Not signed.
    None,
    /// Signed, and everything holds.
    Pass,
    /// The signature may be right and is not acceptable here: trust, address, algorithm.
    Policy,
    /// It could not be decided now.
    TempError,
    /// It could not be made sense of.
    Neutral,
    /// It can never be decided: the certificate is missing.
    PermError,
    /// The signature is wrong, or its certificate revoked.
    Fail,
}

impl AuthResult {
    /// The word in an Authentication-Results field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Policy => "policy",
            Self::TempError => "temperror",
            Self::Neutral => "neutral",
            Self::PermError => "permerror",
            Self::Fail => "fail",
        }
    }
}

impl From<&Reason> for AuthResult {
    /// The one table from reasons to RFC 7281's words.
    fn from(reason: &Reason) -> Self {
        match reason {
            Reason::NotSigned | Reason::CertificatesOnly | Reason::Encrypted => Self::None,
            Reason::AllGood | Reason::RevocationUnknown(_) | Reason::RevocationNotChecked => Self::Pass,
            Reason::Unreadable(_) | Reason::NoContent => Self::Neutral,
            Reason::EmbeddedContent
            | Reason::ContentChanged
            | Reason::BadSignature
            | Reason::Attributes(_)
            | Reason::ContentType
            | Reason::OtherCertificate
            | Reason::OtherAlgorithms
            | Reason::Path(PathError::Revoked { .. }) => Self::Fail,
            Reason::NoCertificate => Self::PermError,
            Reason::Path(PathError::RevocationUnknown { .. }) => Self::TempError,
            Reason::NoSignedAttributes
            | Reason::UnknownAlgorithm(_)
            | Reason::Weak
            | Reason::NotForSigning
            | Reason::Path(_)
            | Reason::NotTransportSafe
            | Reason::SignedCiphertext
            | Reason::BesideSigned
            | Reason::ShortBlocks
            | Reason::OtherSender
            | Reason::From(_) => Self::Policy,
        }
    }
}

/// What verification found, for a whole message.
#[doc = include_str!("verdicts.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    reason: Reason,
    part: Option<&'static str>,
    layers: Vec<LayerReport>,
    sender: Option<MailAddress>,
}

impl Verdict {
    pub(super) fn new(reason: Reason, part: Option<&'static str>, layers: Vec<LayerReport>) -> Self {
        Self { reason, part, layers, sender: None }
    }

    /// The verdict on a message that there is nothing to verify in, or nothing that can be read.
    pub fn without_signers(reason: Reason) -> Self {
        Self::new(reason, None, Vec::new())
    }

    /// The verdict on a message whose signer was bound to the sender.
    pub(super) fn with_sender(mut self, sender: MailAddress) -> Self {
        self.sender = Some(sender);
        self
    }

    /// This verdict, or the one that `reason` stands for where that is worse.
    #[must_use]
    pub fn at_best(mut self, reason: Reason) -> Self {
        if AuthResult::from(&reason) > self.result() {
            self.reason = reason;
        }
        self
    }

    /// RFC 7281's word.
    pub fn result(&self) -> AuthResult {
        AuthResult::from(&self.reason)
    }

    /// Why.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The IMAP section number of the part with the signature (RFC 7281 section 4).
    pub fn part(&self) -> Option<&'static str> {
        self.part
    }

    /// Each signer of the layer that decided.
    pub fn signers(&self) -> &[SignerReport] {
        self.layers.iter().find(|layer| layer.decides).map_or(&[], |layer| &layer.signers)
    }

    /// The layers of S/MIME, from outside in.
    pub fn layers(&self) -> &[LayerReport] {
        &self.layers
    }

    /// The verdict on a message that was opened inside a signature: `self` is of what came out, `outer` of the
    /// signature around the ciphertext (RFC 2634 1.1, RFC 8551 3.7).
    ///
    /// Who signed a ciphertext need not have seen the text, nor be who encrypted it: anybody can sign captured
    /// ciphertext. So the text is worth what the signature inside says; without one it is never `pass`. An
    /// outer signature that is wrong is not passed over.
    #[must_use]
    pub fn inside(mut self, outer: Self) -> Self {
        if outer.result() == AuthResult::Fail {
            self.reason = outer.reason;
            self.sender = None;
        } else if self.result() == AuthResult::None && outer.result() != AuthResult::None {
            self.reason = Reason::SignedCiphertext;
        }
        let mut layers = outer.layers;
        for layer in &mut layers {
            layer.decides = false;
            if layer.form == Form::EnvelopedData {
                // It is open now.
                layer.reason = Reason::NotSigned;
            }
        }
        layers.append(&mut self.layers);
        self.layers = layers;
        self
    }

    /// The certificate that the verdict is about: the one that decided it.
    pub fn certificate(&self) -> Option<&Certificate> {
        let signers = self.signers();
        let deciding = signers.iter().find(|signer| signer.reason == self.reason);
        deciding.or(signers.first()).and_then(|signer| signer.certificate.as_ref())
    }

    /// The sender where the signer was bound to it, or else the certificate's first address.
    pub fn identifier(&self) -> Option<MailAddress> {
        self.sender.clone().or_else(|| self.certificate()?.addresses().into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::cms::AttributeError;

    /// The name in the table. A new reason does not compile before it has one.
    fn name(reason: &Reason) -> &'static str {
        match reason {
            Reason::NotSigned => "`NotSigned`",
            Reason::CertificatesOnly => "`CertificatesOnly`",
            Reason::Encrypted => "`Encrypted`",
            Reason::AllGood => "`AllGood`",
            Reason::RevocationUnknown(_) => "`RevocationUnknown`",
            Reason::RevocationNotChecked => "`RevocationNotChecked`",
            Reason::Unreadable(_) => "`Unreadable`",
            Reason::EmbeddedContent => "`EmbeddedContent`",
            Reason::NoContent => "`NoContent`",
            Reason::NoCertificate => "`NoCertificate`",
            Reason::ContentChanged => "`ContentChanged`",
            Reason::BadSignature => "`BadSignature`",
            Reason::Attributes(_) => "`Attributes`",
            Reason::ContentType => "`ContentType`",
            Reason::OtherCertificate => "`OtherCertificate`",
            Reason::OtherAlgorithms => "`OtherAlgorithms`",
            Reason::NoSignedAttributes => "`NoSignedAttributes`",
            Reason::UnknownAlgorithm(_) => "`UnknownAlgorithm`",
            Reason::Weak => "`Weak`",
            Reason::NotForSigning => "`NotForSigning`",
            Reason::Path(PathError::Revoked { .. }) => "`Path`, revoked",
            Reason::Path(PathError::RevocationUnknown { .. }) => "`Path`, revocation unknown",
            Reason::Path(_) => "`Path`",
            Reason::NotTransportSafe => "`NotTransportSafe`",
            Reason::SignedCiphertext => "`SignedCiphertext`",
            Reason::BesideSigned => "`BesideSigned`",
            Reason::ShortBlocks => "`ShortBlocks`",
            Reason::OtherSender => "`OtherSender`",
            Reason::From(_) => "`From`",
        }
    }

    fn all() -> Vec<Reason> {
        let text = String::new;
        let at = SystemTime::UNIX_EPOCH;
        vec![
            Reason::NotSigned,
            Reason::CertificatesOnly,
            Reason::Encrypted,
            Reason::AllGood,
            Reason::RevocationUnknown(text()),
            Reason::RevocationNotChecked,
            Reason::NoSignedAttributes,
            Reason::UnknownAlgorithm(text()),
            Reason::Weak,
            Reason::NotForSigning,
            Reason::Path(PathError::TooManyChecks),
            Reason::NotTransportSafe,
            Reason::SignedCiphertext,
            Reason::BesideSigned,
            Reason::ShortBlocks,
            Reason::OtherSender,
            Reason::From(text()),
            Reason::Path(PathError::RevocationUnknown { certificate: text(), reason: text() }),
            Reason::Unreadable(text()),
            Reason::NoContent,
            Reason::NoCertificate,
            Reason::EmbeddedContent,
            Reason::ContentChanged,
            Reason::BadSignature,
            Reason::Attributes(AttributeError::TooMany),
            Reason::ContentType,
            Reason::OtherCertificate,
            Reason::OtherAlgorithms,
            Reason::Path(PathError::Revoked { certificate: text(), since: at }),
        ]
    }

    #[test]
    fn the_table_of_reasons_and_words_is_that_of_the_code_from_best_to_worst() {
        let rows: Vec<(&str, &str)> = include_str!("verdicts.md")
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| {
                let cells: Vec<_> = line.split('|').map(str::trim).collect();
                (cells[1], cells[2])
            })
            .collect();
        let reasons = all();
        let code: Vec<_> =
            reasons.iter().map(|reason| (name(reason), AuthResult::from(reason).as_str())).collect();
        assert_eq!(rows, code);
        assert!(reasons.iter().map(AuthResult::from).is_sorted());
    }

    #[test]
    fn no_reason_but_three_is_a_pass() {
        let passes: Vec<_> =
            all().into_iter().filter(|reason| AuthResult::from(reason) == AuthResult::Pass).collect();
        assert_eq!(
            passes.iter().map(name).collect::<Vec<_>>(),
            ["`AllGood`", "`RevocationUnknown`", "`RevocationNotChecked`"]
        );
    }
}
