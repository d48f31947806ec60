//! One GET or POST by plain HTTP, within limits of time and size (RFC 9110).
//!
//! CRLs and OCSP responses are signed, and the authorities forbid https for them: to fetch one by TLS a certificate would
//! have to be checked first. There are no cookies and no credentials, and nothing of the answer but its body and tag
//! is used.

use std::{
    io::Read,
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use ureq::{
    Agent, Error, Proxy,
    http::{Response, StatusCode, Uri, header},
    unversioned::transport::DefaultConnector,
};

use super::address::{Guard, NotAllowed};

/// Fetches.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    guard: Guard,
    max_len: usize,
}

/// What came.
#[derive(Debug)]
pub(super) enum Fetched {
    /// These octets.
    Body { octets: Vec<u8>, etag: Option<String> },
    /// The ones that we have are still those.
    Unchanged,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'a> {
    /// GET, and what is there already by its tag.
    Get { etag: Option<&'a str> },
    /// POST of an OCSP request.
    Post { body: &'a [u8] },
}

/// Why a URL gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// It is no URL that is fetched.
    #[error("it is not a plain http URL")]
    NotHttp,
    #[error("{0}")]
    NotAllowed(NotAllowed),
    #[error("it is redirected more than {MAX_REDIRECTS} times, or to nowhere")]
    Redirects,
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("it is longer than {0} octets")]
    TooLong(usize),
    #[error("there was no answer in time")]
    Late,
    #[error("{0}")]
    Failed(String),
}

impl Client {
    pub(super) fn new(allowed: Vec<IpNet>, proxy: Option<Proxy>, max_len: usize) -> Self {
        let proxy_uri = proxy.as_ref().map(|proxy| proxy.uri().clone());
        let config = Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .max_response_header_size(16 << 10)
            .user_agent(concat!("hsmime/", env!("CARGO_PKG_VERSION")))
            .build();
        let guard = Guard::new(allowed.clone(), None);
        let agent = Agent::with_parts(config, DefaultConnector::new(), Guard::new(allowed, proxy_uri));
        Self { agent, guard, max_len }
    }

    /// Asks, following redirects of a GET. Every connection goes by the [`Guard`].
    pub(super) fn ask(
        &self,
        url: &str,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<Fetched, FetchError> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let uri = self.checked(&url)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(FetchError::Late);
            }
            let response = self.once(&uri, question, left).map_err(of_ureq)?;
            let status = response.status();
            match (question, status.as_u16()) {
                (_, 200) => return self.body(response),
                (Question::Get { etag: Some(_) }, 304) => return Ok(Fetched::Unchanged),
                (Question::Get { .. }, 301 | 302 | 303 | 307 | 308) => {
                    let location = response.headers().get(header::LOCATION);
                    let location = location.and_then(|location| location.to_str().ok());
                    url = location.and_then(|to| redirected(&uri, to)).ok_or(FetchError::Redirects)?;
                }
                _ => return Err(FetchError::Status(status)),
            }
        }
        Err(FetchError::Redirects)
    }

    fn once(&self, uri: &Uri, question: Question<'_>, left: Duration) -> Result<Response<ureq::Body>, Error> {
        match question {
            Question::Get { etag } => {
                let mut request = self.agent.get(uri);
                if let Some(etag) = etag {
                    request = request.header(header::IF_NONE_MATCH, etag);
                }
                request.config().timeout_global(Some(left)).build().call()
            }
            Question::Post { body } => self
                .agent
                .post(uri)
                .header(header::CONTENT_TYPE, "application/ocsp-request")
                .config()
                .timeout_global(Some(left))
                .build()
                .send(body),
        }
    }

    fn body(&self, mut response: Response<ureq::Body>) -> Result<Fetched, FetchError> {
        let limit = u64::try_from(self.max_len).unwrap_or(u64::MAX);
        if response.body().content_length().is_some_and(|len| len > limit) {
            return Err(FetchError::TooLong(self.max_len));
        }
        let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.filter(|etag| etag.len() <= MAX_ETAG).map(str::to_owned);
        let mut octets = Vec::new();
        // One more than the limit, to see that there is more.
        let mut reader =
            response.body_mut().with_config().limit(u64::MAX).reader().take(limit.saturating_add(1));
        reader.read_to_end(&mut octets).map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => FetchError::Late,
            _ => of_io(&error),
        })?;
        if octets.len() > self.max_len {
            return Err(FetchError::TooLong(self.max_len));
        }
        Ok(Fetched::Body { octets, etag })
    }

    /// Plain http, without credentials, and not to an address that is no public one.
    fn checked(&self, url: &str) -> Result<Uri, FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::NotHttp)?;
        let authority = uri.authority().ok_or(FetchError::NotHttp)?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return Err(FetchError::NotHttp);
        }
        // A proxy would connect for us, so that addresses are looked at here as well.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(address) if !self.guard.allows(address) => {
                Err(FetchError::NotAllowed(NotAllowed(Some(address))))
            }
            _ => Ok(uri),
        }
    }
}

