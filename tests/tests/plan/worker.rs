//! A worker taken apart: what `waygate-worker` does in one go stands here as stages, between which anything may happen.
//!
//! ```text
//! load ─▶ read pod ─▶ read custom resource ─▶ read cloud ─▶ plan ─▶ write … │ send ─▶ hear      (then load again, or finish)
//! ```

use crate::cloud::refused_with;
use crate::cluster::Pod;
use crate::store::{CALL, Claim, FENCE, Loaded, No};
use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use std::collections::VecDeque;
use uuid::Uuid;
use waygate_cloud::{Class, Error};
use waygate_core::change::{Answer, Change};
use waygate_core::ids::{AllocationId, LeaseId};
use waygate_core::lease::{Operation, Outcome, Phase};
use waygate_core::names::TAG_LEASE;
use waygate_core::plan::{self, CloudFacts, Content, EipSources, Patience, PodFact, Reason, ResourceFact, Seen, Situation, Verdict, Wait};
use waygate_core::request::{EipSource, Request};

/// What was read, and the versions that writes are bound to.
pub(crate) struct Scene {
    pub loaded: Loaded,
    pub pod: PodFact,
    pub pod_version: u64,
    pub resource: ResourceFact,
    pub resource_version: u64,
    /// The world's moment at which the cloud was read.
    pub read_at: u64,
    sources: EipSources,
    cloud: CloudFacts,
}

/// One write of several.
pub(crate) enum Write {
    Status(Option<Content>),
    Announce(Option<String>),
    Condition(Verdict),
    Phase(Phase),
}

/// What a task does next.
pub(crate) enum Stage {
    Load,
    ReadPod(Box<Loaded>),
    ReadResource(Box<Scene>),
    ReadCloud(Box<Scene>),
    Plan(Box<Scene>),
    Write(Box<Scene>, VecDeque<Write>),
    Send(Box<Scene>, Operation, Timestamp),
    Hear(Box<Scene>, Operation, Result<Answer, Error>),
}

/// Work on one claimed lease.
pub(crate) struct Task {
    pub claim: Claim,
    pub stage: Stage,
    /// Times it has looked, without ever having to wait.
    looks: u32,
}

/// What came of a stage.
pub(crate) enum After {
    Then(Box<Stage>),
    Pause {
        reason: String,
        patience: Patience,
        at_least: SignedDuration,
    },
    Gone,
    /// The store says no: the lease is left to lapse.
    Dropped,
}

impl After {
    pub(crate) fn then(stage: Stage) -> Self {
        Self::Then(Box::new(stage))
    }
}

impl From<No> for After {
    fn from(_: No) -> Self {
        Self::Dropped
    }
}

/// More steps than any lease takes in one go; more than that never end.
const MOST_LOOKS: u32 = 200;

/// One of several processes.
pub(crate) struct Worker {
    pub owner: Uuid,
    pub task: Option<Task>,
}

impl World {
    /// Does the next stage of a worker, or claims. False: nothing is due.
    pub(crate) fn advance(&mut self, index: usize) -> bool {
        let Some(worker) = self.workers.get_mut(index) else { return false };
        let owner = worker.owner;
        let Some(task) = worker.task.take() else {
            let Some(claim) = self.store.claim(self.now, owner) else { return false };
            self.workers[index].task = Some(Task { claim, stage: Stage::Load, looks: 0 });
            return true;
        };
        let Task { claim, stage, looks } = task;
        let looks = looks + u32::from(matches!(stage, Stage::Load));
        if looks > MOST_LOOKS {
            self.fail(|| format!("lease {} spins", claim.lease_id));
        }
        let (wake, tries, reason) = known(&stage);
        match self.stage(&claim, stage).unwrap_or_else(After::from) {
            After::Then(stage) => self.workers[index].task = Some(Task { claim, stage: *stage, looks }),
            After::Gone | After::Dropped => {}
            After::Pause { reason: now_reason, patience, at_least } => {
                let tries = if reason.as_deref() == Some(now_reason.as_str()) { tries.saturating_add(1) } else { 0 };
                // A claim that was lost meanwhile is somebody else's to finish.
                self.store.finish(self.now, &claim, wake, again(patience, tries).max(at_least), tries, &now_reason).unwrap_or_default();
            }
        }
        true
    }

