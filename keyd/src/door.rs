//! Who may come in: clients by the user and group that the kernel says their process has.

use std::os::unix::net::UnixStream;

use agent::settings::{Keyd, KeydClient, Peer};
use anyhow::{Context as _, Result};
use rustix::net::sockopt::socket_peercred;

use crate::users;

/// All clients, their names resolved.
pub(crate) struct Door {
    clients: Vec<(Who, KeydClient)>,
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
    pub(crate) process: i32,
}

impl Credentials {
    pub(crate) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let peer = socket_peercred(stream)?;
        let process = peer.pid.as_raw_nonzero().get();
        Ok(Self { user: peer.uid.as_raw(), group: peer.gid.as_raw(), process })
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
        Ok(Self { clients: keyd.clients.iter().map(of).collect::<Result<_>>()? })
    }

    /// The first client that a process matches.
    pub(crate) fn client(&self, peer: Credentials) -> Option<&KeydClient> {
        let matches = |who: &Who| match who {
            Who::User(user) => *user == peer.user,
            Who::Group(group) => *group == peer.group,
        };
        self.clients.iter().find(|(who, _)| matches(who)).map(|(_, client)| client)
    }
}
