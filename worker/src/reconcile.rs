//! Works on one claimed lease: gather → plan → act, step by step, until there is nothing to do now.

use crate::act::{self, After, Pause};
use crate::errors::{Error, chain};
use crate::gather::{Gathered, gather};
use crate::patience;
use crate::worker::Worker;
use std::time::Duration;
use waygate_core::lease::Phase;
use waygate_core::plan::{self, Situation};
use waygate_core::retry::Patience;
use waygate_store::{Claim, Error as StoreError, Finish, Loaded};

/// How long a claim holds without a sign of life: what a pod waits longer when its worker is killed.
pub(crate) const CLAIM: Duration = Duration::from_secs(15);
/// Steps in one go. A lease with a hundred ports takes a few hundred; more than this spins.
const MOST_STEPS: usize = 2000;

/// Works on a lease until it must wait, is gone, or is somebody else's.
pub(crate) async fn work(worker: &Worker, claim: &Claim) {
    if let Err(error) = steps(worker, claim).await {
        match error {
            Error::Store(StoreError::ClaimLost) => tracing::debug!(lease.id = %claim.lease_id, "the claim was lost"),
            error => tracing::warn!(lease.id = %claim.lease_id, error = chain(&error), "a lease is left to lapse; somebody looks again"),
        }
    }
}

async fn steps(worker: &Worker, claim: &Claim) -> Result<(), Error> {
    let mut known = None;
    for _ in 0..MOST_STEPS {
        let mut loaded = worker.store.load(claim, CLAIM).await?;
        if let Some(Known { heard, .. }) = known {
            loaded.wake = heard;
        }
        let (after, read) = match step(worker, claim, &loaded, known.take()).await {
            Ok(done) => done,
            Err(Error::Store(error)) => return Err(error.into()),
            Err(error) => (After::Pause(Pause::of(&error)), None),
        };
        match after {
            After::Next => known = read,
            After::Gone => return Ok(()),
            After::Pause(pause) => return finish(worker, claim, &loaded, &pause).await,
        }
    }
    tracing::error!(lease.id = %claim.lease_id, steps = MOST_STEPS, "a lease does not come to rest; it is left alone for a while");
    Ok(())
}

/// What was read before the last step and still stands.
struct Known {
    gathered: Gathered,
    /// The news before it was read: what came since is not in it.
    heard: i64,
}

async fn step(worker: &Worker, claim: &Claim, loaded: &Loaded, known: Option<Known>) -> Result<(After, Option<Known>), Error> {
    let gathered = gather(worker, loaded, known.map(|known| known.gathered)).await?;
    let situation = Situation {
        owner: worker.cluster.owner,
        served: worker.serves(loaded.lease.kind),
        lease: &loaded.lease,
        operations: &loaded.operations,
        pod: &gathered.pod,
        resource: &gathered.resource,
        successor: gathered.successor.as_ref(),
        sources: &gathered.sources,
        cloud: &gathered.cloud,
        now: loaded.now,
    };
    if let Some(refused) = loaded.refused.as_ref().filter(|_| situation.served) {
        return Ok((act::hear(worker, loaded, &gathered, refused).await?, None));
    }
    let step = plan::next(&situation);
    tracing::debug!(lease.id = %claim.lease_id, pod = format!("{}/{}", loaded.lease.namespace, loaded.lease.pod_name), ?step, "step");
    let stands = plan::still_stands(&situation, &step);
    let after = act::act(worker, claim, loaded, &gathered, step).await?;
    if let (Phase::Ending, After::Pause(pause)) = (loaded.lease.phase, &after)
        && situation.served
        && !pause.patience.is_short()
    {
        // Its end may take a month, and the next pod of the name may have been seen while it lived.
        act::sight_who_asks(worker, &loaded.lease, &gathered).await?;
    }
    Ok((after, stands.then_some(Known { gathered, heard: loaded.wake })))
}

async fn finish(worker: &Worker, claim: &Claim, loaded: &Loaded, pause: &Pause) -> Result<(), Error> {
    let repeated = loaded.reason.as_deref() == Some(pause.reason.as_ref());
    let tries = match loaded.refused {
        // Between two refusals the change waited in a queue, for another reason.
        Some(_) => loaded.refusals,
        None if repeated => loaded.tries.saturating_add(1),
        None => 0,
    };
    let again = patience::wait(pause.patience, tries, loaded.now).max(pause.at_least.unwrap_or_default());
    let heard = loaded.refused.as_ref();
    let finish = Finish { wake: loaded.wake, again, tries, reason: &pause.reason, message: &pause.message, heard };
    worker.store.finish(claim, &finish).await?;
    if pause.patience == Patience::Poll {
        // The claim loop sleeps until something is due; a poll is due before it would wake by itself.
        worker.due.notify_one();
    }
    Ok(())
}
