//! DNS with DNSSEC: the records at a name, their CNAMEs followed, and how far they are proven.
//!
//! Signatures are checked here, up to a trust anchor; nobody's AD bit is believed. The library below is asynchronous
//! and runs on one thread of its own; whoever asks blocks, up to a deadline.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverOpts},
    net::{
        DnsError, DnsHandle, NetError, RetryDnsHandle, dnssec::DnssecDnsHandle,
        runtime::TokioRuntimeProvider, xfer::FirstAnswer,
    },
    proto::{
        dnssec::{Proof, TrustAnchors},
        op::{DnsRequestOptions, Query},
        rr::{Name, RData, Record, RecordType, rdata::SMIMEA},
    },
    system_conf::read_system_conf,
};
use tokio::{runtime, sync::mpsc as channel};

use crate::LookupError;

/// How far a CNAME may lead.
const MAX_ALIASES: usize = 8;
/// How many questions may wait.
const QUEUE: usize = 256;
/// How long a name server has for one question before it is asked again.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What there is at a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// These, proven up to the trust anchor, the aliases on the way too.
    Secure(Vec<SMIMEA>),
    /// Proven: none.
    Absent,
    /// The zone, or one on the way to it, is proven to be unsigned; so it publishes nothing that counts.
    Insecure,
}

/// A handle to the thread that asks.
#[derive(Debug)]
pub(super) struct Resolver {
    questions: channel::Sender<Question>,
    servers: String,
}

struct Question {
    name: Name,
    deadline: Instant,
    answer: mpsc::SyncSender<Result<Records, Failure>>,
}

#[derive(Debug)]
enum Failure {
    NotSecure { name: String, state: &'static str },
    Server(String),
    Late,
}

type Handle = DnssecDnsHandle<RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>>;

impl Resolver {
    /// Starts the thread. Without servers those of `/etc/resolv.conf` are asked.
    pub(super) fn start(servers: &[SocketAddr], anchors: TrustAnchors) -> io::Result<Self> {
        let servers = if servers.is_empty() { system_servers()? } else { servers.to_vec() };
        let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (questions, received) = channel::channel(QUEUE);
        thread::Builder::new().name("smimea".to_owned()).spawn(move || {
            runtime.block_on(serve(&servers, anchors, received));
        })?;
        Ok(Self { questions, servers: names.join(", ") })
    }

    /// The SMIMEA records at a name.
    pub(super) fn ask(&self, name: Name, deadline: Instant) -> Result<Records, LookupError> {
        let started = Instant::now();
        let server = |reason: &str| LookupError::Server {
            server: format!("DNS at {}", self.servers),
            reason: reason.to_owned(),
        };
        let (answer, answered) = mpsc::sync_channel(1);
        let question = Question { name, deadline, answer };
        self.questions.try_send(question).map_err(|_| server("too many questions wait for it"))?;
        // A little longer than the other thread waits, whose words are better.
        let left = deadline.saturating_duration_since(started) + Duration::from_millis(20);
        match answered.recv_timeout(left) {
            Ok(Ok(records)) => Ok(records),
            Ok(Err(Failure::NotSecure { name, state })) => Err(LookupError::NotSecure { name, state }),
            Ok(Err(Failure::Server(reason))) => Err(server(&reason)),
            Ok(Err(Failure::Late)) | Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(LookupError::Late { after: started.elapsed() })
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(server("the question broke off")),
        }
    }
}

/// The servers of `/etc/resolv.conf`.
fn system_servers() -> io::Result<Vec<SocketAddr>> {
    let (config, _) = read_system_conf().map_err(|error| io::Error::other(error.to_string()))?;
    let servers: Vec<SocketAddr> =
        config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect();
    if servers.is_empty() { Err(io::Error::other("/etc/resolv.conf names no server")) } else { Ok(servers) }
}

/// Answers questions until nobody is left to ask. Each is a task of its own: one that hangs holds up no other.
async fn serve(servers: &[SocketAddr], anchors: TrustAnchors, mut questions: channel::Receiver<Question>) {
    let handle = handle(servers, anchors);
    while let Some(Question { name, deadline, answer }) = questions.recv().await {
        let handle = handle.clone();
        tokio::spawn(async move {
            let answered = match &handle {
                Ok(handle) => tokio::time::timeout_at(deadline.into(), follow(handle, name)).await,
                Err(reason) => Ok(Err(Failure::Server(reason.clone()))),
            };
            // Whoever asked may have gone.
            let _ = answer.send(answered.unwrap_or(Err(Failure::Late)));
        });
    }
}

fn handle(servers: &[SocketAddr], anchors: TrustAnchors) -> Result<Handle, String> {
    let mut options = ResolverOpts::default();
    options.timeout = PATIENCE;
    options.validate = true;
    let tls = TlsConfig::new().map_err(|error| error.to_string())?;
    let pool = NameServerPool::from_config(
        servers.iter().map(|server| name_server(server.ip(), server.port())),
        Arc::new(PoolContext::new(options, tls)),
        TokioRuntimeProvider::default(),
    );
    Ok(DnssecDnsHandle::with_trust_anchor(RetryDnsHandle::new(pool, 2), Arc::new(anchors)))
}

fn name_server(address: IpAddr, port: u16) -> NameServerConfig {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = port;
        connection
    };
    NameServerConfig::new(
        address,
        false,
        vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)],
    )
}

