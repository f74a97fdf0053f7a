//! Plays random histories, and prints the shortest one that fails.

use crate::world::World;
use jiff::SignedDuration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of random histories.
const HISTORIES: u64 = 10_000;
/// Events in each history before the calm.
const EVENTS: usize = 160;
/// Single events after everything is settled.
const EVENTS_AFTER_CALM: usize = 5;
/// The calm after them: several fences, cooldowns and expired claims one after the other.
const CALM: SignedDuration = SignedDuration::from_mins(40);

/// Rounds of work in so much time: four leases take a few hundred stages.
const MAX_ROUNDS: u32 = 5000;
const WORK: SignedDuration = SignedDuration::from_secs(20);

/// Failure of a history, with the events before it.
struct Failure {
    why: String,
    trace: Vec<String>,
}

fn play_history(seed: u64, length: usize, tracing: bool) -> Result<(), Failure> {
    let mut world = World::new(seed, tracing);
    let played = catch_unwind(AssertUnwindSafe(|| {
        for number in 0..length {
            world.run_random_event();
            if number % 8 == 0 {
                world.check_invariants();
            }
            if world.failure.is_some() {
                return;
            }
        }
        world.check_invariants();
        world.end_disturbances();
        run_until_settled(&mut world);
        // No faults and no new start of the watch from here on: single events must be enough.
        (0..EVENTS_AFTER_CALM).for_each(|_| world.run_single_event());
        run_until_settled(&mut world);
    }));
    let failure =
        world.failure.take().or_else(|| played.err().map(|_| "a panic, printed above".to_owned()));
    failure.map_or(Ok(()), |why| Err(Failure { why, trace: world.list_events() }))
}

/// Lets workers work and time pass until everything is as it must be.
fn run_until_settled(world: &mut World) {
    let until = world.now + CALM;
    let (mut look, mut idle) = (world.now, world.now);
    let mut rounds = 0;
    while world.failure.is_none() {
        world.moment += 1;
        let busy =
            (0..world.workers.len()).filter(|index| world.advance_worker(*index)).count() > 0;
        rounds += 1;
        if !busy || world.now > idle + WORK {
            (rounds, idle) = (0, world.now);
        }
        if rounds > MAX_ROUNDS {
            world.note_failure(|| "endless work while hardly any time passes".to_owned());
        }
        if busy {
            // Calls take their time, too.
            world.pass_time(SignedDuration::ZERO);
            continue;
        }
        if world.now >= look {
            let Some(unmet) = world.find_unmet() else { break };
            if world.now > until {
                world.note_failure(|| format!("the end state is not reached: {unmet}"));
            }
            look = world.now + SignedDuration::from_secs(10);
        }
        let due = world
            .store
            .rows
            .values()
            .map(|row| row.due)
            .chain(world.store.queue_due())
            .min()
            .unwrap_or(look)
            .min(look);
        let time = due.duration_since(world.now).max(SignedDuration::from_millis(10));
        world.pass_time(time);
    }
    world.check_invariants();
}

/// Finds the shortest beginning of a failing history that also fails, and describes it.
fn describe_failure(seed: u64) -> String {
    let Some(shortest) = (0..=EVENTS).find(|length| play_history(seed, *length, false).is_err())
    else {
        return format!("seed {seed} failed once and does not fail again");
    };
    let Err(failure) = play_history(seed, shortest, true) else {
        return format!("seed {seed} fails only without tracing");
    };
    format!("seed {seed}, after {shortest} events: {}\n{}", failure.why, failure.trace.join("\n"))
}

/// Plays all histories on all cores; the seed of one that fails.
fn find_failing_seed(histories: u64) -> Option<u64> {
    let (next, failing) = (AtomicU64::new(0), Mutex::new(None));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < histories
                {
                    if play_history(seed, EVENTS, false).is_err() {
                        next.store(histories, Ordering::Relaxed);
                        failing.lock().unwrap().get_or_insert(seed);
                    }
                }
            });
        }
    });
    failing.into_inner().unwrap()
}

#[test]
fn every_history_keeps_the_invariants_and_reaches_the_end_state() {
    let setting = |name| std::env::var_os(name).and_then(|text| text.to_str()?.parse().ok());
    let histories = setting("WAYGATE_PLAN_HISTORIES").unwrap_or(HISTORIES);
    if let Some(seed) = setting("WAYGATE_PLAN_SEED").or_else(|| find_failing_seed(histories)) {
        panic!(
            "{}\nto play it again: WAYGATE_PLAN_SEED={seed} cargo test -p testbed --test plan",
            describe_failure(seed)
        );
    }
}
