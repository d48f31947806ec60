//! The program as systemd and root start it: what it tells, which socket it takes over, who it becomes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::child::eventually;

/// A folder that everybody may use, with a configuration in it.
pub(crate) fn folder(more: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let socket = folder.path().join("m.sock");
    let text = format!(
        "[milter]\nlisten = \"unix:{}\"\nauthserv-id = \"mx.test.invalid\"\n{more}",
        socket.display()
    );
    fs::write(folder.path().join("hsmime.toml"), text).unwrap();
    folder
}

/// A milter, ended with its test.
struct Started(Child);

impl Started {
    fn new(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn terminate(mut self) -> String {
        kill_process(Pid::from_raw(self.pid()).unwrap(), Signal::TERM).unwrap();
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(self.0.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime-milter"));
    command.arg("--config").arg(folder.path().join("hsmime.toml"));
    command
}

#[test]
fn systemd_hears_that_it_is_ready_lives_and_stops() {
    let folder = folder("");
    let told = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let hear = || {
        let mut octets = [0; 256];
        let len = told.recv(&mut octets).unwrap();
        String::from_utf8(octets[..len].to_vec()).unwrap().trim().to_owned()
    };
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "WATCHDOG_PID=$$ exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_hsmime-milter"),
        "--config",
    ]);
    command.arg(folder.path().join("hsmime.toml"));
    command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "200000");
    let milter = Started::new(&mut command);
    let mut heard = vec![hear(), hear(), hear(), hear()];
    assert!(UnixStream::connect(folder.path().join("m.sock")).is_ok());
    milter.terminate();
    while heard.last().unwrap() != "STOPPING=1" {
        heard.push(hear());
    }
    let count = |word: &str| heard.iter().filter(|told| *told == word).count();
    assert_eq!((count("READY=1"), count("STOPPING=1")), (1, 1), "{heard:?}");
    assert!(count("WATCHDOG=1") >= 3, "{heard:?}");
}

#[test]
fn a_socket_that_systemd_listens_at_is_taken_over_and_left_where_it_is() {
    let folder = folder("");
    let socket = folder.path().join("m.sock");
    // Descriptor 3, as sd_listen_fds(3) has it, by way of a shell whose standard input it is.
    let listener = UnixListener::bind(&socket).unwrap();
    let mut waiting = UnixStream::connect(&socket).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_hsmime-milter")).arg("--config").arg(folder.path().join("hsmime.toml"));
    let child = command.stdin(std::os::fd::OwnedFd::from(listener)).stderr(Stdio::piped()).spawn().unwrap();
    let milter = Started(child);
    // SMFIC_OPTNEG of a version 6 MTA that can do everything: whoever came before the milter began is answered.
    let offer = [0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff];
    waiting.write_all(&offer).unwrap();
    waiting.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let mut answer = [0; 5];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4], b'O');
    drop(waiting);
    milter.terminate();
    assert!(socket.exists(), "it is systemd's");
}

#[test]
fn root_is_given_up_for_the_user_of_the_configuration_and_cannot_be_had_again() {
    let folder = folder("user = \"nobody\"\n");
    let milter = Started::new(&mut program(&folder));
    eventually(|| UnixStream::connect(folder.path().join("m.sock")).ok());
    let status = fs::read_to_string(format!("/proc/{}/status", milter.pid())).unwrap();
    let numbers = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    assert_eq!(numbers("Uid:"), [65534; 4]);
    assert_eq!(numbers("Gid:"), [65534; 4]);
    assert!(numbers("Groups:").iter().all(|group| *group == 65534), "{status}");
    milter.terminate();

    let folder = self::folder("user = \"no such user\"\n");
    let output = program(&folder).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no such user"));
}
