//! Writes a new mbox of messages from another kind of archive, or another variant; one file, or one for each folder.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{Variant, begins_header, converted, long::with_right_length};
use crate::{
    beneath::Beneath,
    compress::{Compression, Durable, Encoder},
    digest::Tally,
    done::Done,
    error::BatchError,
    form::{Form, NO_FIELD, around, lead, with_flags},
    large::{Incoming, PREAMBLE},
    names::with_ending,
    output::{Copied, Place, copy_all, lock, new_file, parent},
    own,
    pipeline::{Mark, Outgoing, Sink},
    render::{LineEnd, fields, is_content_length},
    restore::{cut_file, restore},
    stored::{Frame, Large},
};

/// Writes a new mbox.
#[derive(Debug)]
pub struct MboxSink {
    place: Place,
    variant: Variant,
    /// The input's root and the files, below the output's root, if each folder gets one.
    folders: Option<(PathBuf, Vec<PathBuf>)>,
    current: Option<Current>,
    /// Files that were ended since somebody asked, below the root, and their lengths.
    ended: Vec<(PathBuf, u64)>,
    /// The file, or the root. Keeps another run away.
    held: File,
}

/// The file that is being written.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    to: Encoder,
    /// What must come before the next message, if there is one: the line end that the last one lacks.
    missing: Vec<u8>,
}

impl MboxSink {
    /// Begins one file for everything. If it is compressed, a frame has so many octets at least.
    pub fn file(place: Place, variant: Variant, frame: u64) -> Result<Self, BatchError> {
        place.clear()?;
        let failed = |source| BatchError::Write { path: place.partial().to_owned(), source };
        let file = new_file(place.partial()).map_err(failed)?;
        lock(&file).map_err(failed)?;
        Self::of_file(file, place, variant, frame)
    }

    /// Goes on with the one file that an earlier run began, after what is known to be good, and behind which this is missing
    /// before another message.
    pub(crate) fn resume_file(
        place: Place,
        variant: Variant,
        begun: Durable,
        missing: &str,
        frame: u64,
    ) -> Result<Self, BatchError> {
        let opened =
            own::open_begun(place.partial(), OFlags::WRONLY | OFlags::APPEND, begun.inode).and_then(|file| {
                lock(&file)?;
                cut_file(&file, begun.length)?;
                Ok(file)
            });
        let failed = |source| BatchError::Write { path: place.partial().to_owned(), source };
        let mut sink = Self::of_file(opened.map_err(failed)?, place, variant, frame)?;
        if let Some(current) = &mut sink.current {
            current.missing = missing.as_bytes().to_vec();
        }
        Ok(sink)
    }

    fn of_file(file: File, place: Place, variant: Variant, frame: u64) -> Result<Self, BatchError> {
        let path = place.partial().to_owned();
        let compression = Compression::of_name(place.target());
        let opened = file.try_clone().and_then(|held| Ok((held, Encoder::new(file, compression, frame)?)));
        let (held, to) = opened.map_err(|source| BatchError::Write { path: path.clone(), source })?;
        let current = Some(Current { path, to, missing: Vec::new() });
        Ok(Self { place, variant, folders: None, current, ended: Vec::new(), held })
    }

    /// Begins a folder with a file for each folder of the Maildir at `input`.
    pub fn folders(
        place: Place,
        variant: Variant,
        input: &Path,
        folders: &[PathBuf],
    ) -> Result<Self, BatchError> {
        place.clear()?;
        Self::open_folders(place, variant, input, folders, None)
    }

    /// Goes on with a folder that an earlier run began.
    pub(crate) fn resume_folders(
        place: Place,
        variant: Variant,
        input: &Path,
        folders: &[PathBuf],
        done: &Done,
    ) -> Result<Self, BatchError> {
        Self::open_folders(place, variant, input, folders, Some(done))
    }

