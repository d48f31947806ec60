//! Who the process runs as: a milter that is started as root becomes the user that the configuration names.

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
use std::ffi::CString;
use tracing::warn;

/// Becomes this user, for good. To be called before the process has a second thread, opens a socket or reads mail.
pub(crate) fn drop_to(user: Option<&str>) -> Result<()> {
    let Some(name) = user else {
        if geteuid().is_root() {
            warn!("the milter runs as root: name a `user` in [milter]");
        }
        return Ok(());
    };
    let user = User::from_name(name).ok().flatten();
    let user = user.with_context(|| format!("there is no user {name:?} (`user` in [milter])"))?;
    if geteuid() == user.uid {
        return Ok(());
    }
    ensure!(geteuid().is_root(), "only root can become the user {name:?} (`user` in [milter])");
    // The user last: who is not root any more cannot change groups.
    initgroups(&CString::new(name)?, user.gid).with_context(|| format!("groups of {name}"))?;
    setgid(user.gid).with_context(|| format!("the group of {name}"))?;
    setuid(user.uid).with_context(|| format!("user {name}"))?;
    ensure!(user.uid.is_root() || setuid(nix::unistd::Uid::from_raw(0)).is_err(), "root was not given up");
    Ok(())
}
