//! When to look again: soon at first, ever later, never in step with others.

use jiff::Timestamp;
use rand::RngExt as _;
use std::time::Duration;
use waygate_core::retry::Patience;

/// First wait, growth with each wait in a row for the same reason, and the longest wait.
const fn curve(patience: Patience) -> (f64, f64, f64) {
    match patience {
        // A bind or an entry takes one to three seconds; a describe is shared by all that wait, so looking often costs little.
        Patience::Poll => (0.15, 1.5, 3.0),
        // Events wake the lease; this is for those that are lost, and for what sends none (another pod's EIP, a free port).
        Patience::Event => (0.5, 1.7, 10.0),
        // A turn at a gateway may take minutes, and its answer wakes the lease: the second look says what is awaited, the others are for an answer
        // that nobody recorded.
        Patience::Turn => (1.0, 60.0, 60.0),
        // A quota, a right, a setting: every try costs a call, and what helps takes a person minutes.
        Patience::Person => (2.0, 1.7, 60.0),
        Patience::Exit => (30.0, 1.0, 30.0),
        Patience::Until(_) | Patience::Idle => (300.0, 1.0, 300.0),
    }
}

/// The time until the next look, after `tries` waits in a row, give or take a fifth.
pub(crate) fn wait(patience: Patience, tries: i32, now: Timestamp) -> Duration {
    if let Patience::Until(moment) = patience {
        return moment.duration_since(now).try_into().unwrap_or_default();
    }
    let (first, growth, longest) = curve(patience);
    let seconds = (first * growth.powi(tries.clamp(0, 30))).min(longest);
    Duration::from_secs_f64(seconds * rand::rng().random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn no_wait_leaves_a_gate_stuck_for_ever() {
        assert!(wait(Patience::Poll, 0, NOW) < Duration::from_millis(200));
        assert!(wait(Patience::Poll, 3, NOW) > wait(Patience::Poll, 0, NOW));
        assert!(wait(Patience::Poll, i32::MAX, NOW) <= Duration::from_secs_f64(3.6));
        assert!(wait(Patience::Event, -1, NOW) <= Duration::from_secs(1));
        for patience in [Patience::Poll, Patience::Event, Patience::Person, Patience::Exit, Patience::Idle] {
            for tries in [0, 1, 10, 1000, i32::MAX] {
                assert!(wait(patience, tries, NOW) <= Duration::from_mins(6), "{patience:?} after {tries} waits");
            }
        }
    }

    #[test]
    fn a_moment_is_waited_for_and_one_that_has_passed_is_not() {
        let moment = NOW + Duration::from_secs(90);
        assert_eq!(wait(Patience::Until(moment), 7, NOW), Duration::from_secs(90));
        assert_eq!(wait(Patience::Until(NOW), 0, moment), Duration::ZERO);
    }
}
