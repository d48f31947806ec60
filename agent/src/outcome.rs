//! What shall become of a message: edits that any front end can apply.

/// A header field by name and place among the fields of that name, counted from 1, as milters do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldRef {
    /// The field's name; case does not matter.
    pub name: String,
    /// 1 is the first field of this name from the top.
    pub index: u32,
}

/// Changes to one message. An empty set delivers it untouched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Fields to remove.
    pub remove: Vec<FieldRef>,
    /// Fields (name, value without the space after the colon) to put above all others, topmost first.
    /// Folds in a value are CRLF and white space.
    pub prepend: Vec<(String, String)>,
    /// Fields to put below all others.
    pub append: Vec<(String, String)>,
    /// The new body, with CRLF line ends.
    pub body: Option<Vec<u8>>,
}

impl Edits {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.prepend.is_empty() && self.append.is_empty() && self.body.is_none()
    }
}

/// What was done with a message, and what to do with it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The edits to apply before delivery.
    pub edits: Edits,
    /// What was done, in a word for the log.
    pub action: &'static str,
    /// Why, in words, where the action alone does not say it.
    pub reason: String,
}
