//! Tests of the plan, one decision each: a scene with all facts, and the step that follows.

mod dnat;
mod eip;
mod faults;
mod foreign;
mod operations;
mod queue;
mod refusals;
mod releasing;
mod retention;
mod served;
mod sources;

use super::{
    CloudFacts, CustomResourceObject, CustomResourceState, Deletion, Desired, EndReason, PodState,
    PodView, Publication, Situation, Step, Successor, Wait, next_step,
};
use crate::change::Change;
use crate::cloud_facts::{Eip, EipBinding, EipStatus, Eni};
use crate::condition::{ConditionState, Reason};
use crate::ids::{AllocationId, EniId, LeaseId, PodUid, VSwitchId, VpcId, ZoneId};
use crate::lease::EipSources;
use crate::lease::{Lease, LeasedEip, Phase, Target};
use crate::operation::{Operation, Refusal, SendState};
use crate::ownership::Owner;
use crate::plan::{CustomResourceContent, Lookup};
use crate::request::{EipRequest, EipSource, EipSpec, Kind, ReleaseStrategy, Request};
use crate::resources::{POD_UID_ANNOTATION, PodDNAT, PodEIP};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use uuid::Uuid;

const POD_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const FORMER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
const PUBLIC_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const LEASE: LeaseId = LeaseId(Uuid::from_u128(1));
const OWNER: Owner = Owner { store: Uuid::from_u128(2), cluster: Uuid::from_u128(3) };
const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// All facts about a lease.
#[derive(Clone)]
struct Scene {
    served: bool,
    lease: Lease,
    operations: Vec<Operation>,
    refusal: Option<Box<Refusal>>,
    pod: PodState,
    resource: CustomResourceState,
    successor: Option<Successor>,
    sources: EipSources,
    cloud: CloudFacts,
}

impl Scene {
    /// A new lease of a running pod, with that pod's request.
    fn new(request: Request) -> Self {
        let lease = Lease {
            id: LEASE,
            kind: request.kind(),
            namespace: "ns".to_owned(),
            pod_name: "pod".to_owned(),
            pod_uid: PodUid::new("uid"),
            controller: None,
            request: request.clone(),
            phase: Phase::Provisioning,
            eip: None,
            ports: Vec::new(),
            target: None,
            generation: 0,
            owns_custom_resource: false,
            missed_reads: 0,
            vacating: false,
            was_published: false,
            preempted_by: None,
            handover_since: None,
            pod_missing_since: None,
            created_at: NOW,
            retained_until: None,
        };
        let here = PodView {
            ip: Some(POD_IP),
            node: Some("node".to_owned()),
            exited: false,
            terminating: false,
            has_gate: true,
            desired: Desired::Request(Box::new(request)),
            condition: None,
            annotation: None,
        };
        let pod = PodState::Present(Box::new(here));
        let (resource, cloud) = (CustomResourceState::Absent, CloudFacts::default());
        Self {
            served: true,
            lease,
            operations: Vec::new(),
            refusal: None,
            pod,
            resource,
            successor: None,
            sources: EipSources::default(),
            cloud,
        }
    }

    fn next(&self) -> Step {
        self.next_at(NOW)
    }

    fn next_at(&self, now: Timestamp) -> Step {
        next_step(&Situation {
            owner: OWNER,
            served: self.served,
            lease: &self.lease,
            operations: &self.operations,
            rejection: None,
            refusal: self.refusal.as_deref(),
            pod: &self.pod,
            custom_resource: &self.resource,
            successor: self.successor.as_ref(),
            sources: &self.sources,
            cloud: &self.cloud,
            now,
        })
    }

    /// A copy of the scene after `change`.
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut scene = self.clone();
        change(&mut scene);
        scene
    }

    fn pod(&mut self) -> &mut PodView {
        match &mut self.pod {
            PodState::Present(pod) => pod,
            PodState::Absent | PodState::NotFound => panic!("the pod is gone"),
        }
    }

    /// The scene with an operation whose answer was lost, a minute before its fence.
    fn unresolved(&self, change: Change) -> Self {
        let operation = Operation {
            id: Uuid::from_u128(9),
            resource: "r".to_owned(),
            change,
            send_state: SendState::Unanswered,
            sends: 1,
            fence_until: NOW + SignedDuration::from_mins(1),
            reads_without_effect: 0,
            awaits_fence: false,
        };
        self.with(|s| s.operations = vec![operation])
    }

    /// The scene after the planned publication: custom resource, annotation, condition and phase.
    fn published(&self) -> Self {
        let Step::Publish(publication) = self.next() else {
            panic!("nothing to publish: {:?}", self.next())
        };
        self.with(|s| {
            s.resource = resource(&publication.content);
            s.pod().annotation = Some(publication.annotation.clone());
            s.pod().condition = Some(condition_of(&publication));
            s.lease.phase = Phase::Bound;
        })
    }
}

fn condition_of(publication: &Publication) -> ConditionState {
    ConditionState {
        status: true,
        reason: publication.reason.as_str().to_owned(),
        message: publication.message.clone(),
    }
}

