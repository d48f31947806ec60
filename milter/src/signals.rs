//! Signals: the first SIGTERM or SIGINT asks for a graceful stop, the second ends at once.

use std::future::pending;
use std::io;

use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::limits::Limits;
use crate::listener::Listener;
use crate::server::run;
use crate::treat::Treat;

/// Serves the MTA until signals end it: [`run`] for a process of its own.
pub async fn run_until_signalled(
    mut signals: Signals,
    listener: Listener,
    limits: Limits,
    treat: impl Treat,
) {
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // An error means that nobody is left who could ask.
        let _ = stopped.await;
    };
    let signalled = async {
        info!(signal = signals.next().await, "asked to stop");
        if stop.send(()).is_err() {
            pending::<()>().await;
        }
        warn!(signal = signals.next().await, "asked again: messages under way are cut short");
    };
    select! {
        () = run(listener, limits, treat, shutdown) => {}
        () = signalled => {}
    }
}

/// The signals that are waited for. From its making on they end the process no more, so it comes before
/// the socket: whoever can reach the milter can also stop it in the right way.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// To be called inside a runtime.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal that asks to stop.
    async fn next(&mut self) -> &'static str {
        loop {
            select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => warn!("SIGHUP: the configuration is read at the start only; restart"),
            }
        }
    }
}
