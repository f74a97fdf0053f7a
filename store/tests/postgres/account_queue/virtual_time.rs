//! Several processes against one account in virtual time: the store's functions are real, the cloud
//! counts calls by their arrival.

use super::{ACTION, MINUTE, queue_releases, set_clock, use_virtual_clock};
use crate::database::{Bench, account_queue, in_database};
use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::operation::Outcome;
use waygate_core::rules::timing::{CALL_TIMEOUT, SEND_WITHIN};
use waygate_store::{AccountQueue, DequeuedChange, SettledBy, Settlement};

/// The cloud's count of an action: a call is refused if the last minute held as many as are allowed.
#[derive(Default)]
struct CloudRate {
    arrivals: Vec<Timestamp>,
    refused: u32,
}

impl CloudRate {
    fn admits(&mut self, now: Timestamp, rate: usize) -> bool {
        let recent = self.arrivals.iter().filter(|at| now.duration_since(**at) < MINUTE).count();
        if recent >= rate {
            self.refused += 1;
            return false;
        }
        self.arrivals.push(now);
        true
    }
}

/// What happens next, and when.
enum Event {
    Ask { process: usize, born: u32 },
    Arrive { call: Call },
    Answer { call: Call, admitted: bool },
    GiveUp { call: Call },
}

#[derive(Clone)]
struct Call {
    process: usize,
    born: u32,
    marked: Timestamp,
    dequeued: DequeuedChange,
}

/// A run of several processes against one account, in virtual time.
struct Run<'a> {
    bench: &'a Bench,
    queue: AccountQueue,
    now: Timestamp,
    events: Vec<(Timestamp, Event)>,
    /// Times that each process was started: what an earlier one began is lost.
    born: Vec<u32>,
    in_flight: Vec<usize>,
    cloud: CloudRate,
    done: BTreeSet<Uuid>,
    dice: StdRng,
    crashes: u32,
    pauses: u32,
}

impl Run<'_> {
    fn millis(&mut self, from: i64, to: i64) -> SignedDuration {
        SignedDuration::from_millis(self.dice.random_range(from..to))
    }

    fn at(&mut self, after: SignedDuration, event: Event) {
        self.events.push((self.now + after, event));
    }

    /// Runs until every change is done; returns the time that took.
    async fn finish(&mut self, changes: usize) -> Result<SignedDuration> {
        let began = self.now;
        for process in 0..self.born.len() {
            let after = self.millis(0, 1000);
            self.at(after, Event::Ask { process, born: 0 });
        }
        while self.done.len() < changes {
            let next = (0..self.events.len()).min_by_key(|index| self.events[*index].0);
            let (at, event) = self.events.swap_remove(next.context("nothing goes on")?);
            self.now = at;
            ensure!(self.now.duration_since(began) < MINUTE * 60, "{} are done", self.done.len());
            set_clock(self.bench, self.now).await?;
            self.happen(event).await?;
        }
        Ok(self.now.duration_since(began))
    }

    async fn happen(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Ask { process, born } if self.born[process] == born => self.ask(process).await,
            Event::Ask { .. } => Ok(()),
            Event::Arrive { call } => self.arrive(call).await,
            Event::Answer { call, admitted } => self.answer(call, admitted).await,
            // The lease was due when the answer should have come, and its plan sends again.
            Event::GiveUp { call } => {
                sqlx::query("UPDATE operation SET queued = true WHERE operation_id = $1 AND outcome IS NULL AND NOT queued")
                    .bind(call.dequeued.operation.id)
                    .execute(&self.bench.pool)
                    .await?;
                Ok(())
            }
        }
    }

    async fn ask(&mut self, process: usize) -> Result<()> {
        let born = self.born[process];
        if self.crashes > 0 && self.dice.random_bool(0.02) {
            self.crashes -= 1;
            self.born[process] += 1;
            self.in_flight[process] = 0;
            let born = self.born[process];
            let after = self.millis(1000, 20_000);
            self.at(after, Event::Ask { process, born });
            return Ok(());
        }
        let room = 10 - self.in_flight[process];
        let again = if room == 0 {
            Duration::from_millis(20)
        } else {
            let batch = self
                .bench
                .store
                .dequeue_account_changes(self.bench.cluster, self.queue, room)
                .await?;
            let pause = if self.pauses > 0 && self.dice.random_bool(0.05) {
                self.pauses -= 1;
                self.millis(1000, 100_000)
            } else {
                SignedDuration::ZERO
            };
            for dequeued in batch.changes {
                self.in_flight[process] += 1;
                let call = Call { process, born, marked: self.now, dequeued };
                let after = pause + self.millis(2, 30);
                self.at(after, Event::Arrive { call });
            }
            // With nothing queued, the look once a second finds what comes.
            batch.retry_in.unwrap_or(Duration::from_secs(1)) + Duration::try_from(pause)?
        };
        self.at(SignedDuration::try_from(again)?, Event::Ask { process, born });
        Ok(())
    }

    async fn arrive(&mut self, call: Call) -> Result<()> {
        if self.born[call.process] != call.born {
            let late = call.marked + CALL_TIMEOUT;
            self.events.push((late.max(self.now), Event::GiveUp { call }));
            return Ok(());
        }
        if self.now.duration_since(call.marked) > SignedDuration::try_from(SEND_WITHIN)? {
            self.in_flight[call.process] -= 1;
            self.bench.store.requeue_unsent(&call.dequeued.operation).await?;
            return Ok(());
        }
        let rate = usize::try_from(self.queue.rate)?;
        let admitted = self.cloud.admits(self.now, rate);
        let after = self.millis(20, 60);
        self.at(after, Event::Answer { call, admitted });
        Ok(())
    }

    async fn answer(&mut self, call: Call, admitted: bool) -> Result<()> {
        let operation = &call.dequeued.operation;
        if self.born[call.process] != call.born {
            let late = call.marked + CALL_TIMEOUT;
            self.events.push((late.max(self.now), Event::GiveUp { call }));
            return Ok(());
        }
        self.in_flight[call.process] -= 1;
        if !admitted {
            let store = &self.bench.store;
            store.requeue_throttled(operation, self.queue.rate, Duration::ZERO).await?;
            return Ok(());
        }
        let settlement = Settlement::from_read(Outcome::Done, None);
        let by = SettledBy::Sender(Duration::ZERO);
        self.bench.store.settle_operation(by, operation, settlement).await?;
        self.done.insert(operation.id);
        Ok(())
    }
}

