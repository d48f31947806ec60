//! The SMTP envelope and where a message came from.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use smime::MailAddress;

use crate::{Returned, mailbox::plain};

/// What is known of a message besides its octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `MAIL FROM` without angle brackets; empty for the null sender.
    pub sender: String,
    /// Each `RCPT TO` without angle brackets, as it was given.
    pub recipients: Vec<String>,
    /// The client's address, where the MTA told it.
    pub client: Option<IpAddr>,
    /// The name the client authenticated as.
    pub login: Option<String>,
    /// The MTA's name for the service that took it (`{daemon_name}`).
    pub listener: Option<String>,
    /// What the MTA calls the message (`i`), for log and audit.
    pub queue_id: Option<String>,
    /// What the sender asked of its delivery.
    pub asked: Asked,
    /// How the MTA tells recipients.
    pub told: Told,
}

/// How an MTA tells recipients, and so whom it finds when it is told to remove him.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// As a client wrote them: it finds those who are plain addresses.
    #[default]
    AsWritten,
    /// As they were rewritten, which Postfix does where a program on this host hands it mail (`sendmail`): it may find nobody.
    /// All may get copies, for no client far away can choose this.
    Rewritten,
    /// Nobody knows: it may find nobody, and somebody far away may have chosen this.
    Unclear,
}

/// Parameters of `MAIL` and `RCPT` that are about delivery (RFC 3461, RFC 6531). Who made them checked that they are well
/// formed; xtext is as it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `RET`: what a report on a failure holds.
    pub returned: Option<Returned>,
    /// `ENVID`: what reports shall call the transaction.
    pub envelope_id: Option<String>,
    /// `SMTPUTF8`: addresses or header are beyond ASCII.
    pub is_international: bool,
    /// Of recipients, given as in the envelope.
    pub of_recipients: HashMap<String, AskedOf>,
}

/// What was asked of the delivery to one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedOf {
    /// `NOTIFY`: when to report.
    pub notify: Option<String>,
    /// `ORCPT`: who the sender named.
    pub original: Option<String>,
}

impl Envelope {
    /// The name the client logged in with; an empty one is none.
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref().filter(|login| !login.is_empty())
    }

    /// The same with each recipient once: whoever is given twice gets one message. Only what is the same octet by octet is, for an
    /// MTA may tell `Bob@` from `bob@`.
    pub(crate) fn once(&self) -> Cow<'_, Self> {
        let mut seen = HashSet::new();
        let once: Vec<_> = self.recipients.iter().filter(|one| seen.insert(one.as_str())).collect();
        if once.len() == self.recipients.len() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self { recipients: once.into_iter().cloned().collect(), ..self.clone() })
    }

    /// The address of a recipient whom an MTA that is told to remove him surely removes.
    pub(crate) fn removable(&self, recipient: &str) -> Option<MailAddress> {
        if self.told == Told::Unclear { None } else { plain(recipient) }
    }

    /// Whether it surely removes everybody that it is told to.
    pub(crate) fn is_removable(&self) -> bool {
        self.recipients.iter().all(|recipient| self.removable(recipient).is_some())
    }

    /// Whether this is a bounce or another automatic answer: `MAIL FROM:<>`.
    pub(crate) fn has_null_sender(&self) -> bool {
        self.sender.is_empty()
    }
}
