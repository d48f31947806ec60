//! The milter: brings mail from the MTA to a [`Treat`]ment, and the edits back.
//!
//! [`run`] serves a [`Listener`] within [`Limits`] until it is told to stop. What is done with a message is
//! decided below, in `agent`; in here is only the protocol, and that no mail is lost over it.

mod asked;
mod at_once;
mod body;
mod bridge;
mod budget;
mod callbacks;
mod client;
mod connection;
mod edits;
mod gate;
mod gateway;
mod limits;
mod listener;
mod meter;
mod reload;
mod replace;
mod reply;
mod reports;
mod server;
mod session;
mod signals;
mod spool;
mod throttle;
mod together;
mod treat;
mod watched;
mod xtext;

pub use gateway::Gateway;
pub use limits::Limits;
pub use listener::{ListenError, Listener};
pub use meter::{Meter, gauge, gauges};
pub use reload::{Reloaded, Reloader, ask as ask_to_reload};
pub use replace::Replaceable;
pub use server::run;
pub use signals::{Signals, run_until_signalled};
pub use spool::{Prepared, Spool, SpoolError, offers_reports, put_aside, why_not_to};
pub use treat::{Failure, Treat};
pub use watched::{Watched, answer_requests};
