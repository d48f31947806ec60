//! A PKCS #11 module that hangs, dies, lies and loses its sessions: mail waits, and flows again by itself.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use testkit::Lab;
use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::milter::Milter;
use testkit::peers::Recipient;
use testkit::smtp::{Origin, Reply};
use testkit::wait;
use testmodule::{Action, Control, Function, ReturnValue, Rule};

const TO: &str = "friend@partner.example";
const TEXT: &[u8] = b"Content-Type: text/plain\r\n\r\nfor bob only\r\n";
const ASKED: [Function; 2] = [Function::Sign, Function::Decrypt];
const PATIENCE: Duration = Duration::from_secs(40);

/// A running lab whose module does what it is told to, and a mail that is to be opened.
struct Site {
    keyd: Option<Milter>,
    running: Running,
    control: Control,
    encrypted: Vec<u8>,
}

impl Site {
    fn new(name: &str, has_keyd: bool) -> Self {
        let mut lab = Lab::new(name).unwrap();
        lab.config.deadline = 2_000;
        let control = lab.with_faults().unwrap();
        lab.config.keyd_socket = has_keyd.then(|| lab.workdir.join("keyd.sock"));
        let entity = lab.openssl().unwrap().encrypt(TEXT, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
        let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "In" };
        let encrypted = letter.carrying(&entity);
        let keyd = has_keyd.then(|| lab.start_keyd().unwrap());
        Self { keyd, running: lab.start().unwrap(), control, encrypted }
    }

    /// A mail that must be signed.
    fn send_out(&self) -> Reply {
        let from = &self.running.lab.alice.address;
        let mail = Letter { from, to: TO, subject: "Out" }.text("signed or not at all");
        self.running.send(&Origin::login("alice"), from, &[TO], &mail).unwrap()
    }

    fn send_in(&self) -> Reply {
        let lab = &self.running.lab;
        self.running.send(&Origin::remote(), &lab.erin.address, &[&lab.bob.address], &self.encrypted).unwrap()
    }

    /// One of each at once; gives the replies.
    fn send(&self) -> [u16; 2] {
        thread::scope(|scope| {
            let out = scope.spawn(|| self.send_out());
            [self.send_in().code, out.join().unwrap().code]
        })
    }

