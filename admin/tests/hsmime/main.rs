//! `hsmime` as an administrator runs it: the built program, a SoftHSM token, OpenSSL as the other side.

mod doctor;

use std::{fs, path::Path, process::Command};

use testkit::{Config, Lab, Result, command, command::Finished, config::Identity, ensure};

/// Runs the program with a configuration of this text.
fn hsmime(lab: &Lab, config: &str, arguments: &[&str]) -> Result<Finished> {
    let config = lab.workdir.file("hsmime.toml", config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime"));
    command.envs(lab.token.environment()?).arg("--config").arg(config).args(arguments);
    command::finish("hsmime", &mut command)
}

fn openssl(arguments: &[&str]) -> Result<String> {
    let finished = command::succeed("openssl", Command::new("openssl").args(arguments))?;
    Ok(finished.text() + &finished.stderr)
}

/// The configuration with a cache in the lab's folder.
fn with_cache(lab: &Lab, config: &Config) -> String {
    format!("{}\n[cache]\npath = \"{}\"\n", config.to_toml(), lab.workdir.join("certcache").display())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// What the doctor says, a line for each finding.
fn unfolded(text: &str) -> String {
    text.replace("\n      ", " ")
}

/// The rows of a table whose first words are these.
fn rows<'t>(table: &'t str, beginning: &str) -> Vec<&'t str> {
    table.lines().filter(|line| line.starts_with(beginning)).collect()
}

#[test]
fn a_new_key_becomes_a_request_that_openssl_verifies() -> Result<()> {
    let lab = Lab::new("request")?;
    let config = lab.config.to_toml();
    for (kind, name, wrapping, algorithm) in [
        (["--rsa", "2048"], "rsa", "Key Encipherment", "sha256WithRSAEncryption"),
        (["--ec", "p256"], "p256", "Key Agreement", "ecdsa-with-SHA256"),
        (["--ec", "p384"], "p384", "Key Agreement", "ecdsa-with-SHA384"),
        (["--ec", "p521"], "p521", "Key Agreement", "ecdsa-with-SHA512"),
        // Without a way to wrap keys.
        (["--ec", "ed25519"], "ed25519", "Digital Signature\n", "Signature Algorithm: ED25519"),
    ] {
        let made = hsmime(
            &lab,
            &config,
            &["key", "generate", "--token", "mail", kind[0], kind[1], "--label", name],
        )?;
        ensure!(made.success(), "{made:?}");
        let file = lab.workdir.join(format!("{name}.csr"));
        let request = hsmime(
            &lab,
            &config,
            &[
                "key",
                "csr",
                "--key",
                name,
                "--subject",
                "CN=Alice,O=Example",
                "--address",
                "alice@example.org",
                "--address",
                "a@example.org",
                "--out",
                text(&file),
            ],
        )?;
        ensure!(request.success() && request.text().contains("next: have a CA certify it"), "{request:?}");
        let shown = openssl(&["req", "-verify", "-noout", "-text", "-in", text(&file)])?;
        for expected in [
            "verify OK",
            "email:alice@example.org, email:a@example.org",
            "E-mail Protection",
            "Digital Signature",
            "CN = Alice",
            wrapping,
            algorithm,
        ] {
            ensure!(shown.contains(expected), "{expected:?} is not in {shown}");
        }
        let again = hsmime(&lab, &config, &["key", "generate", "--label", name])?;
        ensure!(again.code() == Some(1) && again.stderr.contains("already"), "{again:?}");
    }
    let listed = hsmime(&lab, &config, &["key", "list"])?;
    ensure!(listed.success(), "{listed:?}");
    let listed = listed.text();
    for expected in [
        "RSA 2048",
        "EC 256",
        "EC 384",
        "EC 521",
        "Ed25519 255",
        "stays on the token",
        "alice.pem",
        "none configured",
    ] {
        ensure!(listed.contains(expected), "{expected:?} is not in {listed}");
    }
    Ok(())
}

#[test]
fn a_key_that_does_not_sign_has_no_request_and_that_is_said() -> Result<()> {
    let lab = Lab::new("agreement")?;
    let config = lab.config.to_toml();
    let made = hsmime(&lab, &config, &["key", "generate", "--ec", "x25519", "--label", "agrees"])?;
    ensure!(made.success() && made.text().contains("cannot sign"), "{made:?}");
    let listed = hsmime(&lab, &config, &["key", "list"])?.text();
    ensure!(listed.contains("X25519 255"), "{listed}");
    let request =
        hsmime(&lab, &config, &["key", "csr", "--key", "agrees", "--address", "alice@example.org"])?;
    ensure!(request.code() == Some(1) && request.stderr.contains("does not sign"), "{request:?}");
    Ok(())
}

