//! Takes one step. Decides nothing: what to do stands in the step.

use crate::call::{self, Called};
use crate::errors::Error;
use crate::gather::Gathered;
use crate::worker::Worker;
use crate::{publish, resource, take};
use std::borrow::Cow;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::condition::{Reason, Verdict};
use waygate_core::config::Gateway;
use waygate_core::ids::{NatGatewayId, PodUid, ZoneId};
use waygate_core::lease::{Lease, Phase};
use waygate_core::operation::{Ask, Refused};
use waygate_core::plan::{Asks, EndReason, PodFact, Publication, Step, Wait, Withdrawal};
use waygate_core::request::Request;
use waygate_core::retry::Patience;
use waygate_store::{Bringer, Claim, Effect, Error as StoreError, Loaded, Reserved, Sighting, Writes};

/// What follows a step.
pub(crate) enum After {
    /// The next one.
    Next,
    /// Nothing: the lease is no more.
    Gone,
    /// A pause.
    Pause(Pause),
}

/// Why and how long.
pub(crate) struct Pause {
    /// For programs.
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// When to look again.
    pub patience: Patience,
    /// Not before this has passed.
    pub at_least: Option<Duration>,
}

impl Pause {
    /// Until somebody looks again.
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>, message: String, patience: Patience) -> Self {
        Self { reason: reason.into(), message, patience, at_least: None }
    }

    /// What an error asks for.
    pub(crate) fn of(error: &Error) -> Self {
        Self { at_least: error.retry_after(), ..Self::new(error.reason(), crate::errors::chain(error), error.patience()) }
    }
}

/// Takes the step.
pub(crate) async fn act(worker: &Worker, claim: &Claim, loaded: &Loaded, gathered: &Gathered, step: Step) -> Result<After, Error> {
    let store = &worker.store;
    let lease = &loaded.lease;
    match step {
        Step::Want => store.set_phase(claim, Phase::Wanted).await?,
        Step::Forget => return forget(worker, claim, lease, gathered).await,
        Step::End(why) => end(worker, claim, lease, gathered, why).await?,
        Step::Adjust(request) => store.adjust(claim, &request).await?,
        Step::Part => store.part(claim).await?,
        Step::Keep(seconds) => {
            store.keep(claim, seconds).await?;
            tracing::info!(lease.id = %lease.id, pod = name(lease), ?seconds, "kept for a successor");
        }
        Step::Succeed(successor) => {
            let Ok(uid) = successor.uid.as_str().parse() else { return Err(Error::Changed) };
            let succeeded = store.succeed(claim, uid, &successor.request).await;
            return taken_or(worker, claim, loaded, gathered, succeeded).await;
        }
        Step::ReleaseKept => return release_kept(worker, claim, loaded, gathered).await,
        Step::TakeEip(candidates, or) => {
            if !take::any(worker, claim, &candidates).await? {
                return waits(worker, loaded, gathered, or).await;
            }
        }
        Step::TakeOver(allocation_id) => take::over(worker, claim, lease, &allocation_id).await?,
        Step::TakeSpare(spare) => return take::spare(worker, claim, lease, spare).await,
        Step::ForgetEip => store.forget_eip(claim).await?,
        Step::ReservePorts { zone } => return reserve(worker, claim, loaded, gathered, &zone).await,
        Step::MarkForeign(port) => store.mark_foreign(claim, &port).await?,
        Step::NoteEntry(port, entry) => store.note_entry(claim, &port, &entry).await?,
        Step::Spill => {
            store.spill(claim).await?;
            tracing::info!(lease.id = %lease.id, pod = name(lease), "its gateway is full; what it has there is given back");
        }
        Step::QuietPort(port) => store.quiet_port(claim, &port, worker.quiet).await?,
        Step::SetTarget(target) => {
            let set = store.set_target(claim, &target).await;
            return taken_or(worker, claim, loaded, gathered, set).await;
        }
        Step::ClearTarget => store.clear_target(claim).await?,
        Step::ClaimResource => {
            let claimed = store.set_resource(claim, Writes::Yes).await;
            return taken_or(worker, claim, loaded, gathered, claimed).await;
        }
        Step::YieldResource => store.set_resource(claim, Writes::No).await?,
        Step::Doubt => {
            store.doubt(claim).await?;
            return Ok(doubtful("what was published did not show in one read; the next decides", Patience::Event));
        }
        Step::Change { resource, change } => {
            let called = call::change(worker, claim, loaded, &resource, &change).await?;
            return called_or_told(worker, loaded, gathered, called).await;
        }
        Step::Queue { gateway, asks } => return queue(worker, claim, &gateway, &asks).await,
        Step::Unqueue(id) => store.unqueue(claim, id).await?,
        Step::Requeue(id) => requeue(worker, claim, lease, id).await?,
        Step::Resend(id) => {
            let Some(operation) = loaded.operations.iter().find(|operation| operation.id == id) else { return Err(Error::Changed) };
            let called = call::again(worker, claim, loaded, operation).await?;
            return called_or_told(worker, loaded, gathered, called).await;
        }
        Step::Settle { operation, outcome, answer } => {
            let Some(operation) = loaded.operations.iter().find(|known| known.id == operation) else { return Err(Error::Changed) };
            tracing::info!(lease.id = %lease.id, cloud.action = operation.change.action(), ?outcome, "a read shows how it ended");
            store.settle(Bringer::Claimant(claim), operation, outcome, answer.as_ref(), None, Effect::Plain).await?;
        }
        Step::Miss(operation) => {
            store.miss(claim, operation).await?;
            return Ok(doubtful("an answer was lost and no effect shows; the next read decides", Patience::Event));
        }
        Step::WriteResource(content) => resource::write(worker, lease, &gathered.resource, &content).await?,
        Step::Publish(publication) => publish_all(worker, claim, lease, gathered, &publication).await?,
        Step::Withdraw(withdrawal) => withdraw(worker, claim, lease, gathered, &withdrawal).await?,
        Step::WithdrawLost(withdrawal) => withdraw_lost(worker, claim, lease, gathered, &withdrawal).await?,
        Step::RemoveResource => resource::remove(worker, lease, &gathered.resource).await?,
        Step::Wait(wait) => return waits(worker, loaded, gathered, wait).await,
    }
    Ok(After::Next)
}

