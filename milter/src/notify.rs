//! The milter's sign of life for systemd's watchdog.

use daemon::systemd;
use tokio::time::sleep;

/// Tells twice in each of the watchdog's intervals that the runtime still moves, for ever.
pub(crate) async fn keep_alive() {
    let Some(half) = systemd::watchdog() else { return };
    loop {
        systemd::alive();
        sleep(half).await;
    }
}
