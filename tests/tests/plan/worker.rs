//! The worker in stages, between which any event may happen; `waygate-worker` runs them in one go.
//!
//! ```text
//! load ─▶ load operations ─▶ read pod ─▶ read custom resource ─▶ read cloud ─▶ plan ─▶ write …    (then load again, or finish)
//!                                                 ▲           │
//!                                               reload ◀── wrote to the store only
//! ```
//!
//! Beside its lease a worker sends changes, as the account's sender and as a gateway's, each in a
//! module of its own.

use crate::account_sender::AccountDelivery;
use crate::cluster::Pod;
use crate::gateway_sender::GatewaySenders;
use crate::store::{Claim, Finish, Loaded, StoreError};
use crate::world::World;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::cloud_facts::ForwardEntry;
use waygate_core::condition::{ConditionState, Reason};
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::lease::EipSources;
use waygate_core::operation::{Refusal, Rejection};
use waygate_core::ownership::{TAG_LEASE, TAG_POOL};
use waygate_core::plan::{
    self, CloudFacts, CustomResourceState, Lookup, PodState, Situation, Successor, Wait,
};
use waygate_core::retry::{self, RetryPolicy, WaitHistory};
use waygate_core::rules::publishing::PublishWrite;
use waygate_core::rules::report::{self, PreviousWait, Report};
use waygate_core::rules::{conflict, reads, refusals, succession};

/// State read for the plan, and the versions that writes are bound to.
#[derive(Clone)]
pub(crate) struct Scene {
    pub loaded: Loaded,
    pub pod: PodState,
    pub pod_version: u64,
    pub successor: Option<Successor>,
    pub resource: CustomResourceState,
    pub resource_version: u64,
    sources: EipSources,
    /// The world's moment at which the cloud was read.
    pub read_at: u64,
    cloud: CloudFacts,
}

/// Next action of a task.
pub(crate) enum Stage {
    Load,
    LoadOperations(Box<Loaded>),
    Reload(Box<Scene>),
    /// With the lease's wake-ups before the observation.
    ReloadOperations(Box<Scene>, u64),
    ReadPod(Box<Loaded>),
    ReadResource(Box<Scene>),
    ReadCloud(Box<Scene>),
    Plan(Box<Scene>),
    Write(Box<Scene>, VecDeque<PublishWrite>),
}

/// Work on one claimed lease.
pub(crate) struct Task {
    pub claim: Claim,
    pub stage: Stage,
    /// Times it has looked, without ever having to wait.
    looks: u32,
}

/// Result of a stage.
pub(crate) enum StageOutcome {
    Continue(Box<Stage>),
    Pause {
        reason: String,
        retry_policy: RetryPolicy,
        min_wait: Duration,
    },
    Deleted,
    /// The store refused a write: the claim is left to expire.
    Dropped,
}

impl StageOutcome {
    pub(crate) fn continue_with(stage: Stage) -> Self {
        Self::Continue(Box::new(stage))
    }
}

impl From<StoreError> for StageOutcome {
    fn from(_: StoreError) -> Self {
        Self::Dropped
    }
}

/// A list of a gateway's entries that other leases may use.
#[derive(Clone)]
pub(crate) struct List {
    at: Timestamp,
    moment: u64,
    entries: Vec<ForwardEntry>,
}

/// More steps than any lease takes in one go; more than that never end.
const MAX_STEPS: u32 = 200;

/// A worker process.
pub(crate) struct Worker {
    /// Index of the cluster whose pods it serves.
    pub cluster: usize,
    pub owner: Uuid,
    pub task: Option<Task>,
    pub senders: GatewaySenders,
    /// Changes of EIPs on their way.
    pub deliveries: Vec<AccountDelivery>,
}

impl World {
    /// Does the next stage of a worker's lease or of one of its gateway senders. False if nothing
    /// is due.
    pub(crate) fn advance_worker(&mut self, index: usize) -> bool {
        let senders_first = self.chance(0.4);
        (senders_first && self.send_something(index))
            || self.advance_lease(index)
            || (!senders_first && self.send_something(index))
    }

