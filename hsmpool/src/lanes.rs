//! The queue of a token: two lanes, each with a length; the interactive one is served first.
//!
//! One lock for both, taken once to put a request in and once to take it out. Whoever waits is counted, so
//! that nobody is woken in vain.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    remote::flush_corked,
    request::{Lane, Request},
};

/// Requests that wait for a token.
#[derive(Debug)]
pub(crate) struct Lanes {
    state: Mutex<State>,
    /// Workers wait for requests here.
    work: Condvar,
    /// Callers wait for room here, each lane's for its own.
    room: [Condvar; 2],
    /// How many may wait in a lane.
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    lanes: [VecDeque<Box<Request>>; 2],
    /// How many are out to look for another token; their room is kept.
    away: [usize; 2],
    /// Workers that wait.
    idle: usize,
    /// Callers that wait for room.
    blocked: [usize; 2],
    /// Whether nothing is taken in.
    refuses: bool,
}

/// A request that was not taken in.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The lane is full.
    Full(Box<Request>),
    /// The token is out of use.
    Out(Box<Request>),
}

/// What a worker gets.
#[derive(Debug)]
pub(crate) enum Next {
    /// A request, and how many wait behind it in its lane.
    Serve(Box<Request>, usize),
    /// Nothing has come for so long.
    Idle,
    /// It is to end.
    Stop,
}

