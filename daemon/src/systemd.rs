//! What systemd hears (`sd_notify(3)`), where it started the process: that it is ready, stops, and is still alive.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// There is somebody for those who come.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// No more is taken.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// It is still alive.
pub fn alive() {
    tell(NotifyState::Watchdog);
}

/// How long it may be until it says again that it is alive, if systemd wants to know: half of the watchdog's interval.
pub fn watchdog() -> Option<Duration> {
    let mut micros = 0;
    sd_notify::watchdog_enabled(false, &mut micros).then(|| Duration::from_micros(micros / 2))
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        warn!(%error, "systemd cannot be told");
    }
}
