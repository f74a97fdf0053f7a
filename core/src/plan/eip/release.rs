//! Release of an EIP: unbound from the pod, and given back to the cloud if it is managed.

use crate::change::Change;
use crate::cloud_facts::{Eip, EipStatus};
use crate::condition::Reason;
use crate::ids::{AllocationId, EniId};
use crate::lease::Target;
use crate::plan::publication::pod_shows_address;
use crate::plan::situation::{CustomResourceState, Lookup, PodView, Situation};
use crate::plan::step::{Step, Withdrawal};
use crate::request::{EipRequest, EipSource, Request};
use crate::retry::RetryPolicy;
use jiff::SignedDuration;

/// Unbinds the EIP from the target and clears the target; none once there is no target.
pub(in crate::plan) fn detach_eip(s: &Situation<'_>) -> Option<Step> {
    let target = s.lease.target.as_ref()?;
    match &s.cloud.eip {
        Lookup::Present(eip) => Some(unbind_target(eip, target).unwrap_or(Step::ClearTarget)),
        // The EIP does not show: the answer to an unbinding decides. A retained EIP must not be
        // forgotten because of an empty list.
        Lookup::Absent | Lookup::NotRead => Some(match &s.lease.eip {
            Some(leased) => request_unassociation(&leased.allocation_id, target),
            None => Step::ClearTarget,
        }),
    }
}

fn request_unassociation(allocation_id: &AllocationId, target: &Target) -> Step {
    Step::QueueEipChange {
        resource: allocation_id.to_string(),
        change: Change::UnassociateEipAddress {
            allocation_id: allocation_id.clone(),
            eni_id: target.eni_id.clone(),
            private_ip: target.private_ip,
        },
    }
}

/// Takes back binding, target and EIP, in this order; none once nothing is left.
pub(in crate::plan) fn plan_eip_release(s: &Situation<'_>) -> Option<Step> {
    let Some(leased) = &s.lease.eip else {
        return s.lease.target.is_some().then_some(Step::ClearTarget);
    };
    let allocation_id = leased.allocation_id.clone();
    let Lookup::Present(eip) = &s.cloud.eip else {
        // The answer to the release and a read after it: no second call for the proof.
        if leased.release_accepted_at.is_some() && matches!(s.cloud.eip, Lookup::Absent) {
            return Some(Step::ForgetEip);
        }
        // Wrong credentials give an empty list, too: only a 404 to a change is proof.
        let change = match (&s.lease.target, leased.managed) {
            (_, true) => Change::ReleaseEipAddress { allocation_id },
            (Some(t), false) => Change::UnassociateEipAddress {
                allocation_id,
                eni_id: t.eni_id.clone(),
                private_ip: t.private_ip,
            },
            (None, false) => return Some(Step::ForgetEip),
        };
        return Some(Step::QueueEipChange { resource: leased.allocation_id.to_string(), change });
    };
    if let Some(target) = &s.lease.target {
        return Some(unbind_target(eip, target).unwrap_or(Step::ClearTarget));
    }
    if !leased.managed {
        return Some(Step::ForgetEip);
    }
    let still_shown = leased
        .release_accepted_at
        .is_some_and(|accepted| s.now.duration_since(accepted) < RELEASE_SHOWS_WITHIN);
    Some(if still_shown { wait_for_release(eip) } else { release_eip(s, eip) })
}

/// Time in which the cloud's reads show an accepted release; after it the release is asked for again.
const RELEASE_SHOWS_WITHIN: SignedDuration = SignedDuration::from_secs(30);

fn wait_for_release(eip: &Eip) -> Step {
    let message = format!("the cloud is releasing EIP {} ({})", eip.allocation_id, eip.ip_address);
    Step::wait_for(Reason::EipChanging, RetryPolicy::Poll, message)
}

/// Gives the EIP up to the younger pod that has preempted this one, in any state of this pod, and
/// never asks for it again.
pub(in crate::plan) fn yield_eip(s: &Situation<'_>, pod: &PodView, winner: &str) -> Step {
    let why = format!(
        "pod {winner}, which is younger and names the same EIP, has taken it over for good; \
         delete this pod, or let it name another EIP"
    );
    if pod_shows_address(s, pod) {
        return Step::Withdraw(Withdrawal {
            status: false,
            reason: Reason::EipPreempted,
            message: why,
        });
    }
    if let Some(step) = detach_eip(s) {
        return step;
    }
    match (&s.lease.eip, s.custom_resource) {
        (Some(_), _) => Step::ForgetEip,
        (None, CustomResourceState::Owned(..) | CustomResourceState::Orphaned) => {
            Step::RemoveCustomResource
        }
        (
            None,
            CustomResourceState::Absent
            | CustomResourceState::OtherLease { .. }
            | CustomResourceState::Foreign { .. },
        ) => Step::wait_for(Reason::EipPreempted, RetryPolicy::Person, why),
    }
}

