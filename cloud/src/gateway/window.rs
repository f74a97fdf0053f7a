//! How many changes one gateway takes at a time, learned from its answers: a pure state machine.
//!
//! Gateways differ, and the documentation contradicts itself: some take many changes at once, some
//! one at a time, and some none while any entry is `Pending` or `Deleting`. The limit starts at one
//! and doubles while all goes well; a refusal for concurrency halves it; a refusal for an entry's
//! status, or a second one for concurrency while nothing else of ours was under way, makes every
//! further change wait until the table is at rest.
//!
//! ```text
//! answered ── settling ──▶ look ─┬─ at rest ────────────────────────────────▶ next change      a call later than it was at rest
//!                                └─ not yet ── look again │ surely passes ──▶ next change      right away, and seldom refused
//! ```
//!
//! Where a look would tell no sooner, the next change itself finds out: see [`Trust`].

use super::settling::Trust;
use std::time::Duration;
use tokio::time::Instant;

/// No gateway is known to take more at a time.
const MOST: u32 = 16;
/// After a refusal, how long until more is tried again; doubles with each such refusal.
const WARY: Duration = Duration::from_mins(2);
const WARIEST: Duration = Duration::from_hours(1);
/// First guess of how long an entry is `Pending`.
const FIRST_SETTLING: Duration = Duration::from_millis(800);
/// A first look that came too early makes the next one later by this part of what was lacking; one
/// that did not makes it earlier by that part. An early look costs a call, a late one the gateway's
/// time, which is what everybody waits for: with these more than half come too early.
const LATER: f64 = 0.06;
const EARLIER: f64 = 0.04;
/// A look is worth taking if its answer comes before by a part of the time that it takes.
const WORTHWHILE: f64 = 1.4;
/// First guess of how long a look takes.
const FIRST_LOOK_TAKES: Duration = Duration::from_millis(150);
/// Where nobody saw the entry at rest, the next first look comes later by this part of what is left
/// until one is not worth taking.
const UNSEEN_LATER: f64 = 0.15;
/// No call is answered faster, so no look is worth taking earlier.
const SHORTEST_SETTLING: Duration = Duration::from_millis(20);
/// Between two reads of a table that is not at rest, beside the call's own time; grows by half each
/// time.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LONGEST_LOOK_AGAIN: Duration = Duration::from_secs(3);
/// After a refusal with nothing of ours under way: somebody else is at work there.
const YIELD: Duration = Duration::from_secs(1);
const LONGEST_YIELD: Duration = Duration::from_secs(10);

/// What is known about one gateway.
#[derive(Debug)]
pub(crate) struct Lane {
    limit: u32,
    in_flight: u32,
    /// Answers in a row since the limit last changed.
    streak: u32,
    /// No refusal yet: the limit doubles instead of growing by one.
    fresh: bool,
    /// Changes let in so far: numbers them.
    entered: u64,
    /// The newest change let in when the limit was last cut: those before it say nothing new.
    cut_at: u64,
    /// The table must be at rest before each change.
    calm: bool,
    /// The last answer to a change of ours, or refusal; only a read that began later shows its
    /// effects.
    touched: Option<Instant>,
    /// Nothing goes before this.
    not_before: Option<Instant>,
    look_at: Option<Instant>,
    look_pause: Duration,
    settling: Duration,
    look_takes: Duration,
    trust: Trust,
    try_more: Option<Instant>,
    wary: Duration,
    yielding: Duration,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A change was let in.
    Go(Pass),
    /// Something under way must end first.
    Wait,
    /// Not before this.
    Until(Instant),
    /// Read the table and say what it shows.
    Look,
}

/// A change that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    number: u64,
    alone: bool,
    rest: Rest,
}

impl Pass {
    /// Whether a read has just shown the table at rest.
    pub(crate) fn is_rested(self) -> bool {
        self.rest == Rest::Shown
    }

    /// Whether nothing but experience says that the table is at rest.
    pub(crate) fn is_trusted(self) -> bool {
        self.rest == Rest::Trusted
    }
}

/// What is known of the table when a change is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// It is at rest: a read has shown that.
    Shown,
    /// So much time has passed that it surely is.
    Trusted,
    /// Nobody asks.
    Unasked,
}

/// What a change is let in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A read, where the table must be at rest.
    Read,
    /// Experience will do.
    Trust,
}

/// How a change ended, as far as the gateway's capacity goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The gateway took it.
    Taken,
    /// Refused: another change is under way.
    Busy,
    /// Refused: an entry is not at rest.
    Unsettled,
    /// Refused for a reason of its own, or nobody knows.
    Other,
    /// Never sent.
    Unsent,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            limit: 1,
            in_flight: 0,
            streak: 0,
            fresh: true,
            entered: 0,
            cut_at: 0,
            calm: false,
            touched: None,
            not_before: None,
            look_at: None,
            look_pause: LOOK_AGAIN,
            settling: FIRST_SETTLING,
            look_takes: FIRST_LOOK_TAKES,
            trust: Trust::default(),
            try_more: None,
            wary: WARY,
            yielding: YIELD,
        }
    }
}

impl Lane {
    /// Whether the table must be at rest before each change.
    pub(crate) fn is_calm(&self) -> bool {
        self.calm
    }