    /// What was put off is accepted before long, and all that was accepted arrives as it should.
    fn assert_flows(&self, what: &str) {
        for send in [Self::send_in as fn(&Self) -> Reply, Self::send_out] {
            wait::until(what, PATIENCE, || match send(self) {
                Reply { code: 250, .. } => Ok(Some(())),
                Reply { code: 451, .. } => Ok(None),
                reply => panic!("{what}: {reply:?}"),
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", self.running.milter.log()));
        }
        let mails = self.running.sink.wait_for(2, PATIENCE).unwrap();
        assert_eq!(mails.len(), 2, "{what}: {mails:?}");
        let openssl = self.running.lab.openssl().unwrap();
        for mail in self.running.sink.take() {
            if mail.to == [TO] {
                openssl.verify(&mail.octets).unwrap_or_else(|error| panic!("{what}: {error}"));
            } else {
                assert!(mail.octets.ends_with(b"for bob only\r\n"), "{what}: {mail:?}");
            }
        }
    }

    /// As long as this happens both mails are put off in time, nobody spins, and nothing arrives.
    fn assert_waits(&mut self, what: &str, trouble: Rule) {
        let daemons: Vec<u32> =
            self.keyd.iter().chain([&self.running.milter]).map(|daemon| daemon.id().unwrap()).collect();
        let worked = || daemons.iter().map(|&daemon| worked(daemon)).sum::<Duration>();
        let (asked, worked_before, started_before) = (Instant::now(), worked(), self.started());
        let trouble = self.control.add(trouble).unwrap();
        assert_eq!(self.send(), [451, 451], "{what}");
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(15), "{what}: put off only after {took:?}");
        let worked = worked().saturating_sub(worked_before);
        let started = self.started() - started_before;
        assert!(worked < took / 2, "{what}: {worked:?} of work in {took:?} of waiting");
        assert!(started <= 20, "{what}: the module was started {started} times");
        assert!(self.control.counters().unwrap().applied(trouble) > 0, "{what}: it never happened");
        assert!(self.running.sink.mails().is_empty(), "{what}: nothing leaves");
        self.control.remove(trouble).unwrap();
        self.assert_flows(what);
    }

    /// What goes wrong once and is mended without anybody's help.
    fn assert_mends_what_happens_once(&mut self) {
        for (what, trouble) in [
            ("a wrong signature", Rule::new(Action::Corrupt).next(1)),
            ("a session is lost", Rule::new(Action::LoseSession).on(ASKED).next(2)),
            ("all sessions are lost", Rule::new(Action::LoseSessions).on(ASKED).next(2)),
            // At C_Decrypt it is what some tokens say of bad ciphertext.
            (
                "an error of the device",
                Rule::fail(ReturnValue::CKR_DEVICE_ERROR).on([Function::Sign]).next(2),
            ),
            ("the device is removed", Rule::fail(ReturnValue::CKR_DEVICE_REMOVED).on(ASKED).next(2)),
        ] {
            self.assert_mends(what, trouble);
        }
    }

    /// It goes wrong, and mail flows all the same.
    fn assert_mends(&mut self, what: &str, trouble: Rule) {
        let trouble = self.control.add(trouble).unwrap();
        self.assert_flows(what);
        assert!(self.control.counters().unwrap().applied(trouble) > 0, "{what}: it never happened");
        self.control.remove(trouble).unwrap();
    }

    /// How often the module was started.
    fn started(&self) -> u64 {
        self.control.counters().unwrap().begun(Function::Initialize)
    }
}

/// What a process and those that it started have worked.
fn worked(process: u32) -> Duration {
    let of = PathBuf::from(format!("/proc/{process}"));
    let stat = fs::read_to_string(of.join("stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    // utime, stime, and those of children that have ended, in hundredths of a second
    let own: u64 = fields.skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    let threads = fs::read_dir(of.join("task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    Duration::from_millis(own * 10) + children.into_iter().map(worked).sum()
}

#[test]
fn mail_waits_for_a_module_that_hangs_or_dies_behind_keyd_and_flows_again_without_help() {
    let mut site = Site::new("keydmodule", true);
    site.assert_flows("all is well");
    site.assert_waits("calls hang", Rule::hang().on(ASKED));
    site.assert_mends_what_happens_once();
    for (what, action) in [("it aborts", Action::Abort), ("it is killed", Action::Kill)] {
        let before = site.started();
        site.assert_mends(what, Rule::new(action).on(ASKED).next(1));
        assert!(site.started() > before, "{what}: another process answers");
    }
    site.assert_waits("it dies at each call", Rule::new(Action::Abort).on(ASKED));
    assert!(site.running.milter.is_running() && site.keyd.as_mut().unwrap().is_running());
}

#[test]
fn mail_waits_for_a_module_that_hangs_in_the_milter_and_for_a_milter_that_dies_with_it() {
    let mut site = Site::new("module", false);
    site.assert_flows("all is well");
    site.assert_waits("calls hang", Rule::hang().on(ASKED));
    site.assert_mends_what_happens_once();
    assert!(site.running.milter.is_running());
    for (what, on) in [("it aborts when it signs", Function::Sign), ("when it decrypts", Function::Decrypt)] {
        let abort = site.control.add(Rule::new(Action::Abort).on([on]).next(1)).unwrap();
        let reply = if on == Function::Sign { site.send_out() } else { site.send_in() };
        assert_eq!(reply.code, 451, "{what}: {reply:?}");
        wait::until("the milter to end", PATIENCE, || Ok((!site.running.milter.is_running()).then_some(())))
            .unwrap();
        // As systemd does.
        site.running.restart_milter().unwrap();
        assert!(site.running.sink.mails().is_empty(), "{what}: nothing leaves");
        site.assert_flows(what);
        assert_eq!(site.control.counters().unwrap().applied(abort), 1, "{what}");
    }
}
