//! Fuzz targets for `smime`, what they start from, and how that is changed.

pub mod memory;
pub mod mutate;
pub mod seeds;
pub mod targets;
