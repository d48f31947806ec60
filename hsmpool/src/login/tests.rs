//! The gate and its record without a token.

use super::*;

fn gate() -> LoginGate {
    gate_of("pin".into())
}

fn gate_of(pin: PathBuf) -> LoginGate {
    LoginGate::new(&TokenSettings {
        module: "module.so".into(),
        label: "mail".into(),
        pin: PinSource::File(pin),
        sessions: None,
        queue: 1,
        deadline: Duration::from_millis(50),
    })
}

#[test]
fn a_login_that_hangs_keeps_back_no_other_whose_pin_was_right_before() {
    let gate = gate();
    let hanging = gate.wait_for_turn().ok();
    let begun = Instant::now();
    assert!(matches!(gate.wait_for_turn(), Err(LoginError::Call(_))), "it may be the last try");
    assert!(begun.elapsed() >= gate.limit);
    let accepted = Some(Pin::of(b"1").hash(&PinSalt::default()));
    gate.lock().record.accepted = accepted;
    let beside = gate.wait_for_turn().ok();
    assert!(beside.is_some());
    // What came back late ends nobody else's turn.
    drop(hanging);
    assert!(gate.lock().under_way.is_some());
    drop(beside);
    assert!(gate.lock().under_way.is_none());
}

fn write_secret(file: &std::path::Path, pin: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let options = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(file);
    std::io::Write::write_all(&mut options.unwrap(), pin.as_bytes()).unwrap();
}

#[test]
fn beside_a_login_that_hangs_only_the_pin_that_was_right_is_tried() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pin");
    let gate = gate_of(file.clone());
    let accepted = Some(Pin::of(b"1234").hash(&gate.lock().salt));
    gate.lock().record.accepted = accepted;
    let hanging = gate.wait_for_turn().ok();
    assert!(hanging.is_some());
    for (pin, may_be_tried) in [("1234", true), ("4321", false)] {
        write_secret(&file, pin);
        let turn = gate.wait_for_turn().unwrap();
        assert_eq!(gate.pin_to_try(&turn).is_ok(), may_be_tried, "{pin}");
        // The next finds the first still hanging.
        std::mem::forget(turn);
    }
}

#[test]
fn a_pin_file_that_is_about_to_be_written_costs_no_try() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pin");
    let gate = gate_of(file.clone());
    let accepted = Some(Pin::of(b"1234").hash(&gate.lock().salt));
    gate.lock().record.accepted = accepted;
    write_secret(&file, "43");
    thread::scope(|scope| {
        let read = scope.spawn(|| gate.read_pin().unwrap().0);
        thread::sleep(SETTLING / 5);
        write_secret(&file, "4321");
        assert!(read.join().unwrap() == Pin::of(b"4321"));
    });
}

#[test]
fn what_a_login_that_failed_says_of_the_pin() {
    let salt = PinSalt::default();
    let hash = || Pin::of(b"1234").hash(&salt);
    let unknown = PinRecord::default;
    let once = || PinRecord { doubtful: Some(hash()), ..unknown() };
    let right = || PinRecord { accepted: Some(hash()), ..unknown() };
    for (before, rv, counted, held_for_wrong) in [
        (unknown(), RvError::PinIncorrect, false, true),
        (right(), RvError::PinIncorrect, false, true),
        (unknown(), RvError::DeviceError, false, false),
        (unknown(), RvError::DeviceError, true, true),
        (once(), RvError::DeviceError, false, true),
        (right(), RvError::DeviceError, false, false),
        (right(), RvError::DeviceError, true, true),
        (once(), RvError::DeviceRemoved, false, false),
    ] {
        let told = format!("{before:?} {rv:?} {counted}");
        let (record, result) = gate().judge(before, hash(), counted, Err(CallError::new("C_Login", rv)));
        assert_eq!(record.rejected.is_some(), held_for_wrong, "{told}");
        assert_eq!(matches!(result, Err(LoginError::Refused(_))), held_for_wrong, "{told}");
    }
}

#[test]
fn a_login_that_never_ended_counts_as_one_try_unless_the_pin_was_right_before() {
    let salt = PinSalt::default();
    let hash = |pin: &[u8]| Pin::of(pin).hash(&salt);
    let (one, other) = (hash(b"1234"), hash(b"4321"));
    let first = PinRecord::default().after_doubt(&one, "no answer");
    assert_eq!((&first.doubtful, &first.rejected), (&Some(one.clone()), &None));
    let second = first.clone().after_doubt(&one, "no answer");
    let refused = Rejection::Refused { code: "no answer".into() };
    assert_eq!(second.rejected, Some((one.clone(), refused)));
    assert_eq!(first.after_doubt(&other, "no answer").rejected, None, "another PIN has its own tries");

    let known = PinRecord { accepted: Some(one.clone()), ..PinRecord::default() };
    assert_eq!(known.clone().after_doubt(&one, "no answer"), known);
}

#[test]
fn a_record_that_is_handed_over_is_gone_on_with_and_each_change_is_told() {
    let gate = gate();
    let salt = PinSalt::random();
    let rejected = Some((Pin::of(b"1").hash(&salt), Rejection::Wrong));
    let record = PinRecord { rejected, ..PinRecord::default() };
    let told = Arc::new(Mutex::new(Vec::new()));
    let witness = Arc::clone(&told);
    gate.remember(
        salt,
        record.clone(),
        Arc::new(move |record| {
            witness.lock().unwrap().push(record.clone());
            true
        }),
    );
    assert!(gate.holds_a_rejected_pin());
    gate.lock().note(record);
    assert_eq!(told.lock().unwrap().len(), 0, "that was known");
    gate.lock().note(PinRecord::default());
    assert_eq!(*told.lock().unwrap(), [PinRecord::default()]);
}
