//! The worker in stages, between which any event may happen; `waygate-worker` runs them in one go.
//!
//! ```text
//! load ─▶ read pod ─▶ read custom resource ─▶ read cloud ─▶ plan ─▶ write … │ send ─▶ hear      (then load again, or finish)
//!                                                 ▲           │
//!                                               reload ◀── wrote to the store only
//! ```
//!
//! Beside its lease a worker serves gateways as their gateway sender, in a module of its own.

use crate::cluster::Pod;
use crate::lane::Lanes;
use crate::store::{Claim, Finish, Loaded, No};
use crate::world::World;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;
use uuid::Uuid;
use waygate_cloud::Error;
use waygate_core::change::Answer;
use waygate_core::condition::{Reason, Verdict};
use waygate_core::facts::ForwardEntry;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::lease::EipSources;
use waygate_core::names::{TAG_LEASE, TAG_POOL};
use waygate_core::operation::{Operation, Refused};
use waygate_core::plan::{
    self, CloudFacts, PodFact, ResourceFact, Seen, Situation, Successor, Wait,
};
use waygate_core::retry::{self, History, Patience};
use waygate_core::rules::publishing::Write;
use waygate_core::rules::report::{self, Before, Report};
use waygate_core::rules::{conflict, reads, succession};

/// State read for the plan, and the versions that writes are bound to.
#[derive(Clone)]
pub(crate) struct Scene {
    pub loaded: Loaded,
    pub pod: PodFact,
    pub pod_version: u64,
    pub successor: Option<Successor>,
    pub resource: ResourceFact,
    pub resource_version: u64,
    sources: EipSources,
    /// The world's moment at which the cloud was read.
    pub read_at: u64,
    cloud: CloudFacts,
}

