//! OpenDKIM: a milter that signs what our people send and verifies the rest, and a judge of what arrives.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use data_encoding::BASE64;

use crate::command;
use crate::milter::Milter;
use crate::wait;
use crate::workdir::Workdir;

/// A running milter; it stops when dropped.
#[derive(Debug)]
pub struct OpenDkim {
    base: PathBuf,
    listen: String,
    _daemon: Milter,
}

impl OpenDkim {
    /// Whose results its `Authentication-Results` are.
    pub const AUTHSERV_ID: &str = "dkim.example.org";

    /// Starts one that signs for these domains and knows their keys without DNS.
    pub fn start(workdir: &Workdir, domains: &[&str]) -> Result<Self> {
        let base = workdir.directory("opendkim")?;
        let (key, keys) = (base.join("key.pem"), base.join("keys"));
        command::succeed("openssl", Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048"))?;
        let mut public = Command::new("openssl");
        let public =
            command::succeed("openssl", public.args(["rsa", "-pubout", "-outform", "DER", "-in"]).arg(&key))?;
        let record = format!("v=DKIM1; k=rsa; p={}", BASE64.encode(&public.stdout));
        let records = domains.iter().map(|domain| format!("test._domainkey.{domain} {record}\n"));
        std::fs::write(&keys, records.collect::<String>())?;
        let listen = format!("inet:127.0.0.1:{}", wait::free_port()?);
        let socket = listen.rsplit(':').next().unwrap_or_default();
        let both =
            format!("TestPublicKeys {}\nAuthservID {}\nSyslog no\n", keys.display(), Self::AUTHSERV_ID);
        let configuration = base.join("opendkim.conf");
        std::fs::write(
            &configuration,
            format!(
                "Mode sv\nDomain {}\nSelector test\nKeyFile {}\nRequireSafeKeys no\nCanonicalization simple/simple\n\
                 OversignHeaders From\nBackground no\nSocket inet:{socket}@127.0.0.1\n{both}",
                domains.join(","),
                key.display()
            ),
        )?;
        // To the judge nobody is internal, so that he verifies all.
        std::fs::write(base.join("judge.conf"), format!("Mode v\nInternalHosts 192.0.2.99\n{both}"))?;
        let mut command = Command::new("opendkim");
        command.arg("-f").arg("-x").arg(&configuration);
        let daemon = Milter::start(command, &listen, &workdir.join("opendkim.log"))?;
        Ok(Self { base, listen, _daemon: daemon })
    }

    /// Where it listens, as Postfix writes it.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// Whether the one signature of a mail holds. It is an error if there is none.
    pub fn verifies(&self, octets: &[u8]) -> Result<bool> {
        let mail = self.base.join("judged.eml");
        std::fs::write(&mail, octets)?;
        let mut command = Command::new("opendkim");
        command.arg("-x").arg(self.base.join("judge.conf")).arg("-v").arg("-t").arg(&mail);
        let told = command::finish(PACKAGE, &mut command)?;
        match told.text() {
            text if text.contains(" succeeded") => Ok(true),
            text if text.contains(" failed") => Ok(false),
            _ => bail!("no judgement: {told:?}"),
        }
    }
}

const PACKAGE: &str = "opendkim";
