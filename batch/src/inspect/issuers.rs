//! Names of issuers as text: an archive has the same few in nearly every signature.

use std::{cell::RefCell, collections::VecDeque};

use x509_cert::{der::Encode as _, name::Name};

use super::shown;

thread_local! {
    /// Those that this thread met last, and how they are shown.
    static SHOWN: RefCell<VecDeque<(Name, String)>> = const { RefCell::new(VecDeque::new()) };
}

/// How many are remembered,
const REMEMBERED: usize = 16;
/// none of which has more octets: what is shown of a long one may be short.
const LONGEST: u32 = 1024;

/// The name, as [`shown`] has it.
pub(super) fn shown_issuer(name: &Name) -> String {
    SHOWN.with_borrow_mut(|known| {
        if let Some((_, text)) = known.iter().find(|(known, _)| known == name) {
            return text.clone();
        }
        let text = shown(name);
        if name.encoded_len().is_ok_and(|length| u32::from(length) <= LONGEST) {
            known.truncate(REMEMBERED - 1);
            known.push_front((name.clone(), text.clone()));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn a_name_is_remembered_by_how_long_it_is_and_not_by_what_is_shown_of_it() {
        let long = Name::from_str(&format!("CN={}", "\u{85}".repeat(1 << 20))).unwrap();
        assert_eq!(shown_issuer(&long), "CN=");
        SHOWN.with_borrow(|known| assert!(known.is_empty()));
        let short = Name::from_str("CN=Example CA").unwrap();
        assert_eq!(shown_issuer(&short), "CN=Example CA");
        SHOWN.with_borrow(|known| assert_eq!(known.len(), 1));
    }
}