/// Runs `processes` on `changes` and returns the time they took, and the cloud's refusals.
async fn run_processes(
    processes: usize,
    changes: i32,
    rate: u32,
    faults: u32,
) -> Result<(SignedDuration, u32)> {
    let mut result = None;
    in_database(async |bench: &Bench| {
        use_virtual_clock(bench).await?;
        queue_releases(bench, "crowd", changes).await?;
        let mut run = Run {
            bench,
            queue: account_queue(ACTION, rate),
            now: Timestamp::now(),
            events: Vec::new(),
            born: vec![0; processes],
            in_flight: vec![0; processes],
            cloud: CloudRate::default(),
            done: BTreeSet::new(),
            dice: StdRng::seed_from_u64(u64::try_from(processes)?),
            crashes: faults,
            pauses: faults,
        };
        let time = run.finish(usize::try_from(changes)?).await?;
        result = Some((time, run.cloud.refused));
        Ok(())
    })
    .await?;
    result.context("the run has ended")
}

/// The time that the account's rate alone takes for this many first sends: a minute and a call for
/// each full round before the last, and a call.
fn bound(changes: i32, rate: u32) -> f64 {
    let rounds = (f64::from(changes) - 1.0) / f64::from(rate);
    rounds.floor() * 60.1 + 0.1
}

#[tokio::test]
async fn one_to_eight_processes_use_the_whole_rate_and_the_cloud_refuses_nothing() -> Result<()> {
    for processes in [1, 2, 4, 8] {
        let (time, refused) = run_processes(processes, 60, 24, 0).await?;
        let ratio = time.as_secs_f64() / bound(60, 24);
        println!("{processes} processes: {time:#} for 60 changes, {refused} refused");
        assert!(ratio <= 1.05, "{processes} processes took {time:#}");
        assert_eq!(refused, 0, "{processes} processes");
    }
    Ok(())
}

#[tokio::test]
async fn crashed_and_paused_processes_cost_time_and_never_a_refusal() -> Result<()> {
    for processes in [1, 2, 4, 8] {
        let (time, refused) = run_processes(processes, 60, 24, 6).await?;
        println!("{processes} processes with crashes and pauses: {time:#}, {refused} refused");
        assert_eq!(refused, 0, "{processes} processes");
        // Each pause and each crash holds its calls up for less than two minutes.
        assert!(time < SignedDuration::from_mins(15), "{processes} processes took {time:#}");
    }
    Ok(())
}
