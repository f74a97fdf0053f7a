//! Pods that another controller serves: custom resource, condition and annotation are foreign.

use super::served::{PHASES, fates, leases};
use super::{LEASE, NOW, OWNER, POD_IP, PUBLIC_IP, Scene, auto, condition_of, dnat, eni, in_use};
use crate::change::Change;
use crate::condition::Reason;
use crate::ids::{AllocationId, EniId};
use crate::lease::Phase;
use crate::operation::SendState;
use crate::plan::{CustomResourceState, Lookup, PodState, Publication, Step, Wait};
use crate::request::EipSpec;
use crate::retry::RetryPolicy;
use uuid::Uuid;

/// The same scene beside a foreign custom resource, before and after the other controller has
/// published on the pod.
fn beside_another(scene: &Scene) -> [Scene; 2] {
    let unpublished = scene.with(|s| {
        s.resource = CustomResourceState::Foreign { message: "another controller's".to_owned() }
    });
    let published = unpublished.with(|s| {
        if let PodState::Present(pod) = &mut s.pod {
            let publication =
                Publication { annotation: "198.51.100.1".to_owned(), ..publication() };
            (pod.annotation, pod.condition) =
                (Some(publication.annotation.clone()), Some(condition_of(&publication)));
        }
    });
    [unpublished, published]
}

fn publication() -> Publication {
    let Step::Publish(publication) = in_use(auto()).next() else {
        panic!("an EIP that works is published")
    };
    publication
}

/// Changes that give a pod something.
fn giving() -> Vec<Change> {
    let allocation_id = AllocationId::new("eip-1");
    let (spec, tags) = (EipSpec::default(), OWNER.lease_tags(LEASE));
    vec![
        Change::AllocateEipAddress { spec: spec.clone(), tags: tags.clone() },
        Change::AllocateEipAddressPro { ip_address: PUBLIC_IP, spec, tags },
        Change::AssociateEipAddress {
            allocation_id,
            eni_id: EniId::new("eni-1"),
            private_ip: POD_IP,
        },
        Change::CreateForwardEntry(dnat::forward(&dnat::forwarding(&[80]))),
    ]
}

fn gives(change: &Change) -> bool {
    !matches!(
        change,
        Change::UnassociateEipAddress { .. }
            | Change::ReleaseEipAddress { .. }
            | Change::RemoveCommonBandwidthPackageIp { .. }
            | Change::DeleteForwardEntry { .. }
    )
}

/// True if a step gives, takes or points anything, or writes to the pod.
fn touches(step: &Step, scene: &Scene) -> bool {
    let sends = |id: &Uuid| {
        scene.operations.iter().any(|operation| operation.id == *id && gives(&operation.change))
    };
    match step {
        Step::QueueEipChange { change, .. } => gives(change),
        Step::QueueChanges { requests, .. } => {
            requests.iter().any(|request| gives(&request.change))
        }
        Step::Requeue(id) => sends(id),
        Step::AdoptEip(..)
        | Step::PreemptEip(_)
        | Step::AdoptPrepaidEip(_)
        | Step::ReservePorts { .. }
        | Step::SetTarget(_)
        | Step::OwnCustomResource
        | Step::WriteCustomResource(_)
        | Step::RemoveCustomResource
        | Step::Publish(_)
        | Step::Withdraw(_)
        | Step::WithdrawLimited(_) => true,
        _ => false,
    }
}

#[test]
fn beside_a_foreign_custom_resource_nothing_is_made_and_nothing_reported() {
    for scene in leases().iter().flat_map(fates).flat_map(|scene| beside_another(&scene)) {
        for phase in PHASES {
            let scene = scene.with(|s| s.lease.phase = phase);
            assert!(
                !touches(&scene.next(), &scene),
                "{:?} lease in phase {phase:?}: {:?}",
                scene.lease.kind,
                scene.next()
            );
        }
    }
}

#[test]
fn a_living_pods_lease_waits_for_the_other_controllers_custom_resource_to_go() {
    for scene in leases().iter().flat_map(beside_another) {
        for phase in [Phase::Provisioning, Phase::Bound] {
            let step = scene
                .with(|s| (s.lease.phase, s.cloud.eni) = (phase, Lookup::Present(eni())))
                .next();
            let waits = matches!(
                step,
                Step::Wait(Wait {
                    reason: Reason::CustomResourceTaken,
                    retry_policy: RetryPolicy::Person,
                    ..
                })
            );
            assert!(waits, "{:?} lease in phase {phase:?}: {step:?}", scene.lease.kind);
        }
    }
}

const SENT: SendState = SendState::Sent { answer_by: NOW };

#[test]
fn what_was_under_way_when_another_controllers_custom_resource_came_is_not_sent_again() {
    for change in giving() {
        let request = if matches!(change, Change::CreateForwardEntry(_)) {
            dnat::dnat_request(&[80])
        } else {
            auto()
        };
        for scene in beside_another(&Scene::new(request).unresolved(change)) {
            for send_state in [SendState::Queued, SENT, SendState::Unanswered] {
                let scene = scene.with(|s| s.operations[0].send_state = send_state);
                assert!(!touches(&scene.next(), &scene), "{send_state:?}: {:?}", scene.next());
            }
        }
    }
}

#[test]
fn a_former_pods_custom_resource_is_no_other_controllers() {
    let former = |request| {
        Scene::new(request).with(|s| {
            s.resource =
                CustomResourceState::OtherLease { message: "retained for another".to_owned() };
            s.cloud.eni = Lookup::Present(eni());
        })
    };
    assert!(
        matches!(former(auto()).next(), Step::QueueEipChange { .. }),
        "it has its EIP when the former pod lets go"
    );
    assert!(matches!(former(dnat::dnat_request(&[80])).next(), Step::ReservePorts { .. }));
}