    fn stage(&mut self, claim: &Claim, stage: Stage) -> Result<After, No> {
        let then = |stage| Ok(After::then(stage));
        match stage {
            Stage::Load => then(Stage::ReadPod(Box::new(self.store.load(self.now, claim)?))),
            Stage::ReadPod(loaded) => {
                let (pod, pod_version) = self.cluster.pod_of(&loaded.lease.pod_name, &loaded.lease.pod_uid, loaded.lease.kind);
                let (resource, cloud) = (ResourceFact::Absent, CloudFacts::default());
                then(Stage::ReadResource(Box::new(Scene {
                    loaded: *loaded,
                    pod,
                    pod_version,
                    resource,
                    resource_version: 0,
                    read_at: 0,
                    sources: EipSources::default(),
                    cloud,
                })))
            }
            Stage::ReadResource(mut scene) => {
                let lease = &scene.loaded.lease;
                scene.sources.holder = self.store.holder_of_given(lease);
                let known = |id: &LeaseId| self.store.rows.contains_key(id);
                (scene.resource, scene.resource_version) = self.cluster.resource_of(&lease.pod_name, lease.kind, lease.id, known);
                then(Stage::ReadCloud(scene))
            }
            Stage::ReadCloud(mut scene) => {
                if self.fault(0.01) {
                    return Ok(pause("CloudUnreachable", Patience::Event));
                }
                scene.read_at = self.moment;
                scene.cloud = self.read_cloud(&scene.loaded, &scene.pod);
                then(Stage::Plan(scene))
            }
            Stage::Plan(scene) => {
                let situation = Situation {
                    owner: self.owner,
                    lease: &scene.loaded.lease,
                    operations: &scene.loaded.operations,
                    pod: &scene.pod,
                    resource: &scene.resource,
                    successor: None,
                    sources: &scene.sources,
                    cloud: &scene.cloud,
                    now: scene.loaded.now,
                };
                let step = plan::next(&situation);
                self.note(|| format!("{} plans {step:?}", situation.lease.id));
                self.planned(&scene.loaded.lease, &scene.pod, &step);
                self.act(claim, scene, &step)
            }
            Stage::Write(scene, writes) => Ok(self.write(claim, scene, writes)),
            Stage::Send(scene, operation, intended) => Ok(self.send(scene, operation, intended)),
            Stage::Hear(scene, operation, answered) => Ok(self.hear(claim, &scene, &operation, answered)),
        }
    }

    fn read_cloud(&mut self, loaded: &Loaded, pod: &PodFact) -> CloudFacts {
        let (now, lease) = (self.now, &loaded.lease);
        let mut facts = CloudFacts::default();
        let named = match (&lease.eip, &lease.request) {
            (Some(eip), _) => Some(eip.allocation_id.clone()),
            (None, Request::Eip(request)) => match &request.source {
                EipSource::Given(id) => Some(id.clone()),
                EipSource::Allocate(_) | EipSource::Pool(_) => None,
            },
            (None, Request::Dnat(_)) => None,
        };
        if let Some(id) = named {
            facts.eip = Seen::from_read(self.cloud.eip(now, &id));
        }
        if loaded.operations.iter().any(|operation| matches!(operation.change, Change::AllocateEipAddress { .. })) {
            facts.tagged = self.cloud.eips_by_tag(now, TAG_LEASE, &lease.id.to_string());
        }
        let ip = if let PodFact::Here(here) = pod { here.ip } else { None };
        if let Some(ip) = ip.filter(|ip| lease.target.as_ref().is_none_or(|target| target.private_ip != *ip)) {
            facts.eni = Seen::from_read(self.cloud.eni(now, ip));
        }
        if let Some(port) = lease.ports.first() {
            facts.entries = self.cloud.entries(now, &port.gateway_id);
            let ours = facts.entries.iter().filter_map(|entry| self.owner.read_entry_name(&entry.name));
            facts.known_leases = ours.map(|name| name.lease).filter(|id| self.store.rows.contains_key(id)).collect();
        }
        facts
    }

    fn write(&mut self, claim: &Claim, mut scene: Box<Scene>, mut writes: VecDeque<Write>) -> After {
        let lease = scene.loaded.lease.clone();
        let (name, kind) = (lease.pod_name.as_str(), lease.kind);
        if !self.store.holds(claim) && matches!(writes.front(), Some(Write::Status(_) | Write::Announce(_) | Write::Condition(_))) {
            self.late_write(&lease);
        }
        let written = match writes.pop_front() {
            None => return After::then(Stage::Load),
            Some(Write::Status(content)) => self.cluster.write_status(name, kind, scene.resource_version, content.as_ref()).is_ok(),
            Some(Write::Announce(value)) => {
                let stands = matches!(&scene.pod, PodFact::Here(here) if here.announced == value);
                stands
                    || self.patch(&mut scene, |pod| {
                        match &value {
                            Some(value) => pod.announced.insert(kind, value.clone()),
                            None => pod.announced.remove(&kind),
                        };
                    })
            }
            Some(Write::Condition(verdict)) => {
                let stands = matches!(&scene.pod, PodFact::Here(here) if here.verdict.as_ref() == Some(&verdict));
                let published = verdict.status && verdict.reason != Reason::NotRequested.as_str();
                let patched = !stands && self.patch(&mut scene, |pod| drop(pod.verdicts.insert(kind, verdict)));
                if patched && published {
                    self.published(name, kind, scene.read_at);
                }
                stands || patched
            }
            Some(Write::Phase(phase)) => return self.store.set_phase(claim, phase).map_or_else(After::from, |()| After::then(Stage::Load)),
        };
        if written { After::then(Stage::Write(scene, writes)) } else { changed() }
    }

