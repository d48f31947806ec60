//! Whose fault an error is. Each front end maps it to an SMTP reply or an exit code in one place.

/// Whose fault an error is, and so what may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The message is malformed; trying again will not help.
    Message,
    /// A rule of this site forbids it.
    Policy,
    /// It may work later: a busy token, a full queue, a passed deadline.
    Transient,
    /// Somebody must act here: configuration, certificates, the token's PIN.
    Operator,
    /// A defect of this program.
    Internal,
}

impl Fault {
    /// Whether trying again may help, now or once somebody has acted: mail waits for that, and is not given back.
    pub fn may_pass(self) -> bool {
        match self {
            Self::Message | Self::Policy => false,
            Self::Transient | Self::Operator | Self::Internal => true,
        }
    }

    /// The word used in logs and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Policy => "policy",
            Self::Transient => "transient",
            Self::Operator => "operator",
            Self::Internal => "internal",
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
