//! What OpenSSL says of the same path with the same settings, and with every check of revocation it has.

use std::{fs, process::Command};

use testkit::Workdir;

use crate::{
    run::{at, data},
    table::{Case, Part},
};

/// Why OpenSSL refuses a path, in its words; `Ok` where it does not.
pub(crate) fn path(directory: &Workdir, case: &Case, part: &Part) -> Result<(), String> {
    let pem = |label: &str, folder: &str, names: &[&str], extension: &str| {
        let block = |name: &&str| {
            let base64 = data_encoding::BASE64.encode(&data(folder, &format!("{name}.{extension}")));
            let lines: Vec<&str> =
                base64.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
        };
        names.iter().map(block).collect::<String>()
    };
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let others: Vec<&str> = case.certificates.iter().copied().filter(|name| *name != case.leaf()).collect();
    let mut command = Command::new("openssl");
    command.args([
        "verify",
        "-crl_check_all",
        "-use_deltas",
        "-extended_crl",
        "-policy_check",
        "-purpose",
        "any",
    ]);
    let since = at().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    command.arg("-attime").arg(since.to_string());
    let anchor = pem("CERTIFICATE", "certs", &["TrustAnchorRootCertificate"], "crt");
    command.arg("-CAfile").arg(file("anchor.pem", anchor));
    if !others.is_empty() {
        command.arg("-untrusted").arg(file("others.pem", pem("CERTIFICATE", "certs", &others, "crt")));
    }
    command.arg("-CRLfile").arg(file("crls.pem", pem("X509 CRL", "crls", &case.crls, "crl")));
    for (is_set, option) in [
        (part.policies.explicit_policy, "-explicit_policy"),
        (part.policies.inhibit_policy_mapping, "-inhibit_map"),
        (part.policies.inhibit_any_policy, "-inhibit_any"),
    ] {
        command.args(is_set.then_some(option));
    }
    let wanted = part.policies.initial_policy_set.as_ref();
    let wanted = wanted.map_or(vec!["anyPolicy".into()], |set| set.iter().map(ToString::to_string).collect());
    for policy in wanted {
        command.arg("-policy").arg(policy);
    }
    command.arg(file("leaf.pem", pem("CERTIFICATE", "certs", &[case.leaf()], "crt")));
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // error 12 at 0 depth lookup: CRL has expired
    let reason =
        said.lines().find_map(|line| line.split_once("lookup: ").map(|(_, reason)| reason.to_owned()));
    Err(reason.unwrap_or(said))
}
