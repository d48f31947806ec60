//! Which messages of a Maildir were replaced, as the names of their successors tell it.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use super::key::name_number;
use crate::{
    maildir::{Predecessor, info_number},
    stored::Origin,
};

/// What successors tell of a file by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    /// It was replaced.
    Replaced,
    /// One with its unique name and other flags was, which had it together with others.
    Twin,
}

/// By unique names and what else is in `K`.
#[derive(Debug)]
pub(super) struct Replaced<K> {
    all: HashSet<K>,
    /// Of those that had their unique names with others, and their flags.
    twins: HashMap<K, HashSet<u32>>,
}

impl<K> Default for Replaced<K> {
    fn default() -> Self {
        Self { all: HashSet::new(), twins: HashMap::new() }
    }
}

impl<K: Eq + Hash> Replaced<K> {
    pub(super) fn insert(&mut self, of: Predecessor, key: impl FnOnce(u64) -> K) {
        let key = key(of.number);
        match of.info {
            Some(info) => drop(self.twins.entry(key).or_default().insert(info)),
            None => drop(self.all.insert(key)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.twins.is_empty()
    }

    pub(super) fn tells(&self, origin: &Origin, key: impl FnOnce(u64) -> K) -> Told {
        let key = key(name_number(origin));
        let info = || info_number(origin.file.file_name().unwrap_or_default());
        match self.twins.get(&key) {
            _ if self.all.contains(&key) => Told::Replaced,
            Some(twins) if twins.contains(&info()) => Told::Replaced,
            Some(_) => Told::Twin,
            None => Told::Nothing,
        }
    }
}