    /// Lets a change in, or says what to wait for.
    pub(crate) fn next(&mut self, now: Instant, proof: Proof) -> Next {
        if self.in_flight >= self.limit || (self.calm && self.in_flight > 0) {
            return Next::Wait;
        }
        if let Some(until) = self.not_before.filter(|until| *until > now) {
            return Next::Until(until);
        }
        let rest = match self.touched {
            _ if !self.calm || self.may_try_more(now) => Rest::Unasked,
            None => Rest::Shown,
            Some(touched) => {
                let look_at = self.look_at.map_or(now, |at| at.max(now));
                match self.trust.since(touched).filter(|_| proof == Proof::Trust) {
                    Some(at) if at <= now => Rest::Trusted,
                    // A look would be answered too late to be of much use.
                    Some(at) if at <= look_at + self.look_takes.mul_f64(WORTHWHILE) => {
                        return Next::Until(at);
                    }
                    _ if look_at > now => return Next::Until(look_at),
                    _ => return Next::Look,
                }
            }
        };
        self.entered += 1;
        let pass = Pass { number: self.entered, alone: self.in_flight == 0, rest };
        self.in_flight += 1;
        Next::Go(pass)
    }

    /// A change that was let in has ended. `jitter` is 0.5 to 1.5.
    pub(crate) fn end(&mut self, pass: Pass, end: End, now: Instant, jitter: f64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if end == End::Unsent {
            return;
        }
        if pass.rest == Rest::Trusted && end == End::Unsettled {
            self.trust.refused();
            self.look_at = Some(now);
            return;
        }
        self.touched = Some(now);
        self.trust.renew();
        self.look_pause = LOOK_AGAIN;
        self.look_at = Some(now + self.settling);
        match end {
            End::Taken if pass.rest == Rest::Trusted => {
                self.trust.taken(self.settling);
                let latest =
                    self.trust.surely().saturating_sub(self.look_takes.mul_f64(WORTHWHILE));
                self.settling += latest.saturating_sub(self.settling).mul_f64(UNSEEN_LATER);
                self.grow(now);
            }
            End::Taken => self.grow(now),
            End::Busy if pass.alone && pass.number == self.entered => {
                self.yield_way(pass, now, jitter);
            }
            End::Busy => self.shrink(pass, now),
            End::Unsettled => {
                self.shrink(pass, now);
                self.limit = 1;
                self.calm = true;
            }
            End::Other | End::Unsent => {}
        }
    }

    /// Refused with nothing else of ours under way. Once may be chance, such as the last change of
    /// a process that just ended; twice in a row means that it is not enough to have been answered:
    /// the table must be at rest.
    fn yield_way(&mut self, pass: Pass, now: Instant, jitter: f64) {
        if self.yielding > YIELD {
            self.shrink(pass, now);
            self.calm = true;
        }
        self.not_before = Some(now + self.yielding.mul_f64(jitter));
        self.yielding = (self.yielding * 2).min(LONGEST_YIELD);
    }

    /// A read that began at `began` shows the table at rest, or not.
    pub(crate) fn seen(&mut self, began: Instant, at_rest: bool, now: Instant) {
        let Some(touched) = self.touched.filter(|touched| began >= *touched) else {
            return;
        };
        self.look_takes = (self.look_takes.mul_f64(0.8)
            + now.saturating_duration_since(began).mul_f64(0.2))
        .min(LONGEST_LOOK_AGAIN);
        if at_rest {
            let took = began - touched;
            let known = self.settling;
            let first_look = self.look_pause == LOOK_AGAIN;
            self.trust.seen(took, first_look);
            let next = if first_look {
                took.min(known).mul_f64(1.0 - EARLIER)
            } else {
                known + took.saturating_sub(known).mul_f64(LATER)
            };
            self.settling = next.max(SHORTEST_SETTLING);
            self.touched = None;
        } else if self.look_at.is_none_or(|due| now >= due) {
            self.look_later(now);
        }
    }

    /// The table could not be read.
    pub(crate) fn unseen(&mut self, now: Instant) {
        self.look_later(now);
    }

    fn look_later(&mut self, now: Instant) {
        self.look_at = Some(now + self.look_pause);
        self.look_pause = self.look_pause.mul_f64(1.5).min(LONGEST_LOOK_AGAIN);
    }

    fn may_try_more(&self, now: Instant) -> bool {
        self.try_more.is_none_or(|at| now >= at)
    }

    /// The limit doubles, or once there was a refusal grows by one, after as many answers as it
    /// stands for. Two at least, so that a change right behind another is tried alone before two
    /// are tried together.
    fn grow(&mut self, now: Instant) {
        self.yielding = YIELD;
        if !self.may_try_more(now) {
            return;
        }
        if std::mem::take(&mut self.calm) {
            // It went well without waiting: perhaps the gateway has changed its ways.
            self.streak = 0;
        }
        self.streak += 1;
        if self.streak >= self.limit.max(2) {
            self.streak = 0;
            self.limit = if self.fresh { self.limit * 2 } else { self.limit + 1 }.min(MOST);
        }
    }

    /// One cut for all refusals of what was under way together.
    fn shrink(&mut self, pass: Pass, now: Instant) {
        if pass.number <= self.cut_at {
            return;
        }
        self.cut_at = self.entered;
        self.limit = (self.limit / 2).max(1);
        self.streak = 0;
        self.fresh = false;
        self.try_more = Some(now + self.wary);
        self.wary = (self.wary * 2).min(WARIEST);
    }
}

#[cfg(test)]
mod tests;
