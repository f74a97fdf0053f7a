//! Reads what a lease refers to: its pod, its custom resource, its things in the cloud. Decides
//! nothing.
//!
//! The lease and its operations were loaded before: every read below began after the last answer to
//! one of them.

use crate::context::Worker;
use crate::errors::Error;
use crate::objects::{custom_resource, pod};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tokio::time::Instant;
use waygate_cloud::Read;
use waygate_core::facts::ForwardEntry;
use waygate_core::ids::LeaseId;
use waygate_core::lease::{EipSources, Lease};
use waygate_core::names::TAG_LEASE;
use waygate_core::plan::{CloudFacts, PodFact, ResourceFact, Seen, Successor};
use waygate_core::request::Kind;
use waygate_core::rules::reads;
use waygate_store::Loaded;

/// What was read.
pub(crate) struct Observed {
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

/// Reads it all; not again what is `known` from before the last step, where
/// [`waygate_core::plan::still_stands`] says that it serves for the next.
pub(crate) async fn observe(
    worker: &Worker,
    loaded: &Loaded,
    known: Option<Observed>,
) -> Result<Observed, Error> {
    let lease = &loaded.lease;
    let found = if lease.eip.is_none() {
        worker.store.eip_sources(lease).await?
    } else {
        EipSources::default()
    };
    let sources = EipSources { takeover: worker.config.eip.allow_takeover, ..found };
    if let Some(known) = known {
        let cloud = cloud_facts(worker, loaded, &known.pod, known.cloud).await?;
        return Ok(Observed { sources, cloud, ..known });
    }
    let named = worker.pods(&lease.namespace).get_opt(&lease.pod_name).await?.map(Box::new);
    // Its name absent, or standing for another UID, is the only proof that a pod is gone.
    let (live, other): (Option<_>, Option<_>) = match named {
        Some(pod) if pod.metadata.uid.as_deref() == Some(lease.pod_uid.as_str()) => {
            (Some(pod), None)
        }
        other => (None, other),
    };
    let successor = other.and_then(|pod| pod::successor(worker, &pod, lease.kind));
    let pod = match &live {
        Some(pod) => PodFact::Here(Box::new(pod::here(worker, pod, lease.kind))),
        None => PodFact::Gone,
    };
    let resource = custom_resource::read(worker, lease).await?;
    let cloud = cloud_facts(worker, loaded, &pod, CloudFacts::default()).await?;
    Ok(Observed { live, pod, successor, resource, sources, cloud })
}

async fn cloud_facts(
    worker: &Worker,
    loaded: &Loaded,
    pod: &PodFact,
    known: CloudFacts,
) -> Result<CloudFacts, Error> {
    let lease = &loaded.lease;
    let began = Instant::now();
    let reads = reads::needed(lease, &loaded.operations, pod);
    let mut facts = CloudFacts {
        eip: known.eip,
        eni: known.eni,
        gateway: loaded.gateway.clone(),
        ..CloudFacts::default()
    };
    if let (Seen::NotRead, Some(id)) = (&facts.eip, reads.eip) {
        facts.eip = Seen::from_read(fresh(worker.cloud.eip(id).await?, began)?);
    }
    if reads.tagged {
        let tag = BTreeMap::from([(TAG_LEASE.to_owned(), lease.id.to_string())]);
        facts.tagged = fresh(worker.cloud.eips_by_tags(&tag).await?, began)?;
    }
    if let Some(pool) = reads.pool {
        facts.pool = fresh(worker.cloud.eips_of_pool(pool).await?, began)?;
    }
    if let (Seen::NotRead, Some(ip)) = (&facts.eni, reads.interface) {
        facts.eni = Seen::from_read(fresh(worker.cloud.eni_by_private_ip(ip).await?, began)?);
    }
    if let Some(gateway) = reads.entries {
        facts.entries =
            worker.cloud.forward_entries_since(gateway, oldest_list(loaded, began)).await?.value;
        let strangers = other_leases_at(worker, lease, &facts.entries, reads::pod_ip(pod));
        if !strangers.is_empty() {
            facts.known_leases = worker.store.known(&strangers).await?.into_iter().collect();
        }
    }
    debug_assert!(lease.kind == Kind::Dnat || facts.entries.is_empty());
    Ok(facts)
}

/// Other leases whose entries forward to the pod's address.
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

/// From when on a list of entries tells this lease all it must know: after the last answer to an
/// operation of its own and the last news of its gateway, and not too long ago.
fn oldest_list(loaded: &Loaded, began: Instant) -> Instant {
    let age = reads::max_list_age(&loaded.lease, &loaded.operations, loaded.reason.as_deref());
    let age = loaded.stirred_ago.map_or(age, |stirred| stirred.min(age));
    began.checked_sub(age).unwrap_or(began)
}

/// A read that was sent before the lease was loaded proves nothing about what was answered since.
fn fresh<T>(read: Read<T>, loaded: Instant) -> Result<T, Error> {
    if read.began >= loaded { Ok(read.value) } else { Err(Error::Changed) }
}
