//! opencryptoki's soft token. Its paths are compiled in and its slot daemon is one per machine; so each test
//! gets both in mount, IPC and process namespaces of its own, which end with it. That takes root.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Tokens, pkcs11_tool, said};

const SLOTS: usize = 3;
/// The security officer's PIN of every new token.
const FACTORY_PIN: &str = "87654321";

pub(super) fn configure(directory: &Path) -> Result<()> {
    let root = directory.join("opencryptoki");
    let mut text = String::from("version opencryptoki-3.1\n");
    for slot in 0..SLOTS {
        write!(text, "slot {slot}\n{{\nstdll = libpkcs11_sw.so\ntokname = slot{slot}\n}}\n")?;
        fs::create_dir_all(root.join(format!("lib/slot{slot}/TOK_OBJ")))?;
        fs::create_dir_all(root.join(format!("run/lock/opencryptoki/slot{slot}")))?;
    }
    for folder in ["etc", "shm", "log"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/opencryptoki.conf"), text)?;
    Ok(fs::write(enter(directory), ENTER)?)
}

pub(super) fn launcher(directory: &Path) -> Vec<OsString> {
    let namespaces = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut launcher: Vec<OsString> = namespaces.into_iter().map(OsString::from).collect();
    launcher.extend(["sh".into(), enter(directory).into(), directory.join("opencryptoki").into()]);
    launcher
}

pub(super) fn init(tokens: &Tokens, slot: usize, label: &str, pin: &str) -> Result<()> {
    const FIRST: &str = "31415926";
    pkcs11_tool::init(tokens, slot, label, FACTORY_PIN, FIRST)?;
    // A PIN that the security officer gave lasts until the first login.
    let mut change = pkcs11_tool::command(tokens)?;
    change.arg("--slot").arg(slot.to_string()).args(["--login", "--pin", FIRST, "--change-pin"]);
    said("opensc", change.args(["--new-pin", pin])).map(drop)
}

pub(super) fn spoil() -> Result<()> {
    // Only this process and its children see that.
    Ok(fs::remove_file("/run/pkcsslotd.socket")?)
}

fn enter(directory: &Path) -> PathBuf {
    directory.join("opencryptoki-enter")
}

/// Runs a command beside a slot daemon, both with files of their own where opencryptoki looks for them.
const ENTER: &str = r#"set -eu
root=$1
shift
chgrp -R pkcs11 "$root"
chmod -R g+rwX "$root"
mkdir -p /var/log/opencryptoki
mount --bind "$root/etc" /etc/opencryptoki
mount --bind "$root/lib" /var/lib/opencryptoki
mount --bind "$root/log" /var/log/opencryptoki
mount --bind "$root/shm" /dev/shm
mount --bind "$root/run" /run
/usr/sbin/pkcsslotd -f >"$root/log/daemon" 2>&1 &
daemon=$!
waited=0
until [ -S /run/pkcsslotd.socket ]; do
    waited=$((waited + 1))
    [ "$waited" -lt 200 ] || { cat "$root/log/daemon" >&2; exit 1; }
    sleep 0.05
done
status=0
"$@" || status=$?
kill "$daemon"
exit "$status"
"#;