/// Only the next read tells.
pub(crate) fn doubtful(message: &str, patience: Patience) -> After {
    After::Pause(Pause::new("Doubtful", message.to_owned(), patience))
}

/// The order in which others look: custom resource status, then annotation (which wakes OpenKruiseGame), then the condition.
async fn publish_all(worker: &Worker, claim: &Claim, lease: &Lease, gathered: &Gathered, publication: &Publication) -> Result<(), Error> {
    let Some(pod) = &gathered.live else { return Err(Error::Changed) };
    resource::show(worker, lease, &gathered.resource, &publication.content).await?;
    let pod = publish::announce(worker, pod, lease.kind, Some(&publication.annotation)).await?;
    let verdict = verdict(true, publication.reason, &publication.message);
    publish::condition(worker, &pod, lease.kind, &verdict).await?;
    worker.store.set_phase(claim, Phase::Held).await?;
    if lease.phase != Phase::Held {
        worker.metrics.published(lease);
        worker.events.normal(&pod, "AddressReady", &publication.message).await;
        tracing::info!(lease.id = %lease.id, pod = name(lease), address = publication.annotation, "published");
    }
    Ok(())
}

/// The same order backwards in time: nobody reads an address that is about to stop working.
async fn withdraw(worker: &Worker, claim: &Claim, lease: &Lease, gathered: &Gathered, withdrawal: &Withdrawal) -> Result<(), Error> {
    resource::clear(worker, lease, &gathered.resource).await?;
    if let (Some(pod), PodFact::Here(here)) = (&gathered.live, &gathered.pod)
        && !here.exited
    {
        let pod = publish::announce(worker, pod, lease.kind, None).await?;
        if !here.terminating {
            publish::condition(worker, &pod, lease.kind, &verdict(withdrawal.status, withdrawal.reason, &withdrawal.message)).await?;
        }
        let reason = withdrawal.reason.as_str();
        match withdrawal.reason {
            Reason::AddressLost => worker.events.warning(&pod, reason, &withdrawal.message).await,
            _ => worker.events.normal(&pod, reason, &withdrawal.message).await,
        }
    }
    if lease.phase == Phase::Held {
        worker.store.set_phase(claim, Phase::Wanted).await?;
    }
    tracing::info!(lease.id = %lease.id, pod = name(lease), reason = withdrawal.reason.as_str(), "withdrawn");
    Ok(())
}

