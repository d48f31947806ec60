//! At most one log line a minute for what may happen a thousand times a second.

use std::time::{Duration, Instant};

/// Lets one event through, counts the others.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    quiet_until: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// How many events were held back since the last that went through, if this one goes through.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.held_back += 1;
            return None;
        }
        self.quiet_until = Some(now + QUIET);
        Some(std::mem::take(&mut self.held_back))
    }
}

const QUIET: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_a_minute_goes_through_with_the_number_of_the_others() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let admitted: Vec<_> = [0, 0, 59, 60, 61, 130].map(|second| throttle.admit(at(second))).into();
        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
