//! Who is compared.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{gpgsm, limit, material::Task, openssl, ours, process, python};

/// Does a task once and gives the octets that came out, or 0 where it is a verdict.
pub type Run<'t> = Box<dyn FnMut() -> Result<usize> + 't>;

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Contender {
    /// What cannot be avoided: hash, cipher and base64, block by block in the processor's cache, and the key.
    Limit,
    /// The crate `smime`.
    Ours,
    /// OpenSSL's CMS in this process; it makes line ends canonical, as S/MIME wants.
    Openssl,
    /// The same told to leave the octets as they are (`CMS_BINARY`): less work than ours, which looks at every line.
    OpensslBinary,
    /// One process `openssl cms` for each message.
    Process,
    /// One process `gpgsm` for each message.
    Gpgsm,
    /// A loop in Python with `cryptography`, in one process.
    Python,
}

impl Contender {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Limit,
        Self::Ours,
        Self::Openssl,
        Self::OpensslBinary,
        Self::Process,
        Self::Gpgsm,
        Self::Python,
    ];

    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Ours => "smime",
            Self::Openssl => "OpenSSL",
            Self::OpensslBinary => "OpenSSL, binary",
            Self::Process => "`openssl cms`",
            Self::Gpgsm => "`gpgsm`",
            Self::Python => "`cryptography`",
        }
    }

    /// Prepares a task; what is prepared costs no time later.
    pub fn prepare<'t>(self, task: &'t Task<'_>) -> Result<Run<'t>> {
        match self {
            Self::Limit => limit::prepare(task),
            Self::Ours => ours::prepare(task),
            Self::Openssl => openssl::prepare(task, false),
            Self::OpensslBinary => openssl::prepare(task, true),
            Self::Process => process::prepare(task),
            Self::Gpgsm => gpgsm::prepare(task),
            Self::Python => python::prepare(task),
        }
    }

    /// Whether it has what the task takes; who has not is left out.
    pub fn can(self, task: &Task<'_>) -> bool {
        match self {
            Self::Limit | Self::Ours | Self::Openssl | Self::OpensslBinary | Self::Process => true,
            Self::Gpgsm => gpgsm::can(task),
            Self::Python => python::can(task),
        }
    }
}