#[test]
fn a_request_can_be_made_by_id_goes_to_stdout_and_overwrites_nothing() -> Result<()> {
    let lab = Lab::new("stdout")?;
    let config = lab.config.to_toml();
    let csr = |arguments: &[&str]| {
        let base = ["key", "csr", "--address", "alice@example.org"];
        hsmime(&lab, &config, &[&base[..], arguments].concat())
    };
    // Without a subject the alternative name is critical.
    let by_id = csr(&["--key", "A11CE0"])?;
    ensure!(by_id.success(), "{by_id:?}");
    let file = lab.workdir.file("alice.csr", by_id.text())?;
    let shown = openssl(&["req", "-verify", "-noout", "-text", "-in", text(&file)])?;
    ensure!(shown.contains("verify OK"), "{shown}");
    ensure!(shown.contains("X509v3 Subject Alternative Name: critical"), "{shown}");
    let taken = csr(&["--key", "alice", "--out", text(&file)])?;
    ensure!(taken.code() == Some(1) && taken.stderr.contains("File exists"), "{taken:?}");
    ensure!(fs::read_to_string(&file)? == by_id.text(), "the file was changed");
    for (arguments, expected) in [
        (["--key", "zoe"], "no key has the label or id \"zoe\"; see hsmime key list"),
        (["--key", ""], "no key has the label or id \"\"; see hsmime key list"),
    ] {
        let finished = csr(&arguments)?;
        ensure!(finished.code() == Some(1) && finished.stderr.contains(expected), "{finished:?}");
    }
    Ok(())
}

#[test]
fn keys_are_made_before_there_are_certificates_and_what_is_wrong_elsewhere_is_told() -> Result<()> {
    let lab = Lab::new("first-key")?;
    let more = "[trust]\nanchors = [\"not-yet.pem\"]\n[[identity]]\ncertificate = \"not-yet.pem\"\n";
    let config = lab.config.to_toml();
    let (beginning, _) = config.split_once("[trust]").unwrap_or_default();
    let config = format!("{beginning}{more}");
    for arguments in [
        &["token", "list"][..],
        &["key", "generate", "--rsa", "2048", "--label", "first"],
        &["key", "list"],
        &["key", "csr", "--key", "first", "--address", "first@example.org"],
    ] {
        let done = hsmime(&lab, &config, arguments)?;
        ensure!(done.success(), "{arguments:?}: {done:?}");
        let warnings = done.stderr.lines().filter(|line| line.starts_with("hsmime: warning: /"));
        ensure!(warnings.count() == 2 && done.stderr.contains("not-yet.pem"), "{arguments:?}: {done:?}");
        ensure!(!done.text().contains("warning"), "{done:?}");
    }
    let doctor = hsmime(&lab, &config, &["doctor"])?;
    ensure!(doctor.code() == Some(2), "{doctor:?}");
    Ok(())
}

#[test]
fn a_certificate_made_from_a_request_passes_the_doctor() -> Result<()> {
    let lab = Lab::new("circle")?;
    let mut config = lab.config.clone();
    config.identities = Vec::new();
    let issuing = lab.pki.issuing();
    let issuing_key = issuing.with_extension("key");
    let kinds = [
        ("rsa", ["--rsa", "2048"], "signs, decrypts PKCS#1 v1.5, decrypts OAEP"),
        ("p384", ["--ec", "p384"], "signs, agrees on keys"),
        ("ed25519", ["--ec", "ed25519"], "signs"),
    ];
    for (name, kind, _) in kinds {
        let made = hsmime(&lab, &config.to_toml(), &["key", "generate", kind[0], kind[1], "--label", name])?;
        ensure!(made.success(), "{made:?}");
        let (subject, address) = (format!("CN={name}"), format!("{name}@example.org"));
        let arguments = ["key", "csr", "--key", name, "--subject", &subject, "--address", &address];
        let request = hsmime(&lab, &config.to_toml(), &arguments)?;
        let request = lab.workdir.file(&format!("{name}.csr"), request.text())?;
        let certificate = lab.workdir.join(format!("{name}.pem"));
        let copy = ["x509", "-req", "-copy_extensions", "copy", "-days", "300", "-in", text(&request)];
        let sign = ["-CA", text(&issuing), "-CAkey", text(&issuing_key), "-out", text(&certificate)];
        openssl(&[&copy[..], &sign].concat())?;
        config.identities.push(Identity { certificate, chain: issuing.clone(), logins: Vec::new() });
    }
    let doctor = hsmime(&lab, &config.to_toml(), &["doctor"])?;
    ensure!(doctor.success(), "{doctor:?}");
    let shown = unfolded(&doctor.text());
    for (name, _, abilities) in kinds {
        let found = rows(&shown, &format!("OK    key of {name}@example.org"));
        let ends = format!("on token \"mail\": {abilities}");
        ensure!(found.len() == 1 && found[0].ends_with(&ends), "{shown}");
    }
    ensure!(rows(&shown, "WARN  key").is_empty(), "{shown}");
    ensure!(shown.contains("leads to \"CN=root"), "{shown}");
    Ok(())
}

