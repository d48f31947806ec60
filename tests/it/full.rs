//! What nobody can have been told is no success: each program with its output on a full disk.

use std::{fs::File, process::Command};

use testkit::{Lab, programs};

#[test]
fn what_cannot_be_written_is_said_and_no_success() {
    let mut lab = Lab::new("full").unwrap();
    lab.config.keyd_socket = Some(lab.workdir.join("keyd.sock"));
    let config = lab.write_config().unwrap();
    let audit = lab.workdir.file("audit.jsonl", "").unwrap();
    let mail = lab.workdir.file("one.eml", "From: a@b.invalid\n\nHello.\n").unwrap();
    let [audit, mail] = [&audit, &mail].map(|path| path.to_str().unwrap());
    for (program, arguments, code) in [
        ("hsmime", &["--help"][..], 1),
        ("hsmime", &["token", "bench", "--help"], 1),
        ("hsmime", &["help", "cert"], 1),
        ("hsmime", &["--version"], 1),
        ("hsmime", &["doctor"], 1),
        ("hsmime", &["doctor", "--json"], 1),
        ("hsmime", &["audit", "check", audit], 1),
        ("hsmime-milter", &["--help"], 2),
        ("hsmime-milter", &["--version"], 2),
        ("hsmime-milter", &["check-config"], 2),
        ("hsmime-keyd", &["--help"], 2),
        ("hsmime-keyd", &["--version"], 2),
        ("hsmime-keyd", &["check-config"], 2),
        ("hsmime-keyd", &["check-audit", audit], 2),
        ("hsmime-batch", &["--help"], 2),
        ("hsmime-batch", &["--version"], 2),
        ("hsmime-batch", &["verify", mail, "--report", "-"], 2),
        // A filter ends by the codes of sysexits.h.
        ("hsmime-batch", &["sign", "-", "--help"], 74),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(programs::find(program).unwrap());
        let command = command.envs(lab.token.environment().unwrap()).arg("--config").arg(&config);
        let output = command.args(arguments).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{program} {arguments:?}: {said}");
        let is_said = said.contains("No space left on device") && !said.contains("would not start");
        assert!(is_said && said.contains(&format!("{program}: ")), "{program} {arguments:?}: {said}");
    }
}
