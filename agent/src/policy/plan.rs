//! A plan for a message, and why it is this one, in words for the log.

use std::{fmt, sync::Arc};

use smime::{
    Certificate, Fault, MailAddress,
    mime::{Crypto, FromError},
};

use crate::settings::Rule;

/// What to do with a message. It shows as the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Sign it, encrypt it, or both.
    Protect(Protect),
    /// Do this for these recipients and that for those.
    Split(Vec<Share>),
    /// Decrypt and verify it.
    Receive(ReceiveReason),
    /// Let it pass as it is.
    Pass(PassReason),
    /// Hold it until a person decides: it came from elsewhere, and says to be from one of whose mail a rule requires something.
    Hold,
    /// Do not let it pass.
    Refuse(RefuseReason),
}

/// How an outgoing message is protected. At least one of signature and encryption is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protect {
    /// The address in `From`.
    pub from: MailAddress,
    /// Whether it may leave without the signature that is wanted; `None` where none is wanted.
    pub sign: Option<Requirement>,
    /// The certificate that signs; there is one if a signature is wanted.
    pub signer: Option<Certificate>,
    /// Whether it may leave without the encryption that is wanted; `None` where none is wanted.
    pub encrypt: Option<Requirement>,
    /// The rule that says so, with its further wishes.
    pub rule: Arc<Rule>,
}

/// Some recipients, and the plan for them: one that protects, or lets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// As they were given.
    pub recipients: Vec<String>,
    /// The plan.
    pub plan: Plan,
}

impl Plan {
    /// The plan in a word or two.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Protect(Protect { sign: Some(_), encrypt: None, .. }) => "sign",
            Self::Protect(Protect { sign: None, .. }) => "encrypt",
            Self::Protect(_) => "sign and encrypt",
            Self::Split(_) => "split",
            Self::Receive(_) => "receive",
            Self::Pass(_) => "pass",
            Self::Hold => "hold",
            Self::Refuse(_) => "refuse",
        }
    }

    /// Whether two plans do the same with a message, if perhaps by different rules or for different reasons.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pass(_), Self::Pass(_)) => true,
            (Self::Protect(a), Self::Protect(b)) => {
                (&a.from, a.sign, &a.signer, a.encrypt) == (&b.from, b.sign, &b.signer, b.encrypt)
                    && a.rule.does_the_same(&b.rule)
            }
            _ => self == other,
        }
    }
}

/// Whether a message may leave without the signature, or the encryption, it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// It may not.
    Required,
    /// It may.
    WhenPossible,
}

/// Why a message is decrypted and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveReason {
    /// Its client neither logged in nor is in a trusted network.
    Incoming,
    /// It is encrypted already, and all its recipients have their keys here.
    CiphertextForUs,
}

/// Why a message passes as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PassReason {
    /// `MAIL FROM:<>`: a bounce or another notice.
    NullSender,
    /// Somebody signed or encrypted it.
    AlreadySecured(Crypto),
    /// It only says that somebody did, and no rule requires a signature.
    ClaimsProtection(Crypto),
    /// It holds an invitation.
    Calendar,
    /// It holds Microsoft's TNEF.
    Tnef,
    /// A mailing list sends it on.
    MailingList,
    /// No rule is about its sender: it is not ours.
    NoRule {
        /// The address in `From`.
        from: MailAddress,
    },
    /// A rule says so.
    RuleNever {
        /// The rule's line.
        line: usize,
    },
    /// It has our results, so it came from elsewhere, and its client did not log in.
    HandedOn,
    /// There is not one clear address in `From`, and no rule requires a signature.
    From(FromError),
    /// No certificate can sign for the address now.
    NoIdentity {
        /// The address in `From`.
        from: MailAddress,
    },
    /// The client logged in as somebody else.
    LoginMayNotUse {
        /// The name the client authenticated as.
        login: String,
        /// The address in `From`.
        from: MailAddress,
    },
}

/// Why a message does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefuseReason {
    /// There is not one clear address in `From`, and a rule may require a signature.
    From(FromError),
    /// An address of the envelope may be one of whose mail a rule requires what it would not get.
    Address {
        /// As it was given.
        address: String,
        /// The rule's line.
        line: usize,
    },
    /// It claims to be signed or encrypted, but is not in a form that everybody reads alike.
    DoubtfulProtection,
    /// The client logged in as somebody else.
    LoginMayNotUse {
        /// The name the client authenticated as.
        login: String,
        /// The address in `From`.
        from: MailAddress,
    },
    /// No certificate can sign for the address now.
    NoIdentity {
        /// The address in `From`.
        from: MailAddress,
    },
}