/// Asks at a name, and where its aliases lead. Every step must be proven: a forged alias leads to a zone that the
/// forger has signed well.
async fn follow(handle: &Handle, mut name: Name) -> Result<Records, Failure> {
    for _ in 0..MAX_ALIASES {
        let query = Query::query(name.clone(), RecordType::SMIMEA);
        let response = match handle.lookup(query, DnsRequestOptions::default()).first_answer().await {
            Ok(response) => response,
            Err(NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, .. })) => {
                return Ok(Records::Insecure);
            }
            Err(NetError::Dns(DnsError::Nsec { proof, .. })) => return Err(not_secure(&name, proof)),
            Err(NetError::Dns(DnsError::DnssecBogus)) => return Err(not_secure(&name, Proof::Bogus)),
            Err(NetError::Timeout) => return Err(Failure::Late),
            Err(error) => return Err(Failure::Server(error.to_string())),
        };
        let at_name: Vec<&Record> = response.answers.iter().filter(|record| record.name == name).collect();
        let mut records = Vec::new();
        let mut alias = None;
        for record in at_name {
            match &record.data {
                RData::SMIMEA(smimea) => records.push((record.proof, smimea.clone())),
                RData::CNAME(target) => alias = Some((record.proof, target.0.clone())),
                _ => {}
            }
        }
        if let Some((proof, _)) = records.iter().find(|(proof, _)| *proof != Proof::Secure) {
            return insecure_or(&name, *proof);
        }
        if !records.is_empty() {
            return Ok(Records::Secure(records.into_iter().map(|(_, record)| record).collect()));
        }
        match alias {
            Some((Proof::Secure, target)) => name = target,
            Some((proof, _)) => return insecure_or(&name, proof),
            None => return absence(&name, &response.authorities),
        }
    }
    Err(Failure::Server(format!("more than {MAX_ALIASES} aliases lead from one to the other")))
}

fn insecure_or(name: &Name, proof: Proof) -> Result<Records, Failure> {
    if proof == Proof::Insecure { Ok(Records::Insecure) } else { Err(not_secure(name, proof)) }
}

fn not_secure(name: &Name, proof: Proof) -> Failure {
    let state = if proof == Proof::Bogus { "bogus" } else { "indeterminate" };
    Failure::NotSecure { name: name.to_ascii(), state }
}

/// What a response without records proves. The library has checked denials that are signed. Where all that stands in a
/// response is unsigned it does not ask whose it is; but an unsigned zone speaks for names in it only, or whoever owns
/// one could say that nobody has a certificate.
fn absence(name: &Name, authorities: &[Record]) -> Result<Records, Failure> {
    if authorities.iter().any(|record| record.proof == Proof::Secure) {
        return Ok(Records::Absent);
    }
    let speaks_for = |record: &Record| record.proof == Proof::Insecure && record.name.zone_of(name);
    if authorities.is_empty() || authorities.iter().any(speaks_for) {
        Ok(Records::Insecure)
    } else {
        Err(not_secure(name, Proof::Bogus))
    }
}