    fn open_folders(
        place: Place,
        variant: Variant,
        input: &Path,
        folders: &[PathBuf],
        done: Option<&Done>,
    ) -> Result<Self, BatchError> {
        let root = place.partial();
        let failed = |path: &Path, source| BatchError::Write { path: path.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder.create(root).map_err(|source| failed(root, source))?;
        let inode = done.and_then(|done| done.last.inode);
        let held = own::open_made_folder(root, inode).map_err(|source| failed(root, source))?;
        lock(&held).map_err(|source| failed(root, source))?;
        let files: Vec<PathBuf> = folders.iter().map(|folder| file_for(folder)).collect();
        if let Some(done) = done {
            // Files of folders that went may be there, and nothing of them noted.
            let gone = done.folders_gone().into_iter().map(file_for);
            let above: BTreeSet<PathBuf> = files
                .iter()
                .cloned()
                .chain(gone)
                .filter_map(|file| file.parent().map(Path::to_owned))
                .collect();
            restore(root, &held, above.iter().map(PathBuf::as_path), done)?;
        }
        for path in files.iter().map(|file| root.join(file)) {
            // One that is not there is empty.
            let made = builder.create(parent(&path)).and_then(|()| match new_file(&path) {
                Err(error) if done.is_some() && error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made.map(|_| ()),
            });
            made.map_err(|source| failed(&path, source))?;
        }
        // Folders of the input may have gone since their files were begun.
        let known = done.into_iter().flat_map(|done| done.lengths.keys().cloned());
        let files: BTreeSet<PathBuf> = files.into_iter().chain(known).collect();
        let folders = Some((input.to_owned(), files.into_iter().collect()));
        Ok(Self { place, variant, folders, current: None, ended: Vec::new(), held })
    }

    /// Turns to the file in which a message of this origin belongs.
    fn turn_to(&mut self, origin: &Path) -> Result<&mut Current, BatchError> {
        if let Some((root, _)) = &self.folders {
            let folder = origin.parent().and_then(Path::parent);
            let below = folder.and_then(|folder| folder.strip_prefix(root).ok());
            let below = below
                .ok_or_else(|| BatchError::Input { path: origin.into(), problem: "not in the Maildir" })?;
            let path = self.place.partial().join(file_for(below));
            if self.current.as_ref().is_none_or(|current| current.path != path) {
                self.end_file()?;
                let beneath = Beneath::of_open(self.place.partial(), &self.held);
                let file = beneath.and_then(|root| root.open(&path, OFlags::WRONLY | OFlags::APPEND));
                let to = file.and_then(|file| Encoder::new(file, None, 0));
                let to = to.map_err(|source| BatchError::Write { path: path.clone(), source })?;
                self.current = Some(Current { path, to, missing: Vec::new() });
            }
        }
        let defect = || BatchError::Write {
            path: self.place.partial().into(),
            source: io::ErrorKind::NotFound.into(),
        };
        self.current.as_mut().ok_or_else(defect)
    }

    fn end_file(&mut self) -> Result<(), BatchError> {
        let Some(Current { path, to, .. }) = self.current.take() else { return Ok(()) };
        let ended = to.finish().and_then(|file| {
            file.sync_all()?;
            Ok(file.metadata()?.len())
        });
        let length = ended.map_err(|source| BatchError::Write { path: path.clone(), source })?;
        if let Ok(below) = path.strip_prefix(self.place.partial()) {
            self.ended.push((below.to_owned(), length));
        }
        Ok(())
    }

    fn large(&mut self, incoming: Incoming) -> Result<Copied, BatchError> {
        let (variant, partial) = (self.variant, self.place.partial().to_owned());
        let failed = |source| BatchError::Write { path: partial.clone(), source };
        let line_end = LineEnd::of(incoming.header()).octets();
        let (before, after, header) = match incoming.frame {
            Frame::Mbox { quoting, .. } => {
                let header = incoming.header();
                let first = header.split_inclusive(|&octet| octet == b'\n').next().unwrap_or_default();
                let first = converted(first, quoting, variant.quoting(), false);
                let before: &[&[u8]] = match &*first {
                    // It loses a mark on its way, and is a field with one alone.
                    first if first.starts_with(b"From ") => &[b">"],
                    first if begins_header(first) => &[],
                    _ => &[NO_FIELD, line_end],
                };
                let header = [&before.concat(), header].concat();
                (incoming.line_before().to_vec(), incoming.separator().to_vec(), header)
            }
            Frame::File => {
                let (before, after) = around(incoming.header(), line_end, incoming.attributes.as_ref());
                let mut header = with_flags(incoming.header(), &incoming.origin);
                lead(&mut header, line_end);
                (before, after, header.into_owned())
            }
        };
        // Of a long header, the rest stays as it is.
        let [content, old_head, head] =
            [incoming.content_len(), incoming.header().len() as u64, header.len() as u64];
        let is_whole = incoming.has_whole_header();
        let old_body = |all: u64| {
            let old_header = if is_whole { old_head } else { (all + old_head).saturating_sub(head) };
            content.saturating_sub(old_header)
        };
        let needs_length = variant.has_lengths() || !is_whole || fields(&header).any(is_content_length);
        let current = self.turn_to(&incoming.origin.file.clone())?;
        current.to.write_all(&std::mem::take(&mut current.missing)).map_err(failed)?;
        let mut to = Tally::new(&mut current.to);
        to.write_all(&before).map_err(failed)?;
        let mut last = Last { to: &mut to, last: b'\n' };
        let read = if needs_length {
            // How long the body becomes is known when it was written once.
            let mut spool = spool(&partial).map_err(failed)?;
            let written = incoming.write(Some(&header), variant.quoting(), &mut spool);
            let read = written.map_err(|error| error.unwrap_or_else(failed))?.read;
            with_right_length(spool, old_body, variant.has_lengths(), &mut last).map_err(failed)?;
            read
        } else {
            let written = incoming.write(Some(&header), variant.quoting(), &mut last);
            written.map_err(|error| error.unwrap_or_else(failed))?.read
        };
        let ended = last.last == b'\n';
        if !ended && !after.is_empty() {
            to.write_all(line_end).map_err(failed)?;
        }
        to.write_all(&after).map_err(failed)?;
        let written = to.sum();
        current.to.message_ends().map_err(failed)?;
        current.missing = missing(&after, ended || !after.is_empty(), line_end);
        Ok(Copied { read, written })
    }
}

/// What must come between a message and the next one, if it is not there.
fn missing(separator: &[u8], ended: bool, line_end: &[u8]) -> Vec<u8> {
    match (separator.is_empty(), ended) {
        (false, _) => Vec::new(),
        (true, true) => line_end.to_vec(),
        (true, false) => line_end.repeat(2),
    }
}

/// The file for a folder of a Maildir.
pub(crate) fn file_for(folder: &Path) -> PathBuf {
    let Some(name) = folder.file_name() else { return "INBOX.mbox".into() };
    // Maildir++ puts a dot before its folders.
    let name = name.to_string_lossy().into_owned();
    let bare = name.strip_prefix('.').filter(|bare| !bare.is_empty()).unwrap_or(&name);
    folder.with_file_name(with_ending(bare.as_ref(), ".mbox"))
}

/// A file without a name, for a large message on its way.
fn spool(beside: &Path) -> io::Result<File> {
    let mut path = beside.as_os_str().to_owned();
    path.push("-large");
    // A run that was killed at this instant may have left one; what is beside the output is this run's.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Remembers how what was written ends.
struct Last<W> {
    to: W,
    last: u8,
}

impl<W: Write> Write for Last<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.to.write(octets)?;
        let octets = octets.get(..written).unwrap_or_default();
        self.last = octets.last().copied().unwrap_or(self.last);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Sink for MboxSink {
    fn form(&self) -> Option<Form> {
        Some(Form::Mbox(self.variant))
    }

    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        let (octets, frame) = (outgoing.octets, outgoing.place.frame);
        let current = self.turn_to(&outgoing.place.origin.file)?;
        let before = std::mem::take(&mut current.missing);
        let written = current.to.write_all(&before).and_then(|()| current.to.write_all(octets));
        let written = written.and_then(|()| current.to.message_ends());
        written.map_err(|source| BatchError::Write { path: current.path.clone(), source })?;
        if let Frame::Mbox { separator, .. } = frame {
            let separator = octets.get(octets.len().saturating_sub(separator)..).unwrap_or_default();
            current.missing = missing(separator, octets.ends_with(b"\n"), LineEnd::of(octets).octets());
        }
        Ok(())
    }

    fn copy(&mut self, large: Large) -> Result<Copied, BatchError> {
        if let Some((frame, len)) = large.message {
            return self.large(Incoming::open(large, frame, len)?);
        }
        // What an mbox had before its first message goes where a message of the root goes.
        let origin = match &self.folders {
            Some((root, _)) => root.join("cur").join(PREAMBLE),
            None => large.origin.file.to_path_buf(),
        };
        let current = self.turn_to(&origin)?;
        let path = current.path.clone();
        let failed = |source| BatchError::Write { path: path.clone(), source };
        let copied = copy_all(large, &mut current.to).map_err(|error| error.unwrap_or_else(failed))?;
        current.to.message_ends().map_err(failed)?;
        Ok(copied)
    }

    fn is_whole(&self) -> bool {
        self.current.as_ref().is_none_or(|current| current.to.is_whole())
    }

    fn all_came(&mut self) -> Result<(), BatchError> {
        let Some(Current { path, to, .. }) = &mut self.current else { return Ok(()) };
        to.end_frame().map_err(|source| BatchError::Write { path: path.clone(), source })
    }

    fn checkpoint(&mut self) -> Result<Option<Mark>, BatchError> {
        let (mut durable, mut before) = (None, String::new());
        if let Some(Current { path, to, missing }) = &mut self.current {
            if self.folders.is_some() && !missing.is_empty() {
                // Of several files it is not noted what each would need first; soon there is a better moment.
                return Ok(None);
            }
            before = String::from_utf8_lossy(missing).into_owned();
            durable = to.make_durable().map_err(|source| BatchError::Write { path: path.clone(), source })?;
            if durable.is_none() {
                return Ok(None);
            }
        }
        if self.folders.is_none() {
            return Ok(durable.map(|durable| Mark::Length { durable, missing: before }));
        }
        let mut lengths = std::mem::take(&mut self.ended);
        if let (Some(current), Some(Durable { length, .. })) = (&self.current, durable)
            && let Ok(below) = current.path.strip_prefix(self.place.partial())
        {
            lengths.push((below.to_owned(), length));
        }
        Ok(Some(Mark::Files { folder: own::inode(&self.held), added: Vec::new(), lengths }))
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        self.end_file()?;
        if let Some((_, files)) = &self.folders {
            let partial = self.place.partial();
            let failed = |path: &Path, source| BatchError::Write { path: path.to_owned(), source };
            // By the folder that was made: its name may lead elsewhere by now.
            let made = Beneath::of_open(partial, &self.held).map_err(|source| failed(partial, source))?;
            for path in files.iter().map(|file| partial.join(file)) {
                let file = made.open(&path, OFlags::RDONLY | OFlags::NONBLOCK);
                let synced = file.and_then(|file| file.sync_all()).and_then(|()| made.sync(parent(&path)));
                synced.map_err(|source| failed(&path, source))?;
            }
            own::check_still(&self.held, partial).map_err(|source| failed(partial, source))?;
        }
        self.place.put_in_place()
    }
}
