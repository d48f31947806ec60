//! A loop in Python with `cryptography`: one process, keys and message in its memory.
//!
//! It does a message whenever it is told to by a line, and answers with a line how many octets came out; both ways take some
//! ten microseconds.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{contender::Run, material::Task, operation::Operation};
use crate::python;

/// Prepares a task.
pub fn prepare<'t>(task: &'t Task<'_>) -> Result<Run<'t>> {
    let deed = match task.operation {
        Operation::Sign => SIGN,
        Operation::EncryptCbc => ENCRYPT,
        _ => DECRYPT,
    };
    let mut peer = Loop::start(task, deed)?;
    Ok(Box::new(move || peer.once()))
}

/// Whether it can: it verifies nothing, has no GCM here, and encrypts to RSA keys only.
pub fn can(task: &Task<'_>) -> bool {
    match task.operation {
        Operation::Sign => true,
        Operation::EncryptCbc | Operation::DecryptCbc => task.person.is_rsa(),
        Operation::SignChecked | Operation::Verify | Operation::EncryptGcm | Operation::DecryptGcm => false,
    }
}

/// The process; it ends when nobody writes to it any more.
struct Loop {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Loop {
    fn start(task: &Task<'_>, deed: &str) -> Result<Self> {
        let [_, issuing] = &task.material.authorities;
        let files = &task.person.files;
        let mut command = Command::new(python::interpreter()?);
        command.args(["-c", &format!("{COMMON}{deed}{REPEAT}")]);
        command.env("CERT", &files.certificate).env("KEY", &files.key);
        command.env("CHAIN", issuing).env("INPUT", &task.file);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Self { child, input, output })
    }

    fn once(&mut self) -> Result<usize> {
        self.input.as_mut().context("no pipe")?.write_all(b"\n").context("Python has ended")?;
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "Python has ended");
        Ok(line.trim().parse()?)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

const COMMON: &str = r#"
import os, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
def octets(name):
    with open(os.environ[name], "rb") as file: return file.read()
certificate = x509.load_pem_x509_certificate(octets("CERT"))
chain = x509.load_pem_x509_certificate(octets("CHAIN"))
key = serialization.load_pem_private_key(octets("KEY"), None)
message = octets("INPUT")
"#;

const SIGN: &str = r"
def do():
    builder = pkcs7.PKCS7SignatureBuilder().set_data(message).add_certificate(chain)
    builder = builder.add_signer(certificate, key, hashes.SHA256())
    return builder.sign(Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
";

const ENCRYPT: &str = r"
def do():
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(message).add_recipient(certificate)
    builder = builder.set_content_encryption_algorithm(algorithms.AES256)
    return builder.encrypt(Encoding.SMIME, [])
";

const DECRYPT: &str = r"
def do():
    return pkcs7.pkcs7_decrypt_smime(message, certificate, key, [])
";

const REPEAT: &str = r"
while sys.stdin.buffer.readline():
    print(len(do()), flush=True)
";
