//! Queues with names that have their turns one after the other.

use std::collections::{HashMap, VecDeque};

/// Queues with names, who have their turns one after the other. None is empty.
#[derive(Debug)]
pub(super) struct Turns<Q> {
    pub(super) order: VecDeque<String>,
    pub(super) queues: HashMap<String, Q>,
}

/// What has a queue's turn.
pub(super) trait Queue: Default {
    fn is_empty(&self) -> bool;
}

impl<Q: Queue> Turns<Q> {
    /// The queue of this name.
    pub(super) fn of(&mut self, name: &str) -> &mut Q {
        if !self.queues.contains_key(name) {
            self.order.push_back(name.to_owned());
        }
        self.queues.entry(name.to_owned()).or_default()
    }

    /// The queue that has its turn.
    pub(super) fn first(&self) -> Option<&Q> {
        self.queues.get(self.order.front()?)
    }

    /// Takes from the queue that has its turn, which then is the last.
    pub(super) fn turn<T>(&mut self, take: impl FnOnce(&mut Q) -> Option<T>) -> Option<T> {
        let name = self.order.pop_front()?;
        let queue = self.queues.get_mut(&name)?;
        let taken = take(queue);
        if queue.is_empty() {
            self.queues.remove(&name);
        } else {
            self.order.push_back(name);
        }
        taken
    }

    /// Changes a queue, if there is one of this name.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Q) -> bool) -> bool {
        let Some(queue) = self.queues.get_mut(name) else { return false };
        let changed = change(queue);
        if queue.is_empty() {
            self.queues.remove(name);
            self.order.retain(|known| known != name);
        }
        changed
    }
}

impl<Q> Default for Turns<Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<Q: Queue> Queue for Turns<Q> {
    fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

impl<T> Queue for VecDeque<T> {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}
