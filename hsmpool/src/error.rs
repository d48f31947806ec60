//! Why a token cannot be used: what happened, where, and what to do about it.

use std::{path::PathBuf, time::Duration};

use smime::Fault;

use crate::call::CallError;

/// Why a token, or an administrator's request to it, failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The shared library could not be loaded.
    #[error("PKCS#11 module {path} cannot be loaded: {reason}. Check `module` and that the file can be read")]
    ModuleNotLoadable {
        /// The module.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// `C_Initialize` failed.
    #[error(
        "PKCS#11 module {path} does not start: {function} returned {code}. \
         Check the vendor's own configuration file and that this user may read it"
    )]
    ModuleInitialize {
        /// The module.
        path: PathBuf,
        /// The `C_` function.
        function: &'static str,
        /// The `CKR_` name.
        code: String,
    },
    /// No slot holds a token of that label.
    #[error("PKCS#11 module {module} has no token \"{label}\"; {}", seen(.found))]
    NoSuchToken {
        /// The module.
        module: PathBuf,
        /// The label asked for.
        label: String,
        /// The labels found.
        found: Vec<String>,
    },
    /// Several slots hold a token of that label.
    #[error("PKCS#11 module {module} has {count} tokens \"{label}\". Give them different labels")]
    AmbiguousToken {
        /// The module.
        module: PathBuf,
        /// The label asked for.
        label: String,
        /// How many there are.
        count: usize,
    },
    /// The PIN's file cannot be used.
    #[error("PIN file {path}: {reason}")]
    PinFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The token rejected the PIN. It is not tried again before the file's content changes.
    #[error(
        "token \"{label}\" rejected the PIN in {path}. It was tried once and is not tried again: \
         write the right user PIN into that file"
    )]
    WrongPin {
        /// The token's label.
        label: String,
        /// The PIN's file.
        path: PathBuf,
    },
    /// The token refused the login without saying that the PIN is wrong. To be safe it is held for wrong.
    #[error(
        "token \"{label}\" refused the login with {code}. As every try may count towards locking the PIN, \
         it is not tried again until {path} changes or the program is started again"
    )]
    LoginRefused {
        /// The token's label.
        label: String,
        /// The `CKR_` name.
        code: String,
        /// The PIN's file.
        path: PathBuf,
    },
    /// Too many wrong PINs: the token is locked.
    #[error(
        "the PIN of token \"{label}\" is locked. Let the security officer set it again, write it into {path}, \
         and start the program again if the PIN is the same as before"
    )]
    PinLocked {
        /// The token's label.
        label: String,
        /// The PIN's file.
        path: PathBuf,
    },
    /// The PIN must be changed first.
    #[error("the PIN of token \"{label}\" has expired. Set a new one and write it into {path}")]
    PinExpired {
        /// The token's label.
        label: String,
        /// The PIN's file.
        path: PathBuf,
    },
    /// One more wrong PIN locks the token, so no try is made.
    #[error(
        "token \"{label}\" warns that one more wrong PIN locks it, so {path} was not tried. \
         Log in by hand once with the right PIN (for instance `pkcs11-tool --login --list-objects`)"
    )]
    PinFinalTry {
        /// The token's label.
        label: String,
        /// The PIN's file.
        path: PathBuf,
    },
    /// What must be known of a try later cannot be written.
    #[error(
        "the PIN of token \"{label}\" is not tried, as that cannot be written down: after a restart it might be tried once \
         more than it should. The log of hsmime-keyd says what is wrong with the file"
    )]
    PinUnrecorded {
        /// The token's label.
        label: String,
    },
    /// The token has no user PIN yet.
    #[error("token \"{label}\" has no user PIN yet. Initialise it (for instance `pkcs11-tool --init-pin`)")]
    PinNotInitialized {
        /// The token's label.
        label: String,
    },
    /// The token gave not even one session.
    #[error(
        "token \"{label}\" gives no session: its limit is reached. Lower `sessions` in the programs that share it"
    )]
    TooManySessions {
        /// The token's label.
        label: String,
    },
    /// The token was there and then had none of its private keys any more.
    #[error(
        "token \"{label}\" answers, but none of its {before} private keys is found any more. \
         Check the token; if the keys were deleted on purpose, start the program again"
    )]
    KeysGone {
        /// The token's label.
        label: String,
        /// How many there were.
        before: usize,
    },
    /// Another call failed.
    #[error("token \"{label}\": {function} returned {code}")]
    Call {
        /// The token's label.
        label: String,
        /// The `C_` function.
        function: &'static str,
        /// The `CKR_` name.
        code: String,
    },
    /// All workers wait for calls that do not return.
    #[error(
        "token \"{label}\": all {workers} sessions have been hanging in calls to the module for {for_at_least:?}. \
         Check the token and its network; if it lasts, start the program again"
    )]
    Hanging {
        /// The token's label.
        label: String,
        /// How many workers.
        workers: usize,
        /// For how long at least.
        for_at_least: Duration,
    },
    /// An attempt to connect does not end.
    #[error(
        "token \"{label}\": connecting has been hanging in a call to the module for {for_at_least:?}. Check the token \
         and its network; if it lasts, start the program again"
    )]
    Connecting {
        /// The token's label.
        label: String,
        /// For how long at least.
        for_at_least: Duration,
    },
    /// A worker thread ended unasked.
    #[error(
        "token \"{label}\": a worker thread ended by itself; this is a defect of the program or the module"
    )]
    WorkerEnded {
        /// The token's label.
        label: String,
    },
    /// The first connection has not been made yet.
    #[error(
        "token \"{label}\" has not answered within {waited:?}: a call to module {module} has not returned yet"
    )]
    NotReady {
        /// The token's label.
        label: String,
        /// The module.
        module: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The same token twice.
    #[error("token \"{label}\" of module {module} is configured twice. Leave one of them out")]
    DuplicateToken {
        /// The module.
        module: PathBuf,
        /// The label.
        label: String,
    },
    /// A limit that lets nothing through.
    #[error("token \"{label}\": `{name}` is {value}, but must be at least {minimum}")]
    Setting {
        /// The token's label.
        label: String,
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// The smallest that makes sense.
        minimum: &'static str,
    },
    /// The system gave no thread.
    #[error("no thread for token \"{label}\": {reason}. Check the limit of tasks for this service")]
    Thread {
        /// The token's label.
        label: String,
        /// What the system said.
        reason: String,
    },
    /// What a server of keys says of a token, or what is wrong with the server.
    #[error("{reason}")]
    Server {
        /// What is wrong, and where.
        reason: String,
        /// Whether it may pass by itself.
        transient: bool,
    },
    /// The pool belongs to another process.
    #[error(
        "the pool was started by process {started_by} and does not work in its child {here}: start it there"
    )]
    Forked {
        /// The process that started it.
        started_by: u32,
        /// This one.
        here: u32,
    },
    /// The pool has been closed.
    #[error("the pool is closed")]
    Closed,
    /// A key of that label or id is there already.
    #[error("token \"{label}\" has a key with {attribute} {value} already. Choose another, or use that key")]
    KeyExists {
        /// The token's label.
        label: String,
        /// `CKA_LABEL` or `CKA_ID`.
        attribute: &'static str,
        /// Its value.
        value: String,
    },
    /// A key for which the token has no room.
    #[error(
        "token \"{label}\": {function} returned CKR_DEVICE_MEMORY: it is full, or what uses it has taken all its memory for \
         now. Try again, and else take another token"
    )]
    Full {
        /// The token's label.
        label: String,
        /// The `C_` function.
        function: &'static str,
    },
    /// A kind of key that the token does not make.
    #[error(
        "token \"{label}\" makes no {kind} keys: C_GenerateKeyPair returned {code}. Choose another kind; if it has such \
         keys already, it may be full"
    )]
    KeyKind {
        /// The token's label.
        label: String,
        /// The kind, like "X25519".
        kind: String,
        /// The `CKR_` name.
        code: String,
    },
    /// A key size that is not made here.
    #[error("RSA keys of {bits} bits are not made: choose 2048, 3072 or 4096")]
    KeySize {
        /// The size asked for.
        bits: u32,
    },
}

