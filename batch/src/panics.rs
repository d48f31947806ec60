//! Panics say where they happened, never what with: the text of one may hold parts of a message.

use std::{cell::RefCell, panic};

use crate::words;

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on a panic prints its place only.
pub fn say_place_only() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
        if let Some(place) = &place {
            words::say(&format!("hsmime-batch: panic at {place}"));
        }
        PLACE.with(|kept| kept.replace(place));
    }));
}

/// Where this thread panicked last, if it did.
pub(crate) fn take_place() -> Option<String> {
    PLACE.with(RefCell::take)
}
