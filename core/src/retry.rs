//! When a lease that must wait is looked at again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When to look again. The worker turns it into a time, growing with the number of waits in a row,
/// with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Patience {
    /// The cloud is at it: fractions of a second, then seconds.
    Poll,
    /// Somebody else must act, and we shall be told: seconds.
    Event,
    /// A gateway's lane must get to it, and wakes the lease: a second, then a minute.
    Turn,
    /// A person must act, or others must give something back: seconds, then a minute.
    Person,
    /// The pod must exit, and we shall be told: half a minute.
    Exit,
    /// All is well: minutes.
    Idle,
    /// At this moment.
    Until(Timestamp),
}

impl Patience {
    /// Whether what is waited for is under way and mostly over before anyone could read of it.
    pub fn is_short(self) -> bool {
        matches!(self, Self::Poll | Self::Turn)
    }
}

/// First wait, growth with each wait in a row for the same reason, and the longest wait, in
/// seconds.
const fn curve(patience: Patience) -> (f64, f64, f64) {
    match patience {
        // A bind or an entry takes one to three seconds; a describe is shared by all that wait, so
        // looking often costs little.
        Patience::Poll => (0.15, 1.5, 3.0),
        // Events wake the lease; this is for those that are lost, and for what sends none (another
        // pod's EIP, a free port).
        Patience::Event => (0.5, 1.7, 10.0),
        // A turn at a gateway may take minutes, and its answer wakes the lease: the second look
        // says what is awaited, the others are for an answer that was not recorded.
        Patience::Turn => (1.0, 60.0, 60.0),
        // A quota, a right, a setting: every try costs a call, and what helps takes a person
        // minutes.
        Patience::Person => (2.0, 1.7, 60.0),
        Patience::Exit => (30.0, 1.0, 30.0),
        Patience::Until(_) | Patience::Idle => (300.0, 1.0, 300.0),
    }
}

/// The time until the next look, after `tries` waits in a row; `spread` around 1 keeps leases out
/// of step with one another.
pub fn delay(patience: Patience, tries: i32, now: Timestamp, spread: f64) -> Duration {
    if let Patience::Until(moment) = patience {
        return moment.duration_since(now).try_into().unwrap_or_default();
    }
    let (first, growth, longest) = curve(patience);
    let seconds = (first * growth.powi(tries.clamp(0, 30))).min(longest);
    Duration::try_from_secs_f64(seconds * spread).unwrap_or_default()
}

/// What a lease waited for before, and how often in a row.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// The reason of its last wait.
    pub reason: Option<&'a str>,
    /// Waits in a row for that reason.
    pub tries: i32,
    /// How often in a row a queued change of it was refused, while one such refusal is being told:
    /// between two of them the change waited in a queue, for another reason.
    pub refusals: Option<i32>,
}

impl History<'_> {
    /// Waits in a row for `reason`, before the one that begins now.
    pub fn tries_for(&self, reason: &str) -> i32 {
        match self.refusals {
            Some(refusals) => refusals,
            None if self.reason == Some(reason) => self.tries.saturating_add(1),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const LONGEST_SPREAD: f64 = 1.2;

    #[test]
    fn no_wait_leaves_a_gate_stuck_for_ever() {
        assert!(delay(Patience::Poll, 0, NOW, LONGEST_SPREAD) < Duration::from_millis(200));
        assert!(delay(Patience::Poll, 3, NOW, 1.0) > delay(Patience::Poll, 0, NOW, 1.0));
        assert!(
            delay(Patience::Poll, i32::MAX, NOW, LONGEST_SPREAD) <= Duration::from_secs_f64(3.6)
        );
        assert!(delay(Patience::Event, -1, NOW, LONGEST_SPREAD) <= Duration::from_secs(1));
        for patience in [
            Patience::Poll,
            Patience::Event,
            Patience::Turn,
            Patience::Person,
            Patience::Exit,
            Patience::Idle,
        ] {
            for tries in [0, 1, 10, 1000, i32::MAX] {
                assert!(
                    delay(patience, tries, NOW, LONGEST_SPREAD) <= Duration::from_mins(6),
                    "{patience:?} after {tries} waits"
                );
            }
        }
    }

    #[test]
    fn a_moment_is_waited_for_and_one_that_has_passed_is_not() {
        let moment = NOW + Duration::from_secs(90);
        assert_eq!(delay(Patience::Until(moment), 7, NOW, LONGEST_SPREAD), Duration::from_secs(90));
        assert_eq!(delay(Patience::Until(NOW), 0, moment, LONGEST_SPREAD), Duration::ZERO);
    }

    #[test]
    fn a_wait_for_another_reason_starts_anew_and_a_refusal_goes_on_counting() {
        let history = History { reason: Some("A"), tries: 4, refusals: None };
        assert_eq!((history.tries_for("A"), history.tries_for("B")), (5, 0));
        assert_eq!(History { refusals: Some(2), ..history }.tries_for("B"), 2);
    }
}
