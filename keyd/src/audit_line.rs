//! What the audit says of a use of a key.

use serde::Serialize;

/// A line's facts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Use {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: i32,
    pub(crate) client: String,
    pub(crate) lane: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) algorithm: String,
    /// SHA-256 of the `SubjectPublicKeyInfo`.
    pub(crate) key: String,
    /// What the client calls it.
    pub(crate) description: String,
    /// SHA-256 of what the key is applied to.
    pub(crate) input: String,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    pub(crate) elapsed_us: u64,
    /// How many refusals before this one have no line of their own.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) unlisted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// The beginning of a text that others wrote, in characters that show: one line has not room for another hundred.
pub(crate) fn plain(text: &str, longest: usize) -> String {
    text.chars().take(longest).map(|c| if c.is_control() { '?' } else { c }).collect()
}
