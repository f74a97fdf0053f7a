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

use super::settling::SettlingEstimate;
use std::time::Duration;
use tokio::time::Instant;

/// Most changes in flight. No gateway is known to accept more at a time.
const MAX_IN_FLIGHT: u32 = 16;
/// Time after a refusal until a larger limit is tried again; doubles with each such refusal up to
/// the second.
const BACKOFF: Duration = Duration::from_mins(2);
const MAX_BACKOFF: Duration = Duration::from_hours(1);
/// Delay of the first probe before anything is learned: a guess of how long an entry is `Pending`.
const FIRST_PROBE_DELAY: Duration = Duration::from_millis(800);
/// A first probe that came too early delays the next one by the first share of what was missing;
/// one in time brings it forward by the second share. An early probe costs a call, a late one time
/// of the gateway, for which all its pods wait: with these shares more than half come too early.
const PROBE_LATER: f64 = 0.06;
const PROBE_EARLIER: f64 = 0.04;
/// A probe is sent only if the estimate is due later than this multiple of a probe's duration.
const PROBE_WORTHWHILE: f64 = 1.4;
/// First guess of a probe's duration.
const FIRST_PROBE_DURATION: Duration = Duration::from_millis(150);
/// After a change by estimate, the delay of the first probe grows by this share of what is left
/// until a probe is no longer worthwhile.
const UNPROBED_LATER: f64 = 0.15;
/// Least delay of the first probe: no call is answered faster.
const MIN_PROBE_DELAY: Duration = Duration::from_millis(20);
/// Pause between two probes of an entry that is not settled, in addition to the call's own time;
/// grows by half each time up to the second.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
const MAX_PROBE_PAUSE: Duration = Duration::from_secs(3);
/// Pause after a refusal with nothing else of this process under way, because another writer is
/// changing the gateway. Doubles up to the second.
const YIELD_PAUSE: Duration = Duration::from_secs(1);
const MAX_YIELD_PAUSE: Duration = Duration::from_secs(10);

/// The learned capacity of one gateway, and its changes in flight.
#[derive(Debug)]
pub(crate) struct ConcurrencyWindow {
    limit: u32,
    in_flight: u32,
    /// Answers in a row since the limit last changed.
    streak: u32,
    /// No refusal yet, so the limit doubles instead of growing by one.
    never_refused: bool,
    /// Number of slots given so far, which is the number of the newest change.
    acquired: u64,
    /// Number of the newest change when the limit was last cut. Refusals of changes up to this one
    /// do not cut it again.
    cut_at: u64,
    /// All entries must be settled before each change.
    requires_quiescence: bool,
    /// Time of the last answer or refusal, until a read shows the entries settled. Only a read that
    /// began later shows the change's effect.
    last_change_at: Option<Instant>,
    /// No slot is given before this time.
    not_before: Option<Instant>,
    probe_at: Option<Instant>,
    probe_pause: Duration,
    probe_delay: Duration,
    probe_duration: Duration,
    estimate: SettlingEstimate,
    may_grow_at: Option<Instant>,
    backoff: Duration,
    yield_pause: Duration,
}

/// The answer to a waiting change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// The change has a slot and may be sent.
    Acquired(InFlight),
    /// Wait until a change in flight is answered.
    AwaitAnswer,
    /// Wait until this time, or until a change or read is recorded.
    WaitUntil(Instant),
    /// Send a probe and record its result.
    ProbeFirst,
}

/// A change in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    number: u64,
    alone: bool,
    evidence: Evidence,
}

impl InFlight {
    /// True if a read has just shown all entries settled.
    pub(crate) fn is_confirmed_settled(self) -> bool {
        self.evidence == Evidence::Confirmed
    }

    /// True if only the settling estimate says that the entries are settled.
    pub(crate) fn is_by_estimate(self) -> bool {
        self.evidence == Evidence::ByEstimate
    }
}

/// The evidence on which a change got its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// A read has shown all entries settled.
    Confirmed,
    /// The settling estimate is due.
    ByEstimate,
    /// The gateway accepts changes while entries are pending.
    NotRequired,
}

