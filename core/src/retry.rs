//! Back-off: the time until a waiting lease is looked at again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Class of a wait, each with a back-off curve. The worker turns it into a time that grows with the
/// number of waits in a row, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryPolicy {
    /// The cloud applies a change: fractions of a second, then seconds.
    Poll,
    /// Another actor must do something, and an event will wake the lease: seconds.
    Event,
    /// A sender must send the queued change, and wakes the lease: five seconds, then a minute.
    Queue,
    /// The pod must change, and its event wakes the lease: seconds, then minutes.
    PodEvent,
    /// Something must appear in the cloud, which sends no event: fractions of a second, growing with
    /// the time waited so far, to a minute.
    Appearance,
    /// A person must act, or other pods must free something: seconds, then a minute.
    Person,
    /// The cloud refused a change for the state of what it names: fractions of a second, then
    /// minutes.
    Refusal,
    /// The cloud refused a change for a quota, a right or the request itself: seconds, then minutes.
    Remedy,
    /// The pod must exit, and an event will wake the lease: half a minute.
    PodExit,
    /// Set aside: the object fails each time, for a reason of its own: seconds, then minutes.
    SetAside,
    /// A person may act where neither an event nor a list tells: minutes.
    Check,
    /// No change is awaited. Events and lists of the cloud wake the lease, and so does a start under
    /// another configuration or release; a day later it looks by itself, as the last net.
    Idle,
    /// Until this moment, without growth.
    Until(Timestamp),
    /// Until the sender's wait for an answer has ended; the answer wakes the lease.
    Answer(Timestamp),
}

impl RetryPolicy {
    /// True if the awaited change is under way and usually over before a person could read of it.
    pub fn is_short(self) -> bool {
        matches!(
            self,
            Self::Poll | Self::Queue | Self::PodEvent | Self::Appearance | Self::Answer(_)
        )
    }
}

/// Longest wait before a refused change is asked for again, in seconds: nothing tells Waygate of a
/// quota that was raised or a right that was given.
const LONGEST_REFUSAL: f64 = 300.0;

/// First wait, growth with each wait in a row for the same reason, and the longest wait, in
/// seconds.
const fn backoff_curve(retry_policy: RetryPolicy) -> (f64, f64, f64) {
    match retry_policy {
        // A bind or an entry takes one to three seconds; all waiting leases share one describe
        // call, so frequent reads cost little.
        RetryPolicy::Poll => (0.15, 1.5, 3.0),
        // Events wake the lease; the timer covers lost events, and changes that send none (another
        // pod's EIP, a free port).
        RetryPolicy::Event => (0.5, 1.7, 10.0),
        // A change may wait minutes in its queue, and its answer wakes the lease: the second look
        // reports what is awaited, the later ones are for an answer that was not recorded. In a
        // crowd most changes are sent before it, and cost the API server no write.
        RetryPolicy::Queue => (5.0, 12.0, 60.0),
        RetryPolicy::PodEvent => (5.0, 6.0, 300.0),
        RetryPolicy::Appearance => (0.3, 1.5, 60.0),
        // A quota, a right, a setting: every try costs a call, and the remedy takes a person
        // minutes.
        RetryPolicy::Person => (2.0, 1.7, 60.0),
        // The wait counts the refusals: an EIP that is being unbound is free within seconds, but one
        // that stays in the way must not use up the account's rate.
        RetryPolicy::Refusal => (0.3, 2.0, LONGEST_REFUSAL),
        RetryPolicy::Remedy => (2.0, 1.7, LONGEST_REFUSAL),
        // A permanent fault, or one of the object alone: an event, or a person, ends it.
        RetryPolicy::SetAside => (1.0, 1.7, 300.0),
        RetryPolicy::PodExit => (30.0, 1.0, 30.0),
        RetryPolicy::Check => (300.0, 1.0, 300.0),
        RetryPolicy::Until(_) | RetryPolicy::Answer(_) | RetryPolicy::Idle => {
            (86_400.0, 1.0, 86_400.0)
        }
    }
}

/// Failures of the same object after which it is set aside, whatever the reason: with the growing
/// pauses between them, some seconds have passed by then.
pub const TRIES_UNTIL_SET_ASIDE: i32 = 5;

