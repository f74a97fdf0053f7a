//! Plays random histories, and prints the shortest one that fails.

use crate::world::World;
use jiff::SignedDuration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of random histories.
const HISTORIES: u64 = 10_000;
/// Events in each history before the calm.
const LONGEST: usize = 160;
/// Events of pods after everything is settled.
const AFTER: usize = 5;
/// The calm after them: several fences, quiet times and lapsed claims one after the other.
const CALM: SignedDuration = SignedDuration::from_mins(40);

/// Rounds of work in so much time: four leases take a few hundred stages.
const MOST_ROUNDS: u32 = 5000;
const WORK: SignedDuration = SignedDuration::from_secs(20);

/// Failure of a history, with the events before it.
struct Failure {
    why: String,
    trace: Vec<String>,
}

fn play(seed: u64, length: usize, tracing: bool) -> Result<(), Failure> {
    let mut world = World::new(seed, tracing);
    let played = catch_unwind(AssertUnwindSafe(|| {
        for number in 0..length {
            world.happen();
            if number % 8 == 0 {
                world.check();
            }
            if world.failure.is_some() {
                return;
            }
        }
        world.check();
        world.calm();
        come_to_rest(&mut world);
        // No faults and no new start of the watch from here on: single events must be enough.
        (0..AFTER).for_each(|_| world.happen_to_pods());
        come_to_rest(&mut world);
    }));
    let failure =
        world.failure.take().or_else(|| played.err().map(|_| "a panic, printed above".to_owned()));
    failure.map_or(Ok(()), |why| Err(Failure { why, trace: world.trace() }))
}

/// Lets workers work and time pass until everything is as it must be.
fn come_to_rest(world: &mut World) {
    let until = world.now + CALM;
    let (mut look, mut idle) = (world.now, world.now);
    let mut rounds = 0;
    while world.failure.is_none() {
        world.moment += 1;
        let busy = (0..world.workers.len()).filter(|index| world.advance(*index)).count() > 0;
        rounds += 1;
        if !busy || world.now > idle + WORK {
            (rounds, idle) = (0, world.now);
        }
        if rounds > MOST_ROUNDS {
            world.fail(|| "endless work while hardly any time passes".to_owned());
        }
        if busy {
            // Calls take their time, too.
            world.pass(SignedDuration::ZERO);
            continue;
        }
        if world.now >= look {
            let Some(unmet) = world.unmet() else { break };
            if world.now > until {
                world.fail(|| format!("the end state is not reached: {unmet}"));
            }
            look = world.now + SignedDuration::from_secs(10);
        }
        let due = world
            .store
            .rows
            .values()
            .map(|row| row.due)
            .chain(world.store.lane_due())
            .min()
            .unwrap_or(look)
            .min(look);
        let time = due.duration_since(world.now).max(SignedDuration::from_millis(10));
        world.pass(time);
    }
    world.check();
}

/// Finds the shortest beginning of a failing history that also fails, and describes it.
fn tell(seed: u64) -> String {
    let Some(shortest) = (0..=LONGEST).find(|length| play(seed, *length, false).is_err()) else {
        return format!("seed {seed} failed once and does not fail again");
    };
    let Err(failure) = play(seed, shortest, true) else {
        return format!("seed {seed} fails only without tracing");
    };
    format!("seed {seed}, after {shortest} events: {}\n{}", failure.why, failure.trace.join("\n"))
}

/// Plays all histories on all cores; the seed of one that fails.
fn failing_seed(histories: u64) -> Option<u64> {
    let (next, failing) = (AtomicU64::new(0), Mutex::new(None));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < histories
                {
                    if play(seed, LONGEST, false).is_err() {
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
fn every_history_keeps_the_rules_and_comes_to_rest() {
    let told = |name| std::env::var_os(name).and_then(|text| text.to_str()?.parse().ok());
    let histories = told("WAYGATE_PLAN_HISTORIES").unwrap_or(HISTORIES);
    if let Some(seed) = told("WAYGATE_PLAN_SEED").or_else(|| failing_seed(histories)) {
        panic!(
            "{}\nto play it again: WAYGATE_PLAN_SEED={seed} cargo test -p testbed --test plan",
            tell(seed)
        );
    }
}