/// The least evidence that a waiting change accepts for settled entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequiredEvidence {
    /// Only a read counts.
    Read,
    /// The settling estimate suffices.
    Estimate,
}

/// The outcome of a change, as far as it shows the gateway's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeOutcome {
    /// The gateway accepted the change.
    Accepted,
    /// Refused, because another change is under way at the gateway.
    GatewayBusy,
    /// Refused, because an entry is not settled.
    EntryUnsettled,
    /// Refused for another reason, or the outcome is unknown.
    Other,
    /// The change was never sent, so nothing is learned.
    NotSent,
}

impl Default for ConcurrencyWindow {
    fn default() -> Self {
        Self {
            limit: 1,
            in_flight: 0,
            streak: 0,
            never_refused: true,
            acquired: 0,
            cut_at: 0,
            requires_quiescence: false,
            last_change_at: None,
            not_before: None,
            probe_at: None,
            probe_pause: PROBE_PAUSE,
            probe_delay: FIRST_PROBE_DELAY,
            probe_duration: FIRST_PROBE_DURATION,
            estimate: SettlingEstimate::default(),
            may_grow_at: None,
            backoff: BACKOFF,
            yield_pause: YIELD_PAUSE,
        }
    }
}

impl ConcurrencyWindow {
    /// True if all entries must be settled before each change.
    pub(crate) fn is_quiescence_required(&self) -> bool {
        self.requires_quiescence
    }

    /// Gives a waiting change a slot, or says what to wait for.
    pub(crate) fn try_acquire(&mut self, now: Instant, required: RequiredEvidence) -> SlotState {
        if self.in_flight >= self.limit || (self.requires_quiescence && self.in_flight > 0) {
            return SlotState::AwaitAnswer;
        }
        if let Some(until) = self.not_before.filter(|until| *until > now) {
            return SlotState::WaitUntil(until);
        }
        let evidence = match self.last_change_at {
            _ if !self.requires_quiescence || self.may_grow(now) => Evidence::NotRequired,
            None => Evidence::Confirmed,
            Some(last_change) => {
                let probe_at = self.probe_at.map_or(now, |at| at.max(now));
                match self
                    .estimate
                    .settled_from(last_change)
                    .filter(|_| required == RequiredEvidence::Estimate)
                {
                    Some(at) if at <= now => Evidence::ByEstimate,
                    // A probe would be answered too late to gain much.
                    Some(at) if at <= probe_at + self.probe_duration.mul_f64(PROBE_WORTHWHILE) => {
                        return SlotState::WaitUntil(at);
                    }
                    _ if probe_at > now => return SlotState::WaitUntil(probe_at),
                    _ => return SlotState::ProbeFirst,
                }
            }
        };
        self.acquired += 1;
        let in_flight = InFlight { number: self.acquired, alone: self.in_flight == 0, evidence };
        self.in_flight += 1;
        SlotState::Acquired(in_flight)
    }

    /// Records the outcome of a change in flight. `jitter`, 0.5 to 1.5, scales the pause for
    /// another writer.
    pub(crate) fn finish_change(
        &mut self,
        in_flight: InFlight,
        outcome: ChangeOutcome,
        now: Instant,
        jitter: f64,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if outcome == ChangeOutcome::NotSent {
            return;
        }
        if in_flight.evidence == Evidence::ByEstimate && outcome == ChangeOutcome::EntryUnsettled {
            // The estimate was too short, but the gateway's capacity is as before.
            self.estimate.lengthen_and_suspend();
            self.probe_at = Some(now);
            return;
        }
        self.last_change_at = Some(now);
        self.estimate.end_suspension();
        self.probe_pause = PROBE_PAUSE;
        self.probe_at = Some(now + self.probe_delay);
        match outcome {
            ChangeOutcome::Accepted if in_flight.evidence == Evidence::ByEstimate => {
                self.estimate.shorten_estimate(self.probe_delay);
                let latest = self
                    .estimate
                    .settled_after()
                    .saturating_sub(self.probe_duration.mul_f64(PROBE_WORTHWHILE));
                self.probe_delay += latest.saturating_sub(self.probe_delay).mul_f64(UNPROBED_LATER);
                self.grow_limit(now);
            }
            ChangeOutcome::Accepted => self.grow_limit(now),
            ChangeOutcome::GatewayBusy if in_flight.alone && in_flight.number == self.acquired => {
                self.yield_to_other_writer(in_flight, now, jitter);
            }
            ChangeOutcome::GatewayBusy => self.halve_limit(in_flight, now),
            ChangeOutcome::EntryUnsettled => {
                self.halve_limit(in_flight, now);
                self.limit = 1;
                self.requires_quiescence = true;
            }
            ChangeOutcome::Other | ChangeOutcome::NotSent => {}
        }
    }

