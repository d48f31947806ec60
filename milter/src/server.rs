//! The life of the server: accept connections, serve them, drain.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::body::Storage;
use crate::bridge::{Bridge, FOR_INCOMING};
use crate::budget::Budget;
use crate::client::Places;
use crate::connection::{Connection, serve};
use crate::limits::Limits;
use crate::listener::{Listener, Stream};
use crate::session::Room;
use crate::throttle::Throttle;
use crate::treat::Treat;

/// Serves the MTA until `shutdown` completes. Then nothing more is accepted, connections without a message end,
/// messages under way are finished and answered; what is left after the drain limit gets a temporary failure or
/// is cut.
///
/// Treatments that outlived their deadline may still run on blocking threads when this returns.
pub async fn run<T: Treat>(
    mut listener: Listener,
    limits: Limits,
    treat: T,
    shutdown: impl Future<Output = ()>,
) {
    let mut server = Server::new(limits, treat);
    let mut shutdown = pin!(shutdown);
    loop {
        select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = server.connections.join_next() => report(ended),
            stream = listener.accept() => server.admit(stream),
        }
    }
    drop(listener);
    server.drain().await;
}

/// How far the server is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// Messages under way are finished.
    Draining,
    /// Everything ends now.
    Cut,
}

struct Server<T> {
    limits: Arc<Limits>,
    bridge: Arc<Bridge<T>>,
    room: Arc<Room>,
    phase: watch::Sender<Phase>,
    permits: Arc<Semaphore>,
    connections: JoinSet<()>,
    /// How many there were, which numbers them in the log.
    accepted: u64,
    turned_away: Throttle,
}

impl<T: Treat> Server<T> {
    fn new(limits: Limits, treat: T) -> Self {
        let limits = Arc::new(limits);
        Self {
            bridge: Arc::new(Bridge::new(treat, Arc::clone(&limits))),
            room: Arc::new(room(&limits)),
            phase: watch::Sender::new(Phase::Running),
            permits: Arc::new(Semaphore::new(limits.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            connections: JoinSet::new(),
            accepted: 0,
            turned_away: Throttle::default(),
            limits,
        }
    }

    /// Serves the connection, or closes it if there are too many: an MTA that is left waiting holds up its
    /// client until it gives up, one that is turned away says so at once.
    fn admit(&mut self, stream: Stream) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            if let Some(more) = self.turned_away.admit(Instant::now()) {
                error!(max_connections = self.limits.max_connections, more, "too many connections");
            }
            return;
        };
        self.begin(stream, permit);
    }

    fn begin(&mut self, stream: Stream, permit: OwnedSemaphorePermit) {
        self.accepted += 1;
        let connection = Connection::new(
            self.accepted,
            Arc::clone(&self.limits),
            Arc::clone(&self.bridge),
            Arc::clone(&self.room),
            self.phase.subscribe(),
        );
        self.connections.spawn(serve(connection, stream, permit));
    }

    async fn drain(mut self) {
        info!(connections = self.connections.len(), "stopping");
        self.phase.send_replace(Phase::Draining);
        if timeout(self.limits.drain, self.all_ended()).await.is_err() {
            warn!(connections = self.connections.len(), "messages under way are cut short");
            self.phase.send_replace(Phase::Cut);
            // Long enough to say 451; a peer that does not read is not waited for.
            let _ = timeout(LAST_REPLIES, self.all_ended()).await;
        }
        info!("stopped");
    }

    async fn all_ended(&mut self) {
        while let Some(ended) = self.connections.join_next().await {
            report(ended);
        }
    }
}

/// What all messages have together until they are treated.
fn room(limits: &Limits) -> Room {
    let memory = u64::try_from(limits.memory / FOR_INCOMING).unwrap_or(u64::MAX);
    let storage = Storage {
        folder: limits.folder.clone(),
        memory: Budget::new(memory),
        disk: Budget::new(limits.disk),
    };
    let places = Places::new(limits.messages);
    Room { max_message_octets: limits.max_message_octets, storage, places }
}

fn report(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        error!("a connection ended by a panic");
    }
}

/// How long temporary failures may take to reach the MTA at the very end.
const LAST_REPLIES: Duration = Duration::from_secs(1);
