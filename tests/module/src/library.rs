//! Where the module was built.

use std::{env, io, path::PathBuf};

/// The shared library. Cargo builds it into `deps` whenever it builds this crate for another, so it lies beside
/// a test that asks, or in `deps` beside a program of the workspace.
pub fn library() -> io::Result<PathBuf> {
    let own = env::current_exe()?;
    let name = format!("{}testmodule{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let folders: Vec<PathBuf> =
        own.parent().into_iter().flat_map(|folder| [folder.to_owned(), folder.join("deps")]).collect();
    let found = folders.iter().map(|folder| folder.join(&name)).find(|path| path.exists());
    found.ok_or_else(|| {
        let text = format!("{name} is in none of {folders:?}; build it: cargo build --package testmodule");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}