/// Owned custom resource with this content.
fn resource(content: &CustomResourceContent) -> CustomResourceState {
    let annotations = Some([(POD_UID_ANNOTATION.to_owned(), "uid".to_owned())].into());
    let object = match content {
        CustomResourceContent::Eip { spec, status } => {
            let mut object = PodEIP::new("pod", spec.clone());
            (object.metadata.annotations, object.status) =
                (annotations, status.as_deref().cloned());
            CustomResourceObject::Eip(Box::new(object))
        }
        CustomResourceContent::Dnat { spec, status } => {
            let mut object = PodDNAT::new("pod", (**spec).clone());
            (object.metadata.annotations, object.status) = (annotations, status.clone());
            CustomResourceObject::Dnat(Box::new(object))
        }
    };
    CustomResourceState::Owned(object, Deletion::None)
}

fn auto() -> Request {
    Request::Eip(EipRequest {
        source: EipSource::Allocate(EipSpec::default()),
        release: ReleaseStrategy::Follow,
    })
}

fn given() -> Request {
    Request::Eip(EipRequest {
        source: EipSource::Given(AllocationId::new("eip-1")),
        release: ReleaseStrategy::Follow,
    })
}

fn target(private_ip: Ipv4Addr) -> Target {
    Target {
        eni_id: EniId::new("eni-1"),
        vswitch_id: VSwitchId::new("vsw-1"),
        zone_id: ZoneId::new("z-1"),
        vpc_id: VpcId::new("vpc-1"),
        private_ip,
        primary: false,
    }
}

fn eni() -> Eni {
    Eni {
        eni_id: EniId::new("eni-1"),
        vswitch_id: VSwitchId::new("vsw-1"),
        zone_id: ZoneId::new("z-1"),
        vpc_id: VpcId::new("vpc-1"),
        primary_ip: Ipv4Addr::new(10, 0, 0, 1),
        associated: BTreeMap::new(),
    }
}

/// EIP of the lease, as the cloud shows it.
fn eip(status: EipStatus, bound_to: Option<Ipv4Addr>) -> Eip {
    Eip {
        allocation_id: AllocationId::new("eip-1"),
        ip_address: PUBLIC_IP,
        status,
        binding: bound_to.map(|ip| EipBinding {
            instance_type: "NetworkInterface".to_owned(),
            instance_id: "eni-1".to_owned(),
            private_ip: Some(ip),
        }),
        bandwidth_package: None,
        bandwidth: 5,
        internet_charge_type: "PayByTraffic".to_owned(),
        charge_type: "PostPaid".to_owned(),
        expires_at: None,
        isp: "BGP".to_owned(),
        resource_group_id: String::new(),
        name: String::new(),
        description: String::new(),
        public_ip_address_pool_id: String::new(),
        tags: BTreeMap::new(),
    }
}

/// A pod whose EIP is allocated (or given), targeted at the pod and shown by the cloud as `shown`;
/// the custom resource is written.
fn bound(request: Request, shown: Eip) -> Scene {
    let mut scene = Scene::new(request);
    let managed = matches!(
        &scene.lease.request,
        Request::Eip(EipRequest { source: EipSource::Allocate(_), .. })
    );
    scene.lease.eip = Some(LeasedEip {
        allocation_id: AllocationId::new("eip-1"),
        ip_address: PUBLIC_IP,
        managed,
        release_accepted_at: None,
    });
    scene.lease.target = Some(target(POD_IP));
    (scene.lease.generation, scene.lease.owns_custom_resource) = (1, true);
    scene.cloud.eip = Lookup::Present(shown);
    let Step::WriteCustomResource(content) = scene.next() else { panic!("{:?}", scene.next()) };
    scene.resource = resource(&content);
    scene
}

/// A pod whose EIP works, not published yet.
fn in_use(request: Request) -> Scene {
    bound(request, eip(EipStatus::InUse, Some(POD_IP)))
}

/// Reason of a wait; none for other steps.
fn waits(step: &Step) -> Option<Reason> {
    if let Step::Wait(Wait { reason, .. }) = step { Some(*reason) } else { None }
}

/// API action of the first change; none for other steps.
fn action(step: &Step) -> Option<&'static str> {
    match step {
        Step::QueueEipChange { change, .. } => Some(change.action()),
        Step::QueueChanges { requests, .. } => {
            requests.first().map(|request| request.change.action())
        }
        _ => None,
    }
}

#[test]
fn an_announcement_waits_for_its_pod_and_is_released_before_its_row_is_deleted() {
    let scene = Scene::new(auto()).with(|s| s.lease.phase = Phase::Announced);
    assert_eq!(scene.next(), Step::StartProvisioning);
    let gone = scene.with(|s| s.pod = PodState::Absent);
    assert_eq!(
        gone.next(),
        Step::BeginRelease(EndReason::PodGone),
        "the next pod of its name may count on it"
    );
    assert_eq!(gone.with(|s| s.lease.phase = Phase::Releasing).next(), Step::DeleteLease);
}

#[test]
fn a_pod_that_is_terminating_is_given_nothing_new() {
    for (request, kind) in
        [(auto(), Kind::Eip), (given(), Kind::Eip), (dnat::dnat_request(&[80]), Kind::Dnat)]
    {
        let scene = Scene::new(request).with(|s| s.pod().terminating = true);
        assert_eq!((waits(&scene.next()), scene.lease.kind), (Some(Reason::PodTerminating), kind));
    }
    // The pod keeps what it has, also while the cloud does not show it: Ready False would end its
    // drain.
    let scene = in_use(auto()).published().with(|s| {
        s.pod().terminating = true;
        s.cloud.eip = Lookup::Absent;
    });
    assert_eq!(waits(&scene.next()), Some(Reason::PodTerminating));
}
