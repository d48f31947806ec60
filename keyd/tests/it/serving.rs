//! Keys used through the socket: by many, in two lanes, over restarts.

use std::{
    env,
    io::Write as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hsmpool::{Lane, Pool};
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::Digest,
};
use testmodule::{Function, Rule};

use crate::{
    raw::Words,
    support::{LONG, Lab, children, eventually, sign},
};

const CLIENT: &str = "KEYD_TEST_CLIENT";

#[test]
fn processes_share_the_sessions_and_only_the_child_has_the_module() {
    if let Some(directory) = env::var_os(CLIENT) {
        let directory = std::path::PathBuf::from(directory);
        let pem = std::fs::read_to_string(directory.join("ours.pem")).unwrap();
        let certificate = Certificate::from_pem(&pem).unwrap().remove(0);
        let pool = Pool::connect(&directory.join("keyd.sock"), LONG).unwrap();
        let key = pool.key(&certificate);
        return (0..50).for_each(|n: u32| sign(&key, &n.to_le_bytes()).unwrap());
    }
    let lab = Lab::new();
    let keyd = lab.start();
    let name = "serving::processes_share_the_sessions_and_only_the_child_has_the_module";
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = Command::new(env::current_exe().unwrap());
            client.args([name, "--exact"]).env(CLIENT, &lab.directory).spawn().unwrap()
        })
        .collect();
    for mut client in clients {
        assert!(client.wait().unwrap().success());
    }
    assert_eq!(lab.begun(Function::Login), 1, "four processes, one login");
    assert_eq!(lab.uses().len(), 200);
    let maps = |id: u32| std::fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    assert!(maps(keyd.module_process()).contains("libtestmodule"));
    assert!(!maps(keyd.id()).contains("libtestmodule"), "the parent has loaded the module");
    assert!(keyd.stop().success());
    assert!(!lab.socket().exists());
    let counters = lab.control.counters().unwrap();
    assert_eq!(counters.begun(Function::Finalize), 1, "the module was ended in order");
}

#[test]
fn a_hundred_clients_are_served_at_once() {
    let lab = Lab::new();
    let _keyd = lab.start();
    let connected = Arc::new(std::sync::Barrier::new(100));
    thread::scope(|scope| {
        for _ in 0..100 {
            let (connected, lab) = (Arc::clone(&connected), &lab);
            scope.spawn(move || {
                let key = lab.key();
                connected.wait();
                (0..5_u32).for_each(|n| sign(&key, &n.to_le_bytes()).unwrap());
            });
        }
    });
    assert_eq!(lab.uses().len(), 500);
    assert!(lab.check_audit().0.success());
}