    fn send_something(&mut self, index: usize) -> bool {
        let account_first = self.chance(0.5);
        (account_first && self.serve_account(index))
            || self.serve_gateways(index)
            || (!account_first && self.serve_account(index))
    }

    fn advance_lease(&mut self, index: usize) -> bool {
        let Some(worker) = self.workers.get_mut(index) else { return false };
        let (owner, cluster) = (worker.owner, worker.cluster);
        let Some(task) = worker.task.take() else {
            let Some(claim) = self.store.claim_due_lease(self.now, cluster, owner) else {
                return false;
            };
            self.workers[index].task = Some(Task { claim, stage: Stage::Load, looks: 0 });
            return true;
        };
        let Task { claim, stage, looks } = task;
        let looks = looks + u32::from(matches!(stage, Stage::Load | Stage::Reload(_)));
        if looks > MAX_STEPS {
            self.note_failure(|| format!("lease {} spins", claim.lease_id));
        }
        let known = Known::of(&stage);
        match self.run_stage(&claim, stage).unwrap_or_else(StageOutcome::from) {
            StageOutcome::Continue(stage) => {
                self.workers[index].task = Some(Task { claim, stage: *stage, looks });
            }
            StageOutcome::Deleted | StageOutcome::Dropped => {}
            StageOutcome::Pause { reason, retry_policy, min_wait } => {
                let rejections = known.rejection.as_ref().map(|rejection| {
                    let anew = refusals::starts_anew(known.refusal.as_ref(), rejection);
                    if anew { 0 } else { known.rejections }
                });
                let history =
                    WaitHistory { reason: known.reason.as_deref(), tries: known.tries, rejections };
                let tries = history.tries_for(&reason);
                let delay = retry::retry_delay(retry_policy, tries, self.now, 1.0).max(min_wait);
                let finish = Finish {
                    wake: known.wake,
                    retry_in: delay,
                    tries,
                    reason,
                    acknowledged: known.rejection,
                    looked_at: known.looked_at,
                    pod_missing: known.pod_missing,
                    ends_history: refusals::ends_history(retry_policy),
                };
                // Another worker finishes a claim that was lost meanwhile.
                self.store.finish_claim(self.now, &claim, finish).unwrap_or_default();
            }
        }
        true
    }

    fn run_stage(&mut self, claim: &Claim, stage: Stage) -> Result<StageOutcome, StoreError> {
        let then = |stage| Ok(StageOutcome::continue_with(stage));
        match stage {
            Stage::Load => {
                then(Stage::LoadOperations(Box::new(self.store.load_lease(self.now, claim)?)))
            }
            Stage::LoadOperations(mut loaded) => {
                let unwoken = self.store.load_operations(self.now, claim, &mut loaded)?;
                then(if unwoken { Stage::ReadPod(loaded) } else { Stage::Load })
            }
            Stage::Reload(mut scene) => {
                let wake = scene.loaded.wake;
                scene.loaded = self.store.load_lease(self.now, claim)?;
                then(Stage::ReloadOperations(scene, wake))
            }
            Stage::ReloadOperations(mut scene, wake) => {
                if !self.store.load_operations(self.now, claim, &mut scene.loaded)? {
                    scene.loaded.wake = wake;
                    return then(Stage::Reload(scene));
                }
                scene.loaded.wake = wake;
                scene.sources = self.available_sources(&scene.loaded);
                then(Stage::ReadCloud(scene))
            }
            Stage::ReadPod(loaded) => {
                let cluster = &self.clusters[claim.cluster];
                let (pod, pod_version) = cluster.read_pod(
                    &loaded.lease.pod_name,
                    &loaded.lease.pod_uid,
                    loaded.lease.kind,
                );
                let successor = cluster.read_successor(&loaded.lease);
                let (resource, cloud) = (CustomResourceState::Absent, CloudFacts::default());
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
                scene.sources = self.available_sources(&scene.loaded);
                let lease = &scene.loaded.lease;
                let known = |id: &LeaseId| self.store.rows.contains_key(id);
                (scene.resource, scene.resource_version) =
                    self.clusters[claim.cluster].read_resource(lease, known);
                then(Stage::ReadCloud(scene))
            }
            Stage::ReadCloud(mut scene) => {
                if self.draw_fault(0.01) {
                    return Ok(pause_with("CloudUnreachable", RetryPolicy::Event));
                }
                let (cloud, read_at) = self.read_cloud(
                    claim.cluster,
                    &scene.loaded,
                    &scene.pod,
                    std::mem::take(&mut scene.cloud),
                );
                (scene.cloud, scene.read_at) = (cloud, scene.read_at.min(read_at));
                if self.are_lists_empty() {
                    scene.cloud.entries.clear();
                    scene.cloud.tagged.clear();
                    scene.cloud.pool.clear();
                    scene.cloud.eip = Lookup::from_read(None);
                }
                then(Stage::Plan(scene))
            }
            Stage::Plan(scene) => self.plan_step(claim, scene),
            Stage::Write(scene, writes) => Ok(self.apply_write(claim, scene, writes)),
        }
    }

