//! Writes `docs/promises.md` and `docs/attacks.md` anew.

use std::{fs, path::Path};

use testkit::{Result, promises};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (page, text) in promises::pages(&root)? {
        fs::write(root.join(page), text)?;
    }
    Ok(())
}