/// The time until the next look, after `tries` waits in a row; `spread`, a factor around 1, keeps
/// leases from waking in step.
pub fn retry_delay(retry_policy: RetryPolicy, tries: i32, now: Timestamp, spread: f64) -> Duration {
    if let RetryPolicy::Until(moment) | RetryPolicy::Answer(moment) = retry_policy {
        return moment.duration_since(now).try_into().unwrap_or_default();
    }
    let (first, growth, longest) = backoff_curve(retry_policy);
    // Every curve reaches its longest wait within 30 waits; the bound keeps the power finite.
    let seconds = (first * growth.powi(tries.clamp(0, 30))).min(longest);
    Duration::try_from_secs_f64(seconds * spread).unwrap_or_default()
}

/// The lease's previous waits: their reason and their number in a row.
#[derive(Clone, Copy, Debug)]
pub struct WaitHistory<'a> {
    /// Reason of the lease's last wait.
    pub reason: Option<&'a str>,
    /// Number of waits in a row for that reason.
    pub tries: i32,
    /// Number of refusals in a row of a queued change, set while a rejection is reported: between
    /// two refusals the change waited in a queue, for another reason.
    pub rejections: Option<i32>,
}

impl WaitHistory<'_> {
    /// Number of waits in a row for `reason`, before the wait that begins now.
    pub fn tries_for(&self, reason: &str) -> i32 {
        match self.rejections {
            Some(rejections) => rejections,
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
        assert!(
            retry_delay(RetryPolicy::Poll, 0, NOW, LONGEST_SPREAD) < Duration::from_millis(200)
        );
        assert!(
            retry_delay(RetryPolicy::Poll, 3, NOW, 1.0)
                > retry_delay(RetryPolicy::Poll, 0, NOW, 1.0)
        );
        assert!(
            retry_delay(RetryPolicy::Poll, i32::MAX, NOW, LONGEST_SPREAD)
                <= Duration::from_secs_f64(3.6)
        );
        assert!(retry_delay(RetryPolicy::Event, -1, NOW, LONGEST_SPREAD) <= Duration::from_secs(1));
        for retry_policy in [
            RetryPolicy::Poll,
            RetryPolicy::Event,
            RetryPolicy::Queue,
            RetryPolicy::PodEvent,
            RetryPolicy::Appearance,
            RetryPolicy::Person,
            RetryPolicy::Refusal,
            RetryPolicy::Remedy,
            RetryPolicy::SetAside,
            RetryPolicy::PodExit,
            RetryPolicy::Check,
        ] {
            for tries in [0, 1, 10, 1000, i32::MAX] {
                assert!(
                    retry_delay(retry_policy, tries, NOW, LONGEST_SPREAD) <= Duration::from_mins(6),
                    "{retry_policy:?} after {tries} waits"
                );
            }
        }
    }

    #[test]
    fn a_wait_after_refusals_begins_short_and_grows_to_minutes() {
        for (retry_policy, first) in [(RetryPolicy::Refusal, 0.3), (RetryPolicy::Remedy, 2.0)] {
            let delay = |tries| retry_delay(retry_policy, tries, NOW, 1.0).as_secs_f64();
            assert!((delay(0) - first).abs() < 1e-9);
            assert!((delay(12) - 300.0).abs() < 1e-9, "{retry_policy:?}: {}", delay(12));
            let calls_in_an_hour = (0..).map(delay).scan(0.0, |at, wait| {
                *at += wait;
                (*at < 3600.0).then_some(*at)
            });
            assert!(calls_in_an_hour.count() < 25, "{retry_policy:?}");
        }
    }

    #[test]
    fn a_lease_that_rests_does_not_look_by_itself() {
        let rest = retry_delay(RetryPolicy::Idle, 0, NOW, 0.8);
        assert!(rest >= Duration::from_hours(19), "{rest:?}");
    }

    #[test]
    fn a_moment_is_waited_for_and_one_that_has_passed_is_not() {
        let moment = NOW + Duration::from_secs(90);
        assert_eq!(
            retry_delay(RetryPolicy::Until(moment), 7, NOW, LONGEST_SPREAD),
            Duration::from_secs(90)
        );
        assert_eq!(retry_delay(RetryPolicy::Until(NOW), 0, moment, LONGEST_SPREAD), Duration::ZERO);
    }

    #[test]
    fn a_wait_for_another_reason_starts_anew_and_a_rejection_goes_on_counting() {
        let history = WaitHistory { reason: Some("A"), tries: 4, rejections: None };
        assert_eq!((history.tries_for("A"), history.tries_for("B")), (5, 0));
        assert_eq!(WaitHistory { rejections: Some(2), ..history }.tries_for("B"), 2);
    }
}
