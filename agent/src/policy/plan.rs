//! A plan for a message, and why it is this one, in words for the log.

use std::fmt;

use smime::{
    Fault, MailAddress,
    mime::{Crypto, FromError},
};

/// What to do with a message. It shows as the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Sign it as this address.
    Sign {
        /// The address in `From`.
        from: MailAddress,
        /// Whether it may leave without.
        requirement: Requirement,
        /// The line of the rule that says so.
        line: usize,
    },
    /// Decrypt and verify it.
    Receive(ReceiveReason),
    /// Let it pass as it is.
    Pass(PassReason),
    /// Do not let it pass.
    Refuse(RefuseReason),
}

impl Plan {
    /// The plan in one word.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Sign { .. } => "sign",
            Self::Receive(_) => "receive",
            Self::Pass(_) => "pass",
            Self::Refuse(_) => "refuse",
        }
    }
}

/// Whether a message may leave without the signature it should have.
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
            Self::From(_) | Self::DoubtfulProtection | Self::LoginMayNotUse { .. } => Fault::Policy,
            Self::NoIdentity { .. } => Fault::Operator,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sign { from, requirement: Requirement::Required, line } => {
                write!(f, "the rule of line {line} requires a signature for {from}")
            }
            Self::Sign { from, requirement: Requirement::WhenPossible, line } => {
                write!(f, "the rule of line {line} wants a signature for {from}")
            }
            Self::Receive(reason) => write!(f, "{reason}"),
            Self::Pass(reason) => write!(f, "{reason}"),
            Self::Refuse(reason) => write!(f, "{reason}"),
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
                f.write_str("it says it is signed already, and its signature is not required")
            }
            Self::ClaimsProtection(Crypto::SmimeOther) => {
                f.write_str("it says it is an S/MIME object already, and its signature is not required")
            }
            Self::ClaimsProtection(Crypto::Pgp) => {
                f.write_str("it says it was treated by PGP already, and its signature is not required")
            }
            Self::Calendar => f.write_str("it holds an invitation, and its signature is not required"),
            Self::Tnef => f.write_str("it holds TNEF, and its signature is not required"),
            Self::MailingList => f.write_str("it is of a mailing list, and its signature is not required"),
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
