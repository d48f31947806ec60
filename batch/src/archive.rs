//! What an input is, by looking at it.

use std::{io::BufRead, path::Path, str::FromStr};

use serde::Deserialize;

use crate::{
    compress::Compression,
    error::BatchError,
    maildir::Tree,
    mbox::{Shape, Splitter, Variant, begins_header, shape, start},
    own,
    tree::is_named_message,
};

/// What an input is, or an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One message on the standard input.
    Stdin,
    /// A Maildir, or a folder with Maildirs in it.
    Maildir,
    /// A folder with `.eml` files in it, or below it.
    #[serde(rename = "eml")]
    Tree,
    /// A file of messages.
    Mbox,
    /// A file that is one message.
    Message,
}

/// What an output is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An mbox, or a folder with one for each folder of a Maildir.
    Mbox(Variant),
    /// A Maildir.
    Maildir,
    /// A tree of `.eml` files.
    Eml,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = [
            ("mbox", Self::Mbox(Variant::Mboxrd)),
            ("mboxrd", Self::Mbox(Variant::Mboxrd)),
            ("mboxo", Self::Mbox(Variant::Mboxo)),
            ("mboxcl", Self::Mbox(Variant::Mboxcl)),
            ("mboxcl2", Self::Mbox(Variant::Mboxcl2)),
            ("maildir", Self::Maildir),
            ("eml", Self::Eml),
        ];
        let found = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, format)| *format).ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|(known, _)| *known).collect();
            format!("one of {} is needed", names.join(", "))
        })
    }
}

impl Kind {
    /// What is written of it, unless that is to be of another format.
    pub(crate) fn written(self, format: Option<Format>) -> Self {
        match (format, self) {
            (Some(Format::Mbox(_)), _) => Self::Mbox,
            (Some(Format::Maildir), _) => Self::Maildir,
            (Some(Format::Eml), _) => Self::Tree,
            (None, Self::Stdin) => Self::Message,
            (None, kind) => kind,
        }
    }

    /// In a word, for the report.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Maildir => "maildir",
            Self::Tree => "eml",
            Self::Mbox => "mbox",
            Self::Message => "message",
        }
    }

    /// Whether an output may be what was written as this. A message may begin with a From_ line, and then looks like an mbox.
    pub(crate) fn may_be(self, there: Self) -> bool {
        match self {
            Self::Maildir | Self::Tree => there == self,
            Self::Mbox | Self::Message | Self::Stdin => !matches!(there, Self::Maildir | Self::Tree),
        }
    }

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
            if let [first, others @ ..] = tree.in_doubt(path).map_err(failed)?.as_slice() {
                return Err(BatchError::Doubtful { path: path.join(first), others: others.len() });
            }
            if !tree.folders.is_empty() {
                return Ok(Self::Maildir);
            }
            let is_tree = tree.left_out.iter().any(|file| is_named_message(file));
            let none = "a folder, but not a Maildir, and without .eml files";
            return if is_tree { Ok(Self::Tree) } else { Err(problem(none)) };
        }
        if !metadata.is_file() {
            return Err(problem("neither a file nor a folder"));
        }
        // Something else may be there by now.
        let file = own::open_to_read(path).map_err(failed)?;
        let compression = Compression::of_file(&file).map_err(failed)?;
        let opened = || start(&file, compression);
        match opened().and_then(first_line).map_err(failed)?.as_deref() {
            None => Ok(Self::Mbox),
            Some(line) if matches!(shape(line), Shape::Dated | Shape::Undated) => Ok(Self::Mbox),
            Some(line) if begins_header(line) && !is_named_mbox(path) => Ok(Self::Message),
            Some(_) if begins_somewhere(opened().map_err(failed)?).map_err(failed)? => Ok(Self::Mbox),
            Some(_) => Err(problem("neither an mbox, which begins with a From_ line, nor a message")),
        }
    }
}

/// Whether in something that is no message, a From_ line begins one further on.
fn begins_somewhere(input: impl BufRead) -> std::io::Result<bool> {
    let nothing: &[u8] = b"";
    let mut splitter = Splitter::new(input, nothing, 0);
    splitter.next_part()?;
    Ok(splitter.has_next())
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
