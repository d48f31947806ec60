//! The server at `reinject` without DSN: at the start it is told of, and no reload has copies of opened mail wait for it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;

use crate::child::eventually;
use crate::service::folder;

const WARNING: &str = "the server at `reinject` offers no DSN";
const SENDER: &str = "opened-mail-sender = \"postmaster@example.org\"\n";

/// An SMTP server that is only asked what it offers, and how often it was.
#[derive(Clone, Default)]
struct Server {
    has_dsn: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    /// Gives its port.
    fn listen(&self) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = self.clone();
        thread::spawn(move || listener.incoming().for_each(|stream| server.serve(stream.unwrap())));
        port
    }

    fn serve(&self, stream: TcpStream) {
        let mut writer = stream.try_clone().unwrap();
        let _ = writer.write_all(b"220 here\r\n");
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let answer = match line.get(..4) {
                Some("EHLO") if self.has_dsn.load(Ordering::SeqCst) => "250-here\r\n250-8BITMIME\r\n250 DSN",
                Some("EHLO") => "250-here\r\n250 8BITMIME",
                Some("QUIT") => {
                    self.asked.fetch_add(1, Ordering::SeqCst);
                    "221 bye"
                }
                _ => "250 ok",
            };
            let _ = writer.write_all(format!("{answer}\r\n").as_bytes());
        }
    }
}

/// A milter with copies, which ends with its test.
struct Milter {
    child: Child,
    folder: TempDir,
    more: String,
}

impl Milter {
    /// One whose copies go to this port, with more lines of `[milter]`.
    fn start(port: u16, more: &str) -> Self {
        let folder = folder("");
        let path = |name: &str| folder.path().join(name);
        let copies = format!(
            "control = \"{}\"\nreinject = \"inet:127.0.0.1:{port}\"\nstate = \"{}\"\n",
            path("control").display(),
            path("state").display()
        );
        let log = fs::File::create(path("log")).unwrap();
        let text = fs::read_to_string(path("hsmime.toml")).unwrap() + &copies;
        fs::write(path("hsmime.toml"), format!("{text}{more}")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime-milter"));
        command.arg("--config").arg(path("hsmime.toml")).stdin(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        let milter = Self { child, folder, more: text };
        eventually(|| milter.log().contains(" started").then_some(()));
        milter
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What a reload says with these lines in the place of those of the start, and whether it was done.
    fn reload(&self, more: &str) -> (bool, String) {
        fs::write(self.path("hsmime.toml"), format!("{}{more}", self.more)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime-milter"));
        let output = command.arg("--config").arg(self.path("hsmime.toml")).arg("reload").output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

impl Drop for Milter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_milter_whose_copies_would_wait_for_dsn_says_so_at_the_start() {
    let server = Server::default();
    let port = server.listen();
    let milter = Milter::start(port, "");
    eventually(|| milter.log().contains(WARNING).then_some(()));
    drop(milter);

    // Bounces of what is opened go elsewhere: nothing is asked.
    let milter = Milter::start(port, SENDER);
    assert!(milter.reload(SENDER).0);
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    assert!(!milter.log().contains(WARNING), "{}", milter.log());
    drop(milter);

    server.has_dsn.store(true, Ordering::SeqCst);
    let milter = Milter::start(port, "");
    eventually(|| (server.asked.load(Ordering::SeqCst) == 2).then_some(()));
    assert!(milter.reload("").0);
    assert!(!milter.log().contains(WARNING), "{}", milter.log());
}

#[test]
fn opened_mail_sender_stays_where_copies_would_wait_without_it() {
    let server = Server::default();
    let milter = Milter::start(server.listen(), SENDER);
    let (is_done, said) = milter.reload("");
    assert!(!is_done && said.contains("`opened-mail-sender`") && said.contains(WARNING), "{said}");
    // Nothing else is kept away by it.
    assert!(milter.reload(SENDER).0);
    server.has_dsn.store(true, Ordering::SeqCst);
    let (is_done, said) = milter.reload("");
    assert!(is_done && !said.contains("opened-mail-sender"), "{said}");

    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let milter = Milter::start(nobody, SENDER);
    let (is_done, said) = milter.reload("");
    assert!(is_done && said.contains("does not answer"), "{said}");
}
