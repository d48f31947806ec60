//! File systems of their own: to be full, or to lose their power.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Says that a test, or some of it, does nothing on this machine. Where `HSMIME_ALL` is set that is a failure: whoever sets it
/// knows that the machine can do all.
pub(crate) fn does_not_apply(reason: &str) {
    assert!(
        std::env::var_os("HSMIME_ALL").is_none(),
        "this test does not apply, and HSMIME_ALL is set: {reason}"
    );
    eprintln!("this test does not apply: {reason}");
}

/// A mounted file system. Where none may be mounted (only root may), a test says that it does not apply.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    /// In memory, of this size.
    pub(crate) fn small(octets: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        let mut disk = Self { folder, mounted: false };
        let options = format!("size={octets}");
        disk.mount(&["-t", "tmpfs", "-o", &options, "tmpfs"]).then_some(disk)
    }

    /// Gives it another size.
    pub(crate) fn resize(&self, octets: u64) {
        let options = format!("remount,size={octets}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.path()).status().unwrap().success());
    }

    /// ext4 in a file, as a disk would have it.
    pub(crate) fn ext4(octets: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        let image = folder.path().join("image");
        fs::File::create(&image).unwrap().set_len(octets).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
        if !made.is_ok_and(|made| made.success()) {
            does_not_apply("there is no mkfs.ext4");
            return None;
        }
        let mut disk = Self { folder, mounted: false };
        disk.mount_image().then_some(disk)
    }

    fn mount_image(&mut self) -> bool {
        let image = self.folder.path().join("image");
        self.mount(&["-t", "ext4", "-o", "loop", image.to_str().unwrap()])
    }

    fn mount(&mut self, how: &[&str]) -> bool {
        let ran = Command::new("mount").args(how).arg(self.path()).output();
        self.mounted = ran.as_ref().is_ok_and(|ran| ran.status.success());
        if !self.mounted {
            does_not_apply(&format!("no file system can be mounted: {ran:?}"));
        }
        self.mounted
    }

    fn unmount(&mut self) {
        let ran = Command::new("umount").arg(self.path()).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        self.mounted = false;
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Has all that was written be on it.
    pub(crate) fn sync(&self) {
        assert!(Command::new("sync").arg("-f").arg(self.path()).status().unwrap().success());
    }

    /// Gets ready to cut the power.
    pub(crate) fn switch(&self) -> Switch {
        Switch::of(&self.path())
    }

    /// After the power was cut: the computer starts again.
    pub(crate) fn power_on(&mut self) {
        self.unmount();
        assert!(self.mount_image());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
        }
    }
}

/// What reached the disk in the last instant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reached {
    /// Nothing that nobody had waited for.
    Nothing,
    /// What ext4's journal knew: names and sizes, but not what is in the files.
    Names,
}

/// A process that waits for a word to cut the power at once.
///
/// It asks for `EXT4_IOC_SHUTDOWN`: from then on no write of any kind gets through to the device, and all that the kernel
/// has only in its memory is lost. What the device itself has in a cache when it has not been told to flush is not
/// simulated; ext4 tells it so at each fsync.
pub(crate) struct Switch(Child);

const SWITCH: &str = r"
import fcntl, os, struct, sys
disk = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
reached = int(sys.stdin.readline())
fcntl.ioctl(disk, 0x8004587D, struct.pack('I', reached))
";

impl Switch {
    fn of(path: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SWITCH])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self(child)
    }

    /// Cuts the power.
    pub(crate) fn cut(mut self, reached: Reached) {
        let word = match reached {
            Reached::Nothing => "2\n",
            Reached::Names => "1\n",
        };
        self.0.stdin.take().unwrap().write_all(word.as_bytes()).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
