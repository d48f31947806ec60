//! The bodies that the forms of one message have: each is held once, however many forms have it.
//!
//! Forms differ in their header most of the time; a body depends on how far a message was opened, and on whether its signature
//! was taken off.

use std::sync::Arc;

use smime::Room;

/// All of a message's. Together they may take twice what may be made of it: for one that is opened, and one that lost its
/// signature; or once, where no more is counted.
pub(super) struct Bodies {
    all: Vec<Arc<Vec<u8>>>,
    first: Room,
    second: Option<Room>,
}

impl Bodies {
    /// Of a message of so many octets, for which so many are counted with the one that is made: none yet.
    pub(super) fn of(message: usize, counted: usize) -> Self {
        let second = (counted >= MOST_FORMS).then(|| Room::of(message));
        Self { all: Vec::new(), first: Room::of(message), second }
    }

    /// Takes a body in, where none is like it. `None` where there is no room for it.
    pub(super) fn shared(&mut self, body: Vec<u8>) -> Option<Arc<Vec<u8>>> {
        if let Some(known) = self.known(&body) {
            return Some(known);
        }
        let has_room = self.first.take(body.len());
        if has_room.is_err() {
            self.second.as_mut()?.take(body.len()).ok()?;
        }
        Some(self.take_in(body))
    }

    /// Takes in that of a message which stays closed: there is one at most beside the message's own, and it is no longer.
    pub(super) fn closed(&mut self, body: Vec<u8>) -> Arc<Vec<u8>> {
        self.known(&body).unwrap_or_else(|| self.take_in(body))
    }

    fn known(&self, body: &[u8]) -> Option<Arc<Vec<u8>>> {
        self.all.iter().find(|known| known.as_slice() == body).map(Arc::clone)
    }

    fn take_in(&mut self, body: Vec<u8>) -> Arc<Vec<u8>> {
        let body = Arc::new(body);
        self.all.push(Arc::clone(&body));
        body
    }
}

/// So many times what may be made of a message is in memory at most: all bodies, and what the next is made of. The milter
/// counts by it (`Agent::opened_forms`).
pub(crate) const MOST_FORMS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_held_once_and_all_together_have_a_limit() {
        let message = 1 << 20;
        let most = (MOST_FORMS - 1) * smime::room::EXPANSION;
        let mut bodies = Bodies::of(message, MOST_FORMS);
        let body = |of: usize| vec![u8::try_from(of).unwrap(); message];
        let first = bodies.shared(body(0)).unwrap();
        for of in 1..most {
            bodies.shared(body(of)).unwrap();
            assert!(Arc::ptr_eq(&first, &bodies.shared(body(0)).unwrap()));
        }
        assert_eq!(bodies.all.len(), most);
        assert!(bodies.shared(body(most)).is_none());
        assert_eq!(bodies.shared(body(1)).unwrap().len(), message, "it is there");
        let mut fewer = Bodies::of(message, MOST_FORMS - 1);
        assert_eq!((0..most).filter(|of| fewer.shared(body(*of)).is_some()).count(), most / 2);
    }
}
