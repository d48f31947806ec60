//! The program itself: its command line and exit status.

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

const GOOD: &str = "[milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.test.invalid\"\n";

fn run(config: &str, arguments: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hsmime.toml");
    fs::write(&file, config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_hsmime-milter"))
        .arg("--config")
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn check_config_prints_what_came_out() {
    let output = run(GOOD, &["check-config"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{:?}", output.stderr);
    assert!(text.contains("inet:127.0.0.1:8890") && text.contains("mx.test.invalid"), "{text}");
}

#[test]
fn what_cannot_start_says_why_and_exits_with_2() {
    for (config, reason) in [
        ("", "[milter]"),
        ("[milter]\nlisten = \"8890\"\nauthserv-id = \"mx\"\n", "line 2"),
        (&format!("{GOOD}[log]\nfilter = \"milter=loud\"\n"), "filter"),
        (&format!("{GOOD}surprise = 1\n"), "surprise"),
    ] {
        for arguments in [&["check-config"][..], &[]] {
            let output = run(config, arguments);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{config}: {text}");
            assert!(text.starts_with("hsmime-milter: cannot start: ") && text.contains(reason), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_hsmime-milter"))
        .args(["--config", "/nonexistent/hsmime.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent/hsmime.toml"));
}
