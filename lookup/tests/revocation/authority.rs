//! A CA whose certificates say that revocation is told at the gate; certomancer answers behind it.
//!
//! There are two of it with the same keys and the same certificates. `before` has revoked nobody yet but bob and dave,
//! `after` has revoked everybody: the gate says whom the certificates' URLs lead to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use smime::Certificate;
use testkit::{Result, Workdir, wait};

use super::gate::{Gate, get};

pub(crate) struct Authority {
    pub(crate) gate: Gate,
    pub(crate) folder: PathBuf,
    server: Child,
    _workdir: Workdir,
}

/// The certificates of users, and where each says that its revocation is told.
const USERS: [(&str, &str); 8] = [
    ("alice", "crl: people"),
    ("bob", "crl: people"),
    ("carol", "ocsp: direct"),
    ("dave", "ocsp: direct"),
    ("erin", "ocsp: no-eku"),
    ("frank", "ocsp: stranger"),
    ("grace", "ocsp: delegate"),
    ("heidi", "ocsp: short"),
];

impl Authority {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let workdir = Workdir::new(name)?;
        let folder = workdir.path().to_owned();
        for key in ["root", "ca", "other", "user", "delegate"] {
            let file = folder.join(format!("{key}.pem"));
            run(Command::new("openssl").args(["genpkey", "-algorithm", "EC"]).args([
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-out",
                file.to_str().unwrap(),
            ]));
        }
        let port = wait::free_port()?;
        let gate = Gate::start(port);
        fs::write(folder.join("certomancer.yml"), configuration(&gate))?;
        let server = Command::new(certomancer())
            .args(["--config", "certomancer.yml", "animate", "--port", &port.to_string(), "--no-web-ui"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("certomancer.log"))?)
            .spawn()?;
        let authority = Self { gate, folder, server, _workdir: workdir };
        wait::until("certomancer", Duration::from_mins(1), || {
            Ok(get(port, "/before/certs/people/issued/alice.crt").filter(|body| body.first() == Some(&0x30)))
        })?;
        Ok(authority)
    }

    /// A certificate by its label.
    pub(crate) fn certificate(&self, label: &str) -> Certificate {
        let repository = match label {
            "root" | "ca" | "other" => "authorities",
            _ => "people",
        };
        let path = format!("/before/certs/{repository}/issued/{label}.crt");
        let octets = get(self.gate.upstream(), &path).unwrap();
        Certificate::from_der(&octets).unwrap_or_else(|error| panic!("{label}: {error}"))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn certomancer() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        |folder| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder),
    );
    let program = target.join("certomancer/bin/certomancer").canonicalize();
    program.expect("scripts/prepare installs certomancer, and has not yet")
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn configuration(gate: &Gate) -> String {
    let keys = ["root", "ca", "other", "user", "delegate"]
        .map(|key| format!("      {key}:\n        path: {key}.pem\n"))
        .concat();
    format!(
        "external-url-prefix: http://127.0.0.1:{}\nkeysets:\n  all:\n    keys:\n{keys}pki-architectures:\n{}{}",
        gate.port(),
        architecture(gate, "before", &["bob", "dave"]),
        architecture(gate, "after", &USERS.map(|(name, _)| name)),
    )
}

/// One of the two: `revoked` are its revoked users.
fn architecture(gate: &Gate, name: &str, revoked: &[&str]) -> String {
    let validity = "        validity:\n          valid-from: \"2026-01-01T00:00:00+0000\"\n          \
                    valid-to: \"2046-01-01T00:00:00+0000\"\n";
    let entity = |entity: &str| format!("      {entity}:\n        common-name: {entity}\n");
    let authorities = ["root", "ca", "other", "delegate", "no-eku", "stranger"];
    let entities = authorities.map(entity).concat() + &USERS.map(|(name, _)| entity(name)).concat();
    let certificate = |label: &str, key: &str, issuer: &str, rest: &str| {
        format!(
            "      {label}:\n        subject: {label}\n        subject-key: {key}\n        issuer: {issuer}\n        \
             authority-key: {issuer}\n{validity}{rest}"
        )
    };
    let authority = "        profiles:\n          - id: simple-ca\n";
    let usage = "        extensions:\n          - id: key_usage\n            critical: true\n            smart-value:\n              \
                 schema: key-usage\n              params: [digital_signature]\n";
    let mut certificates = [
        certificate("root", "root", "root", authority),
        certificate("ca", "ca", "root", authority),
        certificate("other", "other", "root", authority),
        certificate("delegate", "delegate", "ca", "        profiles:\n          - id: ocsp-responder\n"),
        certificate("no-eku", "delegate", "ca", usage),
        certificate("stranger", "delegate", "other", "        profiles:\n          - id: ocsp-responder\n"),
    ]
    .concat();
    for (user, place) in USERS {
        let (kind, service) = place.split_once(": ").unwrap();
        let location = if kind == "crl" {
            format!(
                "          - id: crl_distribution_points\n            smart-value:\n              schema: crl-dist-url\n              \
                 params:\n                crl-repo-names: [{service}]\n"
            )
        } else {
            format!(
                "          - id: authority_information_access\n            smart-value:\n              schema: aia-urls\n              \
                 params:\n                ocsp-responder-names: [{service}]\n"
            )
        };
        let revocation = if revoked.contains(&user) {
            "        revocation:\n          revoked-since: \"2026-02-01T00:00:00+0000\"\n          reason: key_compromise\n"
        } else {
            ""
        };
        certificates += &certificate(user, "user", "ca", &format!("{usage}{location}{revocation}"));
    }
    let responder = |label: &str, certificate: &str, key: &str, seconds: u32| {
        format!(
            "        {label}:\n          for-issuer: ca\n          issuer-cert: ca\n          responder-cert: {certificate}\n          \
             signing-key: {key}\n          validity-period:\n            seconds: {seconds}\n"
        )
    };
    let responders = [
        responder("direct", "ca", "ca", 3600),
        responder("delegate", "delegate", "delegate", 3600),
        responder("no-eku", "no-eku", "delegate", 3600),
        responder("stranger", "stranger", "delegate", 3600),
        responder("short", "ca", "ca", 2),
    ]
    .concat();
    // The later lists are for the point that the certificates name.
    let point = match name {
        "after" => format!(
            "\n          distribution-point-name:\n            extra-urls: [\"{}\"]",
            gate.url("/before/crls/people/latest.crl")
        ),
        _ => String::new(),
    };
    format!(
        "  {name}:\n    keyset: all\n    entity-defaults:\n      country-name: DE\n    entities:\n{entities}    certs:\n{certificates}    \
         services:\n      ocsp:\n{responders}      crl-repo:\n        people:\n          for-issuer: ca\n          issuer-cert: ca\n          \
         signing-key: ca\n          simulated-update-schedule: \"P10D\"{point}\n        roots:\n          for-issuer: root\n          \
         signing-key: root\n          simulated-update-schedule: \"P10D\"\n      cert-repo:\n        authorities:\n          for-issuer: root\n          \
         publish-issued-certs: yes\n        people:\n          for-issuer: ca\n          issuer-cert: ca\n          publish-issued-certs: yes\n"
    )
}