/// Next action of a task.
pub(crate) enum Stage {
    Load,
    Reload(Box<Scene>),
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

/// Result of a stage.
pub(crate) enum After {
    Then(Box<Stage>),
    Pause {
        reason: String,
        patience: Patience,
        at_least: Duration,
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

/// A list of a gateway's entries that others may do with.
#[derive(Clone)]
pub(crate) struct List {
    at: Timestamp,
    moment: u64,
    entries: Vec<ForwardEntry>,
}

/// More steps than any lease takes in one go; more than that never end.
const MOST_LOOKS: u32 = 200;

/// A worker process.
pub(crate) struct Worker {
    /// Index of the cluster whose pods it serves.
    pub cluster: usize,
    pub owner: Uuid,
    pub task: Option<Task>,
    pub lanes: Lanes,
}

impl World {
    /// Does the next stage of a worker's lease or of one of its gateway senders. False if nothing
    /// is due.
    pub(crate) fn advance(&mut self, index: usize) -> bool {
        let lanes_first = self.chance(0.4);
        (lanes_first && self.serve(index))
            || self.work(index)
            || (!lanes_first && self.serve(index))
    }

    fn work(&mut self, index: usize) -> bool {
        let Some(worker) = self.workers.get_mut(index) else { return false };
        let (owner, cluster) = (worker.owner, worker.cluster);
        let Some(task) = worker.task.take() else {
            let Some(claim) = self.store.claim(self.now, cluster, owner) else { return false };
            self.workers[index].task = Some(Task { claim, stage: Stage::Load, looks: 0 });
            return true;
        };
        let Task { claim, stage, looks } = task;
        let looks = looks + u32::from(matches!(stage, Stage::Load | Stage::Reload(_)));
        if looks > MOST_LOOKS {
            self.fail(|| format!("lease {} spins", claim.lease_id));
        }
        let known = Known::of(&stage);
        match self.stage(&claim, stage).unwrap_or_else(After::from) {
            After::Then(stage) => {
                self.workers[index].task = Some(Task { claim, stage: *stage, looks });
            }
            After::Gone | After::Dropped => {}
            After::Pause { reason, patience, at_least } => {
                let refusals = known.refused.as_ref().map(|_| known.refusals);
                let history =
                    History { reason: known.reason.as_deref(), tries: known.tries, refusals };
                let tries = history.tries_for(&reason);
                let again = retry::delay(patience, tries, self.now, 1.0).max(at_least);
                let finish =
                    Finish { wake: known.wake, again, tries, reason, heard: known.refused };
                // Another worker finishes a claim that was lost meanwhile.
                self.store.finish(self.now, &claim, finish).unwrap_or_default();
            }
        }
        true
    }

    fn stage(&mut self, claim: &Claim, stage: Stage) -> Result<After, No> {
        let then = |stage| Ok(After::then(stage));
        match stage {
            Stage::Load => then(Stage::ReadPod(Box::new(self.store.load(self.now, claim)?))),
            Stage::Reload(mut scene) => {
                let heard = scene.loaded.wake;
                scene.loaded = self.store.load(self.now, claim)?;
                scene.loaded.wake = heard;
                scene.sources = self.sources(&scene.loaded);
                then(Stage::ReadCloud(scene))
            }
            Stage::ReadPod(loaded) => {
                let cluster = &self.clusters[claim.cluster];
                let (pod, pod_version) = cluster.pod_of(
                    &loaded.lease.pod_name,
                    &loaded.lease.pod_uid,
                    loaded.lease.kind,
                );
                let successor = cluster.successor_of(&loaded.lease);
                let (resource, cloud) = (ResourceFact::Absent, CloudFacts::default());
                then(Stage::ReadResource(Box::new(Scene {
                    loaded: *loaded,
                    pod,
                    pod_version,
                    successor,
                    resource,
                    resource_version: 0,
                    sources: EipSources::default(),
                    read_at: u64::MAX,
                    cloud,
                })))
            }
            Stage::ReadResource(mut scene) => {
                scene.sources = self.sources(&scene.loaded);
                let lease = &scene.loaded.lease;
                let known = |id: &LeaseId| self.store.rows.contains_key(id);
                (scene.resource, scene.resource_version) =
                    self.clusters[claim.cluster].resource_of(lease, known);
                then(Stage::ReadCloud(scene))
            }
            Stage::ReadCloud(mut scene) => {
                if self.fault(0.01) {
                    return Ok(pause("CloudUnreachable", Patience::Event));
                }
                let (cloud, read_at) = self.read_cloud(
                    claim.cluster,
                    &scene.loaded,
                    &scene.pod,
                    std::mem::take(&mut scene.cloud),
                );
                (scene.cloud, scene.read_at) = (cloud, scene.read_at.min(read_at));
                if self.is_blind() {
                    scene.cloud.entries.clear();
                    scene.cloud.tagged.clear();
                    scene.cloud.pool.clear();
                    scene.cloud.eip = Seen::from_read(None);
                }
                then(Stage::Plan(scene))
            }
            Stage::Plan(scene) => self.plan(claim, scene),
            Stage::Write(scene, writes) => Ok(self.write(claim, scene, writes)),
            Stage::Send(scene, operation, intended) => {
                Ok(self.send(claim, scene, operation, intended))
            }
            Stage::Hear(scene, operation, answered) => {
                Ok(self.hear(claim, &scene, &operation, answered))
            }
        }
    }

    fn plan(&mut self, claim: &Claim, scene: Box<Scene>) -> Result<After, No> {
        let situation = Situation {
            owner: self.owners[claim.cluster],
            // The model switches no kind of address off.
            served: true,
            lease: &scene.loaded.lease,
            operations: &scene.loaded.operations,
            rejection: scene.loaded.refused.as_ref(),
            pod: &scene.pod,
            resource: &scene.resource,
            successor: scene.successor.as_ref(),
            sources: &scene.sources,
            cloud: &scene.cloud,
            now: scene.loaded.now,
        };
        let step = plan::next(&situation);
        self.note(|| format!("{} plans {step:?}", situation.lease.id));
        self.planned(claim, &scene, &step);
        let stands = plan::still_stands(&situation, &step).then(|| scene.clone());
        let (phase, before) = (scene.loaded.lease.phase, scene.clone());
        let after = self.act(claim, scene, &step)?;
        if let After::Pause { patience, .. } = &after
            && succession::observes_at_pause(true, phase, *patience)
        {
            self.sight_who_asks(claim, &before);
        }
        match (after, stands) {
            (After::Then(stage), Some(scene)) if matches!(*stage, Stage::Load) => {
                Ok(After::then(Stage::Reload(scene)))
            }
            (after, _) => Ok(after),
        }
    }

    fn sources(&self, loaded: &Loaded) -> EipSources {
        EipSources { takeover: self.takeover, ..self.store.eip_sources(self.now, &loaded.lease) }
    }

    /// Reads the cloud; returns the state, and the moment of its oldest part.
    fn read_cloud(
        &mut self,
        cluster: usize,
        loaded: &Loaded,
        pod: &PodFact,
        known: CloudFacts,
    ) -> (CloudFacts, u64) {
        let (now, mut moment, lease) = (self.now, self.moment, &loaded.lease);
        let mut facts = CloudFacts {
            eip: known.eip,
            eni: known.eni,
            gateway: loaded.gateway.clone(),
            ..CloudFacts::default()
        };
        let reads = reads::needed(lease, &loaded.operations, pod);
        if let Some(pool) = reads.pool {
            facts.pool = self.cloud.eips_by_tag(now, TAG_POOL, pool);
        }
        if let (Seen::NotRead, Some(id)) = (&facts.eip, reads.eip) {
            facts.eip = Seen::from_read(self.cloud.eip(now, id));
        }
        if reads.tagged {
            facts.tagged = self.cloud.eips_by_tag(now, TAG_LEASE, &lease.id.to_string());
        }
        if let (Seen::NotRead, Some(ip)) = (&facts.eni, reads.interface) {
            facts.eni = Seen::from_read(self.cloud.eni(now, ip));
        }
        if let Some(gateway) = reads.entries {
            (facts.entries, moment) = self.list_entries(gateway, loaded);
            let at_it =
                facts.entries.iter().filter(|entry| reads::pod_ip(pod) == Some(entry.internal_ip));
            let ours = at_it
                .filter_map(|entry| self.owners[cluster].read_entry_name(&entry.name))
                .map(|name| name.lease);
            facts.known_leases =
                ours.filter(|id| *id != lease.id && self.store.rows.contains_key(id)).collect();
        }
        (facts, moment)
    }

    /// A lease that only waits, or checks that all is well, may use a list that another lease has
    /// read, if the list is newer than the last answer to the lease's own operations, and not too
    /// old.
    fn list_entries(
        &mut self,
        gateway: &NatGatewayId,
        loaded: &Loaded,
    ) -> (Vec<ForwardEntry>, u64) {
        let age = reads::max_list_age(&loaded.lease, &loaded.operations, loaded.reason.as_deref());
        let since = loaded.stirred.max(self.now - age);
        let shared = self.lists.get(gateway).filter(|list| list.at > since).cloned();
        if let Some(list) = shared.filter(|_| self.chance(0.5)) {
            return (list.entries, list.moment);
        }
        let list = List {
            at: self.now,
            moment: self.moment,
            entries: self.cloud.entries(self.now, gateway),
        };
        self.lists.insert(gateway.clone(), list.clone());
        (list.entries, list.moment)
    }

    fn write(
        &mut self,
        claim: &Claim,
        mut scene: Box<Scene>,
        mut writes: VecDeque<Write>,
    ) -> After {
        let lease = scene.loaded.lease.clone();
        let (name, kind) = (lease.pod_name.as_str(), lease.kind);
        if !self.store.holds(claim)
            && matches!(
                writes.front(),
                Some(Write::Status(_) | Write::Annotation(_) | Write::Condition(_))
            )
        {
            self.late_write(&lease);
        }
        let written = match writes.pop_front() {
            None => return After::then(Stage::Load),
            Some(Write::Status(content)) => {
                self.showing(&lease, content.as_ref());
                self.clusters[claim.cluster]
                    .write_status(name, kind, scene.resource_version, content.as_ref())
                    .is_ok()
            }
            Some(Write::Annotation(value)) => self.patch(claim, &mut scene, |pod| {
                match &value {
                    Some(value) => pod.announced.insert(kind, value.clone()),
                    None => pod.announced.remove(&kind),
                };
            }),
            Some(Write::Condition(verdict)) => {
                let published = verdict.status && verdict.reason != Reason::NotRequested.as_str();
                let patched =
                    self.patch(claim, &mut scene, |pod| drop(pod.verdicts.insert(kind, verdict)));
                if patched && published {
                    self.published(claim, &lease, scene.read_at);
                }
                patched
            }
            Some(Write::Event(_)) => true,
            Some(Write::Phase(phase)) => match self.store.set_phase(claim, phase) {
                Ok(()) => true,
                Err(no) => return no.into(),
            },
        };
        if written { After::then(Stage::Write(scene, writes)) } else { changed() }
    }

    /// Writes to the pod, if it still is as it was read.
    fn patch(&mut self, claim: &Claim, scene: &mut Scene, change: impl FnOnce(&mut Pod)) -> bool {
        let lease = &scene.loaded.lease;
        let patched =
            self.clusters[claim.cluster].patch_pod(&lease.pod_name, scene.pod_version, change);
        scene.pod_version = patched.unwrap_or(scene.pod_version);
        if patched.is_ok() {
            self.pod_event(claim.cluster, &lease.pod_name);
        }
        patched.is_ok()
    }

    pub(crate) fn taken_or(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        done: Result<(), No>,
    ) -> Result<After, No> {
        let Err(no) = done else { return Ok(After::then(Stage::Load)) };
        let No::Conflict(constraint) = no else { return Err(no) };
        let Some(wait) = conflict::wait_for(constraint) else { return Err(no) };
        if let (true, Some(ip)) =
            (conflict::expedites_removal(constraint), reads::pod_ip(&scene.pod))
        {
            self.store.hurry(self.now, scene.loaded.lease.id, ip);
        }
        Ok(self.waits(claim, scene, wait))
    }

    pub(crate) fn report_rejection(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        refused: Refused,
    ) -> After {
        let Refused { reason, message, patience, at_least_seconds } = refused;
        self.tell(
            claim,
            scene,
            patience,
            Verdict { status: false, reason: reason.clone(), message },
        );
        After::Pause { reason, patience, at_least: Duration::from_secs(at_least_seconds.into()) }
    }

    pub(crate) fn waits(&mut self, claim: &Claim, scene: &Scene, wait: Wait) -> After {
        let reason = wait.reason.as_str().to_owned();
        self.tell(
            claim,
            scene,
            wait.patience,
            Verdict { status: false, reason: reason.clone(), message: wait.message },
        );
        pause(&reason, wait.patience)
    }

    pub(crate) fn tell(&mut self, claim: &Claim, scene: &Scene, patience: Patience, told: Verdict) {
        let lease = &scene.loaded.lease;
        let before =
            Before { reason: scene.loaded.reason.as_deref(), refusals: scene.loaded.refusals };
        let report =
            report::of_wait(lease.phase, &scene.pod, &scene.resource, before, patience, &told);
        if !matches!(report, Report::Condition | Report::ConditionAndEvent) {
            return;
        }
        self.telling(claim, scene, &told);
        let kind = lease.kind;
        let patch = |pod: &mut Pod| drop(pod.verdicts.insert(kind, told));
        if self.clusters[claim.cluster].patch_pod(&lease.pod_name, scene.pod_version, patch).is_ok()
        {
            self.pod_event(claim.cluster, &lease.pod_name);
        }
    }
}

/// State of the store when the task last loaded.
#[derive(Default)]
struct Known {
    wake: u64,
    tries: i32,
    reason: Option<String>,
    refused: Option<Refused>,
    refusals: i32,
}

impl Known {
    fn of(stage: &Stage) -> Self {
        let loaded = match stage {
            Stage::Load => return Self::default(),
            Stage::ReadPod(loaded) => loaded.as_ref(),
            Stage::Reload(scene)
            | Stage::ReadResource(scene)
            | Stage::ReadCloud(scene)
            | Stage::Plan(scene)
            | Stage::Write(scene, _)
            | Stage::Send(scene, ..)
            | Stage::Hear(scene, ..) => &scene.loaded,
        };
        let Loaded { wake, tries, refusals, .. } = *loaded;
        Self {
            wake,
            tries,
            reason: loaded.reason.clone(),
            refused: loaded.refused.clone(),
            refusals,
        }
    }
}

pub(crate) fn pause(reason: &str, patience: Patience) -> After {
    After::Pause { reason: reason.to_owned(), patience, at_least: Duration::ZERO }
}

pub(crate) fn changed() -> After {
    pause("ObjectChanged", Patience::Poll)
}

pub(crate) fn doubtful() -> After {
    pause("Doubtful", Patience::Event)
}
