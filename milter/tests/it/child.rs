//! A milter in a process of its own, for what happens to processes: signals, and running out of descriptors.
//!
//! The child is this test program again, told by its environment to be a milter.

use std::env;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use milter::{Limits, Listener, Reloader, Signals, run_until_signalled};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime;

use crate::mta::Mta;
use crate::running::{Treatment, untouched};

/// Names the folder for the child's address and log; who has it in the environment is a child.
const FOLDER: &str = "HSMIME_TEST_MILTER_FOLDER";

#[test]
#[ignore = "the child of the other tests"]
fn is_a_milter_if_told() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let log = File::create(folder.join("log")).unwrap();
    tracing_subscriber::fmt().with_writer(log).with_ansi(false).init();
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let signals = Signals::new().unwrap();
        let listener = Listener::inet("127.0.0.1", 0).await.unwrap();
        fs::write(folder.join("new"), listener.local_addr().unwrap().to_string()).unwrap();
        fs::rename(folder.join("new"), folder.join("address")).unwrap();
        let reloader = Reloader::start(|| Ok(Vec::new())).unwrap();
        let treat = Treatment(untouched);
        run_until_signalled(signals, listener, Limits::default(), treat, reloader, None).await;
    });
    runtime.shutdown_background();
}

struct Process {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Process {
    /// Starts a child that may open as many files.
    fn start(files: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "child::is_a_milter_if_told", "--ignored"])
            .env(FOLDER, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let address = eventually(|| read(&folder.path().join("address")).parse().ok());
        Self { child, folder, address }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The exit status, which must come soon.
    fn ended(&mut self) -> i32 {
        eventually(|| self.child.try_wait().unwrap()).code().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What is asked for, as soon as it is there.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "nothing came");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn sigterm_lets_a_message_finish_and_exits_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut milter = Process::start(256);
        let (mut idle, mut amid) = (Mta::open(milter.address), Mta::open(milter.address));
        amid.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
        milter.signal(signal);
        assert!(idle.hung_up());
        assert!(milter.is_running());
        amid.field("Subject", " s");
        assert_eq!(amid.end_of_header().0, 'c');
        assert_eq!(amid.chunk(b"x\r\n").0, 'c');
        assert!(amid.end_of_message().unwrap().accepted());
        assert_eq!(milter.ended(), 0);
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut milter = Process::start(256);
    let mut amid = Mta::open(milter.address);
    amid.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    milter.signal(Signal::TERM);
    assert!(amid.silent_for(Duration::from_millis(300)) && milter.is_running());
    milter.signal(Signal::TERM);
    assert!(amid.hung_up());
    assert_eq!(milter.ended(), 0);
}

#[test]
fn sighup_stops_nothing() {
    let mut milter = Process::start(256);
    let mut mta = Mta::open(milter.address);
    milter.signal(Signal::HUP);
    assert!(mta.silent_for(Duration::from_millis(200)) && milter.is_running());
    assert!(mta.message(&[], b"x\r\n").accepted());
}

#[test]
fn running_out_of_descriptors_is_survived_and_logged_once() {
    let mut milter = Process::start(40);
    let mut first = Mta::open(milter.address);
    let crowd: Vec<_> = (0..60).map(|_| TcpStream::connect(milter.address).unwrap()).collect();
    eventually(|| milter.log().contains("Too many open files").then_some(()));
    sleep(Duration::from_millis(500));
    assert!(milter.is_running());
    assert!(first.message(&[], b"x\r\n").accepted(), "those that are in are served");
    drop(crowd);
    assert!(Mta::open(milter.address).message(&[], b"x\r\n").accepted());
    assert_eq!(milter.log().matches("Too many open files").count(), 1, "{}", milter.log());
}
