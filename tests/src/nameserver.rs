//! A DNS of its own: a signed root and zones below it, served by Knot on a port of loopback.
//!
//! Zones are signed beforehand by `kzonesign`, so that a test can change a signed zone before it is served.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{Workdir, command, wait};

/// A name server that is ended when this is dropped.
#[derive(Debug)]
pub struct NameServer {
    child: Child,
    address: SocketAddr,
    anchor: PathBuf,
}

/// A zone below the root.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its name, without a dot at the end.
    pub name: String,
    /// Its records in zone file syntax, besides SOA and NS.
    pub records: String,
    /// How it is signed.
    pub signed: Signed,
}

/// How a zone is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// With NSEC, and a DS in the root.
    Nsec,
    /// With NSEC3, and a DS in the root.
    Nsec3,
    /// Not at all: the root proves that there is no DS.
    Not,
    /// As with [`Signed::Nsec`], but what it says of SMIMEA was changed afterwards.
    Tampered,
    /// Signed, but the signatures are over.
    Expired,
}

impl NameServer {
    /// Signs and serves these zones.
    pub fn start(workdir: &Workdir, zones: &[Zone]) -> Result<Self> {
        let folder = workdir.directory("dns")?;
        for below in ["unsigned", "zones", "keys", "run"] {
            fs::create_dir(folder.join(below))?;
        }
        let mut root = soa(".", "ns.");
        root.push_str("ns. A 127.0.0.1\n");
        for zone in zones {
            let name = format!("{}.", zone.name);
            let text =
                format!("{}ns.{name} A 127.0.0.1\n{}\n", soa(&name, &format!("ns.{name}")), zone.records);
            root.extend([format!("{name} NS ns.{name}\n"), format!("ns.{name} A 127.0.0.1\n")]);
            if zone.signed == Signed::Not {
                fs::write(folder.join("zones").join(file(&name)), text)?;
                continue;
            }
            fs::write(folder.join("unsigned").join(file(&name)), text)?;
            sign(&folder, &name, zone.signed)?;
            root.push_str(&keymgr(&folder, &name, "ds")?);
            if zone.signed == Signed::Tampered {
                tamper(&folder.join("zones").join(file(&name)))?;
            }
        }
        fs::write(folder.join("unsigned").join(file(".")), root)?;
        sign(&folder, ".", Signed::Nsec)?;
        let anchor =
            workdir.file("root.key", keymgr(&folder, ".", "dnskey")?.replace(" DNSKEY", " IN DNSKEY"))?;
        Self::serve(&folder, zones, anchor)
    }

    fn serve(folder: &Path, zones: &[Zone], anchor: PathBuf) -> Result<Self> {
        let port = wait::free_port()?;
        let names = zones.iter().map(|zone| format!("{}.", zone.name)).chain([".".to_owned()]);
        let zones: Vec<String> =
            names.map(|name| format!("  - domain: \"{name}\"\n    file: \"{}\"\n", file(&name))).collect();
        let config = format!(
            "server:\n    rundir: \"{run}\"\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    \
             background-workers: 1\nlog:\n  - target: stderr\n    any: info\ndatabase:\n    storage: \"{run}\"\n\
             template:\n  - id: default\n    storage: \"{storage}\"\n    journal-content: none\n    \
             zonefile-sync: -1\nzone:\n{zones}",
            zones = zones.concat(),
            run = folder.join("run").display(),
            storage = folder.join("zones").display(),
        );
        let path = folder.join("serve.conf");
        fs::write(&path, config)?;
        let log = fs::File::create(folder.with_file_name("knot.log"))?;
        let mut command = Command::new("/usr/sbin/knotd");
        command.arg("-c").arg(&path).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| command::not_started("knot", &command, &error))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let server = Self { child, address, anchor };
        wait::until("the name server", Duration::from_secs(10), || Ok(TcpStream::connect(address).ok()))?;
        Ok(server)
    }

    /// Where it listens, by UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file with the root's key.
    pub fn anchor(&self) -> &Path {
        &self.anchor
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn soa(name: &str, server: &str) -> String {
    format!("$TTL 300\n{name} SOA {server} host.{server} 1 3600 600 86400 300\n{name} NS {server}\n")
}

fn file(name: &str) -> String {
    format!("{}.zone", if name == "." { "root" } else { name.trim_end_matches('.') })
}

/// Makes keys for a zone and signs it.
fn sign(folder: &Path, name: &str, signed: Signed) -> Result<()> {
    let config = format!(
        "server:\n    rundir: \"{folder}/run\"\nlog:\n  - target: stderr\n    any: error\ndatabase:\n    \
         storage: \"{folder}/keys\"\npolicy:\n  - id: tests\n    algorithm: ecdsap256sha256\n    \
         single-type-signing: on\n    cds-cdnskey-publish: none\n    nsec3: {nsec3}\ntemplate:\n  - id: default\n    \
         storage: \"{folder}/unsigned\"\nzone:\n  - domain: \"{name}\"\n    file: \"{file}\"\n    \
         dnssec-policy: tests\n    dnssec-signing: on\n",
        folder = folder.display(),
        nsec3 = if signed == Signed::Nsec3 { "on" } else { "off" },
        file = file(name),
    );
    fs::write(folder.join("sign.conf"), config)?;
    let mut command = Command::new("kzonesign");
    command.arg("-c").arg(folder.join("sign.conf")).arg("-o").arg(folder.join("zones"));
    if signed == Signed::Expired {
        command.args(["-t", "1700000000"]);
    }
    command::succeed("knot-dnssecutils", command.arg(name))?;
    let made = folder.join("zones").join(file(name));
    ensure!(made.exists(), "kzonesign made no {}", made.display());
    Ok(())
}

fn keymgr(folder: &Path, name: &str, what: &str) -> Result<String> {
    let mut command = Command::new("/usr/sbin/keymgr");
    command.arg("-c").arg(folder.join("sign.conf")).args([name, what]);
    Ok(command::succeed("knot", &mut command)?.text())
}

/// Changes the last octet of each SMIMEA record.
fn tamper(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let mut changed = 0;
    let lines = text.lines().map(|line| {
        let is_record = line.split_whitespace().nth(2) == Some("SMIMEA");
        let mut line = line.to_owned();
        if is_record && let Some(last) = line.pop() {
            changed += 1;
            line.push(if last == '0' { '1' } else { '0' });
        }
        line + "\n"
    });
    let text: String = lines.collect();
    ensure!(changed > 0, "there is no SMIMEA record in {}", path.display());
    fs::write(path, text).context("the signed zone")
}
