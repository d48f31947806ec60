//! `hsmime token bench` as an administrator runs it, on a SoftHSM token.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use testkit::{Context, Lab, Result, command, command::Finished, ensure, wait};

fn bench(lab: &Lab, arguments: &[&str]) -> Result<Command> {
    let config = lab.workdir.file("hsmime.toml", lab.config.to_toml())?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime"));
    command
        .envs(lab.token.environment()?)
        .arg("--config")
        .arg(config)
        .args(["token", "bench"])
        .args(arguments);
    Ok(command)
}

fn run(lab: &Lab, arguments: &[&str]) -> Result<Finished> {
    command::finish("hsmime", &mut bench(lab, arguments)?)
}

/// Key, use, number of points of each series.
fn series(token: &Value) -> Vec<(&str, &str, usize)> {
    let all = token["series"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(summary).collect()
}

fn summary(series: &Value) -> (&str, &str, usize) {
    let text = |name| series[name].as_str().unwrap_or_default();
    (text("key"), text("use"), series["points"].as_array().map_or(0, Vec::len))
}

#[test]
fn rates_are_told_of_every_kind_of_key_and_what_it_does() -> Result<()> {
    let lab = Lab::new("bench-rates")?;
    let finished = run(&lab, &["--seconds", "0.2", "--max-threads", "2", "--json"])?;
    ensure!(finished.success() && finished.stderr.is_empty(), "{finished:?}");
    let found: Value = serde_json::from_slice(&finished.stdout)?;
    let token = &found["tokens"][0];
    // Alice's and Bob's keys are of one kind.
    let rsa = ["sign", "sign PSS", "decrypt", "decrypt OAEP"].map(|used| ("RSA 2048", used, 2));
    let ec = ["sign", "agree"].map(|used| ("EC P-256", used, 2));
    ensure!(series(token) == [&rsa[..], &ec].concat(), "{found:#}");
    for one in token["series"].as_array().context("no series")? {
        for (number, point) in one["points"].as_array().context("no points")?.iter().enumerate() {
            let rate = point["per_second"].as_f64().unwrap_or_default();
            let [p50, p99] = ["p50_ms", "p99_ms"].map(|name| point[name].as_f64().unwrap_or_default());
            ensure!(point["threads"] == number + 1 && rate >= 5.0 && 0.0 < p50 && p50 <= p99, "{one:#}");
        }
    }
    let recommended = token["recommended_sessions"].as_u64();
    ensure!(matches!(recommended, Some(1 | 2)) && token["configured_sessions"] == 4, "{found:#}");

    let table = run(&lab, &["--seconds", "0.1", "--max-threads", "1"])?;
    let text = table.text();
    ensure!(table.success() && text.contains("recommended: sessions = 1 (configured: 4)\n"), "{table:?}");
    let row = text.lines().find(|line| line.starts_with("EC P-256  sign"));
    ensure!(row.is_some_and(|row| row.ends_with("<- enough")), "{table:?}");
    Ok(())
}

#[test]
fn temporary_keys_leave_nothing_on_the_token() -> Result<()> {
    let lab = Lab::new("bench-generate")?;
    let before = lab.token.objects()?.text();
    let finished =
        run(&lab, &["--seconds", "0.1", "--max-threads", "1", "--json", "--generate=rsa3072,p384"])?;
    ensure!(finished.success(), "{finished:?}");
    let found: Value = serde_json::from_slice(&finished.stdout)?;
    let expected = [
        ("RSA 3072", "sign", 1),
        ("RSA 3072", "sign PSS", 1),
        ("RSA 3072", "decrypt", 1),
        ("RSA 3072", "decrypt OAEP", 1),
        ("EC P-384", "sign", 1),
        ("EC P-384", "agree", 1),
    ];
    ensure!(series(&found["tokens"][0]) == expected, "{found:#}");
    ensure!(lab.token.objects()?.text() == before, "{}", lab.token.objects()?.text());
    Ok(())
}

#[test]
fn an_interrupted_measurement_tells_what_it_has() -> Result<()> {
    let lab = Lab::new("bench-interrupted")?;
    let mut command = bench(&lab, &["--seconds", "2", "--generate=p256", "--json"])?;
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let id = child.id().to_string();
    // When two threads measure, the rate of one is known.
    let limit = Duration::from_mins(1);
    wait::until("the second rate", limit, || Ok((threads(&id, "measure") >= 2).then_some(())))?;
    command::succeed("procps", Command::new("kill").args(["-INT", &id]))?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && text.is_empty(), "{:?} {text}", output.status);
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let token = &found["tokens"][0];
    ensure!(token["interrupted"] == true, "{found:#}");
    ensure!(matches!(series(token)[..], [("EC P-256", "sign", 1..)]), "{found:#}");
    Ok(())
}

#[test]
fn a_token_without_a_fitting_key_is_told_what_to_do() -> Result<()> {
    let mut lab = Lab::new("bench-none")?;
    lab.config.identities.clear();
    let finished = run(&lab, &["--seconds", "0.1"])?;
    let expected = "token \"mail\" has no key of an [[identity]]; say --generate";
    ensure!(finished.code() == Some(1) && finished.stderr.contains(expected), "{finished:?}");
    Ok(())
}

/// How many threads of that name a process has.
fn threads(id: &str, name: &str) -> usize {
    let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else { return 0 };
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}
