//! Mistakes in the configuration are told by file, line, key and what was meant.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use testkit::{Lab, programs, wait};

#[test]
fn a_typo_is_told_with_file_line_key_and_what_was_meant_by_every_program() {
    let lab = Lab::new("typo").unwrap();
    let toml = lab.config.to_toml().replace("trusted-networks", "trusted-netwoks");
    let line = 1 + toml.lines().position(|line| line.starts_with("trusted-netwoks")).unwrap();
    let config = lab.workdir.file("typo.toml", toml).unwrap();
    let input = lab.workdir.file("empty.mbox", "").unwrap();
    let output = lab.workdir.join("out.mbox");
    for (program, arguments, code) in [
        ("hsmime-milter", vec!["check-config"], 2),
        ("hsmime-milter", vec![], 2),
        ("hsmime-batch", vec!["sign", input.to_str().unwrap(), "--output", output.to_str().unwrap()], 2),
        ("hsmime", vec!["doctor"], 2),
        // It needs the tokens only.
        ("hsmime", vec!["token", "list"], 0),
    ] {
        let finished = programs::run(program, &lab.token, &config, &arguments).unwrap();
        assert_eq!(finished.code(), Some(code), "{program} {arguments:?}: {finished:?}");
        let said = format!("{}{}", finished.text(), finished.stderr);
        for word in [config.to_str().unwrap(), &line.to_string(), "trusted-netwoks", "trusted-networks"] {
            assert!(said.contains(word), "{program} {arguments:?} does not say {word}: {said}");
        }
        assert!(!output.exists());
    }
}

#[test]
fn a_good_configuration_is_shown_without_secrets() {
    let lab = Lab::new("good").unwrap();
    let config = lab.write_config().unwrap();
    let finished = programs::run("hsmime-milter", &lab.token, &config, &["check-config"]).unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let said = finished.text();
    for word in [Lab::AUTHSERV_ID, &lab.config.listen, &lab.alice.address, "*@example.org"] {
        assert!(said.contains(word), "{word} is not shown: {said}");
    }
    assert!(!said.contains(testkit::softhsm::SoftHsm::PIN), "{said}");
}

/// Starts the milter and waits until it says `word`, whether it stays or ends.
fn assert_told(lab: &Lab, what: &str, word: &str) {
    match lab.start_milter() {
        Ok(milter) => {
            let told = || Ok(milter.log().contains(word).then_some(()));
            let waited = wait::until("the word", Duration::from_secs(10), told);
            assert!(waited.is_ok(), "{what}: {word} is not named: {}", milter.log());
            assert!(!milter.log().contains("panicked"), "{what}: {}", milter.log());
        }
        Err(error) => {
            let error = format!("{error:#}");
            assert!(error.contains(word), "{what}: {word} is not named: {error}");
            assert!(error.contains("exit status: 2"), "{what}: {error}");
        }
    }
}

#[test]
fn what_cannot_work_is_told_at_the_start() {
    type Spoil = fn(&mut testkit::Config);
    let mut lab = Lab::new("start").unwrap();
    let good = lab.config.clone();
    let spoilt: [(&str, Spoil, &str); 6] = [
        ("no such module", |config| config.module = "/nonexistent.so".into(), "/nonexistent.so"),
        ("not a module", |config| config.module = "/etc/hostname".into(), "/etc/hostname"),
        ("no such token", |config| config.label = "elsewhere".into(), "elsewhere"),
        ("no PIN file", |config| config.pin_file = "/nonexistent/pin".into(), "/nonexistent/pin"),
        (
            "no certificate",
            |config| config.identities[0].certificate = "/nonexistent/alice.pem".into(),
            "/nonexistent/alice.pem",
        ),
        (
            "a place that cannot be listened at",
            |config| config.listen = "unix:/nonexistent/m.sock".into(),
            "/nonexistent/m.sock",
        ),
    ];
    for (what, spoil, word) in spoilt {
        lab.config = good.clone();
        spoil(&mut lab.config);
        assert_told(&lab, what, word);
    }
}

#[test]
fn a_pin_that_everybody_may_read_is_refused_by_milter_and_keyd() {
    let mut lab = Lab::new("openpin").unwrap();
    let pin = lab.token.pin_file().to_owned();
    let allow = |mode| fs::set_permissions(&pin, fs::Permissions::from_mode(mode)).unwrap();
    let keyd_socket = Some(lab.workdir.join("keyd.sock"));
    for mode in [0o644, 0o604, 0o666] {
        allow(mode);
        for (daemon, socket) in [("hsmime-milter", None), ("hsmime-keyd", keyd_socket.clone())] {
            lab.config.keyd_socket = socket;
            let config = lab.write_config().unwrap();
            let finished = programs::run(daemon, &lab.token, &config, &[]).unwrap();
            assert_eq!(finished.code(), Some(2), "{daemon}, {mode:o}: {finished:?}");
            for word in ["pin-file", pin.to_str().unwrap(), "chmod o=", &format!("{mode:o}")] {
                assert!(finished.stderr.contains(word), "{daemon} does not say {word}: {finished:?}");
            }
        }
    }
    allow(0o640);
    lab.config.keyd_socket = None;
    let running = lab.start_milter().unwrap();
    assert!(!running.log().contains("chmod"), "{}", running.log());
}