impl PoolError {
    /// Whose fault it is. What may pass by itself is transient, the rest needs the operator.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Call { .. }
            | Self::Hanging { .. }
            | Self::Connecting { .. }
            | Self::NotReady { .. }
            | Self::Server { transient: true, .. }
            | Self::TooManySessions { .. } => Fault::Transient,
            Self::WorkerEnded { .. } | Self::Forked { .. } | Self::Closed => Fault::Internal,
            _ => Fault::Operator,
        }
    }

    /// Whether only another PIN helps, so that nothing may be tried with this one.
    pub(crate) fn awaits_another_pin(&self) -> bool {
        matches!(
            self,
            Self::WrongPin { .. }
                | Self::LoginRefused { .. }
                | Self::PinLocked { .. }
                | Self::PinExpired { .. }
        )
    }

    pub(crate) fn call(label: &str, error: CallError) -> Self {
        Self::Call { label: label.to_owned(), function: error.function, code: error.code.to_string() }
    }
}

fn seen(labels: &[String]) -> String {
    if labels.is_empty() {
        return "it has no initialised token at all. Check the module's configuration and this user's rights"
            .into();
    }
    let quoted: Vec<String> = labels.iter().map(|label| format!("\"{label}\"")).collect();
    format!("it has {}. Check `label`", quoted.join(", "))
}
