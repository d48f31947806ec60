//! Modules and tokens: loaded, found, logged in, sessions open.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use agent::{Settings, settings::start_pool};
use hsmpool::{Lane, Pool, TokenSettings, TokenState, modules::tokens};

use super::{Findings, Health};
use crate::{table::count, token::modules};

/// How long a module or a token may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A token that works, with a pool of its own.
#[derive(Debug)]
pub(super) struct Up {
    /// Where its keys are, in words.
    pub(super) place: String,
    pub(super) pool: Pool,
}

/// Examines modules and tokens, and gives those tokens that work.
pub(super) fn examine(settings: &Settings, findings: &mut Findings) -> Vec<Up> {
    if let Some(socket) = settings.pool_socket() {
        // The modules are not this program's to load, nor the PINs to read.
        return ask_keyd(settings, socket, findings).into_iter().collect();
    }
    let loaded: Vec<PathBuf> =
        modules(settings.tokens()).into_iter().filter(|module| loads(module, findings)).collect();
    let usable = settings.tokens().iter().filter(|token| loaded.contains(&token.module));
    usable.filter_map(|token| connect(token, findings)).collect()
}

fn ask_keyd(settings: &Settings, socket: &Path, findings: &mut Findings) -> Option<Up> {
    let what = format!("hsmime-keyd at {}", socket.display());
    let pool = match start_pool(settings, Lane::Interactive) {
        Ok(pool) => pool,
        Err(error) => {
            findings.add(Health::Fail, what, error.to_string());
            return None;
        }
    };
    match pool.ready(PATIENCE) {
        Ok(()) => findings.add(Health::Ok, what.clone(), "it answers"),
        Err(error) => {
            let advice = advice(socket, settings).map_or_else(String::new, |advice| format!("; {advice}"));
            findings.add(Health::Fail, what.clone(), format!("{error}{advice}"));
        }
    }
    let mut up = false;
    // Of one that does not answer all is said.
    for status in pool.status().into_iter().filter(|status| status.label != what) {
        let token = format!("token {:?}", status.label);
        match status.state {
            TokenState::Up => {
                up = true;
                let found = format!("logged in, {}", count(status.sessions, "session", "sessions"));
                findings.add(Health::Ok, token, found);
            }
            TokenState::Down { reason } => findings.add(Health::Fail, token, reason),
            _ => findings.add(Health::Fail, token, "it does not get started"),
        }
    }
    up.then_some(Up { place: "through hsmime-keyd".to_owned(), pool })
}

/// What to do where nobody serves keys at a socket.
fn advice(socket: &Path, settings: &Settings) -> Option<String> {
    let error = UnixStream::connect(socket).err()?;
    Some(match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let group = settings.keyd().and_then(|keyd| keyd.socket_group.as_ref());
            let group = group.map_or_else(
                || "write a `socket-group` into [keyd] that this user is in".to_owned(),
                |group| format!("is this user in the group {group:?} of `socket-group` in [keyd]?"),
            );
            format!("{group} (id, ls -l {})", socket.display())
        }
        io::ErrorKind::NotFound => format!(
            "does it run, and listen there? systemctl status hsmime-keyd; `socket` in [pool] of both is {}",
            socket.display()
        ),
        _ => "does it run? systemctl status hsmime-keyd".to_owned(),
    })
}

fn loads(module: &Path, findings: &mut Findings) -> bool {
    let what = format!("module {}", module.display());
    let (sender, receiver) = mpsc::channel();
    let path = module.to_owned();
    // A call that hangs in the module cannot be ended; the thread goes with the process.
    thread::spawn(move || {
        let _ = sender.send(tokens(&path));
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(tokens)) => {
            let initialised = tokens.iter().filter(|token| token.initialised).count();
            findings.add(Health::Ok, what, count(initialised, "token", "tokens"));
            true
        }
        Ok(Err(error)) => {
            findings.add(Health::Fail, what, error.to_string());
            false
        }
        Err(_) => {
            let found = format!("no answer within {PATIENCE:?}; check the connection to the HSM");
            findings.add(Health::Fail, what, found);
            false
        }
    }
}

fn connect(token: &TokenSettings, findings: &mut Findings) -> Option<Up> {
    let what = format!("token {:?}", token.label);
    let started =
        Pool::start(std::slice::from_ref(token)).and_then(|pool| pool.ready(PATIENCE).map(|()| pool));
    let pool = match started {
        Ok(pool) => pool,
        Err(error) => {
            findings.add(Health::Fail, what, error.to_string());
            return None;
        }
    };
    for status in pool.status() {
        match status.state {
            TokenState::Up if token.sessions.is_some_and(|wanted| status.sessions < wanted) => {
                let found = format!("logged in, but only {} of {} sessions", status.sessions, status.wanted);
                findings.add(Health::Warn, what.clone(), found);
            }
            TokenState::Up => {
                let found = format!("logged in, {}", count(status.sessions, "session", "sessions"));
                findings.add(Health::Ok, what.clone(), found);
            }
            TokenState::Down { reason } => findings.add(Health::Fail, what.clone(), reason),
            // Whatever else a state may be: `ready` was satisfied and the token is not up.
            _ => findings.add(Health::Fail, what.clone(), "it does not get started"),
        }
    }
    Some(Up { place: format!("on token {:?}", token.label), pool })
}

/// Tells what the examination of the keys has cost the tokens: a slow or failing token shows here first.
pub(super) fn measure(up: &[Up], findings: &mut Findings) {
    for metrics in up.iter().flat_map(|up| up.pool.metrics()) {
        let operations: u64 = metrics.operations.values().sum();
        if operations == 0 && metrics.errors.is_empty() {
            continue;
        }
        let what = format!("token {:?} at work", metrics.label);
        let service = &metrics.interactive.service;
        let done = count(usize::try_from(operations).unwrap_or(usize::MAX), "operation", "operations");
        let times = format!(
            "{done}, the median {:.1?}, 99 of 100 at most {:.1?}",
            service.quantile(0.5),
            service.quantile(0.99)
        );
        let errors: Vec<String> =
            metrics.errors.iter().map(|(error, times)| format!("{error} ({times})")).collect();
        let (health, found) = match errors.as_slice() {
            [] => (Health::Ok, times),
            errors => {
                let (retries, lost) = (metrics.retries, metrics.lost);
                let errors = errors.join(", ");
                (
                    Health::Warn,
                    format!("{times}; failed: {errors}; {retries} tried again, {lost} connections lost"),
                )
            }
        };
        findings.add(health, what, found);
    }
}