impl Lanes {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), work: Condvar::new(), room: Default::default(), capacity }
    }

    /// Puts a request into its lane; waits for room until `patience` ends.
    pub(crate) fn push(&self, request: Box<Request>, patience: Instant) -> Result<(), Refused> {
        let lane = place(request.lane);
        let mut state = self.lock();
        let mut flushed = false;
        loop {
            if state.refuses {
                drop(state);
                return Err(Refused::Out(request));
            }
            if state.taken(lane) < self.capacity {
                state.lane(lane).push_back(request);
                self.wake_worker(state);
                return Ok(());
            }
            let left = patience.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                return Err(Refused::Full(request));
            }
            if !flushed {
                // What this thread has to say must not wait with it.
                flushed = true;
                drop(state);
                flush_corked();
                state = self.lock();
                continue;
            }
            state.block(lane, 1);
            let waited = self.room_of(lane).wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.block(lane, -1);
        }
    }

    /// Puts a request back that has been in before: it has its place already, so there is room, and it stands
    /// before all that came later. Only a request under which more than one connection was lost may be what loses
    /// them; it stands behind the others.
    pub(crate) fn restore(&self, request: Box<Request>) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.refuses {
            drop(state);
            return Err(Refused::Out(request));
        }
        let lane = state.lane(place(request.lane));
        let at = match request.history.losses {
            0 | 1 => lane.partition_point(|other| other.submitted <= request.submitted),
            _ => lane.len(),
        };
        lane.insert(at, request);
        self.wake_worker(state);
        Ok(())
    }

    fn wake_worker(&self, state: MutexGuard<'_, State>) {
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// The next request for a worker, who waits for it so long and no longer than until `stop` is set.
    /// `before_waiting` is called, without the lock, before he does.
    pub(crate) fn pop(&self, patience: Duration, stop: &AtomicBool, before_waiting: impl FnOnce()) -> Next {
        let mut state = self.lock();
        let mut until = None;
        let mut before_waiting = Some(before_waiting);
        loop {
            if stop.load(Ordering::Acquire) {
                // It may have been woken for a request.
                let pass_on = state.idle > 0 && state.waiting() > 0;
                drop(state);
                if pass_on {
                    self.work.notify_one();
                }
                return Next::Stop;
            }
            for lane in [0, 1] {
                if let Some(request) = state.lane(lane).pop_front() {
                    let wake = state.blocked.get(lane).is_some_and(|blocked| *blocked > 0);
                    let behind = state.lane(lane).len();
                    drop(state);
                    if wake {
                        self.room_of(lane).notify_one();
                    }
                    return Next::Serve(request, behind);
                }
            }
            if let Some(before_waiting) = before_waiting.take() {
                drop(state);
                before_waiting();
                state = self.lock();
                continue;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + patience);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Idle;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
        }
    }

    /// Has those who wait look at their `stop` again.
    pub(crate) fn wake_workers(&self) {
        // With the lock, so that nobody is between looking and waiting.
        drop(self.lock());
        self.work.notify_all();
    }

    /// Takes nothing in from now on, and gives back what waits.
    pub(crate) fn refuse(&self) -> VecDeque<Box<Request>> {
        let mut state = self.lock();
        state.refuses = true;
        let requests = state.empty();
        drop(state);
        self.room.iter().for_each(Condvar::notify_all);
        requests
    }

    /// Takes requests in again.
    pub(crate) fn admit(&self) {
        self.lock().refuses = false;
    }

    /// Gives out what waits, in the order in which it would have been served, and keeps its room until
    /// [`Self::settle`]: nobody gets before those that come back.
    pub(crate) fn drain(&self) -> VecDeque<Box<Request>> {
        let mut state = self.lock();
        state.away = state.lanes.each_ref().map(VecDeque::len);
        state.empty()
    }

    /// What was given out has come back, or has found its place elsewhere.
    pub(crate) fn settle(&self) {
        self.lock().away = [0; 2];
        self.room.iter().for_each(Condvar::notify_all);
    }

    /// Gives back those that nothing needs to be done for any more.
    pub(crate) fn remove_over(&self, now: Instant) -> VecDeque<Box<Request>> {
        let mut over = VecDeque::new();
        let mut state = self.lock();
        for (lane, room) in state.lanes.iter_mut().zip(&self.room) {
            if lane.iter().any(|request| request.is_over(now)) {
                let (out, kept) = mem::take(lane).into_iter().partition(|request| request.is_over(now));
                *lane = kept;
                let out: VecDeque<_> = out;
                over.extend(out);
                room.notify_all();
            }
        }
        drop(state);
        over
    }

    /// How many wait: interactive, bulk.
    pub(crate) fn waiting(&self) -> [usize; 2] {
        self.lock().lanes.each_ref().map(VecDeque::len)
    }

    fn room_of(&self, lane: usize) -> &Condvar {
        let [interactive, bulk] = &self.room;
        if lane == 0 { interactive } else { bulk }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lane(&mut self, lane: usize) -> &mut VecDeque<Box<Request>> {
        let [interactive, bulk] = &mut self.lanes;
        if lane == 0 { interactive } else { bulk }
    }

    /// How many places are taken.
    fn taken(&self, lane: usize) -> usize {
        let places = self.lanes.get(lane).zip(self.away.get(lane));
        places.map_or(0, |(waiting, away)| waiting.len() + away)
    }

    fn empty(&mut self) -> VecDeque<Box<Request>> {
        self.lanes.iter_mut().flat_map(mem::take).collect()
    }

    fn block(&mut self, lane: usize, change: isize) {
        if let Some(blocked) = self.blocked.get_mut(lane) {
            *blocked = blocked.saturating_add_signed(change);
        }
    }

    fn waiting(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }
}

fn place(lane: Lane) -> usize {
    match lane {
        Lane::Interactive => 0,
        Lane::Bulk => 1,
    }
}

#[cfg(test)]
mod tests {
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

    fn run_on() -> AtomicBool {
        AtomicBool::new(false)
    }

    #[test]
    fn interactive_requests_overtake_all_bulk_requests() {
        let lanes = Lanes::new(100);
        for lane in [Lane::Bulk, Lane::Bulk, Lane::Interactive, Lane::Bulk, Lane::Interactive] {
            lanes.push(request(lane), now()).unwrap();
        }
        assert_eq!(lanes.waiting(), [2, 3]);
        let order: Vec<Lane> = (0..5)
            .map(|_| match lanes.pop(SHORT, &run_on(), || {}) {
                Next::Serve(request, _) => request.lane,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order[..2], [Lane::Interactive; 2]);
        assert_eq!(order[2..], [Lane::Bulk; 3]);
        assert!(matches!(lanes.pop(SHORT, &run_on(), || {}), Next::Idle));
    }

    #[test]
    fn a_full_lane_takes_nothing_in_and_does_not_fill_the_other() {
        let lanes = Lanes::new(2);
        lanes.push(request(Lane::Bulk), now()).unwrap();
        lanes.push(request(Lane::Bulk), now()).unwrap();
        assert!(matches!(lanes.push(request(Lane::Bulk), now() + SHORT), Err(Refused::Full(_))));
        lanes.push(request(Lane::Interactive), now()).unwrap();
        // What was in before has its place.
        lanes.restore(request(Lane::Bulk)).unwrap();
        assert_eq!(lanes.waiting(), [1, 3]);
    }

    fn served(lanes: &Lanes) -> Box<Request> {
        match lanes.pop(LONG, &run_on(), || {}) {
            Next::Serve(request, _) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_comes_back_stands_where_it_stood_unless_it_may_be_what_loses_connections() {
        for (losses, order) in [(0, [0, 1, 2, 3]), (1, [0, 1, 2, 3]), (2, [1, 2, 3, 0])] {
            let lanes = Lanes::new(100);
            let requests: Vec<_> = (0..4).map(|_| request(Lane::Interactive)).collect();
            let submitted: Vec<_> = requests.iter().map(|request| request.submitted).collect();
            requests.into_iter().for_each(|request| lanes.push(request, now()).unwrap());
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
        lanes.push(request(Lane::Bulk), now()).unwrap();
        lanes.push(request(Lane::Bulk), now()).unwrap();
        let mut out = lanes.drain();
        assert!(matches!(lanes.push(request(Lane::Bulk), now()), Err(Refused::Full(_))));
        lanes.push(request(Lane::Interactive), now()).unwrap();
        lanes.restore(out.pop_front().unwrap()).unwrap();
        lanes.settle();
        lanes.push(request(Lane::Bulk), now()).unwrap();
        assert!(matches!(lanes.push(request(Lane::Bulk), now()), Err(Refused::Full(_))));
    }

    #[test]
    fn a_caller_gets_the_room_that_a_worker_makes() {
        let lanes = Arc::new(Lanes::new(1));
        lanes.push(request(Lane::Bulk), now()).unwrap();
        let pushing = {
            let lanes = Arc::clone(&lanes);
            thread::spawn(move || lanes.push(request(Lane::Bulk), now() + LONG).is_ok())
        };
        thread::sleep(SHORT);
        for _ in 0..2 {
            assert!(matches!(lanes.pop(LONG, &run_on(), || {}), Next::Serve(..)));
        }
        assert!(pushing.join().unwrap());
    }

    #[test]
    fn a_worker_that_waits_can_be_stopped() {
        let (lanes, stop) = (Arc::new(Lanes::new(1)), Arc::new(run_on()));
        let waiting = {
            let (lanes, stop) = (Arc::clone(&lanes), Arc::clone(&stop));
            thread::spawn(move || lanes.pop(LONG, &stop, || {}))
        };
        thread::sleep(SHORT);
        stop.store(true, Ordering::Release);
        lanes.wake_workers();
        assert!(matches!(waiting.join().unwrap(), Next::Stop));
        lanes.push(request(Lane::Interactive), now()).unwrap();
        assert!(matches!(lanes.pop(LONG, &stop, || {}), Next::Stop), "it takes no request along");
        assert_eq!(lanes.waiting(), [1, 0]);
    }

    #[test]
    fn a_token_that_is_out_gives_everything_back_and_wakes_those_who_wait_for_room() {
        let lanes = Arc::new(Lanes::new(1));
        lanes.push(request(Lane::Bulk), now()).unwrap();
        let pushing = {
            let lanes = Arc::clone(&lanes);
            thread::spawn(move || lanes.push(request(Lane::Bulk), now() + LONG))
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
        lanes.push(request(Lane::Interactive), now()).unwrap();
        lanes.push(counted(Lane::Interactive, SHORT).0, now()).unwrap();
        assert!(lanes.remove_over(now()).is_empty());
        let over = lanes.remove_over(now() + SHORT);
        assert_eq!(over.len(), 1);
        assert_eq!(lanes.waiting(), [1, 0]);
        lanes.push(request(Lane::Interactive), now()).unwrap();
    }
}
