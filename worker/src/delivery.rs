//! One change sent from a lane: sent once, its answer recorded, and word left for its lease where it was refused.

use crate::call::{CALL, FENCE, judged, patience, told, waits_out};
use crate::errors::{Error, chain};
use crate::metrics::CallOutcome;
use crate::worker::Worker;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use waygate_cloud::{Class, Error as CloudError, Turn};
use waygate_core::change::{Answer, Change};
use waygate_core::ids::LeaseId;
use waygate_core::operation::{Outcome, Refused};
use waygate_store::{Bringer, Effect, Error as StoreError, Lane, Taken};

/// How long a gateway that refused an entry for its quota is not asked again.
const FULL: Duration = Duration::from_mins(10);
/// How long the right to modify entries is not asked for again once it was denied.
const DENIED: Duration = Duration::from_hours(1);
/// Where entries must come to rest before anything else, the lane wakes the lease when they have; should that be missed, it looks by itself.
const RESTED: Duration = Duration::from_secs(10);
/// A change that is refused again and again because the gateway is busy has something of its own, and one that finds no permit again and again
/// waits long: from then on its lease hears of it.
const MOST_AGAIN: i32 = 3;

/// Since when the gateway is known to be full; shared with its lane, which then lets no creation go.
pub(crate) type FullSince = Arc<Mutex<Option<Instant>>>;

/// What came of it for the lease.
pub(crate) enum Delivered {
    /// It knows.
    Told,
    /// It looks when the gateway is at rest.
    Rests(LeaseId),
    /// The account's rate left no call in time: nothing was sent, and what comes next would fare no better.
    NoPermit,
}

/// Sends what was taken from a lane's queue, and records what came of it. What cannot be recorded is found out by the lease.
pub(crate) async fn deliver(worker: Arc<Worker>, lane: Lane, turn: Turn, taken: Taken, full: FullSince) -> Delivered {
    let (change, id) = (&taken.operation.change, taken.operation.id.to_string());
    let answered = turn.change(change, Some(&id), CALL).await;
    worker.metrics.calls(change.action(), CallOutcome::of(&answered));
    let recorded = match &answered {
        Ok(answer) => done(&worker, &lane, &taken, answer).await,
        Err(error) => not_done(&worker, &lane, &taken, error, &full).await,
    };
    worker.due.notify_one();
    recorded.unwrap_or_else(|error| {
        tracing::warn!(lease.id = %taken.lease_id, error = chain(&error), "an answer was not recorded; its lease finds out");
        Delivered::Told
    })
}

async fn done(worker: &Worker, lane: &Lane, taken: &Taken, answer: &Answer) -> Result<Delivered, Error> {
    let action = taken.operation.change.action();
    let waited = taken.waited.as_secs_f32();
    tracing::info!(
        gateway.id = %lane.gateway_id, lease.id = %taken.lease_id, cloud.action = action, cloud.request_id = answer.request_id, waited,
        "the cloud did it"
    );
    let rests = worker.cloud.waits_for_rest(&lane.gateway_id);
    let by = Bringer::Lane(if rests { RESTED } else { Duration::ZERO });
    worker.store.settle(by, &taken.operation, Outcome::Done, Some(answer), None, Effect::Plain).await?;
    Ok(if rests { Delivered::Rests(taken.lease_id) } else { Delivered::Told })
}

async fn not_done(worker: &Worker, lane: &Lane, taken: &Taken, error: &CloudError, full: &FullSince) -> Result<Delivered, Error> {
    let (message, operation) = (chain(error), &taken.operation);
    let action = operation.change.action();
    tracing::info!(
        gateway.id = %lane.gateway_id, lease.id = %taken.lease_id, cloud.action = action, error = message, "the cloud did not do it"
    );
    let delivered = if error.lacks_permit() { Delivered::NoPermit } else { Delivered::Told };
    if (error.is_gateway_busy() || error.lacks_permit()) && taken.agains < MOST_AGAIN {
        match worker.store.again(lane, taken, &message).await {
            Err(StoreError::LaneLost) => {}
            done => return Ok(done.map(|()| delivered)?),
        }
    }
    let ended = judged(&operation.change, error, taken.may_still_arrive);
    let waits = ended.is_none() && waits_out(error);
    let learned = learn(worker, lane, &operation.change, error, full).await?;
    if !learned && ended.is_none_or(|(outcome, _)| outcome == Outcome::Refused) {
        worker.store.leave_word(taken.lease_id, &word(error, waits)).await?;
    }
    if let Some((outcome, effect)) = ended {
        worker.store.settle(Bringer::Lane(Duration::ZERO), operation, outcome, None, Some(&message), effect).await?;
        return Ok(delivered);
    }
    if waits {
        worker.store.wait_out(operation.id).await?;
    }
    worker.store.lost(operation.id).await?;
    Ok(delivered)
}

/// What the lease tells its pod, and when it tries again: what `waits` ends once no earlier send of it can arrive.
fn word(error: &CloudError, waits: bool) -> Refused {
    let at_least = if waits { Some(FENCE) } else { error.retry_after() };
    Refused {
        reason: error.reason().to_owned(),
        message: told(error),
        patience: patience(error),
        at_least_seconds: at_least.map_or(0, whole_seconds),
    }
}

/// Not less than that.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Whether the refusal told what the plan can go by: that the gateway is full, or that entries cannot be modified.
async fn learn(worker: &Worker, lane: &Lane, change: &Change, error: &CloudError, full: &FullSince) -> Result<bool, Error> {
    let gateway = &lane.gateway_id;
    match (change, error.class()) {
        (Change::CreateForwardEntry(_), Class::Quota) => {
            *full.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            let standing = worker.cloud.forward_entries(gateway).await?.value.len();
            worker.store.gateway_full(gateway, standing, FULL).await?;
            worker.store.wake_queue(gateway).await?;
            tracing::warn!(gateway.id = %gateway, entries = standing, "the NAT gateway takes no more forward entries; others are used");
            Ok(true)
        }
        (Change::ModifyForwardEntry { .. }, Class::Denied) if error.reason() == "PermissionDenied" => {
            worker.store.modify_denied(gateway, DENIED).await?;
            tracing::warn!("vpc:ModifyForwardEntry is denied; entries of pods that move are deleted and created, which takes longer");
            Ok(true)
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waygate_cloud::Waiting;
    use waygate_core::retry::Patience;

    #[test]
    fn a_lease_without_a_permit_waits_until_one_is_likely() {
        let waiting = Waiting::Permit { retry_after: Some(Duration::from_millis(7_200)) };
        let word = word(&CloudError::NotSent { action: "CreateForwardEntry", waiting }, false);
        assert_eq!((word.reason.as_str(), word.patience, word.at_least_seconds), ("RateLimited", Patience::Event, 8));
    }
}
