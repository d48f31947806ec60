//! What was fetched and stays: in the cache over a restart, by its tag, and how large it may be.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the functions beside the tests are part of them")]

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime},
};

use certcache::{Cache, Status};
use der::Encode;
use lookup::{CacheStore, FetchSettings, Fetcher, MemoryStore, Prefetch, RevocationStore};
use smime::{
    Certificate,
    ber::Tag,
    path::{PathError, Revocation, RevocationMode, Trust, validate},
    revocation::RevocationSource,
    testing::{
        draft::{Draft, at, extension},
        evidence::{List, Single, Status as Says, response},
        hostile::wrap,
    },
};

const CA: u16 = 1;
/// The tag of whatever is served.
const ETAG: &str = "\"today\"";

fn ca() -> Certificate {
    Draft::ca("CA", CA, "CA").sign(CA)
}

/// What is served, and what was answered.
type Shared = Mutex<(Arc<Vec<u8>>, Vec<String>)>;

/// Answers every request with the same octets, unless they are there already by their tag.
struct Server {
    port: u16,
    shared: Arc<Shared>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared: Arc<Shared> = Arc::default();
        let served = Arc::clone(&shared);
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(&stream, &served)));
        Self { port, shared }
    }

    fn serve(&self, octets: Vec<u8>) {
        self.shared.lock().unwrap().0 = Arc::new(octets);
    }

    /// What was answered since the last time: 200 or 304, one after the other.
    fn take_answers(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().1)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/x", self.port)
    }

    /// A certificate that leads here: to a CRL, or to a responder.
    fn certificate(&self, number: u16, is_crl: bool) -> Certificate {
        let sequence = |parts: &[Vec<u8>]| wrap(Tag::SEQUENCE, parts);
        let context = |part: Vec<u8>| wrap(Tag::context(0), &[part]);
        let url = wrap(Tag(0x86), &[self.url().into_bytes()]);
        let location = if is_crl {
            extension("2.5.29.31", false, &sequence(&[sequence(&[context(context(url))])]))
        } else {
            let ocsp = wrap(Tag::OBJECT_IDENTIFIER, &[b"\x2b\x06\x01\x05\x05\x07\x30\x01".to_vec()]);
            extension("1.3.6.1.5.5.7.1.1", false, &sequence(&[sequence(&[ocsp, url])]))
        };
        Draft::new("Alice", 2, "CA").numbered(number).with(location).sign(CA)
    }
}

fn serve(mut stream: &TcpStream, shared: &Shared) {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).is_ok_and(|len| len == 0) {
            return;
        }
    }
    let is_known = head.lines().any(|line| {
        line.split_once(": ")
            .is_some_and(|(name, tag)| name.eq_ignore_ascii_case("if-none-match") && tag == ETAG)
    });
    let octets = Arc::clone(&shared.lock().unwrap().0);
    let status = if is_known { "304" } else { "200" };
    let mut answer = format!("HTTP/1.1 {status} x\r\nETag: {ETAG}\r\nConnection: close\r\n");
    if !is_known {
        write!(answer, "Content-Length: {}\r\n", octets.len()).unwrap();
    }
    shared.lock().unwrap().1.push(status.to_owned());
    let _ = write!(stream, "{answer}\r\n");
    if !is_known {
        let _ = stream.write_all(&octets);
    }
}

/// A fetcher as the program has it after it was started, with the defaults but for addresses and time.
fn fetcher(store: Box<dyn RevocationStore>) -> Arc<Fetcher> {
    let settings = FetchSettings {
        allowed: vec!["127.0.0.0/8".parse().unwrap()],
        budget: Duration::from_mins(1),
        ..FetchSettings::default()
    };
    Arc::new(Fetcher::new(settings, store).unwrap())
}

fn over_cache(path: &Path) -> Arc<Fetcher> {
    fetcher(Box::new(CacheStore::new(Arc::new(Cache::open(path).unwrap()))))
}

