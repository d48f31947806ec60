//! Reading the configuration again: by SIGHUP, or by a command over the control socket, which hears what came of it.
//!
//! The control socket takes one line, `reload`, and answers with `reloaded` or `refused` and lines for people. Its file
//! lets in only the milter's own user and root.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, error, info};

use crate::listener::{Listener, Stream};

/// What came of reading the configuration again: what an administrator should know of the new one, or why the old one
/// stays.
pub type Reloaded = Result<Vec<String>, String>;

/// A thread that reads the configuration again when it is asked to, once at a time.
#[derive(Clone, Debug)]
pub struct Reloader {
    asked: SyncSender<Option<oneshot::Sender<Reloaded>>>,
}

impl Reloader {
    /// Starts the thread. It ends after the last clone of this.
    pub fn start(reload: impl FnMut() -> Reloaded + Send + 'static) -> io::Result<Self> {
        let (asked, asks) = sync_channel(MAX_WAITING);
        thread::Builder::new().name("reload".into()).spawn(move || work(&asks, reload))?;
        Ok(Self { asked })
    }

    /// Asks, and does not wait. Where enough have asked, their turn is soon enough for this one, too.
    pub(crate) fn ask(&self) {
        let _ = self.asked.try_send(None);
    }

    async fn ask_and_wait(&self) -> Reloaded {
        let (done, told) = oneshot::channel();
        if self.asked.try_send(Some(done)).is_err() {
            return Err("too many have asked already".to_owned());
        }
        told.await.unwrap_or_else(|_| Err("reading the configuration panicked".to_owned()))
    }
}

fn work(asks: &Receiver<Option<oneshot::Sender<Reloaded>>>, mut reload: impl FnMut() -> Reloaded) {
    for ask in asks {
        let reloaded = reload();
        match &reloaded {
            Ok(_) => info!("configuration read again"),
            Err(reason) => error!(reason, fault = "operator", "the configuration stays as it was"),
        }
        if let Some(ask) = ask {
            // Nobody is left who wants to know.
            let _ = ask.send(reloaded);
        }
    }
}

/// Serves the control socket, for ever: one client after the other, each with little time to say what it wants.
pub(crate) async fn serve(control: Option<Listener>, reloader: &Reloader) {
    let Some(mut control) = control else { return std::future::pending().await };
    loop {
        let mut stream = control.accept().await;
        if let Err(error) = answer(&mut stream, reloader).await {
            debug!(%error, "a client of the control socket went away");
        }
    }
}

async fn answer(stream: &mut Stream, reloader: &Reloader) -> io::Result<()> {
    let mut asked = [0; ASK.len()];
    timeout(CLIENT_LIMIT, stream.read_exact(&mut asked)).await??;
    let answer = if asked == *ASK {
        match reloader.ask_and_wait().await {
            Ok(notes) => [vec![RELOADED.to_owned()], notes].concat().join("\n"),
            Err(reason) => format!("{REFUSED}\n{reason}"),
        }
    } else {
        format!("{REFUSED}\nnothing but \"reload\" can be asked for here")
    };
    timeout(CLIENT_LIMIT, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    })
    .await?
}

/// Has the milter behind a control socket read its configuration again, and waits for what comes of it.
pub fn ask(control: &Path) -> io::Result<Reloaded> {
    let mut stream = StdUnixStream::connect(control)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(ASK)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    let (word, rest) = answer.split_once('\n').unwrap_or((&answer, ""));
    match word {
        RELOADED => Ok(Ok(rest.lines().map(str::to_owned).collect())),
        REFUSED => Ok(Err(rest.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the milter gave no answer")),
    }
}

const ASK: &[u8; 7] = b"reload\n";
const RELOADED: &str = "reloaded";
const REFUSED: &str = "refused";
/// How many may wait for their turn.
const MAX_WAITING: usize = 4;
/// How long a client of the control socket may take.
const CLIENT_LIMIT: Duration = Duration::from_secs(5);
/// How long the command waits: tokens may be slow, and others may have asked before.
const ANSWER_LIMIT: Duration = Duration::from_mins(2);
const MAX_ANSWER: u64 = 1 << 20;