impl RefuseReason {
    /// Whose fault it is: the sender's, or the operator's whose rule cannot be followed.
    pub fn fault(&self) -> Fault {
        match self {
            Self::From(_) | Self::Address { .. } | Self::DoubtfulProtection | Self::LoginMayNotUse { .. } => {
                Fault::Policy
            }
            Self::NoIdentity { .. } => Fault::Operator,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protect(protect) => write!(f, "{protect}"),
            Self::Split(shares) => {
                for (at, Share { recipients, plan }) in shares.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { "; " })?;
                    write!(f, "for {}: {plan}", recipients.join(", "))?;
                }
                Ok(())
            }
            Self::Receive(reason) => write!(f, "{reason}"),
            Self::Pass(reason) => write!(f, "{reason}"),
            Self::Hold => f.write_str(
                "it has our results, so it came from elsewhere, and a rule requires something of mail of whom it says to be",
            ),
            Self::Refuse(reason) => write!(f, "{reason}"),
        }
    }
}

impl Requirement {
    fn verb(self) -> &'static str {
        match self {
            Self::Required => "requires",
            Self::WhenPossible => "wants",
        }
    }
}

impl fmt::Display for Protect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, sign, encrypt, rule, .. } = self;
        write!(f, "the rule of line {} ", rule.line)?;
        match (sign, encrypt) {
            (Some(sign), None) => write!(f, "{} a signature for {from}", sign.verb()),
            (Some(sign), Some(encrypt)) => {
                write!(f, "{} a signature for {from} and {} encryption", sign.verb(), encrypt.verb())
            }
            (None, Some(encrypt)) => write!(f, "{} encryption of {from}'s mail", encrypt.verb()),
            (None, None) => f.write_str("wants nothing"),
        }
    }
}

impl fmt::Display for ReceiveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incoming => "the client has no login and is in no trusted network",
            Self::CiphertextForUs => "it is encrypted, and all recipients have their keys here",
        })
    }
}

impl fmt::Display for PassReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NullSender => f.write_str("it is a notice from the null sender"),
            Self::AlreadySecured(Crypto::SmimeSigned) => f.write_str("it is signed already"),
            Self::AlreadySecured(Crypto::SmimeOther) => f.write_str("it is encrypted already"),
            Self::AlreadySecured(Crypto::Pgp) => f.write_str("it was treated by PGP already"),
            Self::ClaimsProtection(Crypto::SmimeSigned) => {
                f.write_str("it says it is signed already, and nothing is required of it")
            }
            Self::ClaimsProtection(Crypto::SmimeOther) => {
                f.write_str("it says it is an S/MIME object already, and nothing is required of it")
            }
            Self::ClaimsProtection(Crypto::Pgp) => {
                f.write_str("it says it was treated by PGP already, and nothing is required of it")
            }
            Self::Calendar => f.write_str("it holds an invitation, and nothing is required of it"),
            Self::Tnef => f.write_str("it holds TNEF, and nothing is required of it"),
            Self::MailingList => f.write_str("it is of a mailing list, and nothing is required of it"),
            Self::HandedOn => f.write_str("it has our results, so it came from elsewhere and is handed on"),
            Self::NoRule { from } => write!(f, "no rule is about {from}"),
            Self::RuleNever { line } => write!(f, "the rule of line {line} wants no signature"),
            Self::From(error) => write!(f, "{error}, and no rule requires a signature"),
            Self::NoIdentity { from } => write!(f, "no certificate can sign for {from} now"),
            Self::LoginMayNotUse { login, from } => write!(f, "the login {login:?} may not sign as {from}"),
        }
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(error) => write!(f, "{error}, and a rule may require a signature"),
            Self::Address { address, line } => {
                let address: String = address.chars().take(100).collect();
                write!(
                    f,
                    "{address:?} is no clear address, and may be one of whose mail the rule of line {line} requires more"
                )
            }
            Self::DoubtfulProtection => f.write_str(
                "a signature is required, and what claims to be signed or encrypted cannot be read as such",
            ),
            Self::LoginMayNotUse { login, from } => {
                write!(f, "a signature is required, but the login {login:?} may not sign as {from}")
            }
            Self::NoIdentity { from } => {
                write!(f, "a signature is required, but no certificate can sign for {from} now")
            }
        }
    }
}