fn found(leaf: &Certificate, fetcher: &Arc<Fetcher>) -> String {
    let source: Arc<dyn RevocationSource> = Arc::<Fetcher>::clone(fetcher);
    let trust = Trust {
        anchors: vec![ca()],
        revocation: RevocationMode::HardFail,
        revocation_source: Some(source),
        ..Trust::default()
    };
    match validate(leaf, &[], &trust, SystemTime::now()).map(|path| path.revocation().clone()) {
        Ok(Revocation::Good { .. }) => "good".into(),
        Err(PathError::Revoked { .. }) => "revoked".into(),
        Err(PathError::RevocationUnknown { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// How many hours after the time of smime's drafts it is.
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(at()).unwrap().as_secs() / 3600).unwrap()
}

/// A list of exactly so many octets, and how many it lists beside this one. In a debug build half a million entries are
/// read for half a minute, so that each of them has an extension that fills it up.
fn list_of(len: usize, hers: &Certificate) -> (Vec<u8>, usize) {
    let filling = if std::env::var_os("HSMIME_LARGE_CRL").is_some() { Vec::new() } else { vec![4; 460] };
    let extensions = if filling.is_empty() { vec![] } else { vec![extension("1.2.3.4", false, &filling)] };
    let mut list = List::by("CA", CA).from(now() - 1, Some(now() + 24)).numbered(1);
    let empty = list.der().len();
    let entry = list.clone().listing_number(&[1; 16], &extensions).der().len() - empty;
    let count = (len - 200_000) / entry;
    for number in 0..count {
        // In no order, and on both sides of hers.
        let number = u64::try_from(number).unwrap().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        list =
            list.listing_number(&[&[0x01], [7; 7].as_slice(), &number.to_be_bytes()].concat(), &extensions);
    }
    let list = list.listing(hers, &[]);
    let padded = |padding: usize| list.clone().with(extension("1.2.3.4.5", false, &vec![4; padding])).der();
    let shorter = padded(100_000).len();
    let made = padded(100_000 + len - shorter);
    assert_eq!(made.len(), len);
    (made, count)
}

#[test]
#[expect(clippy::print_stdout, reason = "how long it took is worth seeing")]
fn a_list_of_20_mib_is_read_once_and_looked_up_in_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let (good, revoked) = (server.certificate(10, true), server.certificate(11, true));
    let max_len = FetchSettings::default().max_len;
    let (octets, entries) = list_of(max_len, &revoked);
    assert!(entries > 30_000, "{entries}");
    server.serve(octets.clone());

    let first = over_cache(folder.path());
    let started = Instant::now();
    assert_eq!(found(&revoked, &first), "revoked");
    let fetched_in = started.elapsed();
    // The best of many: others use this machine as well.
    let look_up = || {
        let started = Instant::now();
        assert_eq!(found(&good, &first), "good");
        started.elapsed()
    };
    let best = std::iter::repeat_with(look_up).take(50).min().unwrap();
    let kind = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!(
        "{entries} entries, {max_len} octets, {kind}: fetched and read in {fetched_in:?}, looked up with its path in {best:?}"
    );
    // Going through all entries would take seconds in a debug build.
    assert!(best < Duration::from_millis(20), "{best:?}");
    assert_eq!(server.take_answers(), ["200"]);

    // The program is started again: what is in the cache needs no request.
    drop(first);
    let second = over_cache(folder.path());
    assert_eq!(found(&revoked, &second), "revoked");
    assert_eq!(found(&good, &second), "good");
    assert_eq!(server.take_answers(), Vec::<String>::new());

    // One octet more is too many.
    server.serve([octets.as_slice(), &[0]].concat());
    let reason = found(&good, &fetcher(Box::<MemoryStore>::default()));
    assert!(reason.contains("longer than 20971520 octets"), "{reason}");
}

#[test]
fn an_answer_is_kept_over_a_restart_and_one_from_the_future_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let alice = server.certificate(10, false);
    let single = |from| Single {
        from: now() + from,
        until: Some(now() + 24),
        ..Single::of(&alice, &ca(), Says::Good)
    };
    for (from, expected, answers) in [(3, "from the future", 1), (-1, "good", 1), (-1, "good", 0)] {
        server.serve(response(&ca(), CA, &[single(from)], &[]));
        // What failed before is left alone for a minute, but an answer is no failure.
        let reason = found(&alice, &over_cache(folder.path()));
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(server.take_answers(), vec!["200"; answers], "{expected}");
    }
    let list = List::by("CA", CA).from(now() + 3, Some(now() + 24)).der();
    server.serve(list);
    let reason = found(&server.certificate(11, true), &over_cache(folder.path()));
    assert!(reason.contains("from the future"), "{reason}");
}

#[test]
fn a_list_in_the_cache_is_renewed_by_its_tag_before_anybody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let alice = server.certificate(10, true);
    let list = List::by("CA", CA).from(now() - 48, Some(now() + 24)).sign();
    server.serve(list.der().to_vec());
    // As another program left it two days ago.
    let cache = Cache::open(folder.path()).unwrap();
    let status = |der: &[u8]| Status {
        der: der.to_vec(),
        this_update: list.this_update(),
        next_update: list.next_update(),
        fetched: SystemTime::now() - Duration::from_hours(48),
        url: Some(server.url()),
        etag: Some(ETAG.to_owned()),
    };
    cache.put_crl(&ca().subject().to_der().unwrap(), &server.url(), &status(list.der())).unwrap();
    drop(cache);

    let fetcher = over_cache(folder.path());
    let prefetch = Prefetch::start(Arc::clone(&fetcher), vec![ca()], Duration::from_millis(20)).unwrap();
    let started = Instant::now();
    let mut answers = Vec::new();
    while answers.is_empty() && started.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(20));
        answers = server.take_answers();
    }
    assert_eq!(answers, ["304"]);
    // It was not sent again, it is good, and it is not asked for all the time.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(found(&alice, &fetcher), "good");
    assert_eq!(server.take_answers(), Vec::<String>::new());
    prefetch.stop();

    // Who is not known as an issuer is not asked about.
    drop(fetcher);
    let fetcher = over_cache(folder.path());
    let stranger = Draft::ca("CA", 9, "CA").sign(9);
    let prefetch = Prefetch::start(Arc::clone(&fetcher), vec![stranger], Duration::from_millis(20)).unwrap();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(server.take_answers(), Vec::<String>::new());
    prefetch.stop();
}