/// Unless that happens to many of the gateway's pods at once: then the next look finds that it is held back.
async fn withdraw_lost(worker: &Worker, claim: &Claim, lease: &Lease, gathered: &Gathered, withdrawal: &Withdrawal) -> Result<(), Error> {
    let Some(port) = lease.ports.first() else { return Err(Error::Changed) };
    if worker.store.lose(claim, &port.gateway_id).await? {
        return withdraw(worker, claim, lease, gathered, withdrawal).await;
    }
    worker.metrics.losses_held(&port.gateway_id);
    tracing::error!(
        gateway.id = %port.gateway_id,
        pod = name(lease),
        "many pods of the NAT gateway lost their forward entries within ten minutes; no more conditions are set to False for now, and the entries are \
         made again where that takes nothing away: look whether somebody has deleted them, and whether the credentials are those of its account"
    );
    Ok(())
}

async fn end(worker: &Worker, claim: &Claim, lease: &Lease, gathered: &Gathered, why: EndReason) -> Result<(), Error> {
    tracing::info!(lease.id = %lease.id, pod = name(lease), ?why, "ending");
    worker.store.set_phase(claim, Phase::Ending).await?;
    // The next lease begins beside the end of this one, which may take long.
    sight_who_asks(worker, lease, gathered).await
}

/// The pod, or the next of its name, has a lease: while this one lived, a sighting only woke it.
pub(crate) async fn sight_who_asks(worker: &Worker, lease: &Lease, gathered: &Gathered) -> Result<(), Error> {
    match (&gathered.pod, &gathered.successor) {
        (PodFact::Here(here), _) => match &here.asks {
            Asks::For(request) if !here.exited && !here.terminating => {
                sight(worker, lease, &lease.pod_uid, lease.controller.as_deref(), request).await
            }
            Asks::For(_) | Asks::Nothing | Asks::Wrong(_) => Ok(()),
        },
        (PodFact::Gone, Some(next)) => sight(worker, lease, &next.uid, next.controller.as_deref(), &next.request).await,
        (PodFact::Gone, None) => Ok(()),
    }
}

async fn release_kept(worker: &Worker, claim: &Claim, loaded: &Loaded, gathered: &Gathered) -> Result<After, Error> {
    if worker.store.release_kept(claim).await? {
        tracing::info!(lease.id = %claim.lease_id, pod = name(&loaded.lease), "released: its custom resource was deleted");
        return Ok(After::Next);
    }
    let message = "many kept custom resources were deleted within ten minutes; this one's is kept until somebody sets waygate.dev/release to \
                   \"true\" on it, or the others are through";
    tracing::warn!(lease.id = %claim.lease_id, pod = name(&loaded.lease), "{message}");
    waits(worker, loaded, gathered, Wait { reason: Reason::ReleaseHeld, message: message.to_owned(), patience: Patience::Person }).await
}

async fn sight(worker: &Worker, lease: &Lease, pod: &PodUid, controller: Option<&str>, request: &Request) -> Result<(), Error> {
    let Ok(pod_uid) = pod.as_str().parse() else { return Ok(()) };
    // When it was made is known from its next event.
    let sighting = Sighting { namespace: &lease.namespace, pod_name: &lease.pod_name, pod_uid, controller, pod_created_at: None, request };
    worker.store.sight(worker.cluster, &sighting).await?;
    worker.due.notify_one();
    Ok(())
}

async fn forget(worker: &Worker, claim: &Claim, lease: &Lease, gathered: &Gathered) -> Result<After, Error> {
    // One of them may have asked after the read that ended this lease and before it was ending.
    sight_who_asks(worker, lease, gathered).await?;
    worker.store.forget(claim).await?;
    tracing::info!(lease.id = %lease.id, pod = name(lease), "nothing is left of it");
    // A successor of the same name may be waiting for this.
    worker.due.notify_one();
    Ok(After::Gone)
}

