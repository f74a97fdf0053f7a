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

/// Two changes accepted one by one, and then two at a time.
fn takes_two(lane: &mut Lane, now: Instant) {
    for _ in 0..2 {
        let pass = enter(lane, now);
        lane.end(pass, End::Taken, now, 1.0);
    }
    enter(lane, now);
    enter(lane, now);
}

/// The changes in flight at a gateway that accepts everything, after `rounds` full windows.
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
    // After the backoff two are tried again.
    let later = now + WARY * 2;
    takes_two(&mut lane, later);
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
    // The next probe comes a little later than the one that came too early.
    let answered = after(look, 300);
    lane.end(pass, End::Taken, answered, 1.0);
    assert_eq!(
        lane.next(answered, Proof::Read),
        Next::Until(answered + FIRST_SETTLING + LOOK_AGAIN.mul_f64(LATER))
    );
}

/// The cost of entries at a gateway that requires quiescence. Entries are pending for the given
/// milliseconds from the change's arrival; every call takes 100 to 200 ms.
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
        let (read, trusted) =
            (cost_of(entries, 800..=1200, Proof::Read), cost_of(entries, 800..=1200, Proof::Trust));
        println!("{entries} entries: {read:?}, {trusted:?}");
        let entries = u32::try_from(entries).unwrap();
        // A call and Pending take 1150 ms together.
        assert!(
            read.took / entries < Duration::from_millis(1260) && read.looks < entries * 11 / 5,
            "{read:?}"
        );
        assert!(
            trusted.took / entries < Duration::from_millis(1210) && trusted.looks < read.looks,
            "{trusted:?}"
        );
        assert!(read.refused == 0 && trusted.refused <= entries / 20, "{trusted:?}");
    }
}

#[test]
fn a_gateway_that_takes_much_longer_is_soon_known() {
    let cost = cost_of(60, 5000..=6000, Proof::Trust);
    println!("60 entries of five to six seconds: {cost:?}");
    assert!(
        cost.took / 60 < Duration::from_millis(5800) && cost.refused <= 4 && cost.looks <= 60 * 7,
        "{cost:?}"
    );
}

#[test]
fn after_a_refusal_on_trust_only_a_read_will_do() {
    let (mut lane, now) = (Lane::default(), Instant::now());
    let pass = enter(&mut lane, now);
    lane.end(pass, End::Unsettled, now, 1.0);
    let surely = now + Trust::default().surely();
    let Next::Go(pass) = lane.next(surely, Proof::Trust) else {
        panic!("expected a change by estimate")
    };
    assert!(!pass.is_rested());
    lane.end(pass, End::Unsettled, surely, 1.0);
    let later = surely + Trust::default().surely() * 10;
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
    takes_two(&mut lane, later);
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
        let Next::Until(until) = lane.next(now, Proof::Read) else { panic!("expected a pause") };
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
    let end = prop_oneof![
        Just(End::Taken),
        Just(End::Busy),
        Just(End::Unsettled),
        Just(End::Other),
        Just(End::Unsent)
    ];
    prop_oneof![
        4 => prop_oneof![Just(Proof::Read), Just(Proof::Trust)].prop_map(Event::Enter),
        4 => (0_usize..16, end).prop_map(|(which, end)| Event::End(which, end)),
        2 => (any::<bool>(), 0_u64..500).prop_map(|(at_rest, age)| Event::Seen { at_rest, age }),
        1 => Just(Event::Unseen),
        2 => (0_u64..5_000).prop_map(Event::Pass),
    ]
}

proptest! {
    /// After any history the window keeps its bounds, and once the gateway's entries are settled
    /// the next change soon gets a slot.
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
