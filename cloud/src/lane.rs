//! How many changes one gateway takes at a time, learned from its answers: a pure state machine.
//!
//! Gateways differ, and the documentation contradicts itself: some take many changes at once, some one at a time, and some none
//! while any entry is `Pending` or `Deleting`. The limit starts at one and doubles while all goes well; a refusal for concurrency
//! halves it; a refusal for an entry's status, or a second one for concurrency while nothing else of ours was under way, makes every
//! further change wait until the table is at rest.
//!
//! ```text
//! answered ── settling ──▶ look ─┬─ at rest ────────────────────────────────▶ next change      a call later than it was at rest
//!                                └─ not yet ── look again │ surely passes ──▶ next change      right away, and seldom refused
//! ```
//!
//! A look takes as long as a change, so where nearly all entries are at rest by now the change itself finds out. How long that takes is
//! learned such that one such change in thirty is refused; after such a refusal only a read will do.

use std::time::Duration;
use tokio::time::Instant;

/// No gateway is known to take more at a time.
const MOST: u32 = 16;
/// After a refusal, how long until more is tried again; doubles with each such refusal.
const WARY: Duration = Duration::from_mins(2);
const WARIEST: Duration = Duration::from_hours(1);
/// First guess of how long an entry is `Pending`.
const FIRST_SETTLING: Duration = Duration::from_millis(800);
/// A first look that came too early makes the next one later by this part of what was lacking; one that did not makes it earlier by that part.
/// An early look costs a call, a late one the gateway's time, which is what everybody waits for: with these more than half come too early.
const LATER: f64 = 0.06;
const EARLIER: f64 = 0.04;
/// By then an entry is surely at rest: a first guess that the first looks correct.
const FIRST_SURELY: Duration = Duration::from_millis(1200);
/// An entry that the first look did not show at rest brings that guess closer to its own time by this part, until a change was refused on trust.
const SURER: f64 = 0.2;
/// A change that was refused on trust makes trust come later by this part, one that was taken makes it come earlier by that: of those that go on
/// trust, one in thirty is refused …
const TRUST_LATER: f64 = 0.04;
const TRUST_EARLIER: f64 = 0.0013;
/// … and before the first such refusal by that.
const GUESS_EARLIER: f64 = 0.01;
/// A look is worth taking if its answer comes before by a part of the time that it takes.
const WORTHWHILE: f64 = 1.4;
/// An entry that took so many times as long after a refusal says that nothing was known yet.
const MISJUDGED: f64 = 1.4;
/// First guess of how long a look takes.
const FIRST_LOOK_TAKES: Duration = Duration::from_millis(150);
/// Where nobody saw the entry at rest, the next first look comes later by this part of what is left until one is not worth taking.
const UNSEEN_LATER: f64 = 0.15;
/// No call is answered faster, so no look is worth taking earlier.
const SHORTEST_SETTLING: Duration = Duration::from_millis(20);
/// Between two reads of a table that is not at rest, beside the call's own time; grows by half each time.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LONGEST_LOOK_AGAIN: Duration = Duration::from_secs(3);
const LONGEST_SURELY: Duration = Duration::from_mins(1);
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
    /// The last answer to a change of ours, or refusal; only a read that began later shows its effects.
    touched: Option<Instant>,
    /// Nothing goes before this.
    not_before: Option<Instant>,
    look_at: Option<Instant>,
    look_pause: Duration,
    settling: Duration,
    surely: Duration,
    /// That is no more than a guess yet.
    guessed: bool,
    look_takes: Duration,
    /// A change was refused on trust: only a read tells now.
    must_look: bool,
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
            surely: FIRST_SURELY,
            guessed: true,
            look_takes: FIRST_LOOK_TAKES,
            must_look: false,
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
                let trust_at = (proof == Proof::Trust && !self.must_look).then_some(touched + self.surely);
                match trust_at {
                    Some(at) if at <= now => Rest::Trusted,
                    // A look would be answered too late to be of much use.
                    Some(at) if at <= look_at + self.look_takes.mul_f64(WORTHWHILE) => return Next::Until(at),
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
            self.surely = self.surely.mul_f64(1.0 + TRUST_LATER).min(LONGEST_SURELY);
            (self.guessed, self.must_look) = (false, true);
            self.look_at = Some(now);
            return;
        }
        self.touched = Some(now);
        self.must_look = false;
        self.look_pause = LOOK_AGAIN;
        self.look_at = Some(now + self.settling);
        match end {
            End::Taken if pass.rest == Rest::Trusted => {
                let earlier = if self.guessed { GUESS_EARLIER } else { TRUST_EARLIER };
                self.surely = self.surely.mul_f64(1.0 - earlier).max(self.settling);
                let latest = self.surely.saturating_sub(self.look_takes.mul_f64(WORTHWHILE));
                self.settling += latest.saturating_sub(self.settling).mul_f64(UNSEEN_LATER);
                self.grow(now);
            }
            End::Taken => self.grow(now),
            End::Busy if pass.alone && pass.number == self.entered => self.yield_way(pass, now, jitter),
            End::Busy => self.shrink(pass, now),
            End::Unsettled => {
                self.shrink(pass, now);
                self.limit = 1;
                self.calm = true;
            }
            End::Other | End::Unsent => {}
        }
    }

    /// Refused with nothing else of ours under way. Once may be chance, such as the last change of a process that just ended;
    /// twice in a row means that it is not enough to have been answered: the table must be at rest.
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
        self.look_takes = (self.look_takes.mul_f64(0.8) + now.saturating_duration_since(began).mul_f64(0.2)).min(LONGEST_LOOK_AGAIN);
        if at_rest {
            let took = began - touched;
            if std::mem::take(&mut self.must_look) && took > self.surely.mul_f64(MISJUDGED) {
                self.surely = took;
            }

            let known = self.settling;
            let first_look = self.look_pause == LOOK_AGAIN;
            if !first_look && self.guessed {
                // The slower ones say about how long one must wait to be sure.
                self.surely -= self.surely.saturating_sub(took).mul_f64(SURER);
            }
            let next = if first_look { took.min(known).mul_f64(1.0 - EARLIER) } else { known + took.saturating_sub(known).mul_f64(LATER) };
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

    /// The limit doubles, or once there was a refusal grows by one, after as many answers as it stands for. Two at least, so that
    /// a change right behind another is tried alone before two are tried together.
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use std::ops::RangeInclusive;

    fn enter(lane: &mut Lane, now: Instant) -> Pass {
        match lane.next(now, Proof::Read) {
            Next::Go(pass) => pass,
            other => panic!("{other:?}"),
        }
    }

    fn after(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    /// A gateway that takes all: how many are under way at a time after `rounds` full windows.
    fn window_after(lane: &mut Lane, rounds: usize) -> usize {
        let now = Instant::now();
        let mut size = 0;
        for _ in 0..rounds {
            let mut passes = Vec::new();
            while let Next::Go(pass) = lane.next(now, Proof::Read) {
                passes.push(pass);
            }
            size = passes.len();
            for pass in passes {
                lane.end(pass, End::Taken, now, 1.0);
            }
        }
        size
    }

    #[test]
    fn the_window_doubles_where_everything_is_taken() {
        assert_eq!(window_after(&mut Lane::default(), 2), 1);
        assert_eq!(window_after(&mut Lane::default(), 3), 2);
        assert_eq!(window_after(&mut Lane::default(), 7), 16);
        assert_eq!(window_after(&mut Lane::default(), 50), 16);
    }

    #[test]
    fn a_refusal_for_concurrency_costs_one_call_and_halves_the_window() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        window_after(&mut lane, 2);
        let (first, second) = (enter(&mut lane, now), enter(&mut lane, now));
        assert_eq!(lane.next(now, Proof::Read), Next::Wait);
        lane.end(second, End::Busy, now, 1.0);
        assert_eq!(lane.next(now, Proof::Read), Next::Wait);
        lane.end(first, End::Taken, now, 1.0);
        for _ in 0..20 {
            let only = enter(&mut lane, now);
            assert_eq!(lane.next(now, Proof::Read), Next::Wait);
            lane.end(only, End::Taken, now, 1.0);
        }
        // Much later two are tried again.
        let later = now + WARY * 2;
        for _ in 0..2 {
            let pass = enter(&mut lane, later);
            lane.end(pass, End::Taken, later, 1.0);
        }
        enter(&mut lane, later);
        enter(&mut lane, later);
    }

    #[test]
    fn many_refusals_of_one_window_cut_it_once() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        window_after(&mut lane, 7);
        let passes: Vec<_> = (0..16).map(|_| enter(&mut lane, now)).collect();
        for pass in passes {
            lane.end(pass, End::Busy, now, 1.0);
        }
        for _ in 0..8 {
            enter(&mut lane, now);
        }
        assert_eq!(lane.next(now, Proof::Read), Next::Wait);
    }

    #[test]
    fn after_a_status_refusal_a_read_must_show_the_table_at_rest() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let pass = enter(&mut lane, now);
        lane.end(pass, End::Taken, now, 1.0);
        let pass = enter(&mut lane, now);
        lane.end(pass, End::Unsettled, now, 1.0);
        assert_eq!(lane.next(now, Proof::Read), Next::Until(now + FIRST_SETTLING));
        let look = now + FIRST_SETTLING;
        assert_eq!(lane.next(look, Proof::Read), Next::Look);
        lane.seen(look, false, look);
        assert_eq!(lane.next(look, Proof::Read), Next::Until(look + LOOK_AGAIN));
        lane.seen(look + LOOK_AGAIN, true, look + LOOK_AGAIN);
        let pass = enter(&mut lane, look + LOOK_AGAIN);
        assert!(pass.is_rested());
        // And again before the next one, a little later than the look that came too early.
        let answered = after(look, 300);
        lane.end(pass, End::Taken, answered, 1.0);
        assert_eq!(lane.next(answered, Proof::Read), Next::Until(answered + FIRST_SETTLING + LOOK_AGAIN.mul_f64(LATER)));
    }

    /// What a gateway's entries cost whose changes wait for rest: entries are pending for so many milliseconds from the change's arrival, and
    /// every call takes 100 to 200.
    #[derive(Debug)]
    struct Cost {
        took: Duration,
        looks: u32,
        refused: u32,
    }

    fn cost_of(entries: u64, pending: RangeInclusive<u64>, proof: Proof) -> Cost {
        let (mut lane, start) = (Lane::default(), Instant::now());
        let pass = enter(&mut lane, start);
        lane.end(pass, End::Unsettled, start, 1.0);
        lane.try_more = Some(start + WARY * 1000);
        let (mut now, mut at_rest, mut made, mut looks, mut refused) = (start, start, 0, 0, 0);
        let mut dice = rand::rngs::StdRng::seed_from_u64(7);
        while made < entries {
            let answered = after(now, dice.random_range(100..=200));
            match lane.next(now, proof) {
                Next::Until(until) => now = until,
                Next::Look => {
                    looks += 1;
                    lane.seen(now, now >= at_rest, answered);
                    now = answered;
                }
                Next::Go(pass) if now < at_rest => {
                    refused += 1;
                    lane.end(pass, End::Unsettled, answered, 1.0);
                    now = answered;
                }
                Next::Go(pass) => {
                    made += 1;
                    at_rest = after(now, dice.random_range(pending.clone()));
                    lane.end(pass, End::Taken, answered, 1.0);
                    now = answered;
                }
                Next::Wait => panic!("nothing is under way"),
            }
        }
        Cost { took: now - start, looks, refused }
    }

    #[test]
    fn where_experience_will_do_a_gateway_hardly_waits_longer_than_its_entries_take() {
        for entries in [100, 1000] {
            let (read, trusted) = (cost_of(entries, 800..=1200, Proof::Read), cost_of(entries, 800..=1200, Proof::Trust));
            println!("{entries} entries: {read:?}, {trusted:?}");
            let entries = u32::try_from(entries).unwrap();
            // A call and Pending take 1150 ms together.
            assert!(read.took / entries < Duration::from_millis(1260) && read.looks < entries * 11 / 5, "{read:?}");
            assert!(trusted.took / entries < Duration::from_millis(1210) && trusted.looks < read.looks, "{trusted:?}");
            assert!(read.refused == 0 && trusted.refused <= entries / 20, "{trusted:?}");
        }
    }

    #[test]
    fn a_gateway_that_takes_much_longer_is_soon_known() {
        let cost = cost_of(60, 5000..=6000, Proof::Trust);
        println!("60 entries of five to six seconds: {cost:?}");
        assert!(cost.took / 60 < Duration::from_millis(5800) && cost.refused <= 4 && cost.looks <= 60 * 7, "{cost:?}");
    }

    #[test]
    fn after_a_refusal_on_trust_only_a_read_will_do() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let pass = enter(&mut lane, now);
        lane.end(pass, End::Unsettled, now, 1.0);
        let surely = now + FIRST_SURELY;
        let Next::Go(pass) = lane.next(surely, Proof::Trust) else { panic!("it should be trusted") };
        assert!(!pass.is_rested());
        lane.end(pass, End::Unsettled, surely, 1.0);
        let later = surely + FIRST_SURELY * 10;
        assert_eq!(lane.next(later, Proof::Trust), Next::Look);
        lane.seen(later, true, later);
        assert!(matches!(lane.next(later, Proof::Trust), Next::Go(pass) if pass.is_rested()));
    }

    #[test]
    fn a_read_from_before_the_answer_proves_nothing() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let pass = enter(&mut lane, now);
        lane.end(pass, End::Unsettled, after(now, 100), 1.0);
        lane.seen(after(now, 50), true, after(now, 150));
        assert_eq!(lane.next(now + FIRST_SETTLING * 2, Proof::Read), Next::Look);
    }

    #[test]
    fn one_foreign_change_costs_a_pause_and_no_more() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let pass = enter(&mut lane, now);
        lane.end(pass, End::Busy, now, 1.0);
        let later = now + YIELD;
        assert_eq!(lane.next(now, Proof::Read), Next::Until(later));
        for _ in 0..2 {
            let pass = enter(&mut lane, later);
            lane.end(pass, End::Taken, later, 1.0);
        }
        enter(&mut lane, later);
        enter(&mut lane, later);
    }

    #[test]
    fn what_was_never_sent_teaches_nothing() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let pass = enter(&mut lane, now);
        lane.end(pass, End::Unsettled, now, 1.0);
        lane.seen(now, true, now);
        let pass = enter(&mut lane, now);
        lane.end(pass, End::Unsent, now, 1.0);
        enter(&mut lane, now);
    }

    #[test]
    fn somebody_elses_work_is_waited_for_ever_longer() {
        let (mut lane, mut now) = (Lane::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..6 {
            let pass = enter(&mut lane, now);
            lane.end(pass, End::Busy, now, 1.0);
            let Next::Until(until) = lane.next(now, Proof::Read) else { panic!("it should wait") };
            waits.push((until - now).as_secs());
            now = until;
            lane.seen(now, true, now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Enter(Proof),
        End(usize, End),
        Seen { at_rest: bool, age: u64 },
        Unseen,
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let end = prop_oneof![Just(End::Taken), Just(End::Busy), Just(End::Unsettled), Just(End::Other), Just(End::Unsent)];
        prop_oneof![
            4 => prop_oneof![Just(Proof::Read), Just(Proof::Trust)].prop_map(Event::Enter),
            4 => (0_usize..16, end).prop_map(|(which, end)| Event::End(which, end)),
            2 => (any::<bool>(), 0_u64..500).prop_map(|(at_rest, age)| Event::Seen { at_rest, age }),
            1 => Just(Event::Unseen),
            2 => (0_u64..5_000).prop_map(Event::Pass),
        ]
    }

    proptest! {
        /// Whatever a gateway did before: the lane keeps its bounds, and once the gateway is at rest the next change gets in soon.
        #[test]
        fn no_history_jams_the_lane(events in prop::collection::vec(event(), 0..200)) {
            let (mut lane, start) = (Lane::default(), Instant::now());
            let (mut now, mut under_way) = (start, Vec::new());
            for event in events {
                match event {
                    Event::Enter(proof) => if let Next::Go(pass) = lane.next(now, proof) { under_way.push(pass) },
                    Event::End(which, end) if !under_way.is_empty() => {
                        let pass = under_way.swap_remove(which % under_way.len());
                        lane.end(pass, end, now, 1.5);
                    }
                    Event::End(..) => {}
                    Event::Seen { at_rest, age } => {
                        let began = now.checked_sub(Duration::from_millis(age)).unwrap_or(start).max(start);
                        lane.seen(began, at_rest, now);
                    }
                    Event::Unseen => lane.unseen(now),
                    Event::Pass(millis) => now = after(now, millis),
                }
                prop_assert!(under_way.len() <= MOST as usize);
                prop_assert!((1..=MOST).contains(&lane.limit));
            }
            for pass in under_way {
                lane.end(pass, End::Other, now, 1.0);
            }
            let patience = now + LONGEST_YIELD * 2 + Duration::from_secs(30);
            loop {
                prop_assert!(now < patience);
                match lane.next(now, Proof::Read) {
                    Next::Go(_) => break,
                    Next::Until(until) => now = until,
                    Next::Look => lane.seen(now, true, now),
                    Next::Wait => prop_assert!(false, "nothing is under way"),
                }
            }
        }
    }
}
