//! Signals: the first SIGTERM or SIGINT asks for a graceful stop, the second ends at once; SIGHUP has the configuration
//! read again.

use std::future::pending;
use std::io;

use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::limits::Limits;
use crate::listener::Listener;
use crate::reload::{Reloader, serve};
use crate::server::run;
use crate::treat::Treat;

/// Serves the MTA until signals end it: [`run`] for a process of its own. SIGHUP and whoever reaches `control` have the
/// configuration read again.
pub async fn run_until_signalled(
    mut signals: Signals,
    listener: Listener,
    limits: Limits,
    treat: impl Treat,
    reloader: Reloader,
    control: Option<Listener>,
) {
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // An error means that nobody is left who could ask.
        let _ = stopped.await;
    };
    let signalled = async {
        info!(signal = signals.next(&reloader).await, "asked to stop");
        if stop.send(()).is_err() {
            pending::<()>().await;
        }
        warn!(signal = signals.next(&reloader).await, "asked again: messages under way are cut short");
    };
    select! {
        () = run(listener, limits, treat, shutdown) => {}
        () = signalled => {}
        () = serve(control, &reloader) => {}
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

    /// The next signal that asks to stop; others are done on the way.
    async fn next(&mut self, reloader: &Reloader) -> &'static str {
        loop {
            select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    info!("SIGHUP: the configuration is read again");
                    reloader.ask();
                }
            }
        }
    }
}
