//! Which folders a Maildir has, and what in them is not mail.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{beneath::Beneath, seen, tree::is_named_message};

/// The folders of a Maildir, each with its `cur` and `new`; in Maildir++ or nested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Each folder's path below the root; the root itself is empty.
    pub folders: Vec<PathBuf>,
    /// Files that belong to the mail and are copied: what marks a folder, subscriptions, keywords.
    pub kept: Vec<PathBuf>,
    /// What is not copied: indexes that a server makes anew, quota sums, links, unknown files.
    pub left_out: Vec<PathBuf>,
    /// What of that may have mail in it, or lead to some: `.eml` files, links to anything but a file, as a script is, and what is
    /// neither a file nor a folder.
    pub doubtful: Vec<PathBuf>,
}

impl Tree {
    /// Whether a folder is a Maildir, or holds one.
    pub fn is_maildir(path: &Path) -> bool {
        let is_folder = |part| fs::symlink_metadata(path.join(part)).is_ok_and(|there| there.is_dir());
        is_folder("cur") || is_folder("new")
    }

    /// Walks through all folders below `root`, without following links. A link where messages would be is an error: what
    /// it leads to may be somebody else's, and without it the mail is not whole.
    pub fn of(root: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let beneath = seen::beneath(root).map_err(|error| (root.to_owned(), error))?;
        Self::beneath(root, &beneath)
    }

    /// The same of a root that is open.
    pub(crate) fn beneath(root: &Path, beneath: &Beneath) -> Result<Self, (PathBuf, io::Error)> {
        let mut tree = Self::default();
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            let path = root.join(&folder);
            let is_folder = |part| beneath.metadata(&path.join(part)).is_ok_and(|there| there.is_dir());
            let is_maildir = is_folder("cur") || is_folder("new");
            if is_maildir {
                tree.folders.push(folder.clone());
            }
            let failed = |error| (path.clone(), error);
            for (name, kind) in beneath.kinds(&path).map_err(failed)? {
                let below = folder.join(&name);
                if kind.is_symlink() && MAIL.iter().any(|mail| name == *mail) {
                    let error = io::Error::other("it is a link, and not followed");
                    return Err((path.join(name), error));
                }
                if kind.is_dir() {
                    if !(is_maildir && MAIL.iter().any(|mail| name == *mail)) {
                        open.push(below);
                    }
                } else if is_kept(&name) && kind.is_file() {
                    tree.kept.push(below);
                } else {
                    // Where it leads to is looked at with the rights that all is read with; nothing there is read.
                    let is_link_to_file = || {
                        kind.is_symlink() && fs::metadata(path.join(&name)).is_ok_and(|there| there.is_file())
                    };
                    if is_named_message(&below) || !(kind.is_file() || is_link_to_file()) {
                        tree.doubtful.push(below.clone());
                    }
                    tree.left_out.push(below);
                }
            }
        }
        tree.folders.sort();
        tree.left_out.sort();
        tree.doubtful.sort();
        Ok(tree)
    }

    /// The folders that may as well be some of a tree of `.eml` files, where there are such beside those folders: of `cur`, `new` and
    /// `tmp` they have only one. Thunderbird makes no `new`.
    pub(crate) fn in_doubt(&self, root: &Path) -> io::Result<Vec<&Path>> {
        if !self.left_out.iter().any(|path| is_named_message(path)) {
            return Ok(Vec::new());
        }
        let beneath = seen::beneath(root)?;
        let has = |folder: &Path, part: &str| {
            beneath.metadata(&root.join(folder).join(part)).is_ok_and(|there| there.is_dir())
        };
        let is_whole = |folder: &Path| MAIL.iter().filter(|part| has(folder, part)).count() > 1;
        Ok(self.folders.iter().map(PathBuf::as_path).filter(|folder| !is_whole(folder)).collect())
    }
}

/// The folders a message's file can be in.
const MAIL: [&str; 3] = ["cur", "new", "tmp"];

/// Whether a file belongs to the mail. A server's lists of numbers do: they are by unique names, so that messages
/// that stay keep their numbers, and those that change get others, as IMAP wants it. Indexes and caches are made anew.
fn is_kept(name: &std::ffi::OsStr) -> bool {
    KEPT.iter().any(|kept| name == *kept) || name.as_encoded_bytes().starts_with(b"dovecot-uidvalidity")
}

/// Without `dovecot-keywords` the flags `a` to `z` have no meaning.
const KEPT: [&str; 9] = [
    "maildirfolder",
    "subscriptions",
    "courierimapsubscribed",
    "courierimapuiddb",
    "courierimapacl",
    "dovecot-acl",
    "dovecot-keywords",
    "dovecot-uidlist",
    crate::large::PREAMBLE,
];
