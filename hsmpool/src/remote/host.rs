//! A module in a process of its own, seen from inside: it serves its parent until that has gone.

use std::{
    fs::File,
    io::{self, Read},
    net::Shutdown,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Signal, getpid, kill_process},
    stdio::{dup2_stdin, dup2_stdout, stderr},
};

use super::{
    child::Configure,
    frame::{self, FrameReader, Shared},
    gate::Open,
    outbox::Outbox,
    outstanding::WINDOW,
    pins::PinNotice,
    receipts::Receipts,
    server::Server,
    wire::FromServer,
};
use crate::{Pool, login::PinRecord, token::Token};

/// The life of a process that [`Pool::in_processes`] starts. Returns when the parent has gone; where a call to the
/// module does not come back, the process ends in here.
pub fn host_module() -> io::Result<()> {
    let (interactive, bulk) = (take(io::stdin())?, take(io::stdout())?);
    // What a module prints must not get among the answers.
    dup2_stdin(File::open("/dev/null")?)?;
    dup2_stdout(stderr())?;
    let other = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let configure: Vec<u8> = read_frame(&interactive)?;
    let Configure { mut tokens, salt, pins } = frame::decode(&configure).map_err(|error| other(&error))?;
    // The parent keeps to the queue that is configured. Here all that it may ask finds room: a reader that waits for
    // some hears of no cancellation, and what is behind it is owed an answer for so long that the parent ends all this.
    for token in &mut tokens {
        token.queue = token.queue.max(usize::try_from(WINDOW).unwrap_or(usize::MAX));
    }

    let stream = Arc::new(interactive);
    let outbox = Outbox::new(Arc::clone(&stream));
    let mut reader = FrameReader::new(Shared(Arc::clone(&stream)));
    // Before the tokens: what happens to their PINs is told over this connection.
    let greeted = Server::greet(&stream, &outbox, &mut reader).map_err(|error| other(&error))?;
    let Some(lane) = greeted else { return Ok(()) };
    let receipts = Arc::new(Receipts::default());
    let pool = Pool::start_with(&tokens, |number, token| {
        let record = pins.get(number).cloned().unwrap_or_default();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let (outbox, receipts) = (Arc::clone(&outbox), Arc::clone(&receipts));
        let witness = move |record: &PinRecord| {
            let receipt = receipts.expect();
            let notice = PinNotice { number: receipt.number(), token: number, record: record.clone() };
            // So short a message always fits.
            let _ = outbox.post(&FromServer::Notice(notice));
            receipt.wait(NOTICE_LIMIT)
        };
        token.gate.remember(salt.clone(), record, Arc::new(witness));
        watch(token);
    });
    let pool = pool.map_err(|error| other(&error))?;
    let server = Arc::new(Server::of_parent(pool.clone(), receipts));
    let (bulk_server, parent) = (Arc::clone(&server), Arc::clone(&stream));
    let serve_bulk = move || {
        // The parent uses this lane when there is bulk work, which may be much later than a stranger may take to
        // introduce himself.
        wait_for_words(&bulk);
        let ended = bulk_server.serve(bulk, Arc::new(Open));
        tracing::debug!(?ended, "the bulk lane has ended");
        // Only a new process has another one for the parent.
        let _ = parent.shutdown(Shutdown::Both);
    };
    thread::Builder::new().name("bulk".into()).spawn(serve_bulk)?;
    let result = server.serve_greeted(lane, &stream, &outbox, &mut reader, Arc::new(Open));
    pool.close();
    result.map_err(|error| other(&error))
}

/// Waits until there is something to read, or the other end has gone.
fn wait_for_words(stream: &UnixStream) {
    // Whatever else is wrong with it shows when it is read.
    while poll(&mut [PollFd::new(stream, PollFlags::IN)], None) == Err(Errno::INTR) {}
}

/// Ends the process when a call to the module does not come back: only that frees what the call holds, and the
/// parent has a new process at once.
fn watch(token: &Arc<Token>) {
    let token: Weak<Token> = Arc::downgrade(token);
    let watch = move || {
        while let Some(token) = token.upgrade() {
            if let Some(what) = token.hangs() {
                tracing::error!(
                    token = token.label(),
                    fault = "operator",
                    "{what}; the module's process ends, to begin anew"
                );
                // Not by way of the module's own exit handlers: they may wait for what hangs.
                let _ = kill_process(getpid(), Signal::KILL);
                process::exit(EXIT_HANGING);
            }
            drop(token);
            thread::sleep(WATCH_INTERVAL);
        }
    };
    if let Err(error) = thread::Builder::new().name("module-watch".into()).spawn(watch) {
        tracing::error!(%error, "no thread to watch the module; only the parent does");
    }
}

/// A standard stream as the socket that it is.
fn take(stream: impl AsFd) -> io::Result<UnixStream> {
    let descriptor: OwnedFd = stream.as_fd().try_clone_to_owned()?;
    Ok(UnixStream::from(descriptor))
}

/// Reads one frame and not an octet more.
fn read_frame(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let len = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    let mut octets = vec![0; len.min(frame::MAX_FRAME)];
    stream.read_exact(&mut octets)?;
    Ok(octets)
}

/// EX_TEMPFAIL of sysexits.h.
const EXIT_HANGING: i32 = 75;
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// How long the parent may take to write down what it hears of a PIN.
const NOTICE_LIMIT: Duration = Duration::from_secs(5);
