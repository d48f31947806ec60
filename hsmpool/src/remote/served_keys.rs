//! The keys that a client has defined, and how much room they have.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    gate::Gate,
    server::ServeError,
    wire::{KeyDefinition, MAX_KEYS},
};
use crate::public_key::{KeyName, key_identifier, key_sha256, modulus_sha256};

/// The keys that a client has defined, by number.
pub(super) struct ServedKeys {
    keys: Vec<ServedKey>,
    /// The number of the next one, in a circle.
    next: usize,
    /// The octets that they take, and those of all connections of its user.
    own: usize,
    all: Option<Arc<AtomicUsize>>,
}

/// A key that a client has defined.
pub(super) struct ServedKey {
    /// `None`: its client might not use it.
    pub(super) name: Option<Arc<KeyName>>,
    pub(super) description: Box<str>,
    pub(super) sha256: [u8; 32],
    pub(super) modulus: Option<[u8; 32]>,
}

impl ServedKeys {
    pub(super) fn new(all: Option<Arc<AtomicUsize>>) -> Self {
        Self { keys: Vec::new(), next: 0, own: 0, all }
    }

    pub(super) fn push(&mut self, key: ServedKey) -> Result<(), ServeError> {
        let more = key.octets();
        let less = self.keys.get(self.next).map_or(0, ServedKey::octets);
        self.own = self.own + more - less;
        if let Some(all) = &self.all {
            all.fetch_sub(less, Ordering::Relaxed);
            if all.fetch_add(more, Ordering::Relaxed) + more > MOST_DEFINED {
                let told = format!("its user has defined keys of more than {MOST_DEFINED} octets");
                return Err(ServeError::Protocol(told));
            }
        }
        match self.keys.get_mut(self.next) {
            Some(oldest) => *oldest = key,
            None => self.keys.push(key),
        }
        self.next = (self.next + 1) % usize::try_from(MAX_KEYS).unwrap_or(usize::MAX);
        Ok(())
    }

    pub(super) fn get(&self, number: u32) -> Option<&ServedKey> {
        self.keys.get(usize::try_from(number).ok()?)
    }
}

impl Drop for ServedKeys {
    fn drop(&mut self) {
        if let Some(all) = &self.all {
            all.fetch_sub(self.own, Ordering::Relaxed);
        }
    }
}

impl ServedKey {
    /// A key that shows no public part is found by `CKA_ID` alone: a client that is asked for permission must not
    /// say that one key has another's.
    pub(super) fn new(definition: &KeyDefinition<'_>, gate: &dyn Gate) -> Self {
        let info = definition.public_key_info;
        let description: Box<str> = shortened(definition.description).into();
        let sha256 = key_sha256(info);
        let name = || {
            let ids = if gate.believes_ids() {
                definition.ids.to_vec()
            } else {
                key_identifier(info).into_iter().collect()
            };
            Arc::new(KeyName::of_parts(info, ids, description.to_string()))
        };
        let name = gate.shows(&sha256).then(name);
        let modulus = name.as_ref().and_then(|_| modulus_sha256(info));
        Self { name, description, sha256, modulus }
    }

    /// What it takes, about: a public key is there in two forms.
    fn octets(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |name| 2 * name.info.len() + name.description.len());
        name + self.description.len() + 160
    }
}

/// What is kept of what a client calls a key.
pub(super) fn shortened(description: &str) -> &str {
    description.get(..description.floor_char_boundary(LONGEST_DESCRIPTION)).unwrap_or_default()
}

/// How many octets of keys a user may have defined: three connections have room for as many keys as can be.
pub(super) const MOST_DEFINED: usize = 64 * 1024 * 1024;
/// Of what a key is called, so many octets are kept: more than a line of the audit has.
const LONGEST_DESCRIPTION: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use smime::key::KeyError;

    use crate::{
        public_key::rsa_info,
        remote::{
            gate::{Closing, KeyUse, Open, Told},
            wire::Ids,
        },
    };

    #[test]
    fn only_a_parent_is_believed_what_identifies_a_key() {
        let info = rsa_info(&[0xc5; 256], &[1, 0, 1]).unwrap();
        let ids = vec![b"another's".to_vec()];
        let definition = KeyDefinition { public_key_info: &info, ids: Ids::of(&ids), description: "it" };
        let ids_for = |gate: &dyn Gate| ServedKey::new(&definition, gate).name.unwrap().ids.clone();
        assert_eq!(ids_for(&Open), ids);
        assert_eq!(ids_for(&Showing(true)), [key_identifier(&info).unwrap()]);
        assert!(ServedKey::new(&definition, &Showing(false)).name.is_none());
    }

    /// Shows all keys, or none.
    struct Showing(bool);

    impl Gate for Showing {
        fn begin(&self, _usage: &KeyUse<'_>) -> Result<Closing, KeyError> {
            Ok(Box::new(|_| Ok(Told::AsItIs)))
        }

        fn shows(&self, _key: &[u8; 32]) -> bool {
            self.0
        }
    }

    #[test]
    fn a_user_has_so_many_octets_of_keys_over_all_connections_and_gets_them_back() {
        let all = Arc::new(AtomicUsize::new(0));
        let fill = |keys: &mut ServedKeys| {
            let definition =
                KeyDefinition { public_key_info: &[0x30; 4096], ids: Ids::of(&[]), description: "it" };
            (0..2 * MAX_KEYS)
                .take_while(|_| keys.push(ServedKey::new(&definition, &Showing(true))).is_ok())
                .count()
        };
        let (mut first, mut second) =
            (ServedKeys::new(Some(Arc::clone(&all))), ServedKeys::new(Some(Arc::clone(&all))));
        let had = fill(&mut first);
        assert!((7000..9000).contains(&had), "{had}");
        assert_eq!(fill(&mut second), 0);
        drop((first, second));
        assert_eq!(all.load(Ordering::Relaxed), 0);
        // What comes after all that there may be takes the place of the oldest.
        let mut keys = ServedKeys::new(Some(Arc::clone(&all)));
        for _ in 0..2 * MAX_KEYS {
            let definition =
                KeyDefinition { public_key_info: b"short", ids: Ids::of(&[]), description: "it" };
            keys.push(ServedKey::new(&definition, &Showing(true))).unwrap();
        }
        assert_eq!(keys.keys.iter().map(ServedKey::octets).sum::<usize>(), all.load(Ordering::Relaxed));
    }
}
