//! Reconciles claimed leases: load → observe → plan → execute, step by step, until the plan waits.
//!
//! ```text
//! claims ─▶ reconcile ─▶ observe ─▶ next_step ─▶ execute ─┬▶ allocation, queue, publication
//!              ▲                                          └▶ report (the pod's condition)
//!              └────────────── repeat ────────────────────┘
//! ```

mod allocation;
pub(crate) mod claims;
mod execute;
mod observe;
mod outcome;
mod pass;
mod publication;
mod report;
mod set_aside;

use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::set_aside::JITTER;
use jiff::Timestamp;
use observe::Observation;
use outcome::{Pause, StepOutcome};
use pass::Pass;
use rand::RngExt as _;
use std::time::Duration;
use waygate_core::plan::{self, PodState};
use waygate_core::retry::{self, WaitHistory};
use waygate_core::rules::timing::CLAIM;
use waygate_core::rules::{refusals, succession};
use waygate_store::{Claim, Error as StoreError, Finish, Loaded, RefusalHistory};

/// Steps of one reconcile. A lease with a hundred ports takes a few hundred; a lease that takes
/// more than this repeats steps without progress.
const MAX_STEPS: usize = 2000;

/// Reconciles one lease until it pauses, is deleted, or another worker holds its claim. Returns the
/// time until it is due again, if it pauses.
async fn reconcile_lease(worker: &Worker, claim: &Claim) -> Option<Duration> {
    let error = match run_steps(worker, claim).await {
        Ok(due_in) => return due_in,
        Err(error) => error,
    };
    if let Err(error) = set_aside::set_lease_aside(worker, claim, error).await {
        match error {
            Error::Store(StoreError::ClaimLost) => {
                tracing::debug!(lease.id = %claim.lease_id, "claim lost to another worker");
            }
            error => tracing::warn!(
                lease.id = %claim.lease_id, error = error_chain(&error),
                "reconcile failed; the claim will expire and the lease be retried"
            ),
        }
    }
    None
}

async fn run_steps(worker: &Worker, claim: &Claim) -> Result<Option<Duration>, Error> {
    let mut carried: Option<CarriedOver> = None;
    for _ in 0..MAX_STEPS {
        let mut loaded = worker.store.under_claim(claim).load(CLAIM).await?;
        let mut look = Look { began_at: Some(loaded.now), pod_missing: None };
        if let Some(carried) = &carried {
            loaded.wake = carried.wake;
        }
        let (after, carry_over) =
            match run_step(worker, claim, &loaded, carried.take(), &mut look).await {
                Ok(done) => done,
                // Without the store neither a pause nor its reason can be recorded.
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => {
                    look.began_at = None;
                    let pause = set_aside::pause_after_error(worker, &loaded.job(), &error).await;
                    (StepOutcome::Pause(pause), None)
                }
            };
        match after {
            StepOutcome::Continue => carried = carry_over,
            StepOutcome::Deleted => return Ok(None),
            StepOutcome::Pause(pause) => {
                let due_in = finish_reconcile(worker, claim, &loaded, &pause, &look).await?;
                return Ok(Some(due_in));
            }
        }
    }
    tracing::error!(
        lease.id = %claim.lease_id, steps = MAX_STEPS,
        "reconcile exceeded its steps; the claim will expire and the lease be retried"
    );
    Ok(None)
}

/// Observation made before the last step that still holds for the next one.
struct CarriedOver {
    observed: Observation,
    /// The lease's wake counter before the observation: a later wake-up is not covered by it and
    /// must not be acknowledged.
    wake: i64,
}

/// What a pause records of the look that it ends.
struct Look {
    /// Begin of the look, by Postgres' clock; none where it failed.
    began_at: Option<Timestamp>,
    /// True if it did not find the pod; none where it did not read so far.
    pod_missing: Option<bool>,
}

async fn run_step(
    worker: &Worker,
    claim: &Claim,
    loaded: &Loaded,
    carried: Option<CarriedOver>,
    look: &mut Look,
) -> Result<(StepOutcome, Option<CarriedOver>), Error> {
    let observed =
        observe::observe_lease(worker, loaded, carried.map(|carried| carried.observed)).await?;
    look.pod_missing = Some(matches!(observed.pod, PodState::NotFound));
    let pass = Pass { worker, claim, loaded, observation: &observed };
    let situation = pass.situation();
    let step = plan::next_step(&situation);
    tracing::debug!(lease.id = %claim.lease_id, pod = pass.pod_name(), ?step, "step planned");
    let carry_over = plan::facts_stay_valid(&situation, &step);
    let after = pass.execute_step(step).await?;
    if let StepOutcome::Pause(pause) = &after
        && succession::observes_at_pause(situation.served, loaded.lease.phase, pause.retry_policy)
    {
        pass.observe_next_pod().await?;
    }
    let wake = loaded.wake;
    Ok((after, carry_over.then_some(CarriedOver { observed, wake })))
}

/// Records the pause, and returns the time until the lease is due.
async fn finish_reconcile(
    worker: &Worker,
    claim: &Claim,
    loaded: &Loaded,
    pause: &Pause,
    look: &Look,
) -> Result<Duration, Error> {
    let history = refusal_history(loaded, pause);
    let rejections = match history {
        RefusalHistory::Acknowledged { starts_anew: false, .. } => Some(loaded.rejections),
        RefusalHistory::Acknowledged { .. } => Some(0),
        RefusalHistory::Unchanged | RefusalHistory::Ended => None,
    };
    let waits = WaitHistory { reason: loaded.reason.as_deref(), tries: loaded.tries, rejections };
    let tries = waits.tries_for(&pause.reason);
    let delay =
        retry::retry_delay(pause.retry_policy, tries, loaded.now, rand::rng().random_range(JITTER))
            .max(pause.min_wait);
    let finish = Finish {
        wake: loaded.wake,
        retry_in: delay,
        tries,
        reason: &pause.reason,
        message: &pause.message,
        looked_at: look.began_at,
        pod_missing: look.pod_missing,
        history,
    };
    Ok(worker.store.under_claim(claim).finish_claim(&finish).await?)
}

/// What the pause says of refused changes.
fn refusal_history<'a>(loaded: &'a Loaded, pause: &Pause) -> RefusalHistory<'a> {
    match &loaded.rejection {
        Some(rejection) => RefusalHistory::Acknowledged {
            rejection,
            starts_anew: refusals::starts_anew(loaded.refusal.as_ref(), rejection),
        },
        None if refusals::ends_history(pause.retry_policy) => RefusalHistory::Ended,
        None => RefusalHistory::Unchanged,
    }
}
