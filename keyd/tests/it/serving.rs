//! Keys used through the socket: by many, in two lanes, over restarts.

use std::{
    env,
    os::unix::net::UnixStream,
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

use crate::support::{LONG, Lab, children, eventually, sign};

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
    use std::io::Write as _;
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
