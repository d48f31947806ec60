//! Whom it is compared with: a shell's loop of `openssl cms`, a loop in Python, `cp`, and a hash of the file.

use std::{path::Path, process::Command};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{
    process::{self, Cost},
    site::Site,
};
use crate::python;

/// What both loops do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Sign.
    Sign,
    /// Decrypt.
    Decrypt,
}

impl Deed {
    /// What `hsmime-batch` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Decrypt => "decrypt",
        }
    }
}

/// One process `openssl cms` for each file, with the key in a file.
pub fn openssl(site: &Site, deed: Deed, from: &Path, to: &Path) -> Result<Cost> {
    let script = match deed {
        Deed::Sign => {
            "for f in \"$FROM\"/*; do openssl cms -sign -in \"$f\" -signer \"$CERT\" -inkey \"$KEY\" -certfile \
             \"$CHAIN\" -out \"$TO/${f##*/}\" || exit 1; done"
        }
        Deed::Decrypt => {
            "for f in \"$FROM\"/*; do openssl cms -decrypt -in \"$f\" -recip \"$CERT\" -inkey \"$KEY\" \
             -out \"$TO/${f##*/}\" || exit 1; done"
        }
    };
    let mut command = Command::new("sh");
    process::run(variables(command.args(["-c", script]), site, from, to).env("OPENSSL_CONF", "/dev/null"))
}

/// A loop in Python with `cryptography`, with the key in a file.
pub fn python(site: &Site, deed: Deed, from: &Path, to: &Path) -> Result<Cost> {
    let script = match deed {
        Deed::Sign => SIGN,
        Deed::Decrypt => DECRYPT,
    };
    let mut command = Command::new(python::interpreter()?);
    process::run(variables(command.args(["-c", &format!("{COMMON}{script}")]), site, from, to))
}

/// A copy of a tree, until it is on the disk.
pub fn copy(from: &Path, to: &Path) -> Result<Cost> {
    let mut command = Command::new("sh");
    command.args(["-c", "cp -r \"$FROM\" \"$TO\" && sync -f \"$TO\""]).env("FROM", from).env("TO", to);
    process::run(&mut command)
}

/// The SHA-256 of a file.
pub fn hash(file: &Path) -> Result<Cost> {
    let mut command = Command::new("openssl");
    process::run(command.args(["dgst", "-sha256"]).arg(file))
}

fn variables<'c>(command: &'c mut Command, site: &Site, from: &Path, to: &Path) -> &'c mut Command {
    command.env("FROM", from).env("TO", to).env("CERT", &site.rsa.certificate).env("KEY", &site.rsa.key);
    command.env("CHAIN", site.issuing())
}

const COMMON: &str = r#"
import os
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
def octets(name):
    with open(name, "rb") as file: return file.read()
source, target = os.environ["FROM"], os.environ["TO"]
certificate = x509.load_pem_x509_certificate(octets(os.environ["CERT"]))
chain = x509.load_pem_x509_certificate(octets(os.environ["CHAIN"]))
key = serialization.load_pem_private_key(octets(os.environ["KEY"]), None)
"#;

const SIGN: &str = r#"
for name in os.listdir(source):
    head, body = octets(os.path.join(source, name)).split(b"\n\n", 1)
    fields = head.split(b"\n")
    inner = [f for f in fields if f.lower().startswith(b"content-")]
    outer = [f for f in fields if f not in inner and not f.startswith(b"MIME-Version")]
    entity = b"\n".join(inner) + b"\n\n" + body
    builder = pkcs7.PKCS7SignatureBuilder().set_data(entity).add_certificate(chain)
    builder = builder.add_signer(certificate, key, hashes.SHA256())
    signed = builder.sign(Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
    with open(os.path.join(target, name), "wb") as file:
        file.write(b"\n".join(outer) + b"\n" + signed)
"#;

const DECRYPT: &str = r#"
for name in os.listdir(source):
    opened = pkcs7.pkcs7_decrypt_smime(octets(os.path.join(source, name)), certificate, key, [])
    with open(os.path.join(target, name), "wb") as file:
        file.write(opened)
"#;
