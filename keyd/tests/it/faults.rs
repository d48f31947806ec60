//! Modules that crash and hang, PINs that are wrong.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use smime::key::KeyError;
use testmodule::{Action, Function, Rule};

use crate::support::{LONG, Lab, eventually, send, sign};

#[test]
fn a_killed_module_process_costs_no_request() {
    let lab = Lab::new();
    let keyd = lab.start();
    let key = lab.key();
    let mut before = 0;
    for round in 0..3_u32 {
        let module = keyd.module_process();
        assert_ne!(module, before);
        before = module;
        thread::scope(|scope| {
            for caller in 0..16_u32 {
                let key = &key;
                scope.spawn(move || {
                    for n in 0..40_u32 {
                        sign(key, &[round, caller, n].map(u32::to_le_bytes).concat()).unwrap();
                    }
                });
            }
            thread::sleep(Duration::from_millis(30));
            send(module, Signal::KILL);
        });
        sign(&key, b"after").unwrap();
        // One that has lived for a while is replaced at once, as here.
        thread::sleep(Duration::from_millis(200));
    }
    let uses = lab.uses();
    assert!(uses.iter().all(|line| line["outcome"] == "done"), "{uses:?}");
    assert_eq!(uses.len(), 3 * (640 + 1));
}

#[test]
fn a_module_that_aborts_is_started_again_and_one_that_always_does_is_told_of() {
    let mut lab = Lab::new();
    let keyd = lab.start();
    let key = lab.key();
    lab.control.add(Rule::new(Action::Abort).on([Function::Sign]).next(1)).unwrap();
    sign(&key, b"the first call ends the process, the second does not").unwrap();

    let always = lab.control.add(Rule::new(Action::Abort).on([Function::Sign])).unwrap();
    let error = sign(&key, b"it always does").unwrap_err();
    assert!(matches!(error, KeyError::Unavailable { .. }), "{error}");
    assert!(keyd.log().contains("module process has ended"));
    lab.control.remove(always).unwrap();
    eventually("signatures again", || sign(&key, b"well").is_ok());
}

#[test]
fn after_a_hang_the_pool_serves_again_within_the_deadline_and_a_second() {
    let mut lab = Lab::new();
    lab.deadline_ms = 2000;
    lab.sessions = 1;
    let keyd = lab.start();
    let key = lab.key();
    sign(&key, b"well").unwrap();
    let hanging = keyd.module_process();
    lab.control.add(Rule::hang().on([Function::Sign]).next(1)).unwrap();
    let begun = Instant::now();
    let error = sign(&key, b"never").unwrap_err();
    assert!(matches!(error, KeyError::Deadline { .. }), "{error}");
    sign(&key, b"again").unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(lab.deadline_ms + 1000), "{took:?}");
    eventually("the hanging process is replaced", || keyd.module_process() != hanging);
}

#[test]
fn a_token_that_does_one_thing_at_a_time_is_slow_and_not_hanging() {
    let mut lab = Lab::new();
    lab.deadline_ms = 1000;
    lab.sessions = 16;
    let keyd = lab.start();
    let pool = lab.pool();
    pool.ready(LONG).unwrap();
    let key = pool.with_deadline(LONG).key(&lab.certificate);
    let module = keyd.module_process();
    // With 16 of them under way each call takes 1.6 seconds.
    lab.control.add(Rule::in_turn(Duration::from_millis(100)).on([Function::Sign])).unwrap();
    thread::scope(|scope| {
        for caller in 0..20_u32 {
            let key = &key;
            scope.spawn(move || {
                for n in 0..2_u32 {
                    sign(key, &[caller, n].map(u32::to_le_bytes).concat()).unwrap();
                }
            });
        }
    });
    assert_eq!(keyd.module_process(), module, "{}", keyd.log());
}

