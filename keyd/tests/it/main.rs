//! `hsmime-keyd` as it runs: real processes, a real token behind a module that misbehaves on demand.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod support;
