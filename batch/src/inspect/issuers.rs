//! Names of issuers as text: an archive has the same few in nearly every signature.

use std::{cell::RefCell, collections::VecDeque};

use x509_cert::name::Name;

use super::{MAX_NAME, shown};

thread_local! {
    /// Those that this thread met last, and how they are shown.
    static SHOWN: RefCell<VecDeque<(Name, String)>> = const { RefCell::new(VecDeque::new()) };
}

/// How many are remembered, none of them longer than what is shown of it.
const REMEMBERED: usize = 16;

/// The name, as [`shown`] has it.
pub(super) fn shown_issuer(name: &Name) -> String {
    SHOWN.with_borrow_mut(|known| {
        if let Some((_, text)) = known.iter().find(|(known, _)| known == name) {
            return text.clone();
        }
        let text = shown(name);
        if text.len() < MAX_NAME {
            known.truncate(REMEMBERED - 1);
            known.push_front((name.clone(), text.clone()));
        }
        text
    })
}
