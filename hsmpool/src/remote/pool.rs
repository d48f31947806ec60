//! Pools whose tokens are elsewhere: behind a socket, or in processes of their own.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    child::{ChildConnector, Program},
    client::Remote,
    connector::{Connector, SocketConnector},
    pins::PinMemory,
};
use crate::{
    Pool, PoolError, TokenSettings,
    router::{Backend, Router},
};

impl Pool {
    /// A pool that has everything done by the `hsmime-keyd` that listens on a socket. Returns at once; a server
    /// that is not there is waited for, and one that was restarted is connected to again. `deadline` is how
    /// long a request may take, until [`Pool::with_deadline`] says otherwise.
    pub fn connect(socket: &Path, deadline: Duration) -> Result<Self, PoolError> {
        Self::of_connectors(vec![Box::new(SocketConnector::new(socket))], deadline)
    }

    /// A pool whose modules are loaded by processes of their own, one for each. A process that ends, or whose
    /// module hangs, is replaced. This one neither loads a module nor reads a PIN.
    ///
    /// `program` gives the command that runs [`crate::server::host_module`].
    pub fn in_processes(
        tokens: &[TokenSettings],
        program: &Program,
        pins: &RejectedPins,
    ) -> Result<Self, PoolError> {
        crate::pool::check_all(tokens)?;
        let before = pins.0.expect(tokens);
        let mut modules: Vec<(PathBuf, Vec<TokenSettings>)> = Vec::new();
        for token in tokens {
            match modules.iter_mut().find(|(module, _)| *module == token.module) {
                Some((_, tokens)) => tokens.push(token.clone()),
                None => modules.push((token.module.clone(), vec![token.clone()])),
            }
        }
        let of = |(module, tokens)| -> Box<dyn Connector> {
            Box::new(ChildConnector::new(module, tokens, Arc::clone(program), Arc::clone(&pins.0)))
        };
        let deadline = tokens.iter().map(|token| token.deadline).max().unwrap_or_default();
        // A pool that does not come to be leaves another one that goes on.
        Self::of_connectors(modules.into_iter().map(of).collect(), deadline)
            .inspect_err(|_| pins.0.expect_again(before))
    }

    pub(crate) fn of_connectors(
        connectors: Vec<Box<dyn Connector>>,
        deadline: Duration,
    ) -> Result<Self, PoolError> {
        let router = Arc::new_cyclic(|router| {
            let of = |(number, connector)| Remote::new(connector, number, Weak::clone(router));
            Router::new(connectors.into_iter().enumerate().map(of).map(Backend::Remote).collect())
        });
        Self::launch(router, deadline)
    }
}

/// What is known of PINs that were tried: it outlives the processes that try them, and pools that are replaced.
/// PINs are not in it.
#[derive(Clone, Default)]
pub struct RejectedPins(pub(super) Arc<PinMemory>);

impl RejectedPins {
    /// What a file holds, and is kept there from now on: so it outlives this process too. The file is there while a
    /// PIN must not be tried; it holds salted hashes, for its owner only. Without it everything is tried again; one that
    /// cannot be read is an error. A token that is not configured for a while is remembered as well: its tries are the
    /// same when it is back, also by another file of its module.
    pub fn kept_in(file: &Path) -> io::Result<Self> {
        PinMemory::kept_in(file).map(Arc::new).map(Self)
    }
}