async fn reserve(worker: &Worker, claim: &Claim, loaded: &Loaded, gathered: &Gathered, zone: &ZoneId) -> Result<After, Error> {
    let Request::Dnat(request) = &loaded.lease.request else { return Err(Error::Changed) };
    let gateways = worker.config.gateways_of(&loaded.lease.namespace);
    let candidates = worker.pool.candidates(&gateways, zone);
    let reserved = match worker.store.reserve_ports(claim, request, &candidates).await {
        Ok(reserved) => reserved,
        // A former pod's entry still forwards to this port of the pod's IP.
        Err(error) => return taken_or(worker, claim, loaded, gathered, Err(error)).await,
    };
    let (reason, message) = match reserved {
        Reserved::Yes => return Ok(After::Next),
        Reserved::NoRoom if candidates.is_empty() => {
            let message =
                format!("none of the pool's NAT gateways is there, takes changes and has an EIP that may be used: {}", listed(&gateways));
            (Reason::GatewayUnavailable, message)
        }
        Reserved::NoRoom => (
            Reason::NoFreePort,
            format!(
                "no EIP of {} has {} free ports ({} looked at); add EIPs or widen the port range, or wait until others are freed",
                listed(&gateways),
                request.ports.len(),
                candidates.iter().map(Vec::len).sum::<usize>(),
            ),
        ),
        Reserved::QuotaFull(full) => {
            // Those of the pool that the lease's ports stand on may be for other namespaces by now.
            let full: Vec<_> = worker.config.gateways.iter().filter(|gateway| full.contains(&gateway.nat_gateway_id)).collect();
            let message = format!(
                "no gateway of the pool has room for the pod's forward entries, and those that have the ports are at their quota ({}); raise it (natgw_quota_dnat_entry_num) or add a gateway, or wait until others are freed",
                listed(&full)
            );
            (Reason::QuotaExceeded, message)
        }
    };
    waits(worker, loaded, gathered, Wait { reason, message, patience: Patience::Event }).await
}

