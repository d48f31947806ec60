//! The life of one connection.
//!
//! indymilter runs once per connection rather than once for all: then the callbacks know whose they are, and each
//! connection can end between two messages, which indymilter's own shutdown does not wait for.

use std::future::{Future, pending, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use indymilter::Config;
use rustix::net::sockopt::set_tcp_quickack;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{Instrument, Span, debug, error_span, warn};

use crate::bridge::Bridge;
use crate::callbacks::callbacks;
use crate::limits::Limits;
use crate::listener::Stream;
use crate::server::Phase;
use crate::session::Room;
use crate::together::{Hold, Together};
use crate::treat::Treat;

/// What the callbacks of one connection share with its end.
#[derive(Debug)]
pub(crate) struct Connection<T> {
    limits: Arc<Limits>,
    bridge: Arc<Bridge<T>>,
    phase: watch::Receiver<Phase>,
    activity: watch::Sender<Activity>,
    room: Arc<Room>,
    hold: Hold,
    span: Span,
}

/// What goes on between the MTA and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// The milter protocol has not begun.
    Silent,
    /// No message is under way.
    Idle,
    /// From `MAIL` until the content, for which the MTA waits for its client.
    InMessage,
    /// The header and the body come, which the MTA has already.
    InContent,
    /// It came, and is treated.
    InTreatment,
}

impl Activity {
    fn is_of_message(self) -> bool {
        matches!(self, Self::InMessage | Self::InContent | Self::InTreatment)
    }
}

impl<T: Treat> Connection<T> {
    pub(crate) fn new(
        number: u64,
        limits: Arc<Limits>,
        bridge: Arc<Bridge<T>>,
        room: Arc<Room>,
        phase: watch::Receiver<Phase>,
    ) -> Arc<Self> {
        let activity = watch::Sender::new(Activity::Silent);
        // At the level of the gravest event, so that no filter parts an event from its span.
        let span = error_span!("connection", number);
        Arc::new(Self { limits, bridge, phase, activity, room, hold: Hold::default(), span })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn bridge(&self) -> &Bridge<T> {
        &self.bridge
    }

    /// What all sessions share.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// What is sent meanwhile may go out together with what follows.
    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn now(&self, activity: Activity) {
        self.activity.send_if_modified(|known| std::mem::replace(known, activity) != activity);
    }

    /// Completes when everything shall end now.
    pub(crate) async fn cut(&self) {
        reached(&mut self.phase.clone(), Phase::Cut).await;
    }

    /// Completes when this connection shall end although the MTA keeps it open.
    async fn told_to_end(&self) {
        let (mut phase, mut activity) = (self.phase.clone(), self.activity.subscribe());
        let drained = async {
            reached(&mut phase, Phase::Draining).await;
            // Postfix keeps the ABORT that follows a RSET to itself until its next command; such a connection
            // looks like one with a slow client and ends with the drain limit.
            // An error means that there is nobody left to be active.
            let _ = activity.wait_for(|activity| !activity.is_of_message()).await;
        };
        let mut activity = self.activity.subscribe();
        let silent = async {
            sleep(self.limits.negotiation).await;
            let _ = activity.wait_for(|activity| *activity == Activity::Silent).await;
        };
        let mut activity = self.activity.subscribe();
        let dribbling = async {
            // Each content begins anew: whatever happens is a change.
            while activity.wait_for(|activity| *activity == Activity::InContent).await.is_ok() {
                if timeout(self.limits.content, activity.changed()).await.is_err() {
                    return;
                }
            }
            pending::<()>().await;
        };
        select! {
            () = self.cut() => {}
            () = drained => {}
            () = dribbling => {
                let seconds = self.limits.content.as_secs();
                warn!(seconds, "the MTA did not send the content of a message in time");
            }
            () = silent => debug!("the peer never spoke the milter protocol"),
        }
    }
}

/// Serves one connection to its end. The permit is held as long as the socket.
pub(crate) async fn serve<T: Treat>(
    connection: Arc<Connection<T>>,
    stream: Stream,
    permit: OwnedSemaphorePermit,
) {
    let (closed, socket_closed) = oneshot::channel();
    let callbacks = callbacks(&connection);
    let span = connection.span.clone();
    let stream = Together::new(stream, connection.hold.clone());
    let end = Box::pin(async move { connection.told_to_end().await }.instrument(span));
    let stream = Held { stream, end, _permit: permit, _closed: closed };
    let config = Config { max_connections: 1, ..Config::default() };
    // Fails only where the listener does, and ours does not.
    let _ = indymilter::run(Once(Some(stream)), callbacks, config, socket_closed).await;
}

/// Completes when the server has come this far, or is gone.
async fn reached(phase: &mut watch::Receiver<Phase>, at_least: Phase) {
    let _ = phase.wait_for(|phase| *phase >= at_least).await;
}

/// A listener with a single connection.
struct Once(Option<Held>);

impl indymilter::Listener for Once {
    type Io = Held;

    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Held>> {
        match self.0.take() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => Poll::Pending, // never again
        }
    }
}

/// Has what comes acknowledged at once. The MTA writes a message in several pieces and keeps the next one back until the
/// one before is acknowledged (RFC 896), and the system would wait 40 ms for an answer of ours to do that with.
fn acknowledge(stream: &Stream) {
    if let Stream::Tcp(stream) = stream {
        // Slow is all it is where this fails. The system forgets it with the next answer, so it is said each time.
        let _ = set_tcp_quickack(stream, true);
    }
}

/// A connection's stream. When the connection is told to end, the next read finds the end of the stream, so a
/// reply to what was read before still goes out.
struct Held {
    stream: Together<Stream>,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    _permit: OwnedSemaphorePermit,
    _closed: oneshot::Sender<()>,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.end = Box::pin(ready(()));
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                acknowledge(self.stream.inner());
                Pin::new(&mut self.stream).poll_read(cx, buffer)
            }
        }
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
