//! The pool against real modules: SoftHSM, and OpenSC's spy in front of it.

#[cfg(test)]
mod administration;
#[cfg(test)]
mod always_authenticate;
#[cfg(test)]
mod finding;
#[cfg(test)]
mod hanging;
#[cfg(test)]
mod login;
#[cfg(test)]
mod mechanisms;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod starting;
#[cfg(test)]
mod support;
#[cfg(test)]
mod table;

/// `tests/served` runs the same tests through a socket.
#[cfg(test)]
const SERVED: bool = false;
