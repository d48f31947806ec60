//! A server of ours where certificates' URLs lead: it counts, and hands on, hangs, redirects, or sends for ever.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What to do with requests whose path begins as one says.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// Hand on, another path in place of this one.
    Instead(&'static str),
    /// Say nothing.
    Hang,
    /// Lead elsewhere.
    Redirect(String),
    /// Send octets without end.
    Endless,
    /// Answer with this.
    Body(Vec<u8>),
}

#[derive(Clone)]
pub(crate) struct Gate {
    port: u16,
    upstream: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    rules: Vec<(String, Rule)>,
    /// What was asked for: method and path.
    seen: Vec<String>,
    /// How many octets were sent without end.
    sent: usize,
}

impl Gate {
    /// Listens; what no rule is about is handed on to the server on this port.
    pub(crate) fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Self { port, upstream, shared: Arc::default() };
        let served = gate.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let gate = served.clone();
                thread::spawn(move || gate.serve(&stream));
            }
        });
        gate
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn upstream(&self) -> u16 {
        self.upstream
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From now on, before all other rules.
    pub(crate) fn rule(&self, path: &str, rule: Rule) {
        self.shared.lock().unwrap().rules.insert(0, (path.to_owned(), rule));
    }

    /// No rule any more.
    pub(crate) fn plain(&self) {
        self.shared.lock().unwrap().rules.clear();
    }

    /// What was asked for since the last time.
    pub(crate) fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().seen)
    }

    /// How many octets were sent without end.
    pub(crate) fn sent(&self) -> usize {
        self.shared.lock().unwrap().sent
    }

    fn serve(&self, stream: &TcpStream) {
        let Some(request) = Request::read(stream) else { return };
        let rule = {
            let mut shared = self.shared.lock().unwrap();
            shared.seen.push(format!("{} {}", request.method, request.path));
            shared.rules.iter().find(|(path, _)| request.path.starts_with(path)).cloned()
        };
        match rule {
            None => self.hand_on(stream, &request, &request.path),
            Some((from, Rule::Instead(to))) => {
                self.hand_on(stream, &request, &request.path.replacen(&from, to, 1));
            }
            Some((_, Rule::Hang)) => thread::sleep(Duration::from_mins(1)),
            Some((_, Rule::Redirect(to))) => {
                let _ = write!(
                    &*stream,
                    "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
            Some((_, Rule::Endless)) => self.send_for_ever(stream),
            Some((_, Rule::Body(body))) => answer(stream, &body),
        }
    }

    fn hand_on(&self, mut stream: &TcpStream, request: &Request, path: &str) {
        if let Some(body) = ask(self.upstream, &request.method, path, &request.body) {
            let _ = stream.write_all(&body);
        }
    }

    fn send_for_ever(&self, mut stream: &TcpStream) {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[0x30; 8_192]).is_ok() {
            self.shared.lock().unwrap().sent += 8_192;
        }
    }
}

fn answer(mut stream: &TcpStream, body: &[u8]) {
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(body);
}

struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let mut words = head.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        Some(Self { method, path, body })
    }
}

/// Asks a server of this host, and gives its whole answer.
fn ask(port: u16, method: &str, path: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}

/// The body of what a server of this host answers with 200.
pub(crate) fn get(port: u16, path: &str) -> Option<Vec<u8>> {
    let answer = ask(port, "GET", path, b"")?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    answer.starts_with(b"HTTP/1.").then_some(())?;
    (answer.get(9..12)? == b"200").then(|| answer[end + 4..].to_vec())
}
