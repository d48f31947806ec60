//! File descriptors: one for each connection, so the process needs many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Raises the soft limit to the hard one, and says so if that is still too low.
pub(crate) fn make_room_for(max_connections: usize) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    // Where this fails, the old limit stays and is what counts below.
    let _ = setrlimit(Resource::Nofile, raised);
    let limit = getrlimit(Resource::Nofile).current;
    let needed = u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    if limit.is_some_and(|limit| limit < needed) {
        warn!(limit, needed, "the limit of open files is too low for max-connections");
    }
}

/// Standard streams, the runtime's own, the token's module and the cache.
const OTHERS: u64 = 64;
