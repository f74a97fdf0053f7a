//! Retry times of callers that found no permit within the account's rate: one after the other, at
//! the pace of the permits. All at once they would query Postgres in vain; later, permits would
//! stay unused.

use std::time::Duration;
use tokio::time::Instant;

/// Longest wait of a caller, because the queue may shorten meanwhile. Where more callers wait than
/// get permits in this time, several return at the same moment, one per round of this length.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// Retry times given to the callers of one action.
#[derive(Debug, Default)]
pub(crate) struct RetrySchedule {
    last: Option<Instant>,
}

impl RetrySchedule {
    /// Returns the time for one more caller: not before `likely`, when the next permit is, and
    /// `apart` after the previous caller.
    pub(crate) fn next(&mut self, now: Instant, likely: Instant, apart: Duration) -> Instant {
        let next = self.last.map_or(likely, |last| likely.max(last + apart));
        let next = if next > now + MAX_RETRY_AFTER { likely } else { next };
        self.last = Some(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use waygate_core::retry::{self, RetryPolicy};

    /// 120 calls a minute, ten of them at once, as `LocalPermits::best_rate` has it.
    const APART: Duration = Duration::from_nanos(545_454_545);
    const BURST: u32 = 10;
    /// Deadline of a call, less the time of its answer.
    const WITHIN: Duration = Duration::from_secs(7);

    /// The account's row of one action, advanced as the store does.
    struct Row(Instant);

    impl Row {
        fn ask(&mut self, now: Instant) -> Result<(), Duration> {
            let next = self.0.max(now - APART * BURST) + APART;
            if next > now + WITHIN {
                return Err(next - WITHIN - now);
            }
            self.0 = next;
            Ok(())
        }
    }

    /// Figures of one simulated crowd of callers.
    struct Played {
        /// Time from the first call to the last.
        took: Duration,
        asks: u32,
        /// Largest number of requests by one lease.
        most_asks: u32,
        /// Requests after the first ten seconds, in which each lease makes its first.
        asks_later: u32,
    }

    /// Simulates leases that need one permit each, claimed by several workers that do not share
    /// their retry times. A refused lease writes its pod's condition, and that event wakes it once.
    fn play(leases: u32, workers: usize) -> Played {
        let begun = Instant::now() + Duration::from_hours(1);
        let mut row = Row(begun - Duration::from_mins(1));
        let mut retries: Vec<_> = (0..workers).map(|_| RetrySchedule::default()).collect();
        let mut due: BinaryHeap<_> = (0..leases)
            .map(|lease| Reverse((begun + Duration::from_millis(20) * lease, lease, 0)))
            .collect();
        let mut played = Played { took: Duration::ZERO, asks: 0, most_asks: 0, asks_later: 0 };
        while let Some(Reverse((now, lease, tries))) = due.pop() {
            played.asks += 1;
            played.most_asks = played.most_asks.max(tries + 1);
            played.asks_later += u32::from(now > begun + Duration::from_secs(10));
            let Err(later) = row.ask(now) else { continue };
            let retry_at = retries[rand::random_range(0..workers)].next(now, now + later, APART);
            let delay = retry::retry_delay(
                RetryPolicy::Event,
                tries.cast_signed(),
                Timestamp::UNIX_EPOCH,
                rand::random_range(0.8..1.2),
            );
            let wait =
                if tries == 0 { Duration::from_millis(200) } else { delay.max(retry_at - now) };
            due.push(Reverse((now + wait, lease, tries + 1)));
        }
        played.took = row.0 - begun;
        played
    }

    #[test]
    fn retries_let_a_crowd_through_at_the_accounts_pace() {
        for (leases, workers) in [(30, 2), (200, 1), (200, 2), (200, 4), (1000, 2)] {
            let played = play(leases, workers);
            let expected = APART * (leases - BURST);
            let figures = format!(
                "{leases} leases, {workers} workers: {:?} instead of {expected:?}, {} asks",
                played.took, played.asks
            );
            assert!(played.took <= expected.mul_f64(1.05) + APART, "{figures}");
            assert!(played.most_asks <= 40, "{figures}, {} of one lease", played.most_asks);
            // Looking at a lease and asking takes about eight statements.
            let seconds = played.took.saturating_sub(Duration::from_secs(10)).as_secs_f64();
            assert!(
                f64::from(played.asks_later) <= 25.0 * seconds.max(1.0),
                "{figures}, {} after 10 s",
                played.asks_later
            );
        }
    }

    #[test]
    fn retries_are_spread_and_within_a_minute() {
        let (mut retries, now) = (RetrySchedule::default(), Instant::now());
        let likely = now + Duration::from_millis(100);
        let waits: Vec<_> =
            (0..300).map(|_| retries.next(now, likely, Duration::from_millis(500)) - now).collect();
        assert_eq!(waits[..3], [100, 600, 1100].map(Duration::from_millis));
        assert!(waits.iter().all(|wait| *wait <= MAX_RETRY_AFTER), "{waits:?}");
        assert_eq!(
            waits.iter().filter(|wait| **wait == waits[0]).count(),
            3,
            "a crowd of two and a half minutes is three rounds"
        );
        let later = now + Duration::from_mins(5);
        assert_eq!(
            retries.next(later, later, Duration::from_millis(500)),
            later,
            "times in the past delay no caller"
        );
    }
}