    /// Pauses after a refusal with nothing else of this process under way. The first may be chance,
    /// such as the last change of a process that just ended. A second in a row means that an answer
    /// is not enough: the entries must be settled before each change.
    fn yield_to_other_writer(&mut self, in_flight: InFlight, now: Instant, jitter: f64) {
        if self.yield_pause > YIELD_PAUSE {
            self.halve_limit(in_flight, now);
            self.requires_quiescence = true;
        }
        self.not_before = Some(now + self.yield_pause.mul_f64(jitter));
        self.yield_pause = (self.yield_pause * 2).min(MAX_YIELD_PAUSE);
    }

    /// Records a read that began at `began` and showed the entries settled or not.
    pub(crate) fn record_read(&mut self, began: Instant, settled: bool, now: Instant) {
        let Some(last_change) = self.last_change_at.filter(|at| began >= *at) else {
            return;
        };
        self.probe_duration = (self.probe_duration.mul_f64(0.8)
            + now.saturating_duration_since(began).mul_f64(0.2))
        .min(MAX_PROBE_PAUSE);
        if settled {
            let took = began - last_change;
            let known = self.probe_delay;
            let first_probe = self.probe_pause == PROBE_PAUSE;
            self.estimate.record_settled(took, first_probe);
            let next = if first_probe {
                took.min(known).mul_f64(1.0 - PROBE_EARLIER)
            } else {
                known + took.saturating_sub(known).mul_f64(PROBE_LATER)
            };
            self.probe_delay = next.max(MIN_PROBE_DELAY);
            self.last_change_at = None;
        } else if self.probe_at.is_none_or(|due| now >= due) {
            self.postpone_probe(now);
        }
    }

    /// Records a probe that failed: the next one follows after a pause.
    pub(crate) fn record_failed_probe(&mut self, now: Instant) {
        self.postpone_probe(now);
    }

    fn postpone_probe(&mut self, now: Instant) {
        self.probe_at = Some(now + self.probe_pause);
        self.probe_pause = self.probe_pause.mul_f64(1.5).min(MAX_PROBE_PAUSE);
    }

    fn may_grow(&self, now: Instant) -> bool {
        self.may_grow_at.is_none_or(|at| now >= at)
    }

    /// Grows the limit after as many accepted changes in a row as the limit: doubled before the
    /// first refusal, by one afterwards. At least two changes, so that one change right behind
    /// another is tried before two together.
    fn grow_limit(&mut self, now: Instant) {
        self.yield_pause = YIELD_PAUSE;
        if !self.may_grow(now) {
            return;
        }
        if std::mem::take(&mut self.requires_quiescence) {
            // Accepted without the wait for settled entries: the gateway may behave differently
            // now.
            self.streak = 0;
        }
        self.streak += 1;
        if self.streak >= self.limit.max(2) {
            self.streak = 0;
            self.limit =
                if self.never_refused { self.limit * 2 } else { self.limit + 1 }.min(MAX_IN_FLIGHT);
        }
    }

    /// Halves the limit, once for all refusals of changes that were in flight together.
    fn halve_limit(&mut self, in_flight: InFlight, now: Instant) {
        if in_flight.number <= self.cut_at {
            return;
        }
        self.cut_at = self.acquired;
        self.limit = (self.limit / 2).max(1);
        self.streak = 0;
        self.never_refused = false;
        self.may_grow_at = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }
}

#[cfg(test)]
mod tests;
