use super::*;
use proptest::prelude::*;
use rand::SeedableRng as _;
use std::ops::RangeInclusive;

fn enter(window: &mut ConcurrencyWindow, now: Instant) -> InFlight {
    match window.try_acquire(now, RequiredEvidence::Read) {
        SlotState::Acquired(in_flight) => in_flight,
        other => panic!("{other:?}"),
    }
}

fn after(now: Instant, millis: u64) -> Instant {
    now + Duration::from_millis(millis)
}

/// Two changes accepted one by one, and then two at a time.
fn takes_two(window: &mut ConcurrencyWindow, now: Instant) {
    for _ in 0..2 {
        let in_flight = enter(window, now);
        window.finish_change(in_flight, ChangeOutcome::Accepted, now, 1.0);
    }
    enter(window, now);
    enter(window, now);
}

/// The changes in flight at a gateway that accepts everything, after `rounds` full windows.
fn window_after(window: &mut ConcurrencyWindow, rounds: usize) -> usize {
    let now = Instant::now();
    let mut size = 0;
    for _ in 0..rounds {
        let mut changes = Vec::new();
        while let SlotState::Acquired(in_flight) = window.try_acquire(now, RequiredEvidence::Read) {
            changes.push(in_flight);
        }
        size = changes.len();
        for in_flight in changes {
            window.finish_change(in_flight, ChangeOutcome::Accepted, now, 1.0);
        }
    }
    size
}

#[test]
fn the_window_doubles_where_everything_is_taken() {
    assert_eq!(window_after(&mut ConcurrencyWindow::default(), 2), 1);
    assert_eq!(window_after(&mut ConcurrencyWindow::default(), 3), 2);
    assert_eq!(window_after(&mut ConcurrencyWindow::default(), 7), 16);
    assert_eq!(window_after(&mut ConcurrencyWindow::default(), 50), 16);
}

#[test]
fn a_refusal_for_concurrency_costs_one_call_and_halves_the_window() {
    let (mut window, now) = (ConcurrencyWindow::default(), Instant::now());
    window_after(&mut window, 2);
    let (first, second) = (enter(&mut window, now), enter(&mut window, now));
    assert_eq!(window.try_acquire(now, RequiredEvidence::Read), SlotState::AwaitAnswer);
    window.finish_change(second, ChangeOutcome::GatewayBusy, now, 1.0);
    assert_eq!(window.try_acquire(now, RequiredEvidence::Read), SlotState::AwaitAnswer);
    window.finish_change(first, ChangeOutcome::Accepted, now, 1.0);
    for _ in 0..20 {
        let only = enter(&mut window, now);
        assert_eq!(window.try_acquire(now, RequiredEvidence::Read), SlotState::AwaitAnswer);
        window.finish_change(only, ChangeOutcome::Accepted, now, 1.0);
    }
    // After the backoff two are tried again.
    let later = now + BACKOFF * 2;
    takes_two(&mut window, later);
}

#[test]
fn many_refusals_of_one_window_cut_it_once() {
    let (mut window, now) = (ConcurrencyWindow::default(), Instant::now());
    window_after(&mut window, 7);
    let changes: Vec<_> = (0..16).map(|_| enter(&mut window, now)).collect();
    for in_flight in changes {
        window.finish_change(in_flight, ChangeOutcome::GatewayBusy, now, 1.0);
    }
    for _ in 0..8 {
        enter(&mut window, now);
    }
    assert_eq!(window.try_acquire(now, RequiredEvidence::Read), SlotState::AwaitAnswer);
}

#[test]
fn after_a_status_refusal_a_read_must_show_the_entries_settled() {
    let (mut window, now) = (ConcurrencyWindow::default(), Instant::now());
    let in_flight = enter(&mut window, now);
    window.finish_change(in_flight, ChangeOutcome::Accepted, now, 1.0);
    let in_flight = enter(&mut window, now);
    window.finish_change(in_flight, ChangeOutcome::EntryUnsettled, now, 1.0);
    assert_eq!(
        window.try_acquire(now, RequiredEvidence::Read),
        SlotState::WaitUntil(now + FIRST_PROBE_DELAY)
    );
    let probe_at = now + FIRST_PROBE_DELAY;
    assert_eq!(window.try_acquire(probe_at, RequiredEvidence::Read), SlotState::ProbeFirst);
    window.record_read(probe_at, false, probe_at);
    assert_eq!(
        window.try_acquire(probe_at, RequiredEvidence::Read),
        SlotState::WaitUntil(probe_at + PROBE_PAUSE)
    );
    window.record_read(probe_at + PROBE_PAUSE, true, probe_at + PROBE_PAUSE);
    let in_flight = enter(&mut window, probe_at + PROBE_PAUSE);
    assert!(in_flight.is_confirmed_settled());
    // The next probe_at comes a little later than the one that came too early.
    let answered = after(probe_at, 300);
    window.finish_change(in_flight, ChangeOutcome::Accepted, answered, 1.0);
    assert_eq!(
        window.try_acquire(answered, RequiredEvidence::Read),
        SlotState::WaitUntil(answered + FIRST_PROBE_DELAY + PROBE_PAUSE.mul_f64(PROBE_LATER))
    );
}

