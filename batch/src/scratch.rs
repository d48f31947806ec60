//! Buffers in files without a name instead of memory, for messages that are too large for it.
//!
//! What works on a message makes buffers of its octets: with CRLF, decoded, decrypted, encoded. [`Spilling`] is the
//! allocator that gives such a buffer to who asks for it: from [`LEAST`] octets on, in a thread that [works on the
//! disk](Scratch::enter), it is not memory but a file that was deleted when it was made, and is gone with the buffer, however the process
//! ends. So one and the same code works on what fits into memory and on what does not, and there is nothing that only
//! one of both can do. What such a file holds is the kernel's to keep in memory or on the disk, and a thread has it
//! forget every few milliseconds what of it is in this process.
//!
//! What such a file says this process believes as it believes its memory. So it is on a file system of this machine's kernel
//! alone: the server of another, or the program behind it, could put anything there.
//!
//! The room in a file is allotted before the buffer is used: a disk that becomes full meanwhile kills nobody, and the
//! buffer is memory then. Buffers below [`LEAST`] always are: keys, digests, certificates, header fields.

#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait, and so is a map of a file; nobody else has that file open, or knows a name of it"
)]

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
    ffi::c_void,
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    fs::{CWD, FallocateFlags, FsWord, Mode, OFlags, fallocate, fstatfs, fstatvfs, ftruncate, openat},
    mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap, mremap, munmap},
};

/// From how many octets on a buffer is a file.
pub const LEAST: usize = 1 << 20;

/// How many such buffers there are at most. A message needs a handful.
const MAX: usize = 64;

/// How often this process forgets what of them it has in memory.
const EACH: Duration = Duration::from_millis(5);

/// An allocator whose large buffers are files, where a thread works on the disk.
#[derive(Debug)]
pub struct Spilling<A>(pub A);

thread_local! {
    /// The folder in which this thread makes its large buffers, or -1. Neither needs memory nor has to be dropped.
    static FOLDER: Cell<RawFd> = const { Cell::new(-1) };
}

/// All buffers that are files. Few are asked for, and each takes longer than the lock.
static BUFFERS: Mutex<Buffers> = Mutex::new(Buffers { of: [const { None }; MAX], now: 0, peak: 0 });

struct Buffers {
    of: [Option<Buffer>; MAX],
    /// How many octets they have.
    now: usize,
    /// How many they had at most.
    peak: usize,
}

/// A file that is mapped as a whole.
struct Buffer {
    address: usize,
    len: usize,
    file: OwnedFd,
}

// SAFETY: what is not ours goes to the other allocator as it came, and comes back to it, since nobody else has addresses within
// our maps. Ours are of at least the size and alignment that was asked for, and stay until they are given back.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Spilling<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the other allocator's.
        new(layout).unwrap_or_else(|| unsafe { self.0.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same. A new file has nothing but zeros.
        new(layout).unwrap_or_else(|| unsafe { self.0.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if layout.size() < LEAST || !buffers().remove(at) {
            // SAFETY: it is not ours, so it is the other's.
            unsafe { self.0.dealloc(at, layout) }
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let is_file = layout.size() >= LEAST && buffers().find(at).is_some();
        if is_file && let Some(moved) = (size >= LEAST).then(|| buffers().resize(at, size)).flatten() {
            return moved;
        }
        if !is_file && (size < LEAST || folder().is_none()) {
            // SAFETY: it is not ours, and may stay so.
            return unsafe { self.0.realloc(at, layout, size) };
        }
        // From memory to a file, or from a file to memory.
        // SAFETY: the caller has made sure that this size is possible with this alignment.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both are there, apart, and have at least so many octets; nobody uses the old one again.
            unsafe {
                ptr::copy_nonoverlapping(at, moved, size.min(layout.size()));
                self.dealloc(at, layout);
            }
        }
        moved
    }
}

/// A new buffer that is a file, if it is to be one and can be.
fn new(layout: Layout) -> Option<*mut u8> {
    if layout.size() < LEAST || layout.align() > PAGE {
        return None;
    }
    buffers().add(folder()?, layout.size())
}

/// The least that a page has, on every machine.
const PAGE: usize = 4096;

/// The folder of this thread.
fn folder() -> Option<BorrowedFd<'static>> {
    let folder = FOLDER.try_with(Cell::get).unwrap_or(-1);
    // SAFETY: whoever set it keeps the folder open until it is set to another.
    (folder >= 0).then(|| unsafe { BorrowedFd::borrow_raw(folder) })
}

fn buffers() -> MutexGuard<'static, Buffers> {
    // Whole after each statement; and who allocates cannot panic.
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that never has a name, with room for so many octets.
fn new_file(folder: BorrowedFd<'_>, len: u64) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = openat(folder, c".", flags, Mode::RUSR | Mode::WUSR)?;
    fallocate(&file, FallocateFlags::empty(), 0, len)?;
    Ok(file)
}

/// `TMPFS_MAGIC`.
const TMPFS: FsWord = 0x0102_1994;

/// The magic numbers, in `linux/magic.h`, of file systems whose files nobody but the kernel has in hand, and that keep the room
/// they have allotted: ext2 to ext4, xfs, f2fs, tmpfs. What an overlay has below it does not say, and that is what counts.
const LOCAL: [FsWord; 4] = [0xef53, 0x5846_5342, 0xf2f5_2010, TMPFS];

impl Buffers {
    fn add(&mut self, folder: BorrowedFd<'_>, len: usize) -> Option<*mut u8> {
        let place = self.of.iter_mut().find(|buffer| buffer.is_none())?;
        let file = new_file(folder, len as u64).ok()?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new map at a place that the kernel chooses, of a file that nobody else has.
        let at = unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, &file, 0) }.ok()?;
        *place = Some(Buffer { address: at.expose_provenance(), len, file });
        self.count(0, len);
        Some(at.cast())
    }

    fn count(&mut self, less: usize, more: usize) {
        self.now = self.now.saturating_sub(less).saturating_add(more);
        self.peak = self.peak.max(self.now);
    }

    fn find(&self, at: *mut u8) -> Option<usize> {
        self.of.iter().position(|buffer| buffer.as_ref().is_some_and(|of| of.address == at.addr()))
    }

    /// Gives a buffer another size, perhaps elsewhere. It stays as it is where that cannot be.
    fn resize(&mut self, at: *mut u8, size: usize) -> Option<*mut u8> {
        let place = self.find(at)?;
        let buffer = self.of.get_mut(place)?.as_mut()?;
        let len = buffer.len;
        if size > len {
            fallocate(&buffer.file, FallocateFlags::empty(), 0, size as u64).ok()?;
        }
        // SAFETY: this is all of one map of ours, and nobody uses it by its old address again.
        let moved = unsafe { mremap(at.cast(), len, size, MremapFlags::MAYMOVE) }.ok()?;
        (buffer.address, buffer.len) = (moved.expose_provenance(), size);
        if size < len {
            let _ = ftruncate(&buffer.file, size as u64);
        }
        self.count(len, size);
        Some(moved.cast())
    }

    /// Removes a buffer with its file; false if this is none.
    fn remove(&mut self, at: *mut u8) -> bool {
        let Some(buffer) = self.find(at).and_then(|place| self.of.get_mut(place)?.take()) else {
            return false;
        };
        self.count(buffer.len, 0);
        // SAFETY: this is all of one map of ours, and nobody uses it again. What cannot be unmapped is never used again.
        let _ = unsafe { munmap(at.cast(), buffer.len) };
        true
    }

    /// Has this process forget what of them is in its memory.
    fn forget(&self) {
        for Buffer { address, len, .. } in self.of.iter().flatten() {
            let at = ptr::with_exposed_provenance_mut::<c_void>(*address);
            // SAFETY: this is all of one map of ours, which is shared with its file: there all of it stays.
            let _ = unsafe { madvise(at, *len, Advice::LinuxDontNeed) };
        }
    }
}

