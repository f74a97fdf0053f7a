//! Observes a lease: reads its pod, its custom resource and its resources in the cloud. Decides
//! nothing.
//!
//! Invariant: the lease and its operations are loaded first, so every read below begins after the
//! last recorded answer to one of them.

use crate::context::Worker;
use crate::errors::Error;
use crate::objects::absence::none_if_absent;
use crate::objects::{custom_resource, pod};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tokio::time::Instant;
use waygate_cloud::Read;
use waygate_core::cloud_facts::ForwardEntry;
use waygate_core::ids::LeaseId;
use waygate_core::lease::{EipSources, Lease};
use waygate_core::ownership::TAG_LEASE;
use waygate_core::plan::{CloudFacts, CustomResourceState, Lookup, PodState, Successor};
use waygate_core::request::Kind;
use waygate_core::rules::reads;
use waygate_store::Loaded;

/// Everything read for one lease.
pub(crate) struct Observation {
    /// The lease's pod as the API server has it; none when absent.
    pub live: Option<Box<Pod>>,
    /// The same pod in the form that the plan takes.
    pub pod: PodState,
    /// A pod of the same name with another UID that requests the same kind of address.
    pub successor: Option<Successor>,
    /// The custom resource of the pod's name, classified by its owner.
    pub resource: CustomResourceState,
    /// EIPs that the lease may adopt instead of allocating one; empty once it has one.
    pub sources: EipSources,
    /// EIP, interface and forward entries, as far as the lease needs them.
    pub cloud: CloudFacts,
}

/// Observes the lease. Pod, custom resource, EIP and interface are taken from `known`, the
/// observation before the last step, where the plan allows it to be carried over.
pub(crate) async fn observe_lease(
    worker: &Worker,
    loaded: &Loaded,
    known: Option<Observation>,
) -> Result<Observation, Error> {
    let lease = &loaded.lease;
    let found = if lease.eip.is_none() {
        worker.store.eip_sources(lease).await?
    } else {
        EipSources::default()
    };
    let sources = EipSources { preemption_allowed: worker.config.eip.allow_takeover, ..found };
    if let Some(known) = known {
        let cloud = observe_cloud(worker, loaded, &known.pod, known.cloud).await?;
        return Ok(Observation { sources, cloud, ..known });
    }
    let answer = worker.pod_api(&lease.namespace).get(&lease.pod_name).await;
    let named = none_if_absent::<Pod, _>(answer, &lease.pod_name)?.map(Box::new);
    let unnamed = named.is_none();
    // Only a live read by name proves a pod absent: no pod, or one with another UID.
    let (live, other): (Option<_>, Option<_>) = match named {
        Some(pod) if pod.metadata.uid.as_deref() == Some(lease.pod_uid.as_str()) => {
            (Some(pod), None)
        }
        other => (None, other),
    };
    let successor = other.and_then(|pod| pod::read_successor(&worker.config, &pod, lease.kind));
    let pod = match &live {
        Some(pod) => PodState::Present(Box::new(pod::pod_view(&worker.config, pod, lease.kind))),
        None if unnamed => PodState::NotFound,
        None => PodState::Absent,
    };
    let resource = custom_resource::observe_custom_resource(worker, lease).await?;
    let cloud = observe_cloud(worker, loaded, &pod, CloudFacts::default()).await?;
    Ok(Observation { live, pod, successor, resource, sources, cloud })
}

async fn observe_cloud(
    worker: &Worker,
    loaded: &Loaded,
    pod: &PodState,
    known: CloudFacts,
) -> Result<CloudFacts, Error> {
    let lease = &loaded.lease;
    let began = Instant::now();
    let reads = reads::required_reads(lease, &loaded.operations, pod);
    let mut facts = CloudFacts {
        eip: known.eip,
        eni: known.eni,
        gateway: loaded.gateway.clone(),
        ..CloudFacts::default()
    };
    if let (Lookup::NotRead, Some(id)) = (&facts.eip, reads.eip) {
        facts.eip = Lookup::from_read(require_fresh(worker.cloud.eip_by_id(id).await?, began)?);
    }
    if reads.tagged {
        let tag = BTreeMap::from([(TAG_LEASE.to_owned(), lease.id.to_string())]);
        facts.tagged = require_fresh(worker.cloud.eips_by_tags(&tag).await?, began)?;
    }
    if let Some(pool) = reads.pool {
        facts.pool = require_fresh(worker.cloud.eips_of_pool(pool).await?, began)?;
    }
    if let (Lookup::NotRead, Some(ip)) = (&facts.eni, reads.interface) {
        facts.eni =
            Lookup::from_read(require_fresh(worker.cloud.eni_by_private_ip(ip).await?, began)?);
    }
    if let Some(gateway) = reads.entries {
        facts.entries = worker
            .cloud
            .forward_entries_since(gateway, earliest_list_start(loaded, began))
            .await?
            .value;
        let others = other_leases_at(worker, lease, &facts.entries, reads::pod_ip(pod));
        if !others.is_empty() {
            facts.known_leases = worker.store.filter_existing(&others).await?.into_iter().collect();
        }
    }
    debug_assert!(lease.kind == Kind::Dnat || facts.entries.is_empty());
    Ok(facts)
}

/// Other leases of this store whose entries forward to the pod's address.
fn other_leases_at(
    worker: &Worker,
    lease: &Lease,
    entries: &[ForwardEntry],
    ip: Option<Ipv4Addr>,
) -> Vec<LeaseId> {
    let at_pod = entries.iter().filter(|entry| Some(entry.internal_ip) == ip);
    let leases = at_pod
        .filter_map(|entry| worker.cluster.owner.read_entry_name(&entry.name))
        .map(|name| name.lease);
    leases.filter(|other| *other != lease.id).collect()
}

/// Earliest start of a shared list of entries that this lease may use: after the last answer to one
/// of its operations and the last change of its gateway, and no older than the rules allow.
fn earliest_list_start(loaded: &Loaded, began: Instant) -> Instant {
    let age = reads::max_list_age(&loaded.lease, &loaded.operations, loaded.reason.as_deref());
    let age = loaded.since_last_change.map_or(age, |since_change| since_change.min(age));
    began.checked_sub(age).unwrap_or(began)
}

/// Rejects a shared read that began before this observation: it proves nothing about answers
/// recorded since.
fn require_fresh<T>(read: Read<T>, began: Instant) -> Result<T, Error> {
    if read.began >= began { Ok(read.value) } else { Err(Error::Changed) }
}
