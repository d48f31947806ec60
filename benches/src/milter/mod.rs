//! Milters beside each other: through Postfix, and alone under a client that speaks their protocol.

pub mod cost;
pub mod mta;
mod null;
pub mod plan;
pub mod report;
pub mod results;
pub mod samples;
pub mod site;
pub mod token;
