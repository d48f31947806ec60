//! What systemd hears (`sd_notify(3)`), where it started the process: that it is ready, stops, and is still alive.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::sleep;
use tracing::warn;

/// Mail can come.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
}

/// No more is taken.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells twice in each of the watchdog's intervals that the runtime still moves, for ever.
pub(crate) async fn keep_alive() {
    let mut micros = 0;
    if !sd_notify::watchdog_enabled(false, &mut micros) {
        return;
    }
    loop {
        tell(NotifyState::Watchdog);
        sleep(Duration::from_micros(micros / 2)).await;
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        warn!(%error, "systemd cannot be told");
    }
}