#[test]
fn a_bulk_backlog_of_one_client_is_not_in_the_way_of_anothers_mail() {
    let mut lab = Lab::new();
    lab.sessions = 1;
    lab.deadline_ms = 60_000;
    let _keyd = lab.start();
    let mail = lab.key();
    lab.control.add(Rule::delay(Duration::from_millis(15)).on([Function::Sign])).unwrap();
    let bulk = lab.pool().lane(Lane::Bulk).key(&lab.certificate);
    let done = Arc::new(AtomicUsize::new(0));
    for n in 0..300_u32 {
        let done = Arc::clone(&done);
        let input = Digest::of(Sha256, &n.to_le_bytes()).into();
        bulk.submit_sign(&input, SignatureAlgorithm::Ecdsa(Sha256), move |outcome| {
            outcome.unwrap();
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
    let mut overtaken = Vec::new();
    for n in 0..20_u32 {
        let before = done.load(Ordering::SeqCst);
        sign(&mail, &n.to_le_bytes()).unwrap();
        overtaken.push(done.load(Ordering::SeqCst) - before);
    }
    assert!(done.load(Ordering::SeqCst) < 290, "the backlog was gone before anything could be seen");
    // One runs when the mail comes; on a busy machine answers under way are counted late. Behind the backlog it
    // would be all of them.
    overtaken.sort_unstable();
    assert!(overtaken[10] <= 3 && overtaken[19] <= 20, "bulk operations before each mail: {overtaken:?}");
    eventually("all is done", || done.load(Ordering::SeqCst) == 300);
}

#[test]
fn bulk_work_that_comes_long_after_the_start_is_served() {
    let lab = Lab::new();
    let _keyd = lab.start();
    sign(&lab.key(), b"a mail").unwrap();
    // Longer than a stranger may take to introduce himself.
    thread::sleep(Duration::from_secs(6));
    sign(&lab.pool().lane(Lane::Bulk).key(&lab.certificate), b"an archive").unwrap();
}

#[test]
fn after_kill_9_clients_connect_again_and_nothing_is_lost() {
    let lab = Lab::new();
    let mut keyd = lab.start();
    let key = lab.key();
    for round in 0..3_u32 {
        let module = keyd.module_process();
        let parent = keyd.id();
        thread::scope(|scope| {
            for caller in 0..8_u32 {
                let key = &key;
                scope.spawn(move || {
                    for n in 0..40_u32 {
                        sign(key, &[round, caller, n].map(u32::to_le_bytes).concat()).unwrap();
                    }
                });
            }
            thread::sleep(Duration::from_millis(20));
            keyd.kill();
            keyd = lab.start();
        });
        eventually("the module's process has gone with its parent", || {
            !children(parent).contains(&module)
                && !std::path::Path::new(&format!("/proc/{module}/maps")).exists()
                || std::fs::read_to_string(format!("/proc/{module}/maps")).is_ok_and(|maps| maps.is_empty())
        });
    }
    let (status, text) = lab.check_audit();
    assert!(status.success(), "{text}");
    assert!(lab.uses().len() >= 3 * 320 - 3 * 8, "{text}");
}

#[test]
fn garbage_on_the_socket_harms_nobody() {
    let lab = Lab::new();
    let keyd = lab.start();
    let key = lab.key();
    let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(lab.socket()).unwrap()).collect();
    for n in 0..50_u8 {
        let mut stream = UnixStream::connect(lab.socket()).unwrap();
        let garbage: Vec<u8> =
            (0..2000_u32).map(|i| u8::try_from((i * u32::from(n) + i / 7) % 251).unwrap()).collect();
        let _ = stream.write_all(&garbage);
        sign(&key, &[n]).unwrap();
    }
    drop(silent);
    assert!(keyd.log().contains("does not keep to the protocol"));
    assert!(keyd.stop().success());
}

#[test]
fn a_key_by_any_number_of_names_is_in_nobody_s_way() {
    let lab = Lab::new();
    let keyd = lab.start();
    let pool = lab.pool();
    pool.ready(LONG).unwrap();
    let module = keyd.module_process();
    let key = pool.lane(Lane::Bulk).key(&lab.certificate);
    sign(&key, b"before").unwrap();
    let mut words = Words::hello(Lane::Bulk);
    // As many as a connection may have, and some more; each is used.
    for name in 0..16_400_usize {
        words.define(&lab.certificate.public_key_info(), name.to_string().as_bytes());
        words.sign(name, name % 16_384, &[7; 32]);
    }
    assert_eq!(words.say(&lab, 16_400), (16_400, 0));
    (0..20_u32).for_each(|n| sign(&key, &n.to_le_bytes()).unwrap());
    assert_eq!(keyd.module_process(), module, "it was made anew: {}", keyd.log());
    assert!(!keyd.log().contains("connection to the server of keys lost"), "{}", keyd.log());
}

/// Only another process has another bulk lane.
#[test]
fn a_module_process_whose_bulk_lane_has_ended_ends() {
    let lab = Lab::new();
    let (interactive, input) = UnixStream::pair().unwrap();
    let (bulk, output) = UnixStream::pair().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hsmime-keyd"));
    child.args(["module-host", "--format", "text", "--filter", "info"]);
    child.stdin(OwnedFd::from(input)).stdout(OwnedFd::from(output));
    let mut child = child.current_dir(&lab.directory).spawn().unwrap();
    // No tokens, a salt, nothing about their PINs.
    let mut said = [&34_u32.to_le_bytes()[..], &[0], &[7; 32], &[0]].concat();
    said.extend(&Words::hello(Lane::Interactive).0);
    (&interactive).write_all(&said).unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it serves");
    drop(bulk);
    let mut ended = None;
    eventually("it ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success());
    drop(interactive);
}
