//! A milter that sees every message and accepts it: what one costs that does nothing. `benches` measures beside it.

#![expect(clippy::print_stderr, reason = "it has no log")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::{fs, io};

use indymilter::{Actions, Callbacks, Config, Listener, NegotiateContext, ProtoOpts, Status};
use tokio::net::{TcpListener, TcpStream, UnixListener};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: null-milter inet:HOST:PORT|unix:PATH");
        return ExitCode::from(2);
    };
    match serve(&address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{address}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(address: &str) -> io::Result<()> {
    let (config, never) = (Config::default(), std::future::pending::<()>());
    match address.split_once(':') {
        Some(("unix", path)) => {
            let listener = UnixListener::bind(path)?;
            // For whatever user the MTA runs as.
            fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
            indymilter::run(listener, callbacks(), config, never).await
        }
        Some(("inet", address)) => {
            let listener = TcpListener::bind(address).await?;
            indymilter::run(Prompt(listener), callbacks(), config, never).await
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
fn callbacks() -> Callbacks<()> {
    Callbacks::new()
        .on_negotiate(|cx: &mut NegotiateContext<()>, _, offered| {
            cx.requested_actions = Actions::empty();
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
        .on_mail(|_, _| Box::pin(async { Status::Noreply }))
        .on_rcpt(|_, _| Box::pin(async { Status::Continue }))
        .on_header(|_, _, _| Box::pin(async { Status::Noreply }))
        .on_eoh(|_| Box::pin(async { Status::Noreply }))
        .on_body(|_, _| Box::pin(async { Status::Continue }))
        .on_eom(|_| Box::pin(async { Status::Accept }))
}