/// The cost of entries at a gateway that requires quiescence. Entries are pending for the given
/// milliseconds from the change's arrival; every call takes 100 to 200 ms.
#[derive(Debug)]
struct Cost {
    took: Duration,
    probes: u32,
    refused: u32,
}

fn cost_of(entries: u64, pending: RangeInclusive<u64>, evidence: RequiredEvidence) -> Cost {
    let (mut window, start) = (ConcurrencyWindow::default(), Instant::now());
    let in_flight = enter(&mut window, start);
    window.finish_change(in_flight, ChangeOutcome::EntryUnsettled, start, 1.0);
    window.may_grow_at = Some(start + BACKOFF * 1000);
    let (mut now, mut settled_at, mut made, mut probes, mut refused) = (start, start, 0, 0, 0);
    let mut dice = rand::rngs::StdRng::seed_from_u64(7);
    while made < entries {
        let answered = after(now, dice.random_range(100..=200));
        match window.try_acquire(now, evidence) {
            SlotState::WaitUntil(until) => now = until,
            SlotState::ProbeFirst => {
                probes += 1;
                window.record_read(now, now >= settled_at, answered);
                now = answered;
            }
            SlotState::Acquired(in_flight) if now < settled_at => {
                refused += 1;
                window.finish_change(in_flight, ChangeOutcome::EntryUnsettled, answered, 1.0);
                now = answered;
            }
            SlotState::Acquired(in_flight) => {
                made += 1;
                settled_at = after(now, dice.random_range(pending.clone()));
                window.finish_change(in_flight, ChangeOutcome::Accepted, answered, 1.0);
                now = answered;
            }
            SlotState::AwaitAnswer => panic!("nothing is under way"),
        }
    }
    Cost { took: now - start, probes, refused }
}

#[test]
fn where_experience_will_do_a_gateway_hardly_waits_longer_than_its_entries_take() {
    for entries in [100, 1000] {
        let (read, estimated) = (
            cost_of(entries, 800..=1200, RequiredEvidence::Read),
            cost_of(entries, 800..=1200, RequiredEvidence::Estimate),
        );
        println!("{entries} entries: {read:?}, {estimated:?}");
        let entries = u32::try_from(entries).unwrap();
        // A call and Pending take 1150 ms together.
        assert!(
            read.took / entries < Duration::from_millis(1260) && read.probes < entries * 11 / 5,
            "{read:?}"
        );
        assert!(
            estimated.took / entries < Duration::from_millis(1210)
                && estimated.probes < read.probes,
            "{estimated:?}"
        );
        assert!(read.refused == 0 && estimated.refused <= entries / 20, "{estimated:?}");
    }
}

#[test]
fn a_gateway_that_takes_much_longer_is_soon_known() {
    let cost = cost_of(60, 5000..=6000, RequiredEvidence::Estimate);
    println!("60 entries of five to six seconds: {cost:?}");
    assert!(
        cost.took / 60 < Duration::from_millis(5800) && cost.refused <= 4 && cost.probes <= 60 * 7,
        "{cost:?}"
    );
}

#[test]
fn after_a_refusal_by_estimate_only_a_read_will_do() {
    let (mut window, now) = (ConcurrencyWindow::default(), Instant::now());
    let in_flight = enter(&mut window, now);
    window.finish_change(in_flight, ChangeOutcome::EntryUnsettled, now, 1.0);
    let surely = now + SettlingEstimate::default().settled_after();
    let SlotState::Acquired(in_flight) = window.try_acquire(surely, RequiredEvidence::Estimate)
    else {
        panic!("expected a change by estimate")
    };
    assert!(!in_flight.is_confirmed_settled());
    window.finish_change(in_flight, ChangeOutcome::EntryUnsettled, surely, 1.0);
    let later = surely + SettlingEstimate::default().settled_after() * 10;
    assert_eq!(window.try_acquire(later, RequiredEvidence::Estimate), SlotState::ProbeFirst);
    window.record_read(later, true, later);
    assert!(
        matches!(window.try_acquire(later, RequiredEvidence::Estimate), SlotState::Acquired(in_flight) if in_flight.is_confirmed_settled())
    );
}

