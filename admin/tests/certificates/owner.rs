//! Root and the cache of another user: whoever may write to what a process maps can do in it what the process may.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, fcntl_lock},
    process::geteuid,
};
use testkit::{Result, ensure};

use crate::{Desk, bob};

const STRANGER: u32 = 4711;

/// A cache with bob's certificate that belongs to somebody else; `None` where this is not root.
fn desk_of_another(name: &str) -> Result<Option<Desk>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let desk = Desk::new(name, "")?;
    desk.issue(&bob())?;
    ensure!(desk.run("cert import bob.pem --pin")?.success(), "no import");
    give(&desk.workdir.join("cache"))?;
    Ok(Some(desk))
}

fn give(folder: &Path) -> Result<()> {
    chown(folder, Some(STRANGER), Some(STRANGER))?;
    for entry in fs::read_dir(folder)? {
        chown(entry?.path(), Some(STRANGER), Some(STRANGER))?;
    }
    Ok(())
}

/// Which processes have a file open, as `/proc/…/status` tells of them.
fn who_has(file: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let others = processes.map(|entry| entry.path()).filter(|process| {
        let number = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        number.is_some_and(|number| number != std::process::id())
    });
    let has = |process: &std::path::PathBuf| {
        let mut open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        open.any(|open| fs::read_link(open.path()).is_ok_and(|to| to == file))
    };
    others.filter(has).filter_map(|process| fs::read_to_string(process.join("status")).ok()).collect()
}

fn started(desk: &Desk, line: &str) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime"));
    command.arg("--config").arg(desk.workdir.join("hsmime.toml")).current_dir(desk.workdir.path());
    command.args(line.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

#[test]
fn no_process_that_is_or_may_be_root_has_the_cache_of_another_open() -> Result<()> {
    let Some(desk) = desk_of_another("of-another")? else { return Ok(()) };
    let lock = desk.workdir.join("cache/lock.mdb");
    desk.workdir.file("mail.mbox", "From a Mon\nFrom: a@b.example\nTo: bob@partner.example\n\nx\n")?;
    for line in [
        "cert list",
        "cert import bob.pem",
        "cert rules",
        "cert check",
        "cache stat",
        "cache sweep",
        "cache check",
        "cache export --out all.jsonl",
        "cache backup copy",
        "cache import all.jsonl",
        "explain bob@partner.example",
        "explain --from a@b.example --to bob@partner.example",
        "replay mail.mbox",
        "doctor",
    ] {
        // Whoever opens the cache waits for this.
        let held = File::options().read(true).write(true).open(&lock)?;
        fcntl_lock(&held, FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
        let child = started(&desk, line)?;
        let begin = Instant::now();
        let waiting = loop {
            // It is opened twice, the second time to stay.
            sleep(Duration::from_millis(30));
            let waiting = who_has(&lock);
            if !waiting.is_empty() || begin.elapsed() > Duration::from_secs(20) {
                break waiting;
            }
        };
        drop(held);
        let ended = child.wait_with_output()?;
        ensure!(waiting.len() == 1, "{line}: {waiting:?} {ended:?}");
        for (what, expected) in [
            ("Uid:", "4711 4711 4711 4711"),
            ("Gid:", "4711 4711 4711 4711"),
            ("Groups:", ""),
            ("CapPrm:", "0000000000000000"),
            ("CapEff:", "0000000000000000"),
        ] {
            let status = waiting.iter().flat_map(|status| status.lines());
            let found = status.filter_map(|text| text.strip_prefix(what)).collect::<String>();
            let found: Vec<_> = found.split_whitespace().collect();
            ensure!(found.join(" ") == expected, "{line}: {what} {found:?}");
        }
        ensure!(ended.status.success(), "{line}: {ended:?}");
        if line == "doctor" {
            let said = String::from_utf8_lossy(&ended.stdout);
            ensure!(said.contains(": 2 certificates"), "{said}");
        }
    }
    Ok(())
}

#[test]
fn what_only_root_may_read_or_make_root_still_can() -> Result<()> {
    let Some(desk) = desk_of_another("of-another-files")? else { return Ok(()) };
    let roots = desk.workdir.directory("roots")?;
    fs::set_permissions(&roots, fs::Permissions::from_mode(0o700))?;
    fs::rename(desk.workdir.join("bob.pem"), roots.join("bob.pem"))?;
    fs::copy(desk.pki.root(), roots.join("root.pem"))?;
    for line in [
        "cert import roots/bob.pem",
        "cert distrust --issuer roots/root.pem",
        "cache export --out roots/all.jsonl",
        "cache import roots/all.jsonl",
        "cache backup roots/copy",
    ] {
        let done = desk.run(line)?;
        ensure!(done.success(), "{line}: {done:?}");
    }
    for name in ["all.jsonl", "copy", "copy/data.mdb"] {
        ensure!(fs::metadata(roots.join(name))?.uid() == 0, "{name}");
    }
    for name in ["data.mdb", "lock.mdb", "decided.jsonl"] {
        ensure!(fs::metadata(desk.workdir.join("cache").join(name))?.uid() == STRANGER, "{name}");
    }
    // The copy is root's own cache.
    fs::remove_dir_all(desk.workdir.join("cache"))?;
    fs::rename(roots.join("copy"), desk.workdir.join("cache"))?;
    ensure!(desk.json("cache stat --json")?["certificates"] == 2, "the copy");
    Ok(())
}

#[test]
fn root_is_told_as_whom_something_was_not_permitted() -> Result<()> {
    let Some(desk) = desk_of_another("of-another-told")? else { return Ok(()) };
    let box_of_root = desk.workdir.directory("box/cur")?;
    fs::write(box_of_root.join("1"), "From: a@b.example\n\nx\n")?;
    fs::set_permissions(&box_of_root, fs::Permissions::from_mode(0o700))?;
    let denied = desk.run("replay box")?;
    let told = "this is done as 4711, whose the certificate cache is: runuser -u 4711 -- hsmime";
    ensure!(denied.code() == Some(1) && denied.stderr.contains(told), "{denied:?}");
    Ok(())
}
