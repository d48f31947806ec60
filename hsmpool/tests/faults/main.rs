//! The pool against a token that misbehaves: `testmodule` in front of SoftHSM.

#[cfg(test)]
mod full;
#[cfg(test)]
mod hanging;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod latency;
#[cfg(test)]
mod login;
#[cfg(test)]
mod mechanisms;
#[cfg(test)]
mod module;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod searching;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod support;
