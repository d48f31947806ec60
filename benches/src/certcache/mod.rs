//! Look-ups in the certificate cache, beside bare LMDB and SQLite.

pub mod beside;
pub mod contender;
pub mod material;
pub mod pictures;
pub mod results;