#[test]
fn certificates_are_imported_listed_and_counted() -> Result<()> {
    let lab = Lab::new("import")?;
    let config = with_cache(&lab, &lab.config);
    let chain = fs::read_to_string(&lab.erin.certificate)? + &fs::read_to_string(lab.pki.issuing())?;
    let with_chain = lab.workdir.file("erin-chain.pem", chain)?;
    let junk = lab.workdir.file("junk.pem", "no certificate")?;
    let import = ["cert", "import", text(&lab.alice.certificate), text(&with_chain), text(&junk)];
    let imported = hsmime(&lab, &config, &import)?;
    // One file failed and is named; the others were taken.
    ensure!(imported.code() == Some(1), "{imported:?}");
    let shown = imported.text();
    for (name, expected) in [
        ("/alice.pem", "  new"),
        ("/junk.pem", "FAILED: it is neither PEM, DER, PKCS#7, PKCS#12 nor LDIF"),
        ("/erin-chain.pem", "new, a CA's"),
    ] {
        let found = shown.lines().any(|line| line.contains(name) && line.contains(expected));
        ensure!(found, "{name} {expected:?} is not in {shown}");
    }
    let trusted = shown.lines().any(|line| line.contains("erin@partner.example") && line.ends_with("  new"));
    ensure!(trusted, "{shown}");
    let again = hsmime(&lab, &config, &import[..3])?;
    ensure!(again.success() && again.text().contains("known already"), "{again:?}");

    let listed = hsmime(&lab, &config, &["cert", "list"])?;
    ensure!(listed.success() && listed.text().lines().count() == 4, "{listed:?}");
    let listed = hsmime(&lab, &config, &["cert", "list", "--address", "ERIN@partner.example"])?.text();
    ensure!(listed.lines().count() == 2 && listed.ends_with("imported  accepted\n"), "{listed}");
    let stat = hsmime(&lab, &config, &["cache", "stat"])?.text();
    ensure!(stat.contains("certificates  3\naddresses     2\nknown absent  0\n"), "{stat}");
    Ok(())
}

#[test]
fn an_error_is_one_line_and_its_code_says_whether_anything_was_tried() -> Result<()> {
    let lab = Lab::new("errors")?;
    let config = lab.config.to_toml();
    let no_token = "[log]\nformat = \"text\"\n".to_owned();
    for (config, arguments, code, expected) in [
        (&config, &["cert", "list"][..], 1, "there is no [cache] in "),
        (&config, &["key", "list", "--token", "post"], 1, "say --token with one of \"mail\""),
        (&no_token, &["key", "list"], 1, "there is no [[token]] in "),
        (&no_token, &["token", "list"], 1, "name a module with --module"),
        (&no_token, &["token", "list", "--module", "/nowhere.so"], 1, "/nowhere.so cannot be loaded"),
        (&config, &["key", "generate", "--rsa", "1024", "--label", "x"], 1, "choose 2048, 3072 or 4096"),
        (&config, &["key", "csr", "--key", "alice", "--address", "x@y", "--subject", "Alice"], 1, "CN=Alice"),
        (&config.replace("sessions", "sesions"), &["key", "list"], 2, "line 5: unknown key `sesions`"),
        (&config, &["key", "csr", "--key", "alice", "--address", "alice"], 2, "there is no @"),
    ] {
        let finished = hsmime(&lab, config, arguments)?;
        ensure!(finished.code() == Some(code), "{arguments:?}: {finished:?}");
        ensure!(finished.stderr.contains(expected), "{arguments:?}: {expected:?} is not in {finished:?}");
        let lines = finished.stderr.lines().count();
        ensure!(lines == 1 || finished.stderr.starts_with("error: "), "{arguments:?}: {finished:?}");
    }
    let mut absent = Command::new(env!("CARGO_BIN_EXE_hsmime"));
    let absent = command::finish("hsmime", absent.args(["--config", "/nowhere/hsmime.toml", "key", "list"]))?;
    let expected = "hsmime: cannot read the configuration /nowhere/hsmime.toml: No such file or directory \
                    (os error 2); to begin with one, copy contrib/hsmime.toml, which hsmime.toml(5) shows, or name another \
                    with --config\n";
    ensure!((absent.code(), absent.stderr.as_str()) == (Some(2), expected), "{absent:?}");
    let full = fs::File::options().write(true).open("/dev/full")?;
    let mut unwritten = Command::new(env!("CARGO_BIN_EXE_hsmime"));
    unwritten.args(["token", "list", "--module", "/usr/lib/softhsm/libsofthsm2.so"]).stdout(full);
    let unwritten = unwritten.envs(lab.token.environment()?).output()?;
    let said = String::from_utf8_lossy(&unwritten.stderr);
    ensure!(unwritten.status.code() == Some(1) && said.contains("cannot write the output"), "{unwritten:?}");
    let listed = hsmime(&lab, &no_token, &["token", "list", "--module", "/usr/lib/softhsm/libsofthsm2.so"])?;
    ensure!(listed.success(), "{listed:?}");
    let shown = listed.text();
    ensure!(shown.lines().any(|line| line.contains(" mail ") && line.contains("  ready  ")), "{shown}");
    Ok(())
}
