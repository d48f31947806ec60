//! The pool against real modules: SoftHSM, and OpenSC's spy in front of it.

#[cfg(test)]
mod operations;
#[cfg(test)]
#[allow(dead_code, reason = "the tests that need the rest are being written")]
mod support;
