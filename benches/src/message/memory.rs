//! How much memory a large message takes.

use serde::{Deserialize, Serialize};
use smime::testing::large;
use testkit::memory;

/// What one operation takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// The operation.
    pub what: String,
    /// The octets that went in.
    pub input: usize,
    /// The most that was allocated at once beside them.
    pub peak: usize,
}

impl Cost {
    /// The memory in parts of the message.
    #[expect(clippy::cast_precision_loss, reason = "no message has 2^52 octets")]
    pub fn ratio(&self) -> f64 {
        self.peak as f64 / self.input.max(1) as f64
    }
}

/// Measures all operations on messages of about `len` octets. The program's allocator must be
/// [`testkit::memory::Counting`].
pub fn measure(len: usize) -> Vec<Cost> {
    let mut costs = Vec::new();
    large::each(len, &mut |what, input, run| {
        let before = memory::mark();
        run();
        costs.push(Cost { what: what.to_owned(), input, peak: memory::peak().saturating_sub(before) });
    });
    costs
}
