//! Who passes when, and who is not held up by whom.

use std::time::Duration;

use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use super::*;

/// Somebody who waits, and tells when he passed.
fn ask(
    gate: &Arc<Gate>,
    client: &'static str,
    sender: &'static str,
    octets: usize,
    passed: &Arc<Mutex<Vec<String>>>,
) -> JoinHandle<Pass> {
    let (gate, passed) = (Arc::clone(gate), Arc::clone(passed));
    tokio::spawn(async move {
        let pass = gate.pass(client, sender, octets).await.unwrap();
        passed.lock().unwrap().push(format!("{client} {sender}"));
        pass
    })
}

/// Workers, what is for all, and the reserve.
fn free(state: &State) -> (usize, usize, usize) {
    (state.free_workers, state.free_octets, state.free_reserve)
}

async fn until_waiting(gate: &Gate, count: usize) {
    while gate.waiting() != count {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_thousand_messages_of_one_sender_hold_up_another_ones_by_one() {
    let (gate, order) = (Gate::new(1, 100), Arc::default());
    let held = gate.pass("x", "x", 1).await.unwrap();
    // Whoever passes goes at once.
    let go = |client, sender| {
        let waiting = ask(&gate, client, sender, 1, &order);
        tokio::spawn(async move { drop(waiting.await.unwrap()) })
    };
    let mut waiting: Vec<_> = (0..1000).map(|_| go("many", "a")).collect();
    until_waiting(&gate, 1000).await;
    waiting.extend([go("few", "b"), go("many", "c")]);
    until_waiting(&gate, 1002).await;
    drop(held);
    for waiting in waiting {
        waiting.await.unwrap();
    }
    let order = order.lock().unwrap();
    let place = |of: &str| order.iter().position(|passed| passed == of).unwrap();
    assert_eq!((place("many a"), place("few b"), place("many c")), (0, 1, 2), "{:?}", &order[..5]);
    assert_eq!(order.len(), 1002);
    let state = gate.state();
    for line in [&state.small, &state.large] {
        assert!(line.is_empty() && line.order.is_empty(), "nobody is remembered");
    }
    assert_eq!(free(&state), (1, 75, 25));
}

#[tokio::test]
async fn no_more_pass_than_there_are_workers_and_memory() {
    for (workers, octets, each, expected) in [
        (3, 1000, 10, 3),
        (10, 100, 6, 10),
        (10, 100, 30, 2),
        (10, 100, 75, 1),
        (10, 100, 5000, 1),
        (10, 100, 0, 10),
        // Of ten workers two are for small messages, of two one, and of one none.
        (10, 10_000, 700, 8),
        (2, 10_000, 700, 1),
        (1, 10_000, 700, 1),
        // Small ones use the reserve and what is for all.
        (20, 160, 10, 16),
    ] {
        let (gate, order) = (Gate::new(workers, octets), Arc::default());
        let mut waiting: Vec<_> = (0..20).map(|_| ask(&gate, "c", "s", each, &order)).collect();
        until_waiting(&gate, 20 - expected).await;
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(order.lock().unwrap().len(), expected, "{workers} {octets} {each}");
        for waiting in waiting.drain(..) {
            drop(waiting.await.unwrap());
        }
        let state = gate.state();
        assert_eq!(free(&state), (workers, octets - octets / 4, octets / 4));
    }
}

#[tokio::test]
async fn small_messages_pass_while_a_large_one_hangs_and_others_wait_for_it() {
    let (gate, order) = (Gate::new(4, 160), Arc::default());
    let hangs = gate.pass("large", "l", usize::MAX).await.unwrap();
    let large = ["a", "b", "c"].map(|sender| ask(&gate, "large", sender, 120, &order));
    until_waiting(&gate, 3).await;
    for _ in 0..1000 {
        drop(gate.pass("small", "s", 10).await.unwrap());
    }
    // Four have room in the reserve; here there are workers for three.
    let small: Vec<_> = (0..4).map(|_| ask(&gate, "small", "s", 10, &order)).collect();
    until_waiting(&gate, 4).await;
    while order.lock().unwrap().len() < 3 {
        yield_now().await;
    }
    assert_eq!(*order.lock().unwrap(), ["small s"; 3]);
    drop((hangs, small));
    for large in large {
        drop(large.await.unwrap());
    }
    let order = order.lock().unwrap();
    assert_eq!(order.iter().filter(|passed| passed.starts_with("large")).count(), 3, "{order:?}");
}

#[tokio::test]
async fn small_messages_do_not_starve_a_large_one() {
    let (gate, order) = (Gate::new(40, 160), Arc::default());
    // They use what is for all, too.
    let mut small: VecDeque<_> = (0..16).map(|_| ask(&gate, "small", "s", 10, &order)).collect();
    while order.lock().unwrap().len() < 16 {
        yield_now().await;
    }
    let large = ask(&gate, "large", "l", 120, &order);
    until_waiting(&gate, 1).await;
    // For each that ends another one comes.
    let mut ended = 0;
    while !large.is_finished() {
        drop(small.pop_front().unwrap().await.unwrap());
        small.push_back(ask(&gate, "small", "s", 10, &order));
        for _ in 0..10 {
            yield_now().await;
        }
        ended += 1;
        assert!(ended <= 16, "they overtake it for ever");
    }
    drop(large.await.unwrap());
}

#[tokio::test]
async fn a_large_message_has_its_turn_among_small_ones_that_wait_for_a_worker() {
    let (gate, order) = (Gate::new(1, 160), Arc::default());
    let held = gate.pass("x", "x", 1).await.unwrap();
    let go = |client, octets| {
        let waiting = ask(&gate, client, "s", octets, &order);
        tokio::spawn(async move { drop(waiting.await.unwrap()) })
    };
    let mut waiting: Vec<_> = (0..100).map(|_| go("small", 10)).collect();
    until_waiting(&gate, 100).await;
    waiting.push(go("large", 100));
    until_waiting(&gate, 101).await;
    drop(held);
    for waiting in waiting {
        waiting.await.unwrap();
    }
    let place = order.lock().unwrap().iter().position(|passed| passed == "large s");
    assert!(place.is_some_and(|place| place <= 1), "{place:?}");
}

#[tokio::test]
async fn a_large_message_is_not_overtaken_by_other_large_ones() {
    let (gate, order) = (Gate::new(10, 160), Arc::default());
    let held = gate.pass("x", "x", 50).await.unwrap();
    let larger = ask(&gate, "larger", "l", 100, &order);
    until_waiting(&gate, 1).await;
    let large = ask(&gate, "large", "s", 20, &order);
    until_waiting(&gate, 2).await;
    drop(held);
    let both = (larger.await.unwrap(), large.await.unwrap());
    assert_eq!(*order.lock().unwrap(), ["larger l", "large s"]);
    drop(both);
}

#[tokio::test]
async fn who_gives_up_leaves_nothing_behind_and_lets_others_pass() {
    let gate = Gate::new(10, 100);
    let mut held = gate.pass("x", "x", 65).await.unwrap();
    let short = Duration::from_millis(1);
    for _ in 0..100 {
        assert!(timeout(short, gate.pass("large", "l", 50)).await.is_err());
    }
    assert_eq!(gate.waiting(), 0);
    let (order, small) = (Arc::default(), Arc::clone(&gate));
    let large = ask(&gate, "large", "l", 50, &order);
    until_waiting(&gate, 1).await;
    let small = tokio::spawn(async move { small.pass("smaller", "s", 7).await.unwrap() });
    until_waiting(&gate, 2).await;
    large.abort();
    drop(small.await.unwrap());
    held.memory.shrink_to(20);
    drop(gate.pass("large", "l", 50).await.unwrap());
    drop(held);
    let state = gate.state();
    assert_eq!(free(&state), (10, 75, 25));
}
