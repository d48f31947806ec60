//! The pages for monitoring: what is answered, and that no request does harm.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use milter::{Listener, Watched, answer_requests};

struct Pages(bool);

impl Watched for Pages {
    fn metrics(&self) -> String {
        "a_number 1\n".to_owned()
    }

    fn health(&self) -> (bool, String) {
        (self.0, "token: something\n".to_owned())
    }
}

fn start(is_well: bool) -> SocketAddr {
    let (told, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = Listener::inet("127.0.0.1", 0).await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            answer_requests(listener, Arc::new(Pages(is_well))).await;
        });
    });
    address.recv().unwrap()
}

fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // It may answer, and hang up, before it has heard all.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn requests_get_what_they_ask_for_or_a_reason() {
    let address = start(true);
    for (request, status, body) in [
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "a_number 1\n"),
        ("GET /metrics?now=1 HTTP/1.0\n\n", "200 OK", "a_number 1\n"),
        ("GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "token: something\n"),
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", ""),
        ("GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found", "there are /metrics and /health\n"),
        ("GET /../metrics HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found", "there are /metrics and /health\n"),
        (
            "POST /metrics HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
            "405 Method Not Allowed",
            "GET and HEAD only\n",
        ),
        ("GET  /metrics HTTP/1.1\r\n\r\n", "400 Bad Request", "not HTTP/1.1\n"),
        ("EHLO mx.test.invalid\r\n\r\n", "400 Bad Request", "not HTTP/1.1\n"),
        ("GET /metrics HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported", "not HTTP/1.1\n"),
        ("\r\n\r\n", "400 Bad Request", "not HTTP/1.1\n"),
    ] {
        let answer = ask(address, request.as_bytes());
        let (head, found) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {answer}");
        assert_eq!(found, body, "{request:?}");
        assert!(head.contains("Connection: close"), "{answer}");
    }
    let sick = ask(start(false), b"GET /health HTTP/1.1\r\n\r\n");
    assert!(sick.starts_with("HTTP/1.1 503 ") && sick.ends_with("token: something\n"), "{sick}");
}

#[test]
fn hostile_clients_are_cut_short_and_keep_nobody_away_for_long() {
    let address = start(true);
    let good = b"GET /metrics HTTP/1.1\r\n\r\n";
    let endless = [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    let answer = ask(address, &endless);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    for octets in [vec![0; 100_000], vec![0xff; 20_000], b"\n".repeat(3), b"GET".to_vec()] {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(&octets);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(ask(address, good).ends_with("a_number 1\n"));

    // As many as are answered at once say nothing: the next waits until they are cut off.
    let silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    let since = Instant::now();
    assert!(ask(address, good).ends_with("a_number 1\n"));
    assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
    drop(silent);
}
