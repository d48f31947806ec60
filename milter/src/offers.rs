//! What the server at `reinject` offers: without DSN nothing keeps what was opened out of bounces, so that its copies wait,
//! unless such bounces go to `opened-mail-sender`.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use agent::settings::{Listen, Milter};
use anyhow::{Context as _, Result};
use milter::offers_reports;
use tracing::warn;

/// Asks the server for copies once, beside all else, and warns where copies of what was opened would wait.
pub(crate) fn look(milter: &Milter) -> Result<()> {
    if milter.opened_mail_sender.is_none() {
        ask(milter)?;
    }
    Ok(())
}

/// Whether copies of what is opened would wait from now on, since `opened-mail-sender` is gone; `None` where the server does not
/// say so soon. Then it is asked beside all else, as at the start.
pub(crate) fn would_wait(started: &Milter) -> Result<Option<bool>> {
    let Some(answer) = ask(started)? else { return Ok(Some(false)) };
    match answer.recv_timeout(PATIENCE) {
        Ok(offers) => Ok(Some(!offers)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(None),
    }
}

/// Has a thread ask until there is an answer, if there is such a server.
fn ask(milter: &Milter) -> Result<Option<Receiver<bool>>> {
    let Some(to) = milter.reinject.clone() else { return Ok(None) };
    let name = milter.authserv_id.clone();
    let (told, answer) = channel();
    let ask = move || {
        if let Some(offers) = offered(&to.server, &name) {
            if !offers {
                warn!("{MISSING}, so copies of mail that was decrypted, or could have been, wait: {MEND}");
            }
            // Nobody may wait for it any more.
            let _ = told.send(offers);
        }
    };
    thread::Builder::new().name("reinject-offers".into()).spawn(ask).context("no thread")?;
    Ok(Some(answer))
}

/// The MTA is started after us.
fn offered(server: &Listen, name: &str) -> Option<bool> {
    PAUSES.iter().find_map(|pause| {
        thread::sleep(Duration::from_secs(*pause));
        offers_reports(server, name).ok()
    })
}

pub(crate) const MISSING: &str = "the server at `reinject` offers no DSN";
pub(crate) const MEND: &str =
    "give it `-o smtpd_discard_ehlo_keywords=` in master.cf, or set `opened-mail-sender` in [milter]";
/// How many seconds to wait before each time the server of copies is asked what it offers.
const PAUSES: [u64; 6] = [0, 5, 30, 60, 300, 1800];
/// How long a reload waits for the answer.
const PATIENCE: Duration = Duration::from_secs(8);
