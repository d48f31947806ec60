//! Runs on files, tasks to run, and the samples made by others.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use agent::{Identity, settings::Logins};

use batch::{
    log::Totals,
    report::Report,
    run::{Options, Output, Stopped, run},
    task::{Done, Failed, Task, Work},
};
use serde_json::Value;
use smime::{
    Certificate, Fault,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    key::{Digest, KeyError, SignatureInput, SignatureValue, Signer},
    mime::Message,
    question::{Answer, Question, Reply},
    testing::fixtures::{certificate, key},
};

/// What came out of a run.
pub(crate) struct Ran {
    pub(crate) totals: Totals,
    pub(crate) report: Vec<Value>,
}

pub(crate) fn options(inputs: &[&Path], output: &Path) -> Options {
    Options {
        inputs: inputs.iter().map(|input| input.to_path_buf()).collect(),
        output: Output::Path(output.to_owned()),
        jobs: 4,
        questions: 16,
        room: 1 << 20,
        in_memory: usize::MAX,
        max_message: 1 << 20,
        lengths: None,
        frame: 1 << 12,
        journal: None,
        html: None,
        showing: None,
    }
}

pub(crate) fn run_with(options: &Options, task: &dyn Task) -> Result<Ran, Stopped> {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let totals = run(options, task, Report::create(&report).unwrap(), &AtomicBool::new(false))?;
    let lines = fs::read_to_string(&report).unwrap();
    let report = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Ok(Ran { totals, report })
}

/// Runs a task on one input.
pub(crate) fn run_on(input: &Path, output: &Path, task: &dyn Task) -> Ran {
    run_with(&options(&[input], output), task).unwrap()
}

/// Fails, panics, or leaves the message alone, one after the other.
pub(crate) struct Unlucky;

impl Task for Unlucky {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        match work.index % 3 {
            0 => Err(Failed::new(Fault::Message, "it does not please")),
            1 => panic!("with a piece of the message: {:?}", work.message),
            _ => Ok(Done::unchanged("copied")),
        }
    }
}

/// Puts a field above the message and writes the body in capitals.
pub(crate) struct Shout;

impl Task for Shout {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        Ok(shouted(work.message))
    }
}

pub(crate) fn shouted(message: &Message) -> Done {
    let header = [b"X-Shout: yes\r\n", message.header()].concat();
    let body: Vec<u8> = message.body().to_ascii_uppercase();
    let message = Message::from_stored(&[&header[..], b"\r\n", &body].concat());
    Done { message: Some(message.into()), ..Done::unchanged("shouted") }
}

/// Fails in a way that may pass.
pub(crate) struct Outage;

impl Task for Outage {
    fn run(&self, _: &Work<'_>) -> Result<Done, Failed> {
        Err(Failed::new(Fault::Transient, "token \"mail\" is not available"))
    }
}

/// A key that only takes questions, and has somebody answer them; on a token, if that is known.
struct Asked<F>(F, Option<&'static str>);

/// Whose key that is.
pub(crate) fn asked(take: impl Fn(Reply) + Send + Sync + 'static) -> Identity {
    asked_on(None, take)
}

/// The same, on a token.
pub(crate) fn asked_on(
    token: Option<&'static str>,
    take: impl Fn(Reply) + Send + Sync + 'static,
) -> Identity {
    let (signer, decryptor) = (Arc::new(Asked(take, token)), Arc::new(key("alice")));
    Identity::new(certificate("alice"), Vec::new(), Logins::Address, signer, decryptor)
}

/// What it is asked,
pub(crate) fn question() -> Question {
    let algorithm = SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Sha256);
    Question::Sign { input: Digest::of(algorithm.digest(), b"").into(), algorithm }
}

/// and what it answers.
pub(crate) fn answer() -> Answer {
    Answer::Signature(SignatureValue(vec![7]))
}

impl<F> std::fmt::Debug for Asked<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl<F: Fn(Reply) + Send + Sync> Signer for Asked<F> {
    fn certificate(&self) -> &Certificate {
        unreachable!("nobody asks")
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        &[]
    }

    fn sign(&self, _: &SignatureInput<'_>, _: SignatureAlgorithm) -> Result<SignatureValue, KeyError> {
        unreachable!("nobody waits")
    }

    fn submit(&self, _: Question, reply: Reply) {
        (self.0)(reply);
    }

    fn tokens(&self) -> Vec<String> {
        self.1.iter().map(ToString::to_string).collect()
    }
}

/// Samples made by others; `None`, and a line that says so, where they are not.
pub(crate) fn corpus(below: &str) -> Option<Vec<PathBuf>> {
    let root = std::env::var_os("HSMIME_CORPORA");
    let Some(entries) = root.and_then(|root| fs::read_dir(PathBuf::from(root).join(below)).ok()) else {
        eprintln!("skipped: HSMIME_CORPORA names no folder with {below} in it");
        return None;
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    Some(files)
}

/// Some messages as an mbox; none has anything to be done with.
pub(crate) fn sample_mbox(messages: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..messages {
        let text = format!(
            "From alice@example.org Fri Sep 16 22:26:51 2016\nMessage-ID: <{number}@example.org>\n\
             Subject: number {number}\n\n>From here to there\nline {number}\n\n"
        );
        out.extend_from_slice(text.as_bytes());
    }
    out
}

pub(crate) fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &octet in octets {
        if octet == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(octet);
    }
    out
}
