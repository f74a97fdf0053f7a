//! Sources of a lease's EIP: allocated, reclaimed, named by the pod, or from a pool.

use crate::change::Change;
use crate::cloud_facts::{Eip, EipStatus};
use crate::condition::Reason;
use crate::ids::AllocationId;
use crate::lease::HolderState;
use crate::lease::LeasedEip;
use crate::ownership::TAG_LEASE;
use crate::plan::situation::{Lookup, PodView, Situation};
use crate::plan::step::{Step, Wait};
use crate::request::{EipRequest, EipSource, EipSpec, Retention};
use crate::retry::RetryPolicy;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Gets an EIP for a lease that has none.
pub(super) fn obtain_eip(s: &Situation<'_>, pod: &PodView, request: &EipRequest) -> Step {
    match &request.source {
        EipSource::Allocate(spec) => allocate_eip(s, spec),
        EipSource::Given(id) => adopt_given_eip(s, pod, id),
        EipSource::Pool(name) => adopt_pool_eip(s, name),
    }
}

/// Uses a reusable prepaid EIP if there is one, reclaims the former address if the cloud still has
/// it, or else allocates a new EIP, whose tags find it again when the answer is lost.
fn allocate_eip(s: &Situation<'_>, spec: &EipSpec) -> Step {
    if let Some(lease) = s.sources.reusable_prepaid {
        return Step::AdoptPrepaidEip(lease);
    }
    let (spec, tags) = (spec.clone(), s.owner.lease_tags(s.lease.id));
    let change = match s.sources.former_address {
        Some(ip_address) => Change::AllocateEipAddressPro { ip_address, spec, tags },
        None => Change::AllocateEipAddress { spec, tags },
    };
    Step::QueueEipChange { resource: format!("lease/{}/eip", s.lease.id), change }
}

fn adopt_given_eip(s: &Situation<'_>, pod: &PodView, id: &AllocationId) -> Step {
    let Lookup::Present(eip) = &s.cloud.eip else {
        return Step::wait_for(
            Reason::EipNotFound,
            RetryPolicy::Event,
            format!(
                "EIP {id} does not exist in this region or is not visible to this account; check \
                 the pod's annotation k8s.aliyun.com/pod-eip-instanceid"
            ),
        );
    };
    let Some(holder) = &s.sources.current_holder else {
        let message = "another pod got the EIP at the same moment; trying again".to_owned();
        return Step::AdoptEip(
            vec![(id.clone(), eip.ip_address)],
            Wait { reason: Reason::EipHeldByAnotherPod, message, retry_policy: RetryPolicy::Poll },
        );
    };
    let holder_text = |then: &str| format!("the EIP is held by pod {}{then}", holder.pod);
    match holder.state {
        // Not before the EIP can be bound here: the older pod is reachable through it until then.
        HolderState::Older if s.sources.preemption_allowed && pod.ip.is_some() => {
            Step::PreemptEip(id.clone())
        }
        HolderState::Older if s.sources.preemption_allowed => Step::wait_for(
            Reason::EipHeldByAnotherPod,
            RetryPolicy::Event,
            holder_text("; it passes to this pod once this pod has an IP"),
        ),
        HolderState::Older | HolderState::Younger => Step::wait_for(
            Reason::EipHeldByAnotherPod,
            RetryPolicy::Event,
            holder_text("; it is bound to this pod once that pod is gone"),
        ),
        HolderState::Releasing => Step::wait_for(
            Reason::EipHeldByAnotherPod,
            RetryPolicy::Poll,
            holder_text(", which is giving it up"),
        ),
    }
}

/// Adopts a free EIP of the pool. Each lease tries them in an order of its own, so that pods that
/// start together rarely try the same one first.
fn adopt_pool_eip(s: &Situation<'_>, pool: &str) -> Step {
    // An EIP with a lease's tag was allocated by Waygate: not the pool's, even with the pool's tag.
    let is_free =
        |eip: &&Eip| eip.status == EipStatus::Available && !eip.tags.contains_key(TAG_LEASE);
    let mut free: Vec<_> = s
        .cloud
        .pool
        .iter()
        .filter(is_free)
        .map(|eip| (eip.allocation_id.clone(), eip.ip_address))
        .collect();
    let message = match s.cloud.pool.len() {
        0 => {
            format!(
                "no EIP carries the tag waygate.dev/eip-pool: {pool}; tag EIPs in the console, or \
                 check the pod's annotation waygate.dev/eip-pool"
            )
        }
        all => format!(
            "all {all} EIPs of pool {pool} are in use; tag more EIPs, or wait until one is freed"
        ),
    };
    let exhausted =
        Wait { reason: Reason::EipPoolExhausted, message, retry_policy: RetryPolicy::Event };
    if free.is_empty() {
        return Step::Wait(exhausted);
    }
    free.sort_by_key(|(id, _)| {
        let mut hasher = DefaultHasher::new();
        (s.lease.id.0, id.as_str()).hash(&mut hasher);
        hasher.finish()
    });
    // An EIP that the cloud shows as free may belong to a lease that has not bound it yet.
    Step::AdoptEip(free, exhausted)
}

/// Handles an EIP that a read does not show. Wrong credentials give an empty list, too, so one read
/// decides nothing. Only a managed EIP without retention is released after three missed reads in a
/// row: the cloud's 404 proves that it is gone, and the lease gets a new one.
pub(super) fn on_missing_eip(s: &Situation<'_>, leased: &LeasedEip, why: String) -> Step {
    const MISSED_READS_BEFORE_RELEASE: i32 = 2;
    let allocation_id = leased.allocation_id.clone();
    if !leased.managed || s.lease.request.retention() != Retention::None {
        return Step::wait_for(Reason::EipNotFound, RetryPolicy::Event, why);
    }
    if s.lease.missed_reads < MISSED_READS_BEFORE_RELEASE {
        return Step::CountMissedRead;
    }
    Step::QueueEipChange {
        resource: allocation_id.to_string(),
        change: Change::ReleaseEipAddress { allocation_id },
    }
}