/// A folder for buffers that are files.
#[derive(Debug)]
pub struct Scratch {
    folder: OwnedFd,
    path: PathBuf,
    keeper: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl Scratch {
    /// In the first of these folders in which there can be such files.
    pub fn open(folders: &[PathBuf]) -> io::Result<Self> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for path in folders {
            match Self::within(path) {
                Ok(scratch) => return Ok(scratch),
                Err(failed) => error = io::Error::new(failed.kind(), format!("{}: {failed}", path.display())),
            }
        }
        Err(error)
    }

    fn within(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty())?;
        if !LOCAL.contains(&fstatfs(&folder)?.f_type) {
            return Err(io::Error::other("memory is put on ext4, xfs, f2fs and tmpfs only"));
        }
        let is_over = Arc::<AtomicBool>::default();
        let mut scratch = Self { folder, path: path.to_owned(), keeper: None, is_over: Arc::clone(&is_over) };
        scratch.check()?;
        let keep = move || {
            while !is_over.load(Ordering::Relaxed) {
                buffers().forget();
                thread::park_timeout(EACH);
            }
        };
        scratch.keeper = Some(thread::Builder::new().name("batch-scratch".into()).spawn(keep)?);
        Ok(scratch)
    }

    /// An error unless this thread can make such files here, and buffers are made of them.
    pub fn check(&self) -> io::Result<()> {
        new_file(self.folder.as_fd(), LEAST as u64)?;
        let _working = self.enter();
        let mut buffer = std::hint::black_box(Vec::<u8>::with_capacity(LEAST));
        if buffers().find(buffer.as_mut_ptr()).is_none() {
            return Err(io::Error::other("buffers cannot be made of files"));
        }
        Ok(())
    }

    /// An error if so many octets cannot be allotted here, for whatever reason: a quota is one that nobody tells. In a tmpfs, which
    /// has none, it would be memory at once.
    pub fn reserve(&self, octets: u64) -> io::Result<()> {
        if fstatfs(&self.folder)?.f_type == TMPFS {
            return Ok(());
        }
        new_file(self.folder.as_fd(), octets)?;
        Ok(())
    }

    /// Whether this buffer is a file.
    pub fn holds(buffer: &mut Vec<u8>) -> bool {
        buffer.capacity() < LEAST || buffers().find(buffer.as_mut_ptr()).is_some()
    }

    /// How many octets the disk has room for.
    pub fn room(&self) -> io::Result<u64> {
        let disk = fstatvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From here on, large buffers of this thread are made there.
    pub fn enter(&self) -> Entered<'_> {
        Entered { before: FOLDER.replace(self.folder.as_raw_fd()), _not_to_be_sent: PhantomData }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            keeper.thread().unpark();
            let _ = keeper.join();
        }
    }
}

/// As long as it is there, a thread works on the disk.
#[derive(Debug)]
pub struct Entered<'s> {
    before: RawFd,
    /// It is this thread that works there.
    _not_to_be_sent: PhantomData<(*const (), &'s Scratch)>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        FOLDER.set(self.before);
    }
}

/// How many octets such buffers had at most, together, since this was asked last.
pub fn take_peak() -> usize {
    let mut buffers = buffers();
    let now = buffers.now;
    std::mem::replace(&mut buffers.peak, now)
}
