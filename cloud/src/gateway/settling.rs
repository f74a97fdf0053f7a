//! The settling estimate: the time after which an entry is almost certainly settled, learned from
//! probes and from changes that were sent without one.
//!
//! A probe takes as long as a change, so after the estimated time the next change itself serves as
//! the probe. The estimate adapts such that one of forty such changes is refused; each such refusal
//! suspends the estimate until a read shows the entry settled.

use std::time::Duration;
use tokio::time::Instant;

/// First guess, corrected by the first probes.
const FIRST_SETTLED_AFTER: Duration = Duration::from_millis(1200);
const MAX_SETTLED_AFTER: Duration = Duration::from_mins(1);
/// While the estimate is a guess, a probe after the first moves it this share of the way to the
/// entry's own time.
const GUESS_CORRECTION: f64 = 0.2;
/// A change by estimate that is refused lengthens the estimate by the first share, an accepted one
/// shortens it by the second. In balance one in forty is refused.
const REFUSED_LONGER: f64 = 0.05;
const ACCEPTED_SHORTER: f64 = 0.0013;
/// The second share before the first such refusal, while the estimate is still a guess.
const GUESS_SHORTER: f64 = 0.01;
/// An entry that after a refusal takes more than this multiple of the estimate replaces it: the
/// estimate was far off.
const MISJUDGED: f64 = 1.4;

/// The estimate of how long one gateway's entries take to settle.
#[derive(Debug)]
pub(crate) struct SettlingEstimate {
    settled_after: Duration,
    /// No change by estimate was refused yet, so the estimate is still a guess.
    is_guess: bool,
    /// A change by estimate was refused: only a read counts until the next answer or read.
    suspended: bool,
}

impl Default for SettlingEstimate {
    fn default() -> Self {
        Self { settled_after: FIRST_SETTLED_AFTER, is_guess: true, suspended: false }
    }
}

impl SettlingEstimate {
    /// The time from a change's answer after which its entry counts as settled.
    pub(crate) fn settled_after(&self) -> Duration {
        self.settled_after
    }

    /// The time from which no probe is needed after a change answered at `last_change`; `None`
    /// while the estimate is suspended.
    pub(crate) fn settled_from(&self, last_change: Instant) -> Option<Instant> {
        (!self.suspended).then_some(last_change + self.settled_after)
    }

    /// Ends the suspension, because a later change was answered.
    pub(crate) fn end_suspension(&mut self) {
        self.suspended = false;
    }

    /// Shortens the estimate after an accepted change by estimate, but not below `probe_delay`,
    /// the delay of the first probe.
    pub(crate) fn shorten_estimate(&mut self, probe_delay: Duration) {
        let share = if self.is_guess { GUESS_SHORTER } else { ACCEPTED_SHORTER };
        self.settled_after = self.settled_after.mul_f64(1.0 - share).max(probe_delay);
    }

    /// Lengthens and suspends the estimate: a change by estimate was refused, since an entry was
    /// not settled.
    pub(crate) fn lengthen_and_suspend(&mut self) {
        self.settled_after =
            self.settled_after.mul_f64(1.0 + REFUSED_LONGER).min(MAX_SETTLED_AFTER);
        (self.is_guess, self.suspended) = (false, true);
    }

    /// Records a probe that showed an entry settled, `took` after its change was answered.
    pub(crate) fn record_settled(&mut self, took: Duration, first_probe: bool) {
        if std::mem::take(&mut self.suspended) && took > self.settled_after.mul_f64(MISJUDGED) {
            self.settled_after = took;
        }
        if !first_probe && self.is_guess {
            // Only slow entries need a second probe, and those are the ones to wait for.
            self.settled_after -= self.settled_after.saturating_sub(took).mul_f64(GUESS_CORRECTION);
        }
    }
}