    /// Writes to the pod, if it still is as it was read.
    fn patch(&mut self, scene: &mut Scene, change: impl FnOnce(&mut Pod)) -> bool {
        let lease = &scene.loaded.lease;
        let patched = self.cluster.patch_pod(&lease.pod_name, scene.pod_version, change);
        scene.pod_version = patched.unwrap_or(scene.pod_version);
        if patched.is_ok() {
            self.pod_event(&lease.pod_name);
        }
        patched.is_ok()
    }

    pub(crate) fn taken_or(&mut self, scene: &Scene, done: Result<(), No>) -> Result<After, No> {
        let reason = match done {
            Ok(()) => return Ok(After::then(Stage::Load)),
            Err(No::Taken("lease_eip")) => Reason::EipHeld,
            Err(No::Taken("lease_target" | "port_internal")) => Reason::PrivateIpTaken,
            Err(No::Taken("lease_name")) => Reason::ResourceTaken,
            Err(no) => return Err(no),
        };
        Ok(self.waits(scene, Wait { reason, message: "taken".to_owned(), patience: Patience::Poll }))
    }

    pub(crate) fn waits(&mut self, scene: &Scene, wait: Wait) -> After {
        let reason = wait.reason.as_str().to_owned();
        self.tell(scene, wait.patience, Verdict { status: false, reason: reason.clone(), message: wait.message });
        pause(&reason, wait.patience)
    }

    fn tell(&mut self, scene: &Scene, patience: Patience, told: Verdict) {
        let PodFact::Here(here) = &scene.pod else { return };
        let lease = &scene.loaded.lease;
        let lasting = match patience {
            Patience::Poll | Patience::Turn => scene.loaded.reason.as_deref() == Some(&told.reason) || here.verdict.is_none(),
            Patience::Event | Patience::Person => true,
            Patience::Exit | Patience::Idle | Patience::Until(_) => false,
        };
        if here.terminating || here.exited || lease.phase == Phase::Ending || !lasting || here.verdict.as_ref() == Some(&told) {
            return;
        }
        let kind = lease.kind;
        let told = self.cluster.patch_pod(&lease.pod_name, scene.pod_version, |pod| drop(pod.verdicts.insert(kind, told)));
        if told.is_ok() {
            self.pod_event(&lease.pod_name);
        }
    }

    /// Sends once. The faults are those of a network and of a cloud, and a process that was paused for too long finds its deadline past.
    fn send(&mut self, scene: Box<Scene>, operation: Operation, intended: Timestamp) -> After {
        let action = operation.change.action();
        let lost = Err(Error::Deadline { action });
        if self.now >= intended + CALL {
            return After::then(Stage::Hear(scene, operation, lost));
        }
        self.sending(&operation, &scene.loaded.lease);
        let fault = if self.fault(0.12) { self.dice_below(6) } else { usize::MAX };
        let answered = match fault {
            0 => lost,
            1 => {
                let latest = (intended + FENCE).duration_since(self.now).as_millis().saturating_sub(1000);
                let after = self.dice_below(usize::try_from(latest).unwrap_or(0).max(1));
                let arrives = self.now + SignedDuration::from_millis(i64::try_from(after).unwrap_or(0));
                self.note(|| format!("{action} {} is on its way until {arrives}", operation.id));
                self.cloud.change_later(arrives, operation.clone());
                lost
            }
            2 => Err(refused_with(action, 400, "Throttling.User", "too many")),
            3 => Err(refused_with(action, 409, "OperationConflict", "busy")),
            4 => Err(refused_with(action, 500, "InternalError", "oops")),
            _ => {
                let (answered, latency) = self.cloud.change(self.now, &operation);
                self.now += latency;
                self.note(|| format!("{action} {} {}: {answered:?}", operation.id, if fault == 5 { "lost" } else { "answered" }));
                if fault == 5 { lost } else { answered }
            }
        };
        After::then(Stage::Hear(scene, operation, answered))
    }

