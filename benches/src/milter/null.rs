//! The null milter's program beside ours: with nothing, with ready-made bodies, or with the least that is due.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use data_encoding::{BASE64, HEXLOWER};
use testkit::{mime, programs, softhsm::SoftHsm, wait, workdir::Workdir};

use super::{
    mta::Mta,
    site::{Contender, Ours, Socket, at, mail},
    token,
};
use crate::pool::operation::{Operation, Question};

/// A null milter, ended when dropped.
#[derive(Debug)]
pub(super) struct Null(Child);

impl Drop for Null {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Null {
    /// Starts one; tells where it listens.
    pub(super) fn start(
        workdir: &Workdir,
        socket: Socket,
        contender: Contender,
        ours: &[Ours],
    ) -> Result<(Self, String)> {
        let program = programs::find("examples/null-milter")
            .context("run: cargo build --release -p milter --bins --examples")?;
        let listen = match socket {
            Socket::Inet => format!("inet:127.0.0.1:{}", wait::free_port()?),
            Socket::Unix => format!("unix:{}", workdir.join(format!("{contender:?}.sock")).display()),
        };
        let mut command = Command::new(program);
        command.arg(&listen).args(arguments(ours, contender)?);
        command.envs(at(ours, contender)?.lab.token.environment()?);
        let null = Self(command.stdin(Stdio::null()).spawn()?);
        wait::until("the null milter to listen", Duration::from_secs(10), || Ok(Mta::open(&listen).ok()))?;
        Ok((null, listen))
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

/// What a null milter is told to do.
fn arguments(ours: &[Ours], contender: Contender) -> Result<Vec<String>> {
    let lab = &at(ours, contender)?.lab;
    let (deed, by, key) = match contender {
        Contender::Replacing => {
            return Ok(vec!["replace".to_owned(), longer(ours, Contender::SignP256)?.to_string()]);
        }
        Contender::LeastP256 => ("ecdsa", longer(ours, Contender::SignP256)?, "carol"),
        Contender::LeastRsa => ("rsa", longer(ours, Contender::SignRsa)?, "alice"),
        Contender::LeastOpen => ("open", longer(ours, Contender::Open)?, "bob"),
        _ => return Ok(Vec::new()),
    };
    let mut arguments = vec!["least".to_owned(), deed.to_owned(), by.to_string()];
    arguments.extend([
        SoftHsm::MODULE.to_owned(),
        lab.token.pin_file().display().to_string(),
        key.to_owned(),
    ]);
    if contender == Contender::LeastOpen {
        let question = Operation::Rsa2048Decrypt.question(&token::certificate(&lab.bob.certificate)?)?;
        let Question::Decrypt(encrypted, _) = question else { bail!("nothing to decrypt") };
        arguments.push(HEXLOWER.encode(&encrypted));
    }
    Ok(arguments)
}

/// By how much a body that ours makes is longer than the one that came, or than what was in that one's base64.
fn longer(ours: &[Ours], contender: Contender) -> Result<isize> {
    let lab = &at(ours, contender)?.lab;
    let mail = mail(lab, contender, 4000)?;
    let made = Mta::open(&lab.config.listen)?.message(&mail)?;
    let body = mime::split(&mail.octets).1;
    let was = match contender {
        Contender::Open => {
            let base64: Vec<u8> = body.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
            BASE64.decode(&base64)?.len()
        }
        _ => body.len(),
    };
    made.checked_signed_diff(was).context("bodies are not so long")
}
