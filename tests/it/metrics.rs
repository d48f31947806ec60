//! What the milter tells of itself: counters of the mail that went through, and whether its parts work.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use testkit::mail::Letter;
use testkit::smtp::Origin;
use testkit::{Lab, programs, wait};

const TO: &str = "friend@partner.example";

fn page(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[track_caller]
fn assert_has(page: &str, line: &str) {
    assert!(page.lines().any(|found| found == line), "no {line:?}: {page}");
}

#[test]
fn mail_is_counted_and_health_is_that_of_token_cache_and_spool() {
    let mut lab = Lab::new("metrics").unwrap();
    let port = wait::free_port().unwrap();
    lab.config.metrics = Some(format!("inet:127.0.0.1:{port}"));
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let (alice, erin) = (lab.alice.address.as_str(), lab.erin.address.as_str());
    let send = |from: &str, to: &str, origin: &Origin| {
        let letter = Letter { from, to, subject: "Counted" }.text("hello");
        running.send(origin, from, &[to], &letter).unwrap().code
    };
    for _ in 0..2 {
        assert_eq!(send(alice, TO, &Origin::login("alice")), 250);
    }
    assert_eq!(send("nobody@example.org", TO, &Origin::login("nobody")), 451);
    assert_eq!(send(erin, alice, &Origin::remote()), 250);
    running.sink.wait_for(3, Duration::from_mins(1)).unwrap();

    let (status, metrics) = page(port, "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let messages = "hsmime_milter_messages_total{direction=\"";
    assert_has(&metrics, &format!("{messages}outgoing\",outcome=\"signed\",verdict=\"\"}} 2"));
    assert_has(&metrics, &format!("{messages}outgoing\",outcome=\"451\",verdict=\"\"}} 1"));
    assert_has(&metrics, "hsmime_milter_seconds_count 4");
    assert_has(&metrics, "hsmime_milter_in_flight 0");
    assert_has(&metrics, "hsmime_milter_spool_waiting 0");
    assert_has(&metrics, "hsmime_milter_addresses_expiring{days=\"30\"} 0");
    let next = metrics.lines().find_map(|line| line.strip_prefix("hsmime_milter_next_expiry_seconds "));
    assert!(next.unwrap().parse::<u64>().unwrap() > 40 * 86_400, "{metrics}");
    assert!(metrics.contains(&format!("{messages}incoming\"")), "{metrics}");
    assert!(metrics.contains("hsmime_milter_cache_certificates "), "{metrics}");
    assert!(metrics.contains("hsmime_token_up{") && metrics.contains("operation=\"sign\""), "{metrics}");
    assert!(!metrics.contains(alice), "nobody's address: {metrics}");

    let (status, health) = page(port, "/health");
    assert_eq!((status.as_str(), health.as_str()), ("HTTP/1.1 200 OK", "token: ok\ncache: ok\nspool: ok\n"));
    lab.token.stop().unwrap();
    // A use shows that the token is away.
    assert_eq!(send(alice, TO, &Origin::login("alice")), 451);
    let (status, health) = page(port, "/health");
    assert!(status.contains(" 503 ") && health.contains("token: FAILED: "), "{status} {health}");
    assert!(health.contains("cache: ok\nspool: ok\n"), "{health}");
    lab.token.start().unwrap();
    wait::until("health", Duration::from_secs(40), || {
        Ok(page(port, "/health").0.contains(" 200 ").then_some(()))
    })
    .unwrap();
}

#[test]
fn an_address_that_others_can_reach_is_refused_unless_they_are_allowed_to() {
    let mut lab = Lab::new("openmetrics").unwrap();
    for (listen, more, code) in [
        ("inet:0.0.0.0:9464", "", 2),
        ("inet:192.0.2.1:9464", "", 2),
        ("inet6:[::]:9464", "", 2),
        ("127.0.0.1:9464", "", 2),
        ("inet:127.0.0.1:9464", "", 0),
        ("inet6:[::1]:9464", "", 0),
        ("unix:/run/hsmime/metrics.sock", "", 0),
        ("inet:0.0.0.0:9464", "allow-remote = true", 0),
    ] {
        lab.config.metrics = Some(listen.to_owned());
        let toml = lab.config.to_toml().replace("[metrics]\n", &format!("[metrics]\n{more}\n"));
        let config = lab.workdir.file("metrics.toml", toml).unwrap();
        let finished = programs::run("hsmime-milter", &lab.token, &config, &["check-config"]).unwrap();
        assert_eq!(finished.code(), Some(code), "{listen} {more}: {finished:?}");
    }
}
