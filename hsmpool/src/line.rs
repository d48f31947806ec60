//! The line of those who wait for room: who has waited longest gets it. Not when there is room; see `lanes`.

use std::{
    collections::VecDeque,
    thread::{self, Thread},
};

/// Threads that wait, in the order in which they came. Each looks by itself how many stand before it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiting: VecDeque<(Turn, Thread)>,
    next: u64,
}

/// A place in a line; whoever has it must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(u64);

impl Line {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts this thread at the end.
    pub(crate) fn join(&mut self) -> Turn {
        let turn = Turn(self.next);
        self.next += 1;
        self.waiting.push_back((turn, thread::current()));
        turn
    }

    /// How many stand before it.
    pub(crate) fn before(&self, turn: Turn) -> usize {
        self.waiting.iter().position(|(other, _)| *other == turn).unwrap_or(self.waiting.len())
    }

    pub(crate) fn leave(&mut self, turn: Turn) {
        self.waiting.retain(|(other, _)| *other != turn);
    }

    /// Whose turn it is now that there is room for so many, and was for one less.
    pub(crate) fn last_of(&self, room: usize) -> Option<Thread> {
        room.checked_sub(1).and_then(|last| self.waiting.get(last)).map(|(_, thread)| thread.clone())
    }

    /// Wakes all, to look again.
    pub(crate) fn wake_all(&self) {
        self.waiting.iter().for_each(|(_, thread)| thread.unpark());
    }
}