#[test]
fn a_module_process_with_more_to_do_than_its_token_s_queue_holds_is_not_killed() {
    let mut lab = Lab::new();
    (lab.sessions, lab.queue) = (1, 4);
    let keyd = lab.start();
    let (pool, watch) = (lab.pool(), lab.pool());
    pool.ready(LONG).unwrap();
    watch.ready(LONG).unwrap();
    let module = keyd.module_process();
    lab.control.add(Rule::in_turn(Duration::from_millis(100)).on([Function::Sign])).unwrap();
    let deadline = Duration::from_millis(1500);
    let (key, behind) = (&pool.with_deadline(deadline).key(&lab.certificate), AtomicUsize::new(0));
    thread::scope(|scope| {
        for caller in 0..60_u32 {
            // Many have gone when it is their turn.
            scope.spawn(move || drop(sign(key, &caller.to_le_bytes())));
        }
        let begun = Instant::now();
        while begun.elapsed() < 2 * deadline {
            let waiting = watch.status().first().map_or(0, |token| token.waiting);
            behind.fetch_max(waiting, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        }
    });
    eventually("signatures again", || sign(key, b"again").is_ok());
    assert_eq!(keyd.module_process(), module, "{}", keyd.log());
    // The one in work is not always counted as such yet.
    let behind = behind.into_inner();
    assert!((3..=5).contains(&behind), "the queue is not what is configured: {behind}");
}

#[test]
fn a_call_that_hangs_while_others_come_back_ends_the_process_in_the_end() {
    let mut lab = Lab::new();
    lab.deadline_ms = 300;
    let keyd = lab.start();
    let key = lab.key();
    let module = keyd.module_process();
    lab.control.add(Rule::hang().on([Function::Sign]).next(1)).unwrap();
    sign(&key, b"never").unwrap_err();
    eventually("the hanging process is replaced", || {
        let _ = sign(&key, b"by the other session");
        keyd.module_process() != module
    });
    assert!(keyd.log().contains("a call to the module has not returned"), "{}", keyd.log());
}

#[test]
fn a_module_process_that_stands_still_is_killed() {
    let mut lab = Lab::new();
    lab.deadline_ms = 2000;
    let keyd = lab.start();
    let key = lab.key();
    sign(&key, b"well").unwrap();
    let module = keyd.module_process();
    send(module, Signal::STOP);
    let error = sign(&key, b"never").unwrap_err();
    assert!(matches!(error, KeyError::Deadline { .. }), "{error}");
    eventually("signatures again", || sign(&key, b"again").is_ok());
    assert_ne!(keyd.module_process(), module);
    assert!(keyd.log().contains("does not answer: killed"));
}

#[test]
fn one_login_reaches_the_token_with_a_wrong_pin_whatever_is_restarted() {
    let lab = Lab::new();
    fs::write(lab.directory.join("pin"), "000000").unwrap();
    let keyd = lab.start();
    let pool = lab.pool();
    let error = pool.ready(LONG).unwrap_err();
    assert!(error.to_string().contains("rejected the PIN"), "{error}");
    let key = pool.key(&lab.certificate);
    for _ in 0..3 {
        let module = keyd.module_process();
        send(module, Signal::KILL);
        eventually("another process", || keyd.module_process() != module);
        eventually("it says why", || {
            sign(&key, b"no").is_err_and(|error| error.to_string().contains("rejected the PIN"))
        });
        keyd.signal(Signal::HUP);
    }
    thread::sleep(Duration::from_millis(500));
    assert_eq!(lab.begun(Function::Login), 1);

    fs::write(lab.directory.join("pin"), crate::support::PIN).unwrap();
    eventually("the right PIN is used", || sign(&key, b"yes").is_ok());
    assert_eq!(lab.begun(Function::Login), 2);
}

#[test]
fn one_login_reaches_the_token_with_a_wrong_pin_however_often_keyd_is_started() {
    let lab = Lab::new();
    fs::write(lab.directory.join("pin"), "000000").unwrap();
    for _ in 0..4 {
        let mut keyd = lab.start();
        let error = lab.pool().ready(LONG).unwrap_err();
        assert!(error.to_string().contains("rejected the PIN"), "{error}");
        keyd.kill();
    }
    assert_eq!(lab.begun(Function::Login), 1);

    let record = lab.directory.join("keyd.sock.pins");
    fs::remove_file(&record).unwrap();
    let mut keyd = lab.start();
    lab.pool().ready(LONG).unwrap_err();
    assert_eq!(lab.begun(Function::Login), 2, "whoever removes the record has it tried again");
    keyd.kill();

    fs::write(lab.directory.join("pin"), crate::support::PIN).unwrap();
    let _keyd = lab.start();
    sign(&lab.key(), b"yes").unwrap();
    assert_eq!(lab.begun(Function::Login), 3);
    assert!(!record.exists(), "nothing is left to remember");
}

#[test]
fn a_token_that_is_taken_out_and_put_back_costs_no_try_by_whatever_name() {
    let lab = Lab::new();
    fs::write(lab.directory.join("pin"), "000000").unwrap();
    let state = lab.directory.join("state");
    fs::create_dir(&state).unwrap();
    let mut command = lab.command();
    let keyd = lab.spawn({
        command.env("STATE_DIRECTORY", &state);
        command
    });
    eventually("keyd listens", || std::os::unix::net::UnixStream::connect(lab.socket()).is_ok());
    lab.pool().ready(LONG).unwrap_err();
    assert_eq!(lab.begun(Function::Login), 1);
    let path = lab.directory.join("hsmime.toml");
    let with = fs::read_to_string(&path).unwrap();
    let without = format!("[pool]{}", with.split_once("[pool]").unwrap().1);
    let module = testmodule::library().unwrap();
    let link = lab.directory.join("another-name.so");
    std::os::unix::fs::symlink(&module, &link).unwrap();
    let linked = with.replace(module.to_str().unwrap(), link.to_str().unwrap());
    for (times, text) in [without, with, linked].iter().enumerate() {
        fs::write(&path, text).unwrap();
        keyd.signal(Signal::HUP);
        eventually("it is read", || keyd.log().matches("configuration read again").count() > times);
        if text.contains("[[token]]") {
            let error = lab.pool().ready(LONG).unwrap_err();
            assert!(error.to_string().contains("rejected the PIN"), "{error}");
        }
    }
    assert_eq!(lab.begun(Function::Login), 1);
    assert!(state.join("pins").exists() && !lab.directory.join("keyd.sock.pins").exists());
}

#[test]
fn one_login_reaches_the_token_with_a_wrong_pin_though_its_module_is_replaced_or_the_record_damaged() {
    let lab = Lab::new();
    fs::write(lab.directory.join("pin"), "000000").unwrap();
    let library = testmodule::library().unwrap();
    let link = lab.directory.join("module.so");
    let path = lab.write_config();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(library.to_str().unwrap(), link.to_str().unwrap())).unwrap();
    for version in ["module.so.1", "module.so.2"] {
        let file = lab.directory.join(version);
        fs::copy(&library, &file).unwrap();
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut keyd = lab.spawn(lab.command_as_configured());
        eventually("keyd listens", || std::os::unix::net::UnixStream::connect(lab.socket()).is_ok());
        let error = lab.pool().ready(LONG).unwrap_err();
        assert!(error.to_string().contains("rejected the PIN"), "{error}");
        keyd.kill();
    }
    assert_eq!(lab.begun(Function::Login), 1);

    let record = lab.directory.join("keyd.sock.pins");
    for damaged in [&b""[..], b"not what it was"] {
        fs::write(&record, damaged).unwrap();
        let output = lab.command_as_configured().output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("keyd.sock.pins") && told.contains("remove this file"), "{told}");
    }
    assert_eq!(lab.begun(Function::Login), 1);
}

