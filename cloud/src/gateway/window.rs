//! The concurrency window: the number of changes that one gateway accepts at a time, learned from
//! its answers. A pure state machine.
//!
//! Gateways differ, and the documentation contradicts itself: some accept many changes at once,
//! some one at a time, and some none while any entry is `Pending` or `Deleting`. The limit starts
//! at one and doubles while changes are accepted; a refusal for concurrency halves it. A refusal
//! for an entry's status, or a second one for concurrency with nothing else of this process under
//! way, makes every further change wait until the entries are settled (quiescence).
//!
//! ```text
//! answered ── delay ──▶ probe ─┬─ settled ──────────────────────────────▶ next change  (a)
//!                              └─ not yet ── next probe │ estimate due ─▶ next change  (b)
//! ```
//!
//! (a) comes a call's time after the entry settled, (b) at once, but is sometimes refused. Where a
//! probe would be answered no sooner than the estimate is due, no probe is sent.

use super::settling::Trust;
use std::time::Duration;
use tokio::time::Instant;

/// Most changes in flight. No gateway is known to accept more at a time.
const MOST: u32 = 16;
/// Time after a refusal until a larger limit is tried again; doubles with each such refusal up to
/// the second.
const WARY: Duration = Duration::from_mins(2);
const WARIEST: Duration = Duration::from_hours(1);
/// Delay of the first probe before anything is learned: a guess of how long an entry is `Pending`.
const FIRST_SETTLING: Duration = Duration::from_millis(800);
/// A first probe that came too early delays the next one by the first share of what was missing;
/// one in time brings it forward by the second share. An early probe costs a call, a late one time
/// of the gateway, for which all its pods wait: with these shares more than half come too early.
const LATER: f64 = 0.06;
const EARLIER: f64 = 0.04;
/// A probe is sent only if the estimate is due later than this multiple of a probe's duration.
const WORTHWHILE: f64 = 1.4;
/// First guess of a probe's duration.
const FIRST_LOOK_TAKES: Duration = Duration::from_millis(150);
/// After a change by estimate, the delay of the first probe grows by this share of what is left
/// until a probe is no longer worthwhile.
const UNSEEN_LATER: f64 = 0.15;
/// Least delay of the first probe: no call is answered faster.
const SHORTEST_SETTLING: Duration = Duration::from_millis(20);
/// Pause between two probes of an entry that is not settled, in addition to the call's own time;
/// grows by half each time up to the second.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LONGEST_LOOK_AGAIN: Duration = Duration::from_secs(3);
/// Pause after a refusal with nothing else of this process under way, because another writer is
/// changing the gateway. Doubles up to the second.
const YIELD: Duration = Duration::from_secs(1);
const LONGEST_YIELD: Duration = Duration::from_secs(10);

/// The learned capacity of one gateway, and its changes in flight.
#[derive(Debug)]
pub(crate) struct Lane {
    limit: u32,
    in_flight: u32,
    /// Answers in a row since the limit last changed.
    streak: u32,
    /// No refusal yet, so the limit doubles instead of growing by one.
    fresh: bool,
    /// Number of slots given so far, which is the number of the newest change.
    entered: u64,
    /// Number of the newest change when the limit was last cut. Refusals of changes up to this one
    /// do not cut it again.
    cut_at: u64,
    /// All entries must be settled before each change.
    calm: bool,
    /// Time of the last answer or refusal, until a read shows the entries settled. Only a read that
    /// began later shows the change's effect.
    touched: Option<Instant>,
    /// No slot is given before this time.
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

/// The answer to a waiting change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The change has a slot and may be sent.
    Go(Pass),
    /// Wait until a change in flight is answered.
    Wait,
    /// Wait until this time, or until a change or read is recorded.
    Until(Instant),
    /// Send a probe and record its result.
    Look,
}

/// A change in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    number: u64,
    alone: bool,
    rest: Rest,
}

impl Pass {
    /// True if a read has just shown all entries settled.
    pub(crate) fn is_rested(self) -> bool {
        self.rest == Rest::Shown
    }

    /// True if only the settling estimate says that the entries are settled.
    pub(crate) fn is_trusted(self) -> bool {
        self.rest == Rest::Trusted
    }
}

/// The evidence on which a change got its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// A read has shown all entries settled.
    Shown,
    /// The settling estimate is due.
    Trusted,
    /// The gateway accepts changes while entries are pending.
    Unasked,
}

/// The least evidence that a waiting change accepts for settled entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Only a read counts.
    Read,
    /// The settling estimate suffices.
    Trust,
}

/// The outcome of a change, as far as it shows the gateway's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The gateway accepted the change.
    Taken,
    /// Refused, because another change is under way at the gateway.
    Busy,
    /// Refused, because an entry is not settled.
    Unsettled,
    /// Refused for another reason, or the outcome is unknown.
    Other,
    /// The change was never sent, so nothing is learned.
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
    /// True if all entries must be settled before each change.
    pub(crate) fn is_calm(&self) -> bool {
        self.calm
    }

    /// Gives a waiting change a slot, or says what to wait for.
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
                    // A probe would be answered too late to gain much.
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

    /// Records the outcome of a change in flight. `jitter`, 0.5 to 1.5, scales the pause for
    /// another writer.
    pub(crate) fn end(&mut self, pass: Pass, end: End, now: Instant, jitter: f64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if end == End::Unsent {
            return;
        }
        if pass.rest == Rest::Trusted && end == End::Unsettled {
            // The estimate was too short, but the gateway's capacity is as before.
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

    /// Pauses after a refusal with nothing else of this process under way. The first may be chance,
    /// such as the last change of a process that just ended. A second in a row means that an answer
    /// is not enough: the entries must be settled before each change.
    fn yield_way(&mut self, pass: Pass, now: Instant, jitter: f64) {
        if self.yielding > YIELD {
            self.shrink(pass, now);
            self.calm = true;
        }
        self.not_before = Some(now + self.yielding.mul_f64(jitter));
        self.yielding = (self.yielding * 2).min(LONGEST_YIELD);
    }

    /// Records a read that began at `began` and showed the entries settled or not.
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

    /// Records a probe that failed: the next one follows after a pause.
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

    /// Grows the limit after as many accepted changes in a row as the limit: doubled before the
    /// first refusal, by one afterwards. At least two changes, so that one change right behind
    /// another is tried before two together.
    fn grow(&mut self, now: Instant) {
        self.yielding = YIELD;
        if !self.may_try_more(now) {
            return;
        }
        if std::mem::take(&mut self.calm) {
            // Accepted without the wait for settled entries: the gateway may behave differently
            // now.
            self.streak = 0;
        }
        self.streak += 1;
        if self.streak >= self.limit.max(2) {
            self.streak = 0;
            self.limit = if self.fresh { self.limit * 2 } else { self.limit + 1 }.min(MOST);
        }
    }

    /// Halves the limit, once for all refusals of changes that were in flight together.
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
