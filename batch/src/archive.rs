//! What an input is, by looking at it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use crate::{
    error::BatchError,
    maildir::Tree,
    mbox::{Shape, begins_header, shape},
};

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One message on the standard input.
    Stdin,
    /// A Maildir, or a folder with Maildirs in it.
    Maildir,
    /// A file of messages.
    Mbox,
    /// A file that is one message.
    Message,
}

impl Kind {
    /// Looks at an input.
    pub fn of(path: &Path) -> Result<Self, BatchError> {
        if path == Path::new("-") {
            return Ok(Self::Stdin);
        }
        let failed = |source| BatchError::Read { origin: path.display().to_string(), source };
        let problem = |problem| BatchError::Input { path: path.to_owned(), problem };
        let metadata = path.metadata().map_err(failed)?;
        if metadata.is_dir() {
            let tree = Tree::of(path).map_err(|(folder, source)| BatchError::Read {
                origin: folder.display().to_string(),
                source,
            })?;
            let none = tree.folders.is_empty();
            return if none { Err(problem("a folder, but not a Maildir")) } else { Ok(Self::Maildir) };
        }
        if !metadata.is_file() {
            return Err(problem("neither a file nor a folder"));
        }
        let file = BufReader::new(File::open(path).map_err(failed)?);
        match first_line(file).map_err(failed)?.as_deref() {
            None => Ok(Self::Mbox),
            Some(line) if matches!(shape(line), Shape::Dated | Shape::Undated) => Ok(Self::Mbox),
            Some(line) if begins_header(line) && !is_named_mbox(path) => Ok(Self::Message),
            Some(_) => Err(problem("neither an mbox, which begins with a From_ line, nor a message")),
        }
    }
}

/// The first line that is not empty, without a byte order mark and at most the beginning of a long one.
/// `None` if there is none.
fn first_line(mut input: impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut seen = 0;
    loop {
        let mut line = Vec::new();
        let read = std::io::Read::take(&mut input, 8192).read_until(b'\n', &mut line)?;
        seen += read;
        if read == 0 {
            return Ok(None);
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        // More empty lines than this are no beginning of anything.
        if !text.trim_ascii().is_empty() || seen > (1 << 20) {
            return Ok(Some(text.to_vec()));
        }
    }
}

fn is_named_mbox(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["mbox", "mbx", "mboxrd", "mboxo"].iter().any(|name| extension.eq_ignore_ascii_case(name))
    })
}
