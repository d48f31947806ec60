//! The program itself: its command line and exit status.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::child::eventually;

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
        for (arguments, what) in [(&["check-config"][..], "it would not start"), (&[], "cannot start")] {
            let output = run(config, arguments);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{config}: {text}");
            assert!(text.starts_with(&format!("hsmime-milter: {what}: ")) && text.contains(reason), "{text}");
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

#[test]
fn root_does_not_open_the_cache_of_another() {
    if !geteuid().is_root() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    chown(&cache, Some(4711), None).unwrap();
    let (file, socket) = (folder.path().join("hsmime.toml"), folder.path().join("m.sock"));
    let config = GOOD.replace("inet:127.0.0.1:8890", &format!("unix:{}", socket.display()));
    fs::write(&file, format!("{config}[cache]\npath = \"cache\"\n")).unwrap();
    let mut command = Command::new("timeout");
    command.args(["30", env!("CARGO_BIN_EXE_hsmime-milter"), "--config"]).arg(&file);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("name a `user` in [milter]") && text.contains("runuser -u 4711 -- "), "{text}");
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
}

#[test]
fn it_serves_a_socket_alone_until_it_is_told_to_stop() {
    let folder = TempDir::new().unwrap();
    let (file, socket) = (folder.path().join("hsmime.toml"), folder.path().join("m.sock"));
    let config = GOOD.replace("inet:127.0.0.1:8890", &format!("unix:{}", socket.display()));
    fs::write(&file, format!("{config}socket-mode = \"640\"\n[log]\nformat = \"json\"\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime-milter"));
    command.arg("--config").arg(&file);

    let first = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| UnixStream::connect(&socket).ok());
    eventually(|| {
        Some(fs::metadata(&socket).unwrap().permissions().mode() & 0o777 == 0o640).filter(|is| *is)
    });
    let second = command.output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8(second.stderr).unwrap().contains("another process"));

    let id = i32::try_from(first.id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    let first = first.wait_with_output().unwrap();
    let log = String::from_utf8(first.stderr).unwrap();
    assert!(first.status.success(), "{log}");
    assert!(!socket.exists());
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
    assert!(log.contains("\"message\":\"started\"") && log.contains("\"message\":\"stopped\""), "{log}");
}

#[test]
fn a_limit_of_open_files_below_max_connections_is_told_at_the_start_and_it_serves_all_the_same() {
    let folder = TempDir::new().unwrap();
    let (file, socket) = (folder.path().join("hsmime.toml"), folder.path().join("m.sock"));
    fs::write(&file, GOOD.replace("inet:127.0.0.1:8890", &format!("unix:{}", socket.display()))).unwrap();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 256 && exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_hsmime-milter"),
        "--config",
    ]);
    let milter = command.arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| UnixStream::connect(&socket).ok());
    kill_process(Pid::from_raw(i32::try_from(milter.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    let ended = milter.wait_with_output().unwrap();
    let log = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{log}");
    let told = "the limit of open files is too low for max-connections limit=256 needed=1088";
    assert_eq!(log.matches(told).count(), 1, "{log}");
}