#[test]
fn no_login_is_tried_where_that_cannot_be_written_down() {
    let lab = Lab::new();
    let state = lab.directory.join("state");
    let mut command = lab.command();
    command.env("STATE_DIRECTORY", &state);
    let keyd = lab.spawn(command);
    eventually("keyd listens", || std::os::unix::net::UnixStream::connect(lab.socket()).is_ok());
    let error = lab.pool().ready(LONG).unwrap_err();
    assert!(error.to_string().contains("is not tried"), "{error}");
    assert_eq!(lab.begun(Function::Login), 0);
    let told = keyd.log().matches("which PINs were tried cannot be written").count();
    assert_eq!(told, 1, "{}", keyd.log());
    // Once it can, all is well, and it has been no try.
    fs::create_dir(&state).unwrap();
    let pool = lab.pool();
    eventually("it is logged in to", || pool.ready(LONG).is_ok());
    assert_eq!(lab.begun(Function::Login), 1);
    assert!(!state.join("pins").exists(), "nothing is left to remember");
}

#[test]
fn tokens_that_cannot_be_used_together_leave_the_clients_as_they_were() {
    let lab = Lab::new();
    let keyd = lab.start();
    let key = lab.key();
    let module = testmodule::library().unwrap();
    let link = lab.directory.join("another-name.so");
    std::os::unix::fs::symlink(&module, &link).unwrap();
    let path = lab.directory.join("hsmime.toml");
    let text = fs::read_to_string(&path).unwrap();
    // The same token once more, and a client that may not sign.
    let twice = format!("[[token]]\nmodule = {link:?}\nlabel = \"mail\"\npin-file = \"pin\"\n{text}");
    let twice = twice.replace("[[keyd.client]]", "[[keyd.client]]\noperations = [\"decrypt\"]");
    fs::write(&path, twice).unwrap();
    keyd.signal(Signal::HUP);
    eventually("the mistake is told", || keyd.log().contains("the configuration stays as it was"));
    sign(&key, b"as before").unwrap();
}

