//! The settling estimate: the time after which an entry is almost certainly settled, learned from
//! probes and from changes that were sent without one.
//!
//! A probe takes as long as a change, so after the estimated time the next change itself serves as
//! the probe. The estimate adapts such that one of forty such changes is refused; each such refusal
//! suspends the estimate until a read shows the entry settled.

use std::time::Duration;
use tokio::time::Instant;

/// First guess, corrected by the first probes.
const FIRST_SURELY: Duration = Duration::from_millis(1200);
const LONGEST_SURELY: Duration = Duration::from_mins(1);
/// While the estimate is a guess, a probe after the first moves it this share of the way to the
/// entry's own time.
const SURER: f64 = 0.2;
/// A change by estimate that is refused lengthens the estimate by the first share, an accepted one
/// shortens it by the second. In balance one in forty is refused.
const LATER: f64 = 0.05;
const EARLIER: f64 = 0.0013;
/// The second share before the first such refusal, while the estimate is still a guess.
const GUESS_EARLIER: f64 = 0.01;
/// An entry that after a refusal takes more than this multiple of the estimate replaces it: the
/// estimate was far off.
const MISJUDGED: f64 = 1.4;

/// The estimate of how long one gateway's entries take to settle.
#[derive(Debug)]
pub(crate) struct Trust {
    surely: Duration,
    /// No change by estimate was refused yet, so the estimate is still a guess.
    guessed: bool,
    /// A change by estimate was refused: only a read counts until the next answer or read.
    withdrawn: bool,
}

impl Default for Trust {
    fn default() -> Self {
        Self { surely: FIRST_SURELY, guessed: true, withdrawn: false }
    }
}

impl Trust {
    /// The time from a change's answer after which its entry counts as settled.
    pub(crate) fn surely(&self) -> Duration {
        self.surely
    }

    /// The time from which no probe is needed after a change answered at `touched`; `None` while
    /// the estimate is suspended.
    pub(crate) fn since(&self, touched: Instant) -> Option<Instant> {
        (!self.withdrawn).then_some(touched + self.surely)
    }

    /// Ends the suspension, because a later change was answered.
    pub(crate) fn renew(&mut self) {
        self.withdrawn = false;
    }

    /// Shortens the estimate after an accepted change by estimate, but not below `settling`, the
    /// delay of the first probe.
    pub(crate) fn taken(&mut self, settling: Duration) {
        let earlier = if self.guessed { GUESS_EARLIER } else { EARLIER };
        self.surely = self.surely.mul_f64(1.0 - earlier).max(settling);
    }

    /// Lengthens and suspends the estimate: a change by estimate was refused, since an entry was
    /// not settled.
    pub(crate) fn refused(&mut self) {
        self.surely = self.surely.mul_f64(1.0 + LATER).min(LONGEST_SURELY);
        (self.guessed, self.withdrawn) = (false, true);
    }

    /// Records a probe that showed an entry settled, `took` after its change was answered.
    pub(crate) fn seen(&mut self, took: Duration, first_look: bool) {
        if std::mem::take(&mut self.withdrawn) && took > self.surely.mul_f64(MISJUDGED) {
            self.surely = took;
        }
        if !first_look && self.guessed {
            // Only slow entries need a second probe, and those are the ones to wait for.
            self.surely -= self.surely.saturating_sub(took).mul_f64(SURER);
        }
    }
}