#[test]
fn a_read_from_before_the_answer_proves_nothing() {
    let (mut window, now) = (ConcurrencyWindow::default(), Instant::now());
    let in_flight = enter(&mut window, now);
    window.finish_change(in_flight, ChangeOutcome::EntryUnsettled, after(now, 100), 1.0);
    window.record_read(after(now, 50), true, after(now, 150));
    assert_eq!(
        window.try_acquire(now + FIRST_PROBE_DELAY * 2, RequiredEvidence::Read),
        SlotState::ProbeFirst
    );
}

#[test]
fn one_foreign_change_costs_a_pause_and_no_more() {
    let (mut window, now) = (ConcurrencyWindow::default(), Instant::now());
    let in_flight = enter(&mut window, now);
    window.finish_change(in_flight, ChangeOutcome::GatewayBusy, now, 1.0);
    let later = now + YIELD_PAUSE;
    assert_eq!(window.try_acquire(now, RequiredEvidence::Read), SlotState::WaitUntil(later));
    takes_two(&mut window, later);
}

#[test]
fn what_was_never_sent_teaches_nothing() {
    let (mut window, now) = (ConcurrencyWindow::default(), Instant::now());
    let in_flight = enter(&mut window, now);
    window.finish_change(in_flight, ChangeOutcome::EntryUnsettled, now, 1.0);
    window.record_read(now, true, now);
    let in_flight = enter(&mut window, now);
    window.finish_change(in_flight, ChangeOutcome::NotSent, now, 1.0);
    enter(&mut window, now);
}

#[test]
fn the_wait_for_another_writer_grows() {
    let (mut window, mut now) = (ConcurrencyWindow::default(), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..6 {
        let in_flight = enter(&mut window, now);
        window.finish_change(in_flight, ChangeOutcome::GatewayBusy, now, 1.0);
        let SlotState::WaitUntil(until) = window.try_acquire(now, RequiredEvidence::Read) else {
            panic!("expected a pause")
        };
        waits.push((until - now).as_secs());
        now = until;
        window.record_read(now, true, now);
    }
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Enter(RequiredEvidence),
    End(usize, ChangeOutcome),
    Seen { settled: bool, age: u64 },
    Unseen,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let end = prop_oneof![
        Just(ChangeOutcome::Accepted),
        Just(ChangeOutcome::GatewayBusy),
        Just(ChangeOutcome::EntryUnsettled),
        Just(ChangeOutcome::Other),
        Just(ChangeOutcome::NotSent)
    ];
    prop_oneof![
        4 => prop_oneof![Just(RequiredEvidence::Read), Just(RequiredEvidence::Estimate)].prop_map(Event::Enter),
        4 => (0_usize..16, end).prop_map(|(which, end)| Event::End(which, end)),
        2 => (any::<bool>(), 0_u64..500).prop_map(|(settled, age)| Event::Seen { settled, age }),
        1 => Just(Event::Unseen),
        2 => (0_u64..5_000).prop_map(Event::Pass),
    ]
}

proptest! {
    /// After any history the window keeps its bounds, and once the gateway's entries are settled
    /// the next change soon gets a slot.
    #[test]
    fn no_history_jams_the_window(events in prop::collection::vec(event(), 0..200)) {
        let (mut window, start) = (ConcurrencyWindow::default(), Instant::now());
        let (mut now, mut under_way) = (start, Vec::new());
        for event in events {
            match event {
                Event::Enter(evidence) => if let SlotState::Acquired(in_flight) = window.try_acquire(now, evidence) { under_way.push(in_flight) },
                Event::End(which, end) if !under_way.is_empty() => {
                    let in_flight = under_way.swap_remove(which % under_way.len());
                    window.finish_change(in_flight, end, now, 1.5);
                }
                Event::End(..) => {}
                Event::Seen { settled, age } => {
                    let began = now.checked_sub(Duration::from_millis(age)).unwrap_or(start).max(start);
                    window.record_read(began, settled, now);
                }
                Event::Unseen => window.record_failed_probe(now),
                Event::Pass(millis) => now = after(now, millis),
            }
            prop_assert!(under_way.len() <= MAX_IN_FLIGHT as usize);
            prop_assert!((1..=MAX_IN_FLIGHT).contains(&window.limit));
        }
        for in_flight in under_way {
            window.finish_change(in_flight, ChangeOutcome::Other, now, 1.0);
        }
        let deadline = now + MAX_YIELD_PAUSE * 2 + Duration::from_secs(30);
        loop {
            prop_assert!(now < deadline);
            match window.try_acquire(now, RequiredEvidence::Read) {
                SlotState::Acquired(_) => break,
                SlotState::WaitUntil(until) => now = until,
                SlotState::ProbeFirst => window.record_read(now, true, now),
                SlotState::AwaitAnswer => prop_assert!(false, "nothing is under way"),
            }
        }
    }
}