/// Entries of the pool as people are told of them.
fn listed(gateways: &[&Gateway]) -> String {
    gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Hands changes over to the gateway's lane.
async fn queue(worker: &Worker, claim: &Claim, gateway: &NatGatewayId, asks: &[Ask]) -> Result<After, Error> {
    let queued = worker.store.queue(claim, gateway, asks).await?;
    worker.lanes.queued(gateway);
    if queued > 0 {
        return Ok(After::Next);
    }
    let message = "another pod's change of the same forward entry is under way".to_owned();
    Ok(After::Pause(Pause::new(Reason::EntriesPending.as_str(), message, Patience::Poll)))
}

/// Hands one over again.
async fn requeue(worker: &Worker, claim: &Claim, lease: &Lease, id: Uuid) -> Result<(), Error> {
    worker.store.requeue(claim, id).await?;
    if let Some(port) = lease.ports.first() {
        worker.lanes.queued(&port.gateway_id);
    }
    Ok(())
}

/// A former pod's entries still point at this pod's address: what takes them away goes before everything else that waits.
async fn hurry(worker: &Worker, lease: &Lease, gathered: &Gathered) -> Result<(), StoreError> {
    let PodFact::Here(here) = &gathered.pod else { return Ok(()) };
    let Some(ip) = here.ip else { return Ok(()) };
    for gateway in worker.store.hurry(lease.id, ip).await? {
        worker.lanes.queued(&gateway);
    }
    worker.due.notify_one();
    Ok(())
}

/// A unique constraint says that somebody else holds it: wait, and say who.
async fn taken_or(
    worker: &Worker,
    claim: &Claim,
    loaded: &Loaded,
    gathered: &Gathered,
    done: Result<(), StoreError>,
) -> Result<After, Error> {
    let Err(error) = done else { return Ok(After::Next) };
    let (reason, message) = match error.taken() {
        Some(constraint @ ("lease_target" | "port_internal")) => {
            if constraint == "port_internal" {
                hurry(worker, &loaded.lease, gathered).await?;
            }
            (Reason::PrivateIpTaken, "the pod's IP is still bound to a former pod's address, which is being taken from it".to_owned())
        }
        Some("lease_pod") => (Reason::Kept, "the successor has a lease of its own that is ending".to_owned()),
        Some("lease_name") => {
            (Reason::ResourceTaken, "the custom resource of this name is still held by a former pod's address".to_owned())
        }
        _ => return Err(error.into()),
    };
    tracing::debug!(lease.id = %claim.lease_id, reason = reason.as_str(), "taken");
    waits(worker, loaded, gathered, Wait { reason, message, patience: Patience::Poll }).await
}

async fn called_or_told(worker: &Worker, loaded: &Loaded, gathered: &Gathered, called: Called) -> Result<After, Error> {
    let Called::Not { reason, message, patience, at_least } = called else { return Ok(After::Next) };
    let told = Verdict { status: false, reason: reason.to_owned(), message: message.clone() };
    tell(worker, loaded, gathered, patience, &told).await?;
    Ok(After::Pause(Pause { at_least, ..Pause::new(reason, message, patience) }))
}

async fn waits(worker: &Worker, loaded: &Loaded, gathered: &Gathered, wait: Wait) -> Result<After, Error> {
    tell(worker, loaded, gathered, wait.patience, &verdict(false, wait.reason, &wait.message)).await?;
    Ok(After::Pause(Pause::new(wait.reason.as_str(), wait.message, wait.patience)))
}

/// A lane left word that a change was not carried out: the pod is told, and it is tried again after a while.
pub(crate) async fn hear(worker: &Worker, loaded: &Loaded, gathered: &Gathered, refused: &Refused) -> Result<After, Error> {
    let told = Verdict { status: false, reason: refused.reason.clone(), message: refused.message.clone() };
    tell(worker, loaded, gathered, refused.patience, &told).await?;
    let at_least = Some(Duration::from_secs(refused.at_least_seconds.into()));
    Ok(After::Pause(Pause { at_least, ..Pause::new(refused.reason.clone(), refused.message.clone(), refused.patience) }))
}

/// Says in the pod's condition what it waits for. Not to a pod that is terminating (Ready False would end its drain) or has exited, not where
/// all is well, and not of the short waits that are over before anyone has read of them.
async fn tell(worker: &Worker, loaded: &Loaded, gathered: &Gathered, patience: Patience, told: &Verdict) -> Result<(), Error> {
    let (Some(pod), PodFact::Here(here)) = (&gathered.live, &gathered.pod) else { return Ok(()) };
    let lasting = match patience {
        // It is asked for once more; why it was refused is what people want to read.
        Patience::Turn if loaded.refusals > 0 => false,
        Patience::Poll | Patience::Turn => loaded.reason.as_deref() == Some(&told.reason) || here.verdict.is_none(),
        Patience::Event | Patience::Person => true,
        Patience::Exit | Patience::Idle | Patience::Until(_) => false,
    };
    if here.terminating || here.exited || loaded.lease.phase == Phase::Ending || !lasting {
        return Ok(());
    }
    if loaded.lease.phase == Phase::Held || gathered.resource.is_foreign() {
        // Its address works, and something else does not: the pod is told, and stays ready. Only a withdrawal takes its condition back. Or another
        // controller serves it, whose word its condition is.
        if loaded.reason.as_deref() != Some(&told.reason) {
            worker.events.warning(pod, &told.reason, &told.message).await;
        }
        return Ok(());
    }
    let new = here.verdict.as_ref().is_none_or(|verdict| verdict.status || verdict.reason != told.reason);
    publish::condition(worker, pod, loaded.lease.kind, told).await?;
    if new && !patience.is_short() && told.reason != Reason::WaitingForPodIp.as_str() {
        worker.events.warning(pod, &told.reason, &told.message).await;
    }
    Ok(())
}

fn verdict(status: bool, reason: Reason, message: &str) -> Verdict {
    Verdict { status, reason: reason.as_str().to_owned(), message: message.to_owned() }
}

pub(crate) fn name(lease: &Lease) -> String {
    format!("{}/{}", lease.namespace, lease.pod_name)
}
