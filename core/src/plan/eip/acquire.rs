//! Where a lease's EIP comes from: bought, bought back, named by the pod, taken from a pool.

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

/// No EIP yet.
pub(super) fn obtain(s: &Situation<'_>, pod: &PodHere, request: &EipRequest) -> Step {
    match &request.source {
        EipSource::Allocate(spec) => buy(s, spec),
        EipSource::Given(id) => given(s, pod, id),
        EipSource::Pool(name) => pooled(s, name),
    }
}

/// The one that waits unused if there is one, the one a former pod of the name had if the cloud
/// gives it back, else a new one; with tags that find it again when the answer is lost.
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
                "EIP {id} does not exist in this region or is not visible to this account; check k8s.aliyun.com/pod-eip-instanceid"
            ),
        );
    };
    let Some(holder) = &s.sources.holder else {
        let message = "the EIP was taken for another pod this very moment".to_owned();
        return Step::TakeEip(
            vec![(id.clone(), eip.ip_address)],
            Wait { reason: Reason::EipHeld, message, patience: Patience::Poll },
        );
    };
    let held = |then: &str| format!("the EIP is held by pod {}{then}", holder.pod);
    match holder.standing {
        // Not before it can be bound here: the older pod serves until then.
        Standing::Older if s.sources.takeover && pod.ip.is_some() => Step::TakeOver(id.clone()),
        Standing::Older if s.sources.takeover => Step::wait(
            Reason::EipHeld,
            Patience::Event,
            held("; it is taken over once this pod has an IP"),
        ),
        Standing::Older | Standing::Younger => Step::wait(
            Reason::EipHeld,
            Patience::Event,
            held("; it is bound here once that pod is gone"),
        ),
        Standing::Leaving => {
            Step::wait(Reason::EipHeld, Patience::Poll, held(", which is giving it up"))
        }
    }
}

/// Any EIP of the pool that is free, in an order of the lease's own, so that pods that start
/// together rarely reach for the same one.
fn pooled(s: &Situation<'_>, pool: &str) -> Step {
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
                "no EIP carries the tag waygate.dev/eip-pool: {pool}; tag some in the console, or check the pod's waygate.dev/eip-pool"
            )
        }
        all => format!(
            "all {all} EIPs of pool {pool} are in use; tag more, or wait until others are freed"
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
    // What the cloud shows free may be a pod's that waits for something else before it is bound.
    Step::TakeEip(free, exhausted)
}

/// The EIP does not show. An empty list is what wrong credentials give, too, so nothing is done on
/// one: only one of ours that nobody asked to keep is asked back after three in a row, which proves
/// by a 404 that it is gone, and replaced then.
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
