//! Requests to the MTA that leave in one piece.
//!
//! indymilter flushes after each request, which is a system call here, and wakes the MTA there. While a [`Holding`] lives
//! nothing is flushed; what was kept back goes out with the next flush, or earlier where it is much.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that keeps octets back while it is told so.
#[derive(Debug)]
pub(crate) struct Together<S> {
    stream: S,
    hold: Hold,
    kept: Vec<u8>,
    /// Of what is kept, so much is sent.
    sent: usize,
}

/// Tells the stream. Clones tell the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hold(Arc<AtomicBool>);

impl Hold {
    /// More follows: a flush may wait. Ends when this is dropped.
    pub(crate) fn begin(&self) -> Holding<'_> {
        self.0.store(true, Ordering::Release);
        Holding(self)
    }

    fn lasts(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The time in which flushes may wait.
#[derive(Debug)]
pub(crate) struct Holding<'h>(&'h Hold);

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

impl<S> Together<S> {
    /// The stream below.
    pub(crate) fn inner(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncWrite + Unpin> Together<S> {
    pub(crate) fn new(stream: S, hold: Hold) -> Self {
        Self { stream, hold, kept: Vec::new(), sent: 0 }
    }

    /// Sends what is kept; an idle connection keeps no memory either.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.kept.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        self.kept = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Together<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Together<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        if self.kept.is_empty() && !self.hold.lasts() {
            return Pin::new(&mut self.stream).poll_write(cx, octets);
        }
        if self.kept.len() >= MUCH {
            ready!(self.poll_send(cx))?;
        }
        self.kept.extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hold.lasts() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Room for a usual mail; of a large one no more is kept than this and one request.
const MUCH: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Duration, timeout};

    use super::*;

    fn pair(room: usize) -> (Together<DuplexStream>, Hold, DuplexStream) {
        let ((ours, theirs), hold) = (duplex(room), Hold::default());
        (Together::new(ours, hold.clone()), hold, theirs)
    }

    async fn say(to: &mut Together<DuplexStream>, octets: &[u8]) {
        to.write_all(octets).await.unwrap();
        to.flush().await.unwrap();
    }

    /// What there is, without waiting for more.
    async fn arrived(from: &mut DuplexStream) -> Vec<u8> {
        let mut octets = vec![0; 1 << 20];
        let read = timeout(Duration::from_millis(20), from.read(&mut octets)).await;
        octets.truncate(read.map_or(0, Result::unwrap));
        octets
    }

    #[tokio::test]
    async fn what_is_flushed_meanwhile_goes_with_what_follows() {
        let (mut ours, hold, mut theirs) = pair(1 << 20);
        say(&mut ours, b"at once").await;
        assert_eq!(arrived(&mut theirs).await, b"at once");
        let holding = hold.begin();
        say(&mut ours, b"one ").await;
        say(&mut ours, b"two ").await;
        assert_eq!(arrived(&mut theirs).await, b"");
        drop(holding);
        say(&mut ours, b"three").await;
        assert_eq!(arrived(&mut theirs).await, b"one two three");
        say(&mut ours, b"at once").await;
        assert_eq!(arrived(&mut theirs).await, b"at once");
    }

    #[tokio::test]
    async fn little_is_kept_however_much_comes() {
        let (mut ours, hold, mut theirs) = pair(1000);
        let reader = tokio::spawn(async move {
            let mut octets = Vec::new();
            theirs.read_to_end(&mut octets).await.unwrap();
            octets
        });
        let holding = hold.begin();
        let mut expected = Vec::new();
        for number in 0..40_u8 {
            let chunk = vec![number; 65_535];
            say(&mut ours, &chunk).await;
            expected.extend(chunk);
            assert!(ours.kept.len() < MUCH + 65_535, "{}", ours.kept.len());
        }
        drop(holding);
        ours.shutdown().await.unwrap();
        drop(ours);
        assert!(reader.await.unwrap() == expected, "octets were lost or came in another order");
    }
}
