//! Reconciles claimed leases: load → observe → plan → execute, step by step, until the plan waits.
//!
//! ```text
//! claims ─▶ reconcile ─▶ observe ─▶ plan::next ─▶ execute ─┬▶ allocation, cloud_call, publication
//!              ▲                                           └▶ report (the pod's condition)
//!              └────────────── next step ──────────────────┘
//! ```

mod allocation;
pub(crate) mod claims;
mod cloud_call;
mod execute;
mod observe;
mod outcome;
mod pass;
mod publication;
mod report;

use crate::context::Worker;
use crate::errors::{Error, chain};
use observe::Observed;
use outcome::{After, Pause};
use pass::Pass;
use rand::RngExt as _;
use std::ops::Range;
use waygate_core::plan;
use waygate_core::retry::{self, History, Patience};
use waygate_core::rules::succession;
use waygate_core::rules::timing::CLAIM;
use waygate_store::{Claim, Error as StoreError, Finish, Loaded};

/// Steps of one reconcile. A lease with a hundred ports takes a few hundred; a lease that takes
/// more than this repeats steps without progress.
const MOST_STEPS: usize = 2000;
/// Random factor of a pause: leases that wait for the same event look again up to a fifth sooner or
/// later, so that they do not return all at once.
const SPREAD: Range<f64> = 0.8..1.2;

/// Reconciles one lease until it pauses, is deleted, or another worker holds its claim.
async fn reconcile(worker: &Worker, claim: &Claim) {
    if let Err(error) = run_steps(worker, claim).await {
        match error {
            Error::Store(StoreError::ClaimLost) => {
                tracing::debug!(lease.id = %claim.lease_id, "claim lost to another worker");
            }
            error => tracing::warn!(
                lease.id = %claim.lease_id, error = chain(&error),
                "reconcile failed; the claim will expire and the lease be retried"
            ),
        }
    }
}

async fn run_steps(worker: &Worker, claim: &Claim) -> Result<(), Error> {
    let mut carried: Option<Carried> = None;
    for _ in 0..MOST_STEPS {
        let mut loaded = worker.store.claimed(claim).load(CLAIM).await?;
        if let Some(carried) = &carried {
            loaded.wake = carried.wake;
        }
        let (after, still_stands) = match run_step(worker, claim, &loaded, carried.take()).await {
            Ok(done) => done,
            // Without the store neither a pause nor its reason can be recorded.
            Err(Error::Store(error)) => return Err(error.into()),
            Err(error) => (After::Pause(Pause::from(&error)), None),
        };
        match after {
            After::Next => carried = still_stands,
            After::Gone => return Ok(()),
            After::Pause(pause) => return finish(worker, claim, &loaded, &pause).await,
        }
    }
    tracing::error!(
        lease.id = %claim.lease_id, steps = MOST_STEPS,
        "reconcile exceeded its steps; the claim will expire and the lease be retried"
    );
    Ok(())
}

/// Observation made before the last step that still holds for the next one.
struct Carried {
    observed: Observed,
    /// The lease's wake counter before the observation: a later wake-up is not covered by it and
    /// must not be acknowledged.
    wake: i64,
}

async fn run_step(
    worker: &Worker,
    claim: &Claim,
    loaded: &Loaded,
    carried: Option<Carried>,
) -> Result<(After, Option<Carried>), Error> {
    let observed =
        observe::observe(worker, loaded, carried.map(|carried| carried.observed)).await?;
    let pass = Pass { worker, claim, loaded, observed: &observed };
    let situation = pass.situation();
    let step = plan::next(&situation);
    tracing::debug!(lease.id = %claim.lease_id, pod = pass.pod_name(), ?step, "step");
    let still_stands = plan::still_stands(&situation, &step);
    let after = pass.execute(step).await?;
    if let After::Pause(pause) = &after
        && succession::observes_at_pause(situation.served, loaded.lease.phase, pause.patience)
    {
        pass.observe_next_pod().await?;
    }
    let wake = loaded.wake;
    Ok((after, still_stands.then_some(Carried { observed, wake })))
}

async fn finish(
    worker: &Worker,
    claim: &Claim,
    loaded: &Loaded,
    pause: &Pause,
) -> Result<(), Error> {
    let heard = loaded.refused.as_ref();
    let history = History {
        reason: loaded.reason.as_deref(),
        tries: loaded.tries,
        refusals: heard.map(|_| loaded.refusals),
    };
    let tries = history.tries_for(&pause.reason);
    let again = retry::delay(pause.patience, tries, loaded.now, rand::rng().random_range(SPREAD))
        .max(pause.at_least);
    let finish = Finish {
        wake: loaded.wake,
        again,
        tries,
        reason: &pause.reason,
        message: &pause.message,
        heard,
    };
    worker.store.claimed(claim).finish(&finish).await?;
    if pause.patience == Patience::Poll {
        // A polling lease is due before the claim loop's next look at the store.
        worker.due.notify_one();
    }
    Ok(())
}