#[test]
fn the_configuration_is_read_again_without_losing_anything() {
    let mut lab = Lab::new();
    let keyd = lab.start();
    let key = lab.key();
    sign(&key, b"one").unwrap();
    let module = keyd.module_process();
    keyd.signal(Signal::HUP);
    eventually("it is read", || keyd.log().contains("configuration read again"));
    sign(&key, b"two").unwrap();
    assert_eq!(keyd.module_process(), module, "nothing has changed for the token");

    lab.clients = lab.clients.replace("[[keyd.client]]", "[[keyd.client]]\noperations = [\"decrypt\"]");
    lab.write_config();
    keyd.signal(Signal::HUP);
    eventually("the client may not sign any more", || {
        matches!(sign(&key, b"three"), Err(KeyError::Refused { .. }))
    });

    lab.clients = lab.clients.replace("operations = [\"decrypt\"]", "");
    lab.sessions = 3;
    lab.write_config();
    keyd.signal(Signal::HUP);
    eventually("the client may sign again", || sign(&key, b"four").is_ok());
    let pool = lab.pool();
    eventually("the token has three sessions", || {
        pool.status().first().is_some_and(|token| token.sessions == 3)
    });

    fs::write(lab.directory.join("hsmime.toml"), "[keyd]\nclint = 1\n").unwrap();
    keyd.signal(Signal::HUP);
    eventually("the mistake is told", || keyd.log().contains("the configuration stays as it was"));
    sign(&key, b"five").unwrap();

    // Written as far as a line that would have said what the client may not do.
    lab.clients = lab.clients.replace("[[keyd.client]]", "[[keyd.client]]\noperations = [\"decrypt\"]");
    lab.write_config();
    let path = lab.directory.join("hsmime.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.trim_end()).unwrap();
    keyd.signal(Signal::HUP);
    eventually("the file is not taken for whole", || keyd.log().contains("has no end"));
    sign(&key, b"six").unwrap();
}
