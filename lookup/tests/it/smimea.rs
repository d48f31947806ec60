//! SMIMEA against signed zones on loopback.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use lookup::{
    Answer, CertificateSource, LookupError,
    smimea::{Anchors, Smimea},
};
use smime::{Certificate, algorithm::DigestAlgorithm, key::Digest};
use testkit::{
    Result, Workdir,
    nameserver::{NameServer, Signed, Zone},
};

use super::{address, ask, certificate, found, is_absent, unknown};

fn owner(local: &str, domain: &str) -> String {
    let digest = Digest::of(DigestAlgorithm::Sha256, local.as_bytes());
    format!("{}._smimecert.{domain}.", HEXLOWER.encode(&digest.as_bytes()[..28]))
}

fn record(local: &str, domain: &str, parameters: &str, data: &[u8]) -> String {
    // TYPE53 in RFC 3597's form, so that the zone's maker need not know it.
    let parameters: Vec<u8> = parameters.split(' ').map(|n| n.parse().unwrap()).collect();
    let octets = [parameters.as_slice(), data].concat();
    format!("{} TYPE53 \\# {} {}\n", owner(local, domain), octets.len(), HEXLOWER.encode(&octets))
}

fn cname(local: &str, domain: &str, target: &str) -> String {
    format!("{} CNAME {target}\n", owner(local, domain))
}

fn whole(mailbox: &str) -> (Certificate, String) {
    let certificate = certificate(mailbox);
    let (local, domain) = mailbox.split_once('@').unwrap();
    let record = record(local, domain, "3 0 0", certificate.der());
    (certificate, record)
}

fn zone(name: &str, signed: Signed, records: &[String]) -> Zone {
    Zone { name: name.to_owned(), records: records.concat(), signed }
}

fn start(workdir: &Workdir) -> Result<NameServer> {
    let key = certificate("pinned@signed.example").public_key_info();
    let hash = Digest::of(DigestAlgorithm::Sha256, &key);
    let (forged, _) = whole("forger@signed.example");
    NameServer::start(
        workdir,
        &[
            zone(
                "signed.example",
                Signed::Nsec,
                &[
                    whole("alice@signed.example").1,
                    // Two at one name: a new certificate beside the old one.
                    whole("bob@signed.example").1,
                    record("bob", "signed.example", "1 0 0", certificate("Bob@signed.example").der()),
                    record("pinned", "signed.example", "3 1 1", hash.as_bytes()),
                    record("authority", "signed.example", "2 0 0", forged.der()),
                    record("stranger", "signed.example", "3 0 0", certificate("alice@signed.example").der()),
                    cname("alias", "signed.example", &owner("alias", "nsec3.example")),
                    cname("into-the-open", "signed.example", &owner("alice", "plain.example")),
                    cname("to-nowhere", "signed.example", &owner("nobody", "nsec3.example")),
                    cname("circle", "signed.example", &owner("circle", "signed.example")),
                    "*._smimecert.signed.example. TXT \"not asked for\"\n".to_owned(),
                ],
            ),
            zone(
                "nsec3.example",
                Signed::Nsec3,
                &[
                    whole("carol@nsec3.example").1,
                    record("alias", "nsec3.example", "3 0 0", certificate("alias@signed.example").der()),
                ],
            ),
            zone(
                "plain.example",
                Signed::Not,
                &[
                    whole("alice@plain.example").1,
                    // Forged in an unsigned zone: the target is signed well, by somebody else.
                    cname("forged", "plain.example", &owner("alice", "signed.example")),
                ],
            ),
            zone("tampered.example", Signed::Tampered, &[whole("alice@tampered.example").1]),
            zone("expired.example", Signed::Expired, &[whole("alice@expired.example").1]),
        ],
    )
}

fn smimea(server: SocketAddr, dns: &NameServer) -> Result<Smimea> {
    let anchors = Anchors::from_file(dns.anchor()).map_err(testkit_error)?;
    Ok(Smimea::new("dns", &[server], anchors)?)
}

fn testkit_error(text: String) -> std::io::Error {
    std::io::Error::other(text)
}

