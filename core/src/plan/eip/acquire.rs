//! Sources of a lease's EIP: allocated, reclaimed, named by the pod, or from a pool.

use crate::change::Change;
use crate::condition::Reason;
use crate::facts::{Eip, EipStatus};
use crate::ids::AllocationId;
use crate::lease::LeasedEip;
use crate::lease::Standing;
use crate::names::TAG_LEASE;
use crate::plan::situation::{PodHere, Seen, Situation};
use crate::plan::step::{Step, Wait};
use crate::request::{EipRequest, EipSource, EipSpec, Keep};
use crate::retry::Patience;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Gets an EIP for a lease that has none.
pub(super) fn obtain(s: &Situation<'_>, pod: &PodHere, request: &EipRequest) -> Step {
    match &request.source {
        EipSource::Allocate(spec) => buy(s, spec),
        EipSource::Given(id) => given(s, pod, id),
        EipSource::Pool(name) => pooled(s, name),
    }
}

/// Uses a reusable prepaid EIP if there is one, reclaims the former address if the cloud still has
/// it, or else allocates a new EIP, whose tags find it again when the answer is lost.
fn buy(s: &Situation<'_>, spec: &EipSpec) -> Step {
    if let Some(lease) = s.sources.spare {
        return Step::TakeSpare(lease);
    }
    let (spec, tags) = (spec.clone(), s.owner.tags(s.lease.id));
    let change = match s.sources.former {
        Some(ip_address) => Change::AllocateEipAddressPro { ip_address, spec, tags },
        None => Change::AllocateEipAddress { spec, tags },
    };
    Step::Change { resource: format!("lease/{}/eip", s.lease.id), change }
}

fn given(s: &Situation<'_>, pod: &PodHere, id: &AllocationId) -> Step {
    let Seen::There(eip) = &s.cloud.eip else {
        return Step::wait(
            Reason::EipNotFound,
            Patience::Event,
            format!(
                "EIP {id} does not exist in this region or is not visible to this account; check \
                 the pod's annotation k8s.aliyun.com/pod-eip-instanceid"
            ),
        );
    };
    let Some(holder) = &s.sources.holder else {
        let message = "another pod claimed the EIP concurrently; retrying".to_owned();
        return Step::TakeEip(
            vec![(id.clone(), eip.ip_address)],
            Wait { reason: Reason::EipHeld, message, patience: Patience::Poll },
        );
    };
    let held = |then: &str| format!("the EIP is held by pod {}{then}", holder.pod);
    match holder.standing {
        // Not before the EIP can be bound here: the older pod is reachable through it until then.
        Standing::Older if s.sources.takeover && pod.ip.is_some() => Step::TakeOver(id.clone()),
        Standing::Older if s.sources.takeover => Step::wait(
            Reason::EipHeld,
            Patience::Event,
            held("; it passes to this pod once this pod has an IP"),
        ),
        Standing::Older | Standing::Younger => Step::wait(
            Reason::EipHeld,
            Patience::Event,
            held("; it is bound to this pod once that pod is gone"),
        ),
        Standing::Leaving => {
            Step::wait(Reason::EipHeld, Patience::Poll, held(", which is giving it up"))
        }
    }
}

/// Adopts a free EIP of the pool. Each lease tries them in an order of its own, so that pods that
/// start together rarely try the same one first.
fn pooled(s: &Situation<'_>, pool: &str) -> Step {
    // An EIP with a lease's tag was allocated by Waygate: not the pool's, even with the pool's tag.
    let free = |eip: &&Eip| eip.status == EipStatus::Available && !eip.tags.contains_key(TAG_LEASE);
    let mut free: Vec<_> = s
        .cloud
        .pool
        .iter()
        .filter(free)
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
    let exhausted = Wait { reason: Reason::EipPoolExhausted, message, patience: Patience::Event };
    if free.is_empty() {
        return Step::Wait(exhausted);
    }
    free.sort_by_key(|(id, _)| {
        let mut hasher = DefaultHasher::new();
        (s.lease.id.0, id.as_str()).hash(&mut hasher);
        hasher.finish()
    });
    // An EIP that the cloud shows as free may belong to a lease that has not bound it yet.
    Step::TakeEip(free, exhausted)
}

/// Handles an EIP that a read does not show. Wrong credentials give an empty list, too, so one read
/// decides nothing. Only a managed EIP without retention is released after three missed reads in a
/// row: the cloud's 404 proves that it is gone, and the lease gets a new one.
pub(super) fn lost(s: &Situation<'_>, leased: &LeasedEip, why: String) -> Step {
    const ENOUGH: i32 = 2;
    let allocation_id = leased.allocation_id.clone();
    if !leased.ours || s.lease.request.keep() != Keep::Not {
        return Step::wait(Reason::EipNotFound, Patience::Event, why);
    }
    if s.lease.doubts < ENOUGH {
        return Step::Doubt;
    }
    Step::Change {
        resource: allocation_id.to_string(),
        change: Change::ReleaseEipAddress { allocation_id },
    }
}
