//! By when an entry is surely at rest, learned from looks and from changes that were sent without
//! one.
//!
//! A look takes as long as a change, so where nearly all entries are at rest by now the change
//! itself finds out. How long that takes is learned such that one such change in forty is refused;
//! after such a refusal only a read will do.

use std::time::Duration;
use tokio::time::Instant;

/// A first guess, which the first looks correct.
const FIRST_SURELY: Duration = Duration::from_millis(1200);
const LONGEST_SURELY: Duration = Duration::from_mins(1);
/// An entry that the first look did not show at rest brings that guess closer to its own time by
/// this part, until a change was refused on trust.
const SURER: f64 = 0.2;
/// A change that was refused on trust makes trust come later by this part, one that was taken makes
/// it come earlier by that: of those that go on trust, one in forty is refused …
const LATER: f64 = 0.05;
const EARLIER: f64 = 0.0013;
/// … and before the first such refusal by that.
const GUESS_EARLIER: f64 = 0.01;
/// An entry that took so many times as long after a refusal says that nothing was known yet.
const MISJUDGED: f64 = 1.4;

/// What is known of how long one gateway's entries take at most.
#[derive(Debug)]
pub(crate) struct Trust {
    surely: Duration,
    /// That is no more than a guess yet.
    guessed: bool,
    /// A change was refused on trust: only a read tells now.
    withdrawn: bool,
}

impl Default for Trust {
    fn default() -> Self {
        Self { surely: FIRST_SURELY, guessed: true, withdrawn: false }
    }
}

impl Trust {
    /// After this time an entry is surely at rest.
    pub(crate) fn surely(&self) -> Duration {
        self.surely
    }

    /// From when on no look is needed after a change that was answered at `touched`; none while
    /// only a read will do.
    pub(crate) fn since(&self, touched: Instant) -> Option<Instant> {
        (!self.withdrawn).then_some(touched + self.surely)
    }

    /// A change was answered: what was refused before it is over.
    pub(crate) fn renew(&mut self) {
        self.withdrawn = false;
    }

    /// A change that was sent on trust was taken; a first look comes after `settling`.
    pub(crate) fn taken(&mut self, settling: Duration) {
        let earlier = if self.guessed { GUESS_EARLIER } else { EARLIER };
        self.surely = self.surely.mul_f64(1.0 - earlier).max(settling);
    }

    /// A change that was sent on trust was refused: an entry is not at rest.
    pub(crate) fn refused(&mut self) {
        self.surely = self.surely.mul_f64(1.0 + LATER).min(LONGEST_SURELY);
        (self.guessed, self.withdrawn) = (false, true);
    }

    /// A look showed an entry at rest so long after its change.
    pub(crate) fn seen(&mut self, took: Duration, first_look: bool) {
        if std::mem::take(&mut self.withdrawn) && took > self.surely.mul_f64(MISJUDGED) {
            self.surely = took;
        }
        if !first_look && self.guessed {
            // The slower ones say about how long one must wait to be sure.
            self.surely -= self.surely.saturating_sub(took).mul_f64(SURER);
        }
    }
}
