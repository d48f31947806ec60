//! A milter that sees every message and accepts it: what one costs that does nothing. `benches` measures beside it.
//!
//! With `replace OCTETS` each message gets a ready-made body that is so much longer than its own: what that costs the MTA.

#![expect(clippy::print_stderr, reason = "it has no log")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fs, io};

use indymilter::{
    Actions, Callbacks, Config, ContextActions as _, Listener, NegotiateContext, ProtoOpts, Status,
};
use tokio::net::{TcpListener, TcpStream, UnixListener};

fn main() -> ExitCode {
    // As many threads as hsmime-milter has for its connections.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).clamp(1, 4))
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => {
            eprintln!("null-milter: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (address, longer) = match *arguments {
        [address] => (address, None),
        [address, "replace", octets] if octets.parse::<usize>().is_ok() => (address, octets.parse().ok()),
        _ => {
            eprintln!("usage: null-milter inet:HOST:PORT|unix:PATH [replace OCTETS]");
            return ExitCode::from(2);
        }
    };
    match serve(address, longer).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{address}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(address: &str, longer: Option<usize>) -> io::Result<()> {
    let (config, never) = (Config::default(), std::future::pending::<()>());
    let callbacks = callbacks(longer);
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
fn callbacks(longer: Option<usize>) -> Callbacks<usize> {
    let ready = Arc::new(longer.map(|longer| (longer, LINE.repeat((MOST_OCTETS + longer) / LINE.len() + 1))));
    Callbacks::new()
        .on_negotiate(|cx: &mut NegotiateContext<usize>, _, offered| {
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
        .on_mail(|cx, _| {
            cx.data = Some(0);
            Box::pin(async { Status::Noreply })
        })
        .on_rcpt(|_, _| Box::pin(async { Status::Continue }))
        .on_header(|_, _, _| Box::pin(async { Status::Noreply }))
        .on_eoh(|_| Box::pin(async { Status::Noreply }))
        .on_body(|cx, chunk| {
            cx.data = cx.data.map(|octets| octets + chunk.len());
            Box::pin(async { Status::Continue })
        })
        .on_eom(move |cx| {
            let ready = Arc::clone(&ready);
            Box::pin(async move {
                let Some((longer, text)) = &*ready else { return Status::Accept };
                let octets = cx.data.unwrap_or_default().min(MOST_OCTETS) + longer;
                let body = text.as_bytes().get(..octets).unwrap_or_default();
                match cx.actions.replace_body(body).await {
                    Ok(()) => Status::Accept,
                    Err(_) => Status::Tempfail,
                }
            })
        })
}

/// What ready-made bodies consist of.
const LINE: &str = "The quick brown fox jumps over the lazy dog, and over the next one.\r\n";
/// The longest body that is replaced by a longer one.
const MOST_OCTETS: usize = 1 << 20;