    fn plan_step(&mut self, claim: &Claim, scene: Box<Scene>) -> Result<StageOutcome, StoreError> {
        let situation = Situation {
            owner: self.owners[claim.cluster],
            // The model switches no kind of address off.
            served: true,
            lease: &scene.loaded.lease,
            operations: &scene.loaded.operations,
            rejection: scene.loaded.rejection.as_ref(),
            refusal: scene.loaded.refusal.as_ref(),
            pod: &scene.pod,
            custom_resource: &scene.resource,
            successor: scene.successor.as_ref(),
            sources: &scene.sources,
            cloud: &scene.cloud,
            now: scene.loaded.now,
        };
        let step = plan::next_step(&situation);
        self.note_event(|| format!("{} plans {step:?}", situation.lease.id));
        self.check_step(claim, &scene, &step);
        let carry_over = plan::facts_stay_valid(&situation, &step).then(|| scene.clone());
        let (phase, before) = (scene.loaded.lease.phase, scene.clone());
        let after = self.execute_step(claim, scene, &step)?;
        if let StageOutcome::Pause { retry_policy, .. } = &after
            && succession::observes_at_pause(true, phase, *retry_policy)
        {
            self.observe_current_pod(claim, &before);
        }
        match (after, carry_over) {
            (StageOutcome::Continue(stage), Some(scene)) if matches!(*stage, Stage::Load) => {
                Ok(StageOutcome::continue_with(Stage::Reload(scene)))
            }
            (after, _) => Ok(after),
        }
    }

    fn available_sources(&self, loaded: &Loaded) -> EipSources {
        EipSources {
            preemption_allowed: self.preemption_allowed,
            ..self.store.eip_sources(self.now, &loaded.lease)
        }
    }

