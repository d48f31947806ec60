//! What `hsmime doctor` says of the Postfix that asks the milter, by its own `postconf`.

use std::{fs, process::Command};

use testkit::{Lab, Result, command, ensure};

#[test]
fn the_doctor_knows_what_postfix_does_while_the_milter_is_down() -> Result<()> {
    let lab = Lab::new("postfix")?;
    let mut config = lab.config.clone();
    config.listen = "inet:127.0.0.1:8890".to_owned();
    config.rules.clear();
    let wished = config.to_toml();
    config.rules = vec![("alice@example.org".to_owned(), "required".to_owned())];
    let required = config.to_toml();
    let folder = lab.workdir.join("postfix");
    fs::create_dir(&folder)?;
    let ours = "inet:127.0.0.1:8890";
    let smtpd = "smtp inet n - n - - smtpd\n";
    let submission = format!("{smtpd}submission inet n - n - - smtpd\n -o smtpd_milters={ours}\n");
    for (config, main, master, expected) in [
        (&required, format!("smtpd_milters = {ours}\n"), smtpd, ""),
        (
            &required,
            format!("smtpd_milters = {ours}\nmilter_default_action = accept\n"),
            smtpd,
            "FAIL  postfix: smtpd_milters: while this milter does not answer, mail is accepted (accept), so what must be",
        ),
        (
            &required,
            format!("non_smtpd_milters = {{ {ours}, default_action=quarantine }}\n"),
            smtpd,
            "FAIL  postfix: non_smtpd_milters: while this milter does not answer, mail is held, and accepted as soon as",
        ),
        (
            &required,
            "action = accept\nmilter_default_action = $action\n".to_owned(),
            submission.as_str(),
            "FAIL  postfix: submission/inet/smtpd_milters: while this milter does not answer, mail is accepted",
        ),
        (
            &wished,
            format!("smtpd_milters = {ours}\nmilter_default_action = accept\n"),
            smtpd,
            "WARN  postfix: smtpd_milters: while this milter does not answer, mail is accepted",
        ),
    ] {
        fs::write(folder.join("main.cf"), format!("compatibility_level = 3.6\n{main}"))?;
        fs::write(folder.join("master.cf"), master)?;
        let file = lab.workdir.file("hsmime.toml", config)?;
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_hsmime"));
        doctor.envs(lab.token.environment()?).env("MAIL_CONFIG", &folder).arg("--config").arg(file);
        let doctor = command::finish("hsmime", doctor.arg("doctor"))?;
        let shown = doctor.text().replace("\n      ", " ");
        let found = shown.lines().find(|line| line.contains("while this milter")).unwrap_or_default();
        ensure!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{main}: {shown}");
        ensure!(doctor.success() != expected.starts_with("FAIL"), "{main}: {doctor:?}");
    }
    Ok(())
}