/// Unbinds a given EIP from a foreign interface, where the configuration allows it: only once,
/// before the lease has had a target. An EIP that is bound back there afterwards stays there.
pub(super) fn unbind_foreign(s: &Situation<'_>, request: &EipRequest, eip: &Eip) -> Option<Step> {
    let (EipSource::Given(_), true, 0) =
        (&request.source, s.sources.preemption_allowed, s.lease.generation)
    else {
        return None;
    };
    let binding = eip.binding.as_ref().filter(|binding| {
        eip.status == EipStatus::InUse && binding.instance_type == "NetworkInterface"
    })?;
    let (eni_id, private_ip) = (EniId::new(binding.instance_id.clone()), binding.private_ip?);
    let change = Change::UnassociateEipAddress {
        allocation_id: eip.allocation_id.clone(),
        eni_id,
        private_ip,
    };
    Some(Step::QueueEipChange { resource: eip.allocation_id.to_string(), change })
}

/// Unbinds the EIP from `target`; none once it is not bound there.
pub(super) fn unbind_target(eip: &Eip, target: &Target) -> Option<Step> {
    match eip.status {
        EipStatus::InUse if eip.is_bound_to(&target.eni_id, target.private_ip, target.primary) => {
            Some(request_unassociation(&eip.allocation_id, target))
        }
        EipStatus::Associating | EipStatus::Unassociating | EipStatus::Other => {
            Some(Step::wait_for(
                Reason::EipChanging,
                RetryPolicy::Poll,
                format!(
                    "waiting until the cloud has finished: EIP {} is {}",
                    eip.ip_address, eip.status
                ),
            ))
        }
        // A binding elsewhere is foreign: unbinding is not Waygate's any more.
        EipStatus::InUse | EipStatus::Available | EipStatus::Releasing => None,
    }
}

/// Gives a managed, unbound EIP back.
fn release_eip(s: &Situation<'_>, eip: &Eip) -> Step {
    let allocation_id = eip.allocation_id.clone();
    let resource = allocation_id.to_string();
    match (eip.status, &eip.bandwidth_package, &s.lease.request) {
        (EipStatus::InUse, ..) => {
            let message = format!(
                "EIP {} ({}) is bound to {}, not by Waygate; unbind it there, and it is released",
                eip.allocation_id,
                eip.ip_address,
                describe_binding(eip)
            );
            Step::wait_for(Reason::EipBoundElsewhere, RetryPolicy::Check, message)
        }
        (
            EipStatus::Associating
            | EipStatus::Unassociating
            | EipStatus::Releasing
            | EipStatus::Other,
            ..,
        ) => Step::wait_for(
            Reason::EipChanging,
            RetryPolicy::Poll,
            format!(
                "waiting until the cloud has finished: EIP {} is {}",
                eip.ip_address, eip.status
            ),
        ),
        // After the expiry the cloud takes the EIP back by itself; a release finds out if it has.
        (EipStatus::Available, _, _)
            if eip.charge_type == "PrePaid" && eip.expires_at.is_none_or(|end| end > s.now) =>
        {
            let message = format!(
                "EIP {} ({}) is PrePaid and stays until it expires; the namespace's next pod that \
                 asks for a PrePaid EIP with the same settings gets it",
                eip.allocation_id, eip.ip_address
            );
            Step::wait_for(Reason::PrePaidNotReleased, RetryPolicy::Check, message)
        }
        (
            EipStatus::Available,
            Some(package_id),
            Request::Eip(EipRequest { source: EipSource::Allocate(spec), .. }),
        ) if spec.bandwidth_package.as_ref() == Some(package_id) => Step::QueueEipChange {
            resource,
            change: Change::RemoveCommonBandwidthPackageIp {
                allocation_id,
                package_id: package_id.clone(),
            },
        },
        (EipStatus::Available, ..) => {
            Step::QueueEipChange { resource, change: Change::ReleaseEipAddress { allocation_id } }
        }
    }
}

/// Describes what the EIP is bound to, for people.
pub(super) fn describe_binding(eip: &Eip) -> String {
    let Some(binding) = &eip.binding else { return "an unnamed resource".to_owned() };
    match binding.private_ip {
        Some(ip) => format!("{} {} ({ip})", binding.instance_type, binding.instance_id),
        None => format!("{} {}", binding.instance_type, binding.instance_id),
    }
}