    /// Reads the cloud; returns the state, and the moment of its oldest part.
    fn read_cloud(
        &mut self,
        cluster: usize,
        loaded: &Loaded,
        pod: &PodState,
        known: CloudFacts,
    ) -> (CloudFacts, u64) {
        let (now, mut moment, lease) = (self.now, self.moment, &loaded.lease);
        let mut facts = CloudFacts {
            eip: known.eip,
            eni: known.eni,
            gateway: loaded.gateway.clone(),
            ..CloudFacts::default()
        };
        let reads = reads::required_reads(lease, &loaded.operations, pod);
        if let Some(pool) = reads.pool {
            facts.pool = self.cloud.read_eips_by_tag(now, TAG_POOL, pool);
        }
        if let (Lookup::NotRead, Some(id)) = (&facts.eip, reads.eip) {
            facts.eip = Lookup::from_read(self.cloud.read_eip(now, id));
        }
        if reads.tagged {
            facts.tagged = self.cloud.read_eips_by_tag(now, TAG_LEASE, &lease.id.to_string());
        }
        if let (Lookup::NotRead, Some(ip)) = (&facts.eni, reads.interface) {
            facts.eni = Lookup::from_read(self.cloud.read_interface(now, ip));
        }
        if let Some(gateway) = reads.entries {
            (facts.entries, moment) = self.list_entries(gateway, loaded);
            let at_it =
                facts.entries.iter().filter(|entry| reads::pod_ip(pod) == Some(entry.internal_ip));
            let leases = at_it
                .filter_map(|entry| self.owners[cluster].read_entry_name(&entry.name))
                .map(|name| name.lease);
            facts.known_leases =
                leases.filter(|id| *id != lease.id && self.store.rows.contains_key(id)).collect();
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
        let since = loaded.last_change_at.max(self.now - age);
        let shared = self.lists.get(gateway).filter(|list| list.at > since).cloned();
        if let Some(list) = shared.filter(|_| self.chance(0.5)) {
            return (list.entries, list.moment);
        }
        let list = List {
            at: self.now,
            moment: self.moment,
            entries: self.cloud.read_entries(self.now, gateway),
        };
        self.lists.insert(gateway.clone(), list.clone());
        (list.entries, list.moment)
    }

    fn apply_write(
        &mut self,
        claim: &Claim,
        mut scene: Box<Scene>,
        mut writes: VecDeque<PublishWrite>,
    ) -> StageOutcome {
        let lease = scene.loaded.lease.clone();
        let (name, kind) = (lease.pod_name.as_str(), lease.kind);
        if !self.store.is_claim_held(claim)
            && matches!(
                writes.front(),
                Some(
                    PublishWrite::Status(_)
                        | PublishWrite::Annotation(_)
                        | PublishWrite::Condition(_)
                )
            )
        {
            self.note_late_write(&lease);
        }
        let written = match writes.pop_front() {
            None => return StageOutcome::continue_with(Stage::Load),
            Some(PublishWrite::Status(content)) => {
                self.check_status(&lease, content.as_ref());
                self.clusters[claim.cluster]
                    .write_status(name, kind, scene.resource_version, content.as_ref())
                    .is_ok()
            }
            Some(PublishWrite::Annotation(value)) => self.patch_pod(claim, &mut scene, |pod| {
                match &value {
                    Some(value) => pod.address_annotations.insert(kind, value.clone()),
                    None => pod.address_annotations.remove(&kind),
                };
            }),
            Some(PublishWrite::Condition(condition)) => {
                let published =
                    condition.status && condition.reason != Reason::NotRequested.as_str();
                let patched = self.patch_pod(claim, &mut scene, |pod| {
                    drop(pod.conditions.insert(kind, condition));
                });
                if patched && published {
                    self.check_published(claim, &lease, scene.read_at);
                }
                patched
            }
            Some(PublishWrite::Event(_)) => true,
            Some(PublishWrite::Phase(phase)) => match self.store.set_phase(claim, phase) {
                Ok(()) => true,
                Err(error) => return error.into(),
            },
        };
        if written {
            StageOutcome::continue_with(Stage::Write(scene, writes))
        } else {
            reload_after_change()
        }
    }

    /// Writes to the pod, if it still is as it was read.
    fn patch_pod(
        &mut self,
        claim: &Claim,
        scene: &mut Scene,
        change: impl FnOnce(&mut Pod),
    ) -> bool {
        let lease = &scene.loaded.lease;
        let patched =
            self.clusters[claim.cluster].patch_pod(&lease.pod_name, scene.pod_version, change);
        scene.pod_version = patched.unwrap_or(scene.pod_version);
        if patched.is_ok() {
            self.deliver_pod_event(claim.cluster, &lease.pod_name);
        }
        patched.is_ok()
    }

    pub(crate) fn conflict_to_pause(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        written: Result<(), StoreError>,
    ) -> Result<StageOutcome, StoreError> {
        let Err(error) = written else { return Ok(StageOutcome::continue_with(Stage::Load)) };
        let StoreError::Conflict(constraint) = error else { return Err(error) };
        let Some(wait) = conflict::wait_after_conflict(constraint) else { return Err(error) };
        if let (true, Some(ip)) =
            (conflict::expedites_removal(constraint), reads::pod_ip(&scene.pod))
        {
            self.store.expedite_removals(self.now, scene.loaded.lease.id, ip);
        }
        Ok(self.pause_and_report(claim, scene, wait))
    }

    pub(crate) fn report_rejection(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        rejection: Rejection,
    ) -> StageOutcome {
        self.report_refusal(claim, scene, &rejection);
        StageOutcome::Pause {
            reason: rejection.reason,
            retry_policy: rejection.retry_policy,
            min_wait: Duration::from_secs(rejection.min_wait_seconds.into()),
        }
    }

    pub(crate) fn await_retry(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        refusal: &Refusal,
    ) -> StageOutcome {
        self.report_refusal(claim, scene, &refusal.rejection);
        pause_with(&refusal.rejection.reason, RetryPolicy::Until(refusal.until))
    }

    fn report_refusal(&mut self, claim: &Claim, scene: &Scene, rejection: &Rejection) {
        let Rejection { reason, message, retry_policy, .. } = rejection.clone();
        let condition = ConditionState { status: false, reason, message };
        self.report_condition(claim, scene, retry_policy, condition);
    }

    pub(crate) fn pause_and_report(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        wait: Wait,
    ) -> StageOutcome {
        let reason = wait.reason.as_str().to_owned();
        self.report_condition(
            claim,
            scene,
            wait.retry_policy,
            ConditionState { status: false, reason: reason.clone(), message: wait.message },
        );
        pause_with(&reason, wait.retry_policy)
    }

    pub(crate) fn report_condition(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        retry_policy: RetryPolicy,
        condition: ConditionState,
    ) {
        let lease = &scene.loaded.lease;
        let before = PreviousWait {
            reason: scene.loaded.reason.as_deref(),
            tries: scene.loaded.tries,
            rejections: scene.loaded.rejections,
        };
        let report = report::report_for_wait(
            lease.phase,
            &scene.pod,
            &scene.resource,
            before,
            retry_policy,
            &condition,
        );
        if !matches!(report, Report::Condition | Report::ConditionAndEvent) {
            return;
        }
        self.check_condition(claim, scene, &condition);
        let kind = lease.kind;
        let patch = |pod: &mut Pod| drop(pod.conditions.insert(kind, condition));
        if self.clusters[claim.cluster].patch_pod(&lease.pod_name, scene.pod_version, patch).is_ok()
        {
            self.deliver_pod_event(claim.cluster, &lease.pod_name);
        }
    }
}

/// State of the store when the task last loaded.
#[derive(Default)]
struct Known {
    wake: u64,
    tries: i32,
    reason: Option<String>,
    rejection: Option<Rejection>,
    rejections: i32,
    /// Begin of the look, once its plan is made.
    looked_at: Option<Timestamp>,
    /// True if the look did not find the pod; none where it has not read it.
    pod_missing: Option<bool>,
    refusal: Option<Refusal>,
}

impl Known {
    fn of(stage: &Stage) -> Self {
        let mut pod = None;
        let loaded = match stage {
            Stage::Load => return Self::default(),
            Stage::LoadOperations(loaded) | Stage::ReadPod(loaded) => loaded.as_ref(),
            Stage::Reload(scene)
            | Stage::ReloadOperations(scene, _)
            | Stage::ReadResource(scene)
            | Stage::ReadCloud(scene)
            | Stage::Plan(scene)
            | Stage::Write(scene, _) => {
                pod = Some(&scene.pod);
                &scene.loaded
            }
        };
        let Loaded { wake, tries, rejections, .. } = *loaded;
        Self {
            wake,
            tries,
            reason: loaded.reason.clone(),
            rejection: loaded.rejection.clone(),
            rejections,
            looked_at: matches!(stage, Stage::Plan(_) | Stage::Write(..)).then_some(loaded.now),
            pod_missing: pod.map(|pod| matches!(pod, PodState::NotFound)),
            refusal: loaded.refusal.clone(),
        }
    }
}

pub(crate) fn pause_with(reason: &str, retry_policy: RetryPolicy) -> StageOutcome {
    StageOutcome::Pause { reason: reason.to_owned(), retry_policy, min_wait: Duration::ZERO }
}

pub(crate) fn reload_after_change() -> StageOutcome {
    pause_with(Reason::ObjectChanged.as_str(), RetryPolicy::Poll)
}

/// A pause without a word to the pod.
pub(crate) fn pause(wait: &Wait) -> StageOutcome {
    pause_with(wait.reason.as_str(), wait.retry_policy)
}
