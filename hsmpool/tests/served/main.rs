//! The tests of `tests/it` once more, through a socket: what a pool promises, a served one promises.

#[cfg(test)]
#[path = "../it/administration.rs"]
mod administration;
#[cfg(test)]
#[path = "../it/always_authenticate.rs"]
mod always_authenticate;
#[cfg(test)]
#[path = "../it/finding.rs"]
mod finding;
#[cfg(test)]
#[path = "../it/hanging.rs"]
mod hanging;
#[cfg(test)]
#[path = "../it/login.rs"]
mod login;
#[cfg(test)]
#[path = "../it/operations.rs"]
mod operations;
#[cfg(test)]
#[path = "../it/outages.rs"]
mod outages;
#[cfg(test)]
#[path = "../it/starting.rs"]
mod starting;
#[cfg(test)]
#[path = "../it/support.rs"]
mod support;

/// See `support::start`.
#[cfg(test)]
const SERVED: bool = true;