#[test]
fn only_what_is_proven_is_found_and_only_what_is_proven_is_absent() -> Result<()> {
    let workdir = Workdir::new("smimea")?;
    let dns = start(&workdir)?;
    let source = smimea(dns.address(), &dns)?;
    for text in ["alice@signed.example", "carol@nsec3.example"] {
        assert_eq!(found(&source, text), [certificate(text)], "{text}");
    }
    assert_eq!(found(&source, "bob@signed.example").len(), 2);
    // Found under another spelling, second.
    assert_eq!(found(&source, "ALICE@signed.example"), [certificate("alice@signed.example")]);
    // Through an alias into another zone, both signed.
    assert_eq!(found(&source, "alias@signed.example"), [certificate("alias@signed.example")]);
    // A pin alone.
    let Answer::Found(finding) = ask(&source, "pinned@signed.example") else {
        panic!("no pin");
    };
    assert_eq!((finding.certificates.len(), finding.pins.len()), (0, 1));
    assert!(finding.pins[0].matches(&certificate("pinned@signed.example")));
    for text in [
        "nobody@signed.example",
        "nobody@nsec3.example",
        "to-nowhere@signed.example",
        // Of no use: an authority, and somebody else's certificate.
        "authority@signed.example",
        "stranger@signed.example",
        // No domain at all: proven by the root.
        "alice@nowhere.test",
        // Unsigned, which is proven too: nothing there counts.
        "alice@plain.example",
        "forged@plain.example",
        "nobody@plain.example",
        "into-the-open@signed.example",
    ] {
        let answer = ask(&source, text);
        assert!(matches!(answer, Answer::Absent), "{text}: {answer:?}");
    }
    for text in ["alice@tampered.example", "alice@expired.example"] {
        let error = unknown(&source, text);
        assert!(error.to_string().contains("is bogus"), "{text}: {error}");
    }
    let error = unknown(&source, "circle@signed.example");
    assert!(error.to_string().contains("aliases"), "{error}");
    Ok(())
}

#[test]
fn another_anchor_makes_everything_bogus() -> Result<()> {
    let workdir = Workdir::new("smimea-anchor")?;
    let dns = start(&workdir)?;
    // The real root has not signed this one.
    let source = Smimea::new("dns", &[dns.address()], Anchors::root())?;
    for text in ["alice@signed.example", "nobody@signed.example", "alice@plain.example"] {
        let error = unknown(&source, text);
        assert!(matches!(error, LookupError::NotSecure { .. }), "{text}: {error}");
    }
    Ok(())
}

/// A server between, that may answer itself or change what passes.
fn between(
    dns: SocketAddr,
    change: impl Fn(&[u8], Vec<u8>) -> Option<Vec<u8>> + Send + 'static,
) -> Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let behind = UdpSocket::bind("127.0.0.1:0").unwrap();
        behind.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = buffer[..length].to_vec();
            behind.send_to(&question, dns).unwrap();
            let Ok(length) = behind.recv(&mut buffer) else {
                continue;
            };
            if let Some(answer) = change(&question, buffer[..length].to_vec()) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    Ok(address)
}

fn asks_for(question: &[u8], kind: u16) -> bool {
    let mut at = 12;
    while let Some(length) = question.get(at).copied().filter(|length| *length > 0) {
        at += usize::from(length) + 1;
    }
    question.get(at + 1..at + 3) == Some(&kind.to_be_bytes())
}

#[test]
fn a_forged_denial_is_not_absence() -> Result<()> {
    let workdir = Workdir::new("smimea-forged")?;
    let dns = start(&workdir)?;
    // Without any proof; and with the SOA of an unsigned zone, which is proven to be one, and speaks for itself only.
    let mut soa = b"\x05plain\x07example\x00".to_vec();
    soa.extend([0, 6, 0, 1, 0, 0, 1, 44]);
    let data = [b"\x00\x00".as_slice(), &[0; 19], &[60]].concat();
    soa.extend(u16::try_from(data.len())?.to_be_bytes());
    soa.extend(data);
    for authority in [None, Some(soa)] {
        let proxy = between(dns.address(), move |question, answer| {
            if !asks_for(question, 53) {
                return Some(answer);
            }
            let mut at = 12;
            while question[at] != 0 {
                at += usize::from(question[at]) + 1;
            }
            let mut denial = question[..at + 5].to_vec();
            // A response, NXDOMAIN, one question, no answers.
            denial[2..12].copy_from_slice(&[0x81, 0x83, 0, 1, 0, 0, 0, u8::from(authority.is_some()), 0, 0]);
            denial.extend(authority.iter().flatten());
            Some(denial)
        })?;
        let source = smimea(proxy, &dns)?;
        let error = unknown(&source, "alice@signed.example");
        assert!(error.to_string().contains("is bogus"), "{error}");
    }
    Ok(())
}

#[test]
fn a_server_that_is_down_or_slow_is_unknown_within_the_budget() -> Result<()> {
    let workdir = Workdir::new("smimea-slow")?;
    let dns = start(&workdir)?;
    let silent = between(dns.address(), |_, _| None)?;
    let late = between(dns.address(), |_, answer| {
        thread::sleep(Duration::from_millis(400));
        Some(answer)
    })?;
    let gone = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    for (what, server) in [("silent", silent), ("late", late), ("gone", gone)] {
        let source = smimea(server, &dns)?;
        let started = Instant::now();
        let answer = source.find(&address("alice@signed.example"), started + Duration::from_millis(800));
        assert!(matches!(answer, Answer::Unknown(_)), "{what}: {answer:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{what} took {:?}", started.elapsed());
    }
    // And one that is well answers many at the same time.
    let source = smimea(dns.address(), &dns)?;
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(found(&source, "alice@signed.example").len(), 1));
        }
    });
    assert!(is_absent(&source, "nobody@signed.example"));
    Ok(())
}
