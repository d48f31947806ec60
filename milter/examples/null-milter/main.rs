//! A milter that sees every message and accepts it: what one costs that does nothing. `benches` measures beside it.
//!
//! With `replace OCTETS` each message gets a ready-made body that is so much longer than its own: what that costs the MTA.
//! With `least …` the token is asked for each, too (`least.rs`): the least that signing or opening takes.

#![expect(clippy::print_stderr, reason = "it has no log")]

mod least;
mod token;

use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fs, io};

use anyhow::{Result, bail};
use indymilter::{
    Actions, Callbacks, Config, ContextActions as _, Listener, NegotiateContext, ProtoOpts, Status,
};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::least::{Body, Least};

/// What is done with each message.
#[derive(Clone)]
enum Deed {
    /// Nothing.
    Accept,
    /// It gets a body that is so much longer.
    Replace(usize),
    /// The same, once the token was asked.
    Least(Arc<Least>),
}

fn main() -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = deed(&arguments, cores).and_then(|(address, deed)| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // As many threads as hsmime-milter has for its connections,
            .worker_threads((cores / 2).clamp(1, 4))
            // and as many for the token as it has sessions.
            .max_blocking_threads(cores)
            .enable_all()
            .build()?;
        Ok(runtime.block_on(serve(address, deed))?)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("null-milter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn deed<'a>(arguments: &[&'a str], sessions: usize) -> Result<(&'a str, Deed)> {
    Ok(match *arguments {
        [address] => (address, Deed::Accept),
        [address, "replace", octets] => (address, Deed::Replace(octets.parse()?)),
        [address, "least", ref how @ ..] => (address, Deed::Least(Arc::new(Least::new(how, sessions)?))),
        _ => bail!(
            "usage: null-milter inet:HOST:PORT|unix:PATH [replace OCTETS | least ecdsa|rsa|open OCTETS MODULE PIN-FILE KEY \
             [ENCRYPTED-KEY]]"
        ),
    })
}

async fn serve(address: &str, deed: Deed) -> io::Result<()> {
    let (config, never) = (Config::default(), std::future::pending::<()>());
    let callbacks = callbacks(deed);
    match address.split_once(':') {
        Some(("unix", path)) => {
            let listener = UnixListener::bind(path)?;
            // For whatever user the MTA runs as.
            fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
            indymilter::run(listener, callbacks, config, never).await
        }
        Some(("inet", address)) => {
            let listener = TcpListener::bind(address).await?;
            indymilter::run(Prompt(listener), callbacks, config, never).await
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// A listener whose connections keep no answer back.
struct Prompt(TcpListener);

impl Listener for Prompt {
    type Io = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        self.0.poll_accept(cx).map(|accepted| {
            let (stream, _) = accepted?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

/// The stages that a milter needs who sees whole messages, and the same answers that `hsmime-milter` gives.
fn callbacks(deed: Deed) -> Callbacks<Body> {
    let ready: Arc<str> = LINE.repeat(MOST_OCTETS / LINE.len()).into();
    let begun = deed.clone();
    Callbacks::new()
        .on_negotiate(|cx: &mut NegotiateContext<Body>, _, offered| {
            cx.requested_actions = Actions::REPLACE_BODY;
            let wanted = ProtoOpts::NO_CONNECT
                | ProtoOpts::NO_HELO
                | ProtoOpts::NO_DATA
                | ProtoOpts::NO_UNKNOWN
                | ProtoOpts::NOREPLY_MAIL
                | ProtoOpts::NOREPLY_HEADER
                | ProtoOpts::NOREPLY_EOH
                | ProtoOpts::LEADING_SPACE;
            cx.requested_opts = wanted & offered;
            Box::pin(async { Status::Continue })
        })
        .on_mail(move |cx, _| {
            cx.data = Some(match &begun {
                Deed::Least(least) => least.begin(),
                Deed::Accept | Deed::Replace(_) => Body::Octets(0),
            });
            Box::pin(async { Status::Noreply })
        })
        .on_rcpt(|_, _| Box::pin(async { Status::Continue }))
        .on_header(|_, _, _| Box::pin(async { Status::Noreply }))
        .on_eoh(|_| Box::pin(async { Status::Noreply }))
        .on_body(|cx, chunk| {
            if let Some(body) = &mut cx.data {
                body.push(&chunk);
            }
            Box::pin(async { Status::Continue })
        })
        .on_eom(move |cx| {
            let (deed, ready) = (deed.clone(), Arc::clone(&ready));
            Box::pin(async move {
                let octets = match (deed, cx.data.take()) {
                    (Deed::Accept, _) => return Status::Accept,
                    (Deed::Replace(longer), Some(Body::Octets(octets))) => octets + longer,
                    (Deed::Least(least), Some(body)) => match least.end(body).await {
                        Ok(octets) => octets,
                        Err(error) => {
                            eprintln!("null-milter: {error:#}");
                            return Status::Tempfail;
                        }
                    },
                    _ => return Status::Tempfail,
                };
                let body = ready.as_bytes().get(..octets).unwrap_or_default();
                match cx.actions.replace_body(body).await {
                    Ok(()) => Status::Accept,
                    Err(_) => Status::Tempfail,
                }
            })
        })
}

/// What ready-made bodies consist of.
const LINE: &str = "The quick brown fox jumps over the lazy dog, and over the next one.\r\n";
/// The longest of them.
const MOST_OCTETS: usize = 1 << 21;
