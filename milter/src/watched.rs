//! The pages for whoever watches the milter: `/metrics` and `/health`, by as much of HTTP/1.1 (RFC 9112) as that takes.
//!
//! One request on each connection, of a bounded length, within a bounded time, and few connections at once. A request's
//! body, if it has one, is not read.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::listener::{Listener, Stream};

/// What the pages say. It may block: it is asked on a thread of its own.
pub trait Watched: Send + Sync + 'static {
    /// Everything that is counted, for Prometheus.
    fn metrics(&self) -> String;

    /// Whether mail can be treated, with a line for each part.
    fn health(&self) -> (bool, String);
}

/// Answers requests for ever.
pub async fn answer_requests(mut listener: Listener, watched: Arc<impl Watched>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Whoever comes above that waits in the queue of the socket.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = listener.accept().await;
        let watched = Arc::clone(&watched);
        tokio::spawn(async move {
            let _permit = permit;
            // What a client does not wait for needs no word.
            let _ = timeout(LIMIT, one(stream, watched)).await;
        });
    }
}

async fn one(mut stream: Stream, watched: Arc<impl Watched>) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    let answer = loop {
        if let Some(end) = end_of_head(&head) {
            break answer_to(head.get(..end).unwrap_or_default(), watched).await;
        }
        if head.len() >= MAX_HEAD {
            break response("431 Request Header Fields Too Large", "too long\n", true);
        }
        let room = u64::try_from(MAX_HEAD - head.len()).unwrap_or(0);
        if (&mut stream).take(room).read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// RFC 9112 2.2: a line may also end with a bare LF.
fn end_of_head(octets: &[u8]) -> Option<usize> {
    let at = |end: &[u8]| octets.windows(end.len()).position(|window| window == end);
    match (at(b"\r\n\r\n"), at(b"\n\n")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

async fn answer_to(head: &[u8], watched: Arc<impl Watched>) -> String {
    let line = head.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.trim_end_matches('\r').split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return response("400 Bad Request", "not HTTP/1.1\n", true);
    };
    if !version.starts_with("HTTP/1.") {
        return response("505 HTTP Version Not Supported", "not HTTP/1.1\n", true);
    }
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return response("405 Method Not Allowed\r\nAllow: GET, HEAD", "GET and HEAD only\n", true),
    };
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let asked = spawn_blocking(move || match path.as_str() {
        "/metrics" => ("200 OK", watched.metrics()),
        "/health" => match watched.health() {
            (true, text) => ("200 OK", text),
            (false, text) => ("503 Service Unavailable", text),
        },
        _ => ("404 Not Found", "there are /metrics and /health\n".to_owned()),
    });
    match asked.await {
        Ok((status, text)) => response(status, &text, with_body),
        Err(_) => response("500 Internal Server Error", "see the log\n", with_body),
    }
}

fn response(status: &str, text: &str, with_body: bool) -> String {
    let body = if with_body { text } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n{body}",
        text.len()
    )
}

/// Clients that are answered at once.
const MAX_CONNECTIONS: usize = 8;
/// The longest request line with its fields.
const MAX_HEAD: usize = 8 << 10;
/// How long a client may take for all of it.
const LIMIT: Duration = Duration::from_secs(10);
