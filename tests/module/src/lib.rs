//! A PKCS#11 module that misbehaves on demand, and the types that tests steer it with.
//!
//! The shared library forwards every call to a real module and counts it. Rules in a control file make
//! calls slow, make them fail, hang or crash; see [`Rule`]. Variables tell it where things are:
//! [`MODULE`], [`PARAMETERS`], [`CONTROL`] and [`COUNTERS`]. A module is one per process and reads them once, so a test sets
//! them for a child process and steers that from inside or outside by [`Control`].
//!
//! ```text
//! test ── Control ──▶ control file ──▶ ┌──────────────┐
//!                                      │ libtestmodule │ ──▶ libsofthsm2
//! test ◀── Counters ◀── counter file ◀─└──────────────┘
//! ```

mod control;
mod counters;
mod function;
mod library;
mod return_value;
mod rule;
mod shim;

pub use control::Control;
pub use counters::Counters;
pub use function::Function;
pub use library::library;
pub use return_value::ReturnValue;
pub use rule::{Action, Rule, RuleId, When};

/// Names the module that calls are forwarded to; SoftHSM's usual place if it is not set.
pub const MODULE: &str = "HSMIME_TEST_MODULE";
/// Names a file whose content the real module gets in `C_Initialize` as `pReserved`, as NSS's softokn wants it.
pub const PARAMETERS: &str = "HSMIME_TEST_MODULE_PARAMETERS";
/// Names the file with the rules. Without it there are none.
pub const CONTROL: &str = "HSMIME_TEST_CONTROL";
/// Names the file that calls are counted in. Without it nobody can read the counts.
pub const COUNTERS: &str = "HSMIME_TEST_COUNTERS";