    /// What `worker/src/call.rs` does with an answer.
    fn hear(&mut self, claim: &Claim, scene: &Scene, operation: &Operation, answered: Result<Answer, Error>) -> After {
        let error = match answered {
            Ok(answer) => {
                self.store.settle(self.now, claim, operation.id, Outcome::Done, Some(&answer), false);
                return After::then(Stage::Load);
            }
            Err(error) => error,
        };
        let takes_eip = matches!(operation.change, Change::ReleaseEipAddress { .. } | Change::UnassociateEipAddress { .. });
        let takes_away =
            takes_eip || matches!(operation.change, Change::DeleteForwardEntry { .. } | Change::RemoveCommonBandwidthPackageIp { .. });
        let earlier = scene.loaded.operations.iter().any(|known| known.id == operation.id);
        let may_still_arrive = earlier && scene.loaded.now <= operation.fence_until;
        let ended = match error.class() {
            Class::NotFound if takes_away => Some((Outcome::Done, takes_eip)),
            Class::Done => Some((Outcome::Done, false)),
            _ if error.is_definite() && !may_still_arrive => Some((Outcome::Refused, false)),
            _ => None,
        };
        if let Some((outcome, eip_gone)) = ended {
            self.store.settle(self.now, claim, operation.id, outcome, None, eip_gone);
            if outcome == Outcome::Done {
                return After::then(Stage::Load);
            }
        }
        let patience = match error.class() {
            Class::Transient | Class::Processing | Class::Conflict | Class::Done | Class::NotFound => Patience::Poll,
            Class::Throttled => Patience::Event,
            Class::Quota | Class::Denied | Class::Permanent => Patience::Person,
        };
        let reason = error.reason().to_owned();
        self.tell(scene, patience, Verdict { status: false, reason: reason.clone(), message: error.to_string() });
        let at_least = if ended.is_none() && error.is_definite() { FENCE } else { SignedDuration::ZERO };
        After::Pause { reason, patience, at_least }
    }
}

/// What the store said when the task last loaded.
fn known(stage: &Stage) -> (u64, i32, Option<String>) {
    let loaded = match stage {
        Stage::Load => return (0, 0, None),
        Stage::ReadPod(loaded) => loaded,
        Stage::ReadResource(scene)
        | Stage::ReadCloud(scene)
        | Stage::Plan(scene)
        | Stage::Write(scene, _)
        | Stage::Send(scene, ..)
        | Stage::Hear(scene, ..) => &scene.loaded,
    };
    (loaded.wake, loaded.tries, loaded.reason.clone())
}

fn pause(reason: &str, patience: Patience) -> After {
    After::Pause { reason: reason.to_owned(), patience, at_least: SignedDuration::ZERO }
}

pub(crate) fn changed() -> After {
    pause("ObjectChanged", Patience::Poll)
}

pub(crate) fn doubtful() -> After {
    pause("Doubtful", Patience::Event)
}

/// The worker's curve, without its jitter.
fn again(patience: Patience, tries: i32) -> SignedDuration {
    let (first, growth, longest) = match patience {
        Patience::Poll => (0.15, 1.5_f64, 3.0),
        Patience::Event => (0.5, 1.7, 10.0),
        Patience::Turn => (1.0, 60.0, 60.0),
        Patience::Person => (2.0, 1.7, 60.0),
        Patience::Exit => (30.0, 1.0, 30.0),
        Patience::Idle | Patience::Until(_) => (300.0, 1.0, 300.0),
    };
    SignedDuration::try_from_secs_f64((first * growth.powi(tries.clamp(0, 30))).min(longest)).unwrap_or_default()
}

/// The EIP of a change that gives it back or modifies it: never one that a pod named.
pub(crate) fn modifies(change: &Change) -> Option<&AllocationId> {
    match change {
        Change::ReleaseEipAddress { allocation_id }
        | Change::ModifyEipAddressAttribute { allocation_id, .. }
        | Change::AddCommonBandwidthPackageIp { allocation_id, .. }
        | Change::RemoveCommonBandwidthPackageIp { allocation_id, .. } => Some(allocation_id),
        Change::AllocateEipAddress { .. }
        | Change::AllocateEipAddressPro { .. }
        | Change::AssociateEipAddress { .. }
        | Change::UnassociateEipAddress { .. }
        | Change::CreateForwardEntry(_)
        | Change::ModifyForwardEntry { .. }
        | Change::DeleteForwardEntry { .. } => None,
    }
}
