//! What a process with keys in its memory does first: no core dumps, no tracing, no life without its parent.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};
use tracing::warn;

/// Nobody gets at the memory of this process but root.
pub(crate) fn keep_memory() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        warn!(%error, "core dumps cannot be switched off");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "other processes of this user cannot be kept from reading this one's memory");
    }
}

/// Whatever hangs in a module, this process ends with the thread that started it.
pub(crate) fn end_with_parent() {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        warn!(%error, "if the parent is killed, this process sees it by its standard input only");
    }
}

/// A connection takes a descriptor.
pub(crate) fn make_room_for_descriptors() {
    let before = rustix::process::getrlimit(Resource::Nofile);
    // Where this fails, the old limit stays, and accepting waits.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
}
