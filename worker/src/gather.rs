//! Reads what a lease refers to: its pod, its custom resource, its things in the cloud. Decides nothing.
//!
//! The lease and its operations were loaded before: every read below began after the last answer to one of them.

use crate::errors::Error;
use crate::pods;
use crate::resource;
use crate::worker::Worker;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::Instant;
use waygate_cloud::Read;
use waygate_core::change::Change;
use waygate_core::condition::Reason;
use waygate_core::ids::AllocationId;
use waygate_core::lease::EipSources;
use waygate_core::lease::Lease;
use waygate_core::names::TAG_LEASE;
use waygate_core::operation::Sending;
use waygate_core::plan::{CloudFacts, PodFact, ResourceFact, Seen, Successor};
use waygate_core::request::{EipRequest, EipSource, Kind, Request};
use waygate_store::Loaded;

/// How old a list of entries may be, where it shows what came of the lease's own changes: others' entries are looked out for, and that takes turns
/// at the gateway, which are longer than this.
const RESTING: Duration = Duration::from_secs(10);
/// And for a lease that looks again and again for something to change.
const POLLING: Duration = Duration::from_millis(300);

/// What was read.
pub(crate) struct Gathered {
    /// The pod as the API server has it; none when it is gone.
    pub live: Option<Box<Pod>>,
    /// The same for the plan.
    pub pod: PodFact,
    /// A pod of the same name that is not the lease's.
    pub successor: Option<Successor>,
    /// The custom resource.
    pub resource: ResourceFact,
    /// Where its EIP may come from.
    pub sources: EipSources,
    /// The cloud.
    pub cloud: CloudFacts,
}

/// Reads it all; not again what is `known` from before the last step, where [`waygate_core::plan::still_stands`] says that it serves for the next.
pub(crate) async fn gather(worker: &Worker, loaded: &Loaded, known: Option<Gathered>) -> Result<Gathered, Error> {
    let lease = &loaded.lease;
    let found = if lease.eip.is_none() { worker.store.eip_sources(lease).await? } else { EipSources::default() };
    let sources = EipSources { takeover: worker.config.eip.allow_takeover, ..found };
    if let Some(known) = known {
        let cloud = cloud_facts(worker, loaded, &known.pod, known.cloud).await?;
        return Ok(Gathered { sources, cloud, ..known });
    }
    let named = worker.pods(&lease.namespace).get_opt(&lease.pod_name).await?.map(Box::new);
    // Its name absent, or standing for another UID, is the only proof that a pod is gone.
    let (live, other): (Option<_>, Option<_>) = match named {
        Some(pod) if pod.metadata.uid.as_deref() == Some(lease.pod_uid.as_str()) => (Some(pod), None),
        other => (None, other),
    };
    let successor = other.and_then(|pod| pods::successor(worker, &pod, lease.kind));
    let pod = match &live {
        Some(pod) => PodFact::Here(Box::new(pods::here(worker, pod, lease.kind))),
        None => PodFact::Gone,
    };
    let resource = resource::read(worker, lease).await?;
    let cloud = cloud_facts(worker, loaded, &pod, CloudFacts::default()).await?;
    Ok(Gathered { live, pod, successor, resource, sources, cloud })
}

async fn cloud_facts(worker: &Worker, loaded: &Loaded, pod: &PodFact, known: CloudFacts) -> Result<CloudFacts, Error> {
    let (lease, operations) = (&loaded.lease, &loaded.operations);
    let began = Instant::now();
    let mut facts = CloudFacts { eip: known.eip, eni: known.eni, gateway: loaded.gateway.clone(), ..CloudFacts::default() };
    if let (Seen::NotRead, Some(id)) = (&facts.eip, eip_of(lease)) {
        facts.eip = Seen::from_read(fresh(worker.cloud.eip(id).await?, began)?);
    }
    if operations.iter().any(|operation| allocates(&operation.change)) {
        let tag = BTreeMap::from([(TAG_LEASE.to_owned(), lease.id.to_string())]);
        facts.tagged = fresh(worker.cloud.eips_by_tags(&tag).await?, began)?;
    }
    if let (None, Some(pool)) = (&lease.eip, pool_of(lease)) {
        facts.pool = fresh(worker.cloud.eips_of_pool(pool).await?, began)?;
    }
    let ip = if let PodFact::Here(here) = pod { here.ip } else { None };
    let lacks_eni = |ip: &Ipv4Addr| lease.target.as_ref().is_none_or(|target| target.private_ip != *ip);
    if let (Seen::NotRead, Some(ip)) = (&facts.eni, ip.filter(lacks_eni)) {
        facts.eni = Seen::from_read(fresh(worker.cloud.eni_by_private_ip(ip).await?, began)?);
    }
    if let Some(port) = lease.ports.first() {
        facts.entries = worker.cloud.forward_entries_since(&port.gateway_id, enough(loaded, began)).await?.value;
        let strangers: Vec<_> = facts
            .entries
            .iter()
            .filter(|entry| ip.is_some_and(|ip| entry.internal_ip == ip))
            .filter_map(|entry| worker.cluster.owner.read_entry_name(&entry.name))
            .map(|name| name.lease)
            .filter(|other| *other != lease.id)
            .collect();
        if !strangers.is_empty() {
            facts.known_leases = worker.store.known(&strangers).await?.into_iter().collect();
        }
    }
    debug_assert!(lease.kind == Kind::Dnat || facts.entries.is_empty());
    Ok(facts)
}

/// From when on a list of entries tells this lease all it must know: after the last answer to an operation of its own and the last
/// news of its gateway, and not too long ago.
/// Lists are long, and leases at a busy gateway many: they share what is not worth a call of its own.
fn enough(loaded: &Loaded, began: Instant) -> Instant {
    let queued = loaded.operations.iter().all(|operation| operation.sending == Sending::Queued);
    let polls = [Reason::EntriesPending, Reason::PortForwardedElsewhere].map(Reason::as_str).map(Some).contains(&loaded.reason.as_deref());
    let age = match loaded.lease.doubts {
        0 if queued && polls => POLLING,
        0 if queued => RESTING,
        // Where an answer was lost or a read was doubted, the next read decides.
        _ => Duration::ZERO,
    };
    let age = loaded.stirred_ago.map_or(age, |stirred| stirred.min(age));
    began.checked_sub(age).unwrap_or(began)
}

/// The EIP the lease has, or the one its pod names.
fn eip_of(lease: &Lease) -> Option<&AllocationId> {
    if let Some(leased) = &lease.eip {
        return Some(&leased.allocation_id);
    }
    match &lease.request {
        Request::Eip(request) => match &request.source {
            EipSource::Given(id) => Some(id),
            EipSource::Allocate(_) | EipSource::Pool(_) => None,
        },
        Request::Dnat(_) => None,
    }
}

/// The pool its pod takes an EIP from.
fn pool_of(lease: &Lease) -> Option<&str> {
    match &lease.request {
        Request::Eip(EipRequest { source: EipSource::Pool(pool), .. }) => Some(pool),
        Request::Eip(_) | Request::Dnat(_) => None,
    }
}

fn allocates(change: &Change) -> bool {
    matches!(change, Change::AllocateEipAddress { .. } | Change::AllocateEipAddressPro { .. })
}

/// A read that was sent before the lease was loaded proves nothing about what was answered since.
fn fresh<T>(read: Read<T>, loaded: Instant) -> Result<T, Error> {
    if read.began >= loaded { Ok(read.value) } else { Err(Error::Changed) }
}