/// Where a redirect leads: another http URL, or another path of the same server.
fn redirected(from: &Uri, to: &str) -> Option<String> {
    if to.starts_with('/') && !to.starts_with("//") {
        return Some(format!("http://{}{to}", from.authority()?));
    }
    to.contains("://").then(|| to.to_owned())
}

fn of_ureq(error: Error) -> FetchError {
    match error {
        Error::Timeout(_) => FetchError::Late,
        Error::Other(error) => match error.downcast::<NotAllowed>() {
            Ok(not_allowed) => FetchError::NotAllowed(*not_allowed),
            Err(error) => FetchError::Failed(error.to_string()),
        },
        Error::Io(error) => of_io(&error),
        error => FetchError::Failed(error.to_string()),
    }
}

fn of_io(error: &std::io::Error) -> FetchError {
    let is_late =
        error.get_ref().is_some_and(|inner| matches!(inner.downcast_ref(), Some(Error::Timeout(_))));
    if is_late { FetchError::Late } else { FetchError::Failed(error.to_string()) }
}

/// How often one URL may lead to another.
const MAX_REDIRECTS: usize = 5;
const MAX_ETAG: usize = 256;

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
        thread::{self, JoinHandle},
    };

    use super::*;

    #[test]
    fn only_plain_http_to_public_addresses_is_asked_for() {
        let client = Client::new(vec!["10.1.0.0/16".parse().unwrap()], None, 10);
        for (url, taken) in [
            ("http://crl.example.org/a.crl", true),
            ("http://crl.example.org:8080/a.crl?x=y", true),
            ("http://10.1.0.1/a", true),
            ("https://crl.example.org/a.crl", false),
            ("ftp://crl.example.org/a.crl", false),
            ("ldap://directory.example.org/cn=x", false),
            ("file:///etc/passwd", false),
            ("http://user:password@crl.example.org/", false),
            ("http://127.0.0.1/", false),
            ("http://[::1]/", false),
            ("http://[::ffff:10.0.0.1]/", false),
            ("http://169.254.169.254/latest", false),
            ("//crl.example.org/", false),
            ("", false),
        ] {
            assert_eq!(client.checked(url).is_ok(), taken, "{url}");
        }
    }

    /// A proxy that answers one CONNECT and the request in it; gives the first line of each.
    fn proxy() -> (String, JoinHandle<[String; 2]>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answering = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut input = BufReader::new(stream.try_clone().unwrap());
            ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ncrl"].map(|answer| {
                let lines: Vec<String> =
                    (&mut input).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
                (&stream).write_all(answer.as_bytes()).unwrap();
                lines.into_iter().next().unwrap_or_default()
            })
        });
        (url, answering)
    }

    #[test]
    fn a_proxy_may_be_on_a_network_of_ones_own_and_what_it_is_asked_for_may_not() {
        let (url, answering) = proxy();
        let client = Client::new(Vec::new(), Some(Proxy::new(&url).unwrap()), 10);
        let ask =
            |url| client.ask(url, Question::Get { etag: None }, Instant::now() + Duration::from_secs(20));
        assert!(matches!(ask("http://127.0.0.1:1/a.crl"), Err(FetchError::NotAllowed(_))));
        let Fetched::Body { octets, .. } = ask("http://crl.example.org/a.crl").unwrap() else {
            panic!("nothing came");
        };
        assert_eq!(octets, b"crl");
        let [connect, get] = answering.join().unwrap();
        assert!(connect.starts_with("CONNECT crl.example.org:80 "), "{connect}");
        assert!(get.starts_with("GET /a.crl "), "{get}");
    }

    #[test]
    fn a_redirect_leads_to_a_path_or_a_whole_url() {
        let from = "http://a.example:81/x/y".parse().unwrap();
        for (to, leads) in [
            ("/z", Some("http://a.example:81/z")),
            ("http://b.example/z", Some("http://b.example/z")),
            ("//b.example/z", None),
            ("z", None),
        ] {
            assert_eq!(redirected(&from, to).as_deref(), leads, "{to}");
        }
    }
}
