//! Who may come in: clients by the user and group that the kernel says their process has.

use std::os::unix::net::UnixStream;

use agent::settings::{Keyd, KeydClient, Peer, SigningKeys};
use anyhow::{Context as _, Result};
use nix::sys::socket::{getsockopt, sockopt};

use crate::users;

/// All clients, their names resolved.
pub(crate) struct Door {
    clients: Vec<(Who, KeydClient)>,
    signing_keys: SigningKeys,
}

enum Who {
    User(u32),
    Group(u32),
}

/// A process at the other end of a socket, as it was when it connected (unix(7), SO_PEERCRED).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credentials {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// 0: it is in a PID namespace that this process does not see (pid_namespaces(7)).
    pub(crate) process: i32,
}

impl Credentials {
    pub(crate) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let peer = getsockopt(stream, sockopt::PeerCredentials)?;
        Ok(Self { user: peer.uid(), group: peer.gid(), process: peer.pid() })
    }
}

impl Door {
    /// Resolves the clients' names.
    pub(crate) fn new(keyd: &Keyd) -> Result<Self> {
        let of = |client: &KeydClient| {
            let who = match &client.peer {
                Peer::User(name) => users::user(name).map(Who::User),
                Peer::Group(name) => users::group(name).map(Who::Group),
            };
            let who = who.with_context(|| format!("[[keyd.client]] in line {}", client.line))?;
            Ok((who, client.clone()))
        };
        let clients = keyd.clients.iter().map(of).collect::<Result<_>>()?;
        Ok(Self { clients, signing_keys: keyd.signing_keys() })
    }

    /// The first client that a process matches.
    pub(crate) fn client(&self, peer: Credentials) -> Option<&KeydClient> {
        let matches = |who: &Who| match who {
            Who::User(user) => *user == peer.user,
            Who::Group(group) => *group == peer.group,
        };
        self.clients.iter().find(|(who, _)| matches(who)).map(|(_, client)| client)
    }

    /// The keys that not everybody may decrypt with.
    pub(crate) fn signing_keys(&self) -> &SigningKeys {
        &self.signing_keys
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env, io,
        os::fd::{AsFd as _, OwnedFd},
        process::Command,
    };

    use super::*;

    #[test]
    fn the_kernel_says_who_the_peer_is() {
        let (own, _other) = UnixStream::pair().unwrap();
        let peer = Credentials::of(&own).unwrap();
        assert_eq!(peer.user, rustix::process::getuid().as_raw());
        assert_eq!(peer.group, rustix::process::getgid().as_raw());
        assert_eq!(u32::try_from(peer.process).unwrap(), std::process::id());
    }

    /// Where namespaces may be made, that is; this is its other half too.
    #[test]
    fn a_peer_in_a_pid_namespace_that_is_not_seen_has_the_number_0() {
        const INSIDE: &str = "KEYD_TEST_INSIDE_A_NAMESPACE";
        if env::var_os(INSIDE).is_some() {
            let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
            assert_eq!(Credentials::of(&stream).unwrap().process, 0);
            return;
        }
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--pid", "--fork"]);
            command
        };
        if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
            return;
        }
        let (inside, _outside) = UnixStream::pair().unwrap();
        let name = "door::tests::a_peer_in_a_pid_namespace_that_is_not_seen_has_the_number_0";
        let mut command = unshare();
        command.arg(env::current_exe().unwrap()).args(["--exact", name]).env(INSIDE, "1");
        assert!(command.stdin(OwnedFd::from(inside)).status().unwrap().success());
    }
}
