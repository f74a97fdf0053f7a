//! The gateways' lanes that this process holds: taken where they are free, renewed while they are
//! served, given back at the end.

use super::sender;
use crate::context::Worker;
use crate::errors::chain;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_core::request::Kind;
use waygate_store::Lane;

/// Lanes are renewed three times in their life, as claims are.
const RENEWAL: Duration = Duration::from_secs(4);
/// Between two looks for free lanes: how long a gateway waits when its worker has ended in order.
const LOOK: Duration = Duration::from_secs(1);

/// A lane that is served here.
struct Served {
    lane: Lane,
    token: CancellationToken,
    task: JoinHandle<()>,
}

/// Serves lanes until `token` is cancelled; then what is in flight is finished and the lanes are
/// given back.
pub(crate) async fn run(worker: Arc<Worker>, token: CancellationToken) -> Result<(), Infallible> {
    let mut served: Vec<Served> = Vec::new();
    let mut renewed = Instant::now();
    while !token.is_cancelled() {
        // One whose work has ended is not renewed: it lapses, and is taken again.
        served.retain(|one| !one.task.is_finished());
        if renewed.elapsed() >= RENEWAL && renew(&worker, &served).await {
            renewed = Instant::now();
        }
        take(&worker, &mut served).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = worker.lanes.freed() => {}
            () = token.cancelled() => {}
        }
    }
    for one in &served {
        one.token.cancel();
    }
    for one in served {
        if let Err(error) = one.task.await {
            tracing::error!(gateway.id = %one.lane.gateway_id, error = chain(&error), "gateway sender task panicked");
        }
    }
    if let Err(error) = worker.store.leave_lanes(worker.owner).await {
        tracing::warn!(
            error = chain(&error),
            "the gateways' lanes were not given back; they lapse"
        );
    }
    Ok(())
}

/// Extends the lanes, and ends the work on those that were lost; says whether the store answered.
async fn renew(worker: &Worker, served: &[Served]) -> bool {
    let gateways: Vec<_> = served.iter().map(|one| one.lane.gateway_id.clone()).collect();
    match worker.store.renew_lanes(worker.owner, &gateways).await {
        Ok(held) => {
            served
                .iter()
                .filter(|one| !held.contains(&one.lane))
                .for_each(|one| one.token.cancel());
            true
        }
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "the gateways' lanes were not renewed; if they lapse, somebody else takes over"
            );
            false
        }
    }
}

async fn take(worker: &Arc<Worker>, served: &mut Vec<Served>) {
    // What was queued before forward entries were switched off stays queued.
    if !worker.serves(Kind::Dnat) {
        return;
    }
    let gateways: Vec<_> =
        worker.config.gateways.iter().map(|gateway| gateway.nat_gateway_id.clone()).collect();
    let lanes = match worker.store.take_lanes(worker.owner, &gateways).await {
        Ok(lanes) => lanes,
        Err(error) => {
            return tracing::warn!(error = chain(&error), "free lanes cannot be looked for");
        }
    };
    for lane in lanes {
        tracing::info!(gateway.id = %lane.gateway_id, "the gateway's lane is served from here");
        let queued = worker.lanes.wakeups_of(&lane.gateway_id);
        let token = CancellationToken::new();
        let task =
            tokio::spawn(sender::serve(Arc::clone(worker), lane.clone(), queued, token.clone()));
        served.push(Served { lane, token, task });
    }
}
