//! Lanes and the room in them.

use std::{sync::Arc, thread};

use super::*;
use crate::request::tests::counted;

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(30);

fn request(lane: Lane) -> Box<Request> {
    counted(lane, LONG).0
}

fn now() -> Instant {
    Instant::now()
}

/// Does not wait for room.
fn at_once(_: &Request) -> bool {
    false
}

fn run_on() -> AtomicBool {
    AtomicBool::new(false)
}

#[test]
fn interactive_requests_overtake_all_bulk_requests() {
    let lanes = Lanes::new(100);
    for lane in [Lane::Bulk, Lane::Bulk, Lane::Interactive, Lane::Bulk, Lane::Interactive] {
        lanes.push(request(lane), at_once).unwrap();
    }
    assert_eq!(lanes.waiting(), [2, 3]);
    let order: Vec<Lane> = (0..5)
        .map(|_| match lanes.pop(SHORT, &run_on(), &Slot::default(), || {}) {
            Next::Serve(request, ..) => request.lane,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order[..2], [Lane::Interactive; 2]);
    assert_eq!(order[2..], [Lane::Bulk; 3]);
    assert!(matches!(lanes.pop(SHORT, &run_on(), &Slot::default(), || {}), Next::Idle));
}

#[test]
fn a_full_lane_takes_nothing_in_and_does_not_fill_the_other() {
    let lanes = Lanes::new(2);
    lanes.push(request(Lane::Bulk), at_once).unwrap();
    lanes.push(request(Lane::Bulk), at_once).unwrap();
    assert!(matches!(lanes.push(request(Lane::Bulk), at_once), Err(Refused::Full(_))));
    lanes.push(request(Lane::Interactive), at_once).unwrap();
    // What was in before has its place.
    lanes.restore(request(Lane::Bulk)).unwrap();
    assert_eq!(lanes.waiting(), [1, 3]);
}

fn served(lanes: &Lanes) -> Box<Request> {
    match lanes.pop(LONG, &run_on(), &Slot::default(), || {}) {
        Next::Serve(request, ..) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_comes_back_stands_where_it_stood_unless_it_may_be_what_loses_connections() {
    for (losses, order) in [(0, [0, 1, 2, 3]), (1, [0, 1, 2, 3]), (2, [1, 2, 3, 0])] {
        let lanes = Lanes::new(100);
        let requests: Vec<_> = (0..4).map(|_| request(Lane::Interactive)).collect();
        let submitted: Vec<_> = requests.iter().map(|request| request.submitted).collect();
        for request in requests {
            lanes.push(request, at_once).unwrap();
        }
        let mut first = served(&lanes);
        let second = served(&lanes);
        first.history.losses = losses;
        lanes.restore(second).unwrap();
        lanes.restore(first).unwrap();
        let served: Vec<_> = (0..4).map(|_| served(&lanes).submitted).collect();
        assert_eq!(served, order.map(|number: usize| submitted[number]), "{losses} losses");
    }
}

#[test]
fn what_looks_for_another_token_keeps_its_room_until_it_is_settled() {
    let lanes = Lanes::new(2);
    lanes.push(request(Lane::Bulk), at_once).unwrap();
    lanes.push(request(Lane::Bulk), at_once).unwrap();
    let mut out = lanes.drain();
    assert!(matches!(lanes.push(request(Lane::Bulk), at_once), Err(Refused::Full(_))));
    lanes.push(request(Lane::Interactive), at_once).unwrap();
    lanes.restore(out.pop_front().unwrap()).unwrap();
    lanes.settle();
    lanes.push(request(Lane::Bulk), at_once).unwrap();
    assert!(matches!(lanes.push(request(Lane::Bulk), at_once), Err(Refused::Full(_))));
}

#[test]
fn a_caller_gets_the_room_that_a_worker_makes() {
    let lanes = Arc::new(Lanes::new(1));
    lanes.push(request(Lane::Bulk), at_once).unwrap();
    let pushing = {
        let lanes = Arc::clone(&lanes);
        thread::spawn(move || lanes.push(request(Lane::Bulk), |_| true).is_ok())
    };
    thread::sleep(SHORT);
    for _ in 0..2 {
        assert!(matches!(lanes.pop(LONG, &run_on(), &Slot::default(), || {}), Next::Serve(..)));
    }
    assert!(pushing.join().unwrap());
}

#[test]
fn room_goes_to_those_who_have_waited_longest_and_to_nobody_who_has_just_come() {
    const CALLERS: usize = 6;
    let lanes = Lanes::new(2);
    for _ in 0..2 {
        lanes.push(request(Lane::Bulk), at_once).unwrap();
    }
    let stay = AtomicBool::new(true);
    let in_line = |count| {
        while lanes.lock().bulk.line.len() < count {
            thread::sleep(Duration::from_millis(1));
        }
    };
    thread::scope(|scope| {
        // The first goes away, and keeps nobody from moving up.
        let gone = scope.spawn(|| lanes.push(request(Lane::Bulk), |_| stay.load(Ordering::Relaxed)));
        in_line(1);
        let mut submitted = Vec::new();
        for number in 0..CALLERS {
            let request = request(Lane::Bulk);
            submitted.push(request.submitted);
            let lanes = &lanes;
            scope.spawn(move || lanes.push(request, |_| true).unwrap());
            in_line(number + 2);
        }
        stay.store(false, Ordering::Relaxed);
        assert!(matches!(gone.join().unwrap(), Err(Refused::Full(_))));

        let mut order = Vec::new();
        for left in (0..CALLERS).rev() {
            order.push(served(&lanes).submitted);
            // Whoever comes now finds room, but not for himself.
            assert!(lanes.push(request(Lane::Bulk), at_once).is_err(), "with {left} in line");
            // Two who are called at the same time may come in either order.
            while lanes.lock().bulk.line.len() > left {
                thread::sleep(Duration::from_millis(1));
            }
        }
        order.extend((0..2).map(|_| served(&lanes).submitted));
        assert_eq!(order[2..], submitted);
    });
}

#[test]
fn a_worker_that_waits_can_be_stopped() {
    let (lanes, stop) = (Arc::new(Lanes::new(1)), Arc::new(run_on()));
    let waiting = {
        let (lanes, stop) = (Arc::clone(&lanes), Arc::clone(&stop));
        thread::spawn(move || lanes.pop(LONG, &stop, &Slot::default(), || {}))
    };
    thread::sleep(SHORT);
    stop.store(true, Ordering::Release);
    lanes.wake_workers();
    assert!(matches!(waiting.join().unwrap(), Next::Stop));
    lanes.push(request(Lane::Interactive), at_once).unwrap();
    assert!(
        matches!(lanes.pop(LONG, &stop, &Slot::default(), || {}), Next::Stop),
        "it takes no request along"
    );
    assert_eq!(lanes.waiting(), [1, 0]);
}

#[test]
fn a_token_that_is_out_gives_everything_back_and_wakes_those_who_wait_for_room() {
    let lanes = Arc::new(Lanes::new(1));
    lanes.push(request(Lane::Bulk), at_once).unwrap();
    let pushing = {
        let lanes = Arc::clone(&lanes);
        thread::spawn(move || lanes.push(request(Lane::Bulk), |_| true))
    };
    thread::sleep(SHORT);
    assert_eq!(lanes.refuse().len(), 1);
    assert!(matches!(pushing.join().unwrap(), Err(Refused::Out(_))));
    assert!(matches!(lanes.restore(request(Lane::Bulk)), Err(Refused::Out(_))));
    lanes.admit();
    lanes.restore(request(Lane::Bulk)).unwrap();
}

#[test]
fn requests_whose_time_is_over_give_their_room_back() {
    let lanes = Lanes::new(2);
    lanes.push(request(Lane::Interactive), at_once).unwrap();
    lanes.push(counted(Lane::Interactive, SHORT).0, at_once).unwrap();
    assert!(lanes.remove_over(now()).is_empty());
    let over = lanes.remove_over(now() + SHORT);
    assert_eq!(over.len(), 1);
    assert_eq!(lanes.waiting(), [1, 0]);
    lanes.push(request(Lane::Interactive), at_once).unwrap();
}

#[test]
fn no_more_workers_have_a_request_than_there_are_slots() {
    let lanes = Lanes::new(100);
    lanes.set_slots(2);
    for _ in 0..6 {
        lanes.push(request(Lane::Bulk), at_once).unwrap();
    }
    let slots: [Slot; 4] = Default::default();
    let has_one = |slot| matches!(lanes.pop(SHORT, &run_on(), slot, || {}), Next::Serve(..));
    assert_eq!(slots.each_ref().map(has_one), [true, true, false, false]);
    assert!(has_one(&slots[1]), "in the place of its last");
    lanes.vacate(&slots[0]);
    lanes.vacate(&slots[0]);
    assert_eq!([2, 3].map(|worker| has_one(&slots[worker])), [true, false], "one has gone, once");
    lanes.set_slots(3);
    assert!(has_one(&slots[3]));
}

#[test]
fn whoever_finds_no_slot_is_woken_when_there_is_one() {
    let lanes = Arc::new(Lanes::new(100));
    lanes.set_slots(1);
    let slot = Slot::default();
    lanes.push(request(Lane::Bulk), at_once).unwrap();
    assert!(matches!(lanes.pop(SHORT, &run_on(), &slot, || {}), Next::Serve(_, 0, 0)));
    let waiting = Arc::clone(&lanes);
    let other = thread::spawn(move || waiting.pop(LONG, &run_on(), &Slot::default(), || {}));
    thread::sleep(SHORT);
    lanes.push(request(Lane::Bulk), at_once).unwrap();
    thread::sleep(SHORT);
    assert!(!other.is_finished());
    lanes.vacate(&slot);
    assert!(matches!(other.join().unwrap(), Next::Serve(..)));
}
