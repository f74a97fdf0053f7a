//! Executes a step, as `worker/src/reconcile/execute.rs` does: decisions on the lease, changes
//! asked of the cloud, writes to the cluster.

use crate::operations::SettledBy;
use crate::store::{Claim, RequestingPod, StoreError};
use crate::worker::{Scene, Stage, StageOutcome, pause, reload_after_change};
use crate::world::World;
use waygate_core::ids::PodUid;
use waygate_core::lease::{Lease, Phase};
use waygate_core::plan::Step;
use waygate_core::request::Request;
use waygate_core::rules::reservation::{self, PortSearch};
use waygate_core::rules::response::LeaseEffect;
use waygate_core::rules::{pauses, publishing, succession};

impl World {
    /// Executes a step of the plan.
    #[expect(clippy::too_many_lines, reason = "one arm a step, as in the worker")]
    pub(crate) fn execute_step(
        &mut self,
        claim: &Claim,
        scene: Box<Scene>,
        step: &Step,
    ) -> Result<StageOutcome, StoreError> {
        match step {
            Step::QueueEipChange { .. }
            | Step::QueueChanges { .. }
            | Step::Settle { .. }
            | Step::CountReadWithoutEffect(_) => {
                return self.change_cloud(claim, &scene, step);
            }
            Step::WriteCustomResource(_)
            | Step::Publish(_)
            | Step::Withdraw(_)
            | Step::WithdrawLimited(_)
            | Step::RemoveCustomResource => {
                if let (Step::WithdrawLimited(_), Some(port)) =
                    (step, scene.loaded.lease.ports.first())
                    && !self.store.try_count_loss(self.now, claim, &port.gateway_id)?
                {
                    return Ok(StageOutcome::continue_with(Stage::Load));
                }
                return Ok(self.write_to_cluster(claim, scene, step));
            }
            Step::ReportRejection(rejection) => {
                return Ok(self.report_rejection(claim, &scene, rejection.clone()));
            }
            Step::AwaitRetry(refusal) => return Ok(self.await_retry(claim, &scene, refusal)),
            Step::Wait(wait) => return Ok(self.pause_and_report(claim, &scene, wait.clone())),
            Step::AdoptEip(candidates, or) => {
                if !self.store.adopt_eip(claim, candidates)? {
                    return Ok(self.pause_and_report(claim, &scene, or.clone()));
                }
            }
            Step::AdoptPrepaidEip(lease) => {
                if !self.store.adopt_prepaid_eip(self.now, claim, *lease)? {
                    return Ok(pause(&pauses::wait_for_another_eip()));
                }
            }
            Step::PreemptEip(id) => self.store.preempt_eip(self.now, claim, id)?,
            Step::CancelQueued(id) => self.store.cancel_queued_change(claim, *id)?,
            Step::Requeue(id) => self.store.requeue_unanswered(self.now, claim, *id)?,
            Step::DisownCustomResource => self.store.set_owns_custom_resource(claim, false)?,
            Step::BeginHandover => self.store.begin_handover(self.now, claim)?,
            Step::SetTarget(target) => {
                let set = self.store.set_target(claim, target);
                return self.conflict_to_pause(claim, &scene, set);
            }
            Step::OwnCustomResource => {
                let set = self.store.set_owns_custom_resource(claim, true);
                return self.conflict_to_pause(claim, &scene, set);
            }
            Step::ReservePorts { .. } => return self.reserve_ports_for(claim, &scene),
            Step::DeleteLease => {
                self.observe_current_pod(claim, &scene);
                self.store.delete_empty_lease(claim)?;
                return Ok(StageOutcome::Deleted);
            }
            Step::CountMissedRead => {
                self.store.count_missed_read(claim)?;
                return Ok(pause(&pauses::wait_for_next_read(String::new())));
            }
            Step::BeginRelease(_) => {
                self.store.set_phase(claim, Phase::Releasing)?;
                self.observe_current_pod(claim, &scene);
            }
            Step::StartProvisioning => self.store.set_phase(claim, Phase::Provisioning)?,
            Step::ForgetEip => {
                let eip = scene.loaded.lease.eip.as_ref();
                if eip.is_some_and(|eip| eip.release_accepted_at.is_some()) {
                    self.retained.remove(&claim.lease_id);
                }
                self.store.clear_eip(self.now, claim)?;
            }
            Step::MarkForeignPorts(span) => self.store.mark_foreign(claim, span)?,
            Step::VacateGateway => self.store.start_vacating(claim)?,
            Step::RecordEntry(port, entry) => self.store.record_entry(claim, port, entry)?,
            Step::CoolDownPorts(port) => self.store.start_cooldown(self.now, claim, port)?,
            Step::ClearTarget => self.store.clear_target(claim)?,
            Step::UpdateRequest(request) => self.store.update_request(claim, request)?,
            Step::Retain(seconds) => self.store.retain_lease(self.now, claim, *seconds)?,
            Step::TransferToSuccessor(successor) => {
                let transferred = self.store.transfer_to_successor(
                    self.now,
                    claim,
                    &successor.uid,
                    &successor.request,
                );
                return self.conflict_to_pause(claim, &scene, transferred);
            }
            Step::ReleaseRetained if self.draw_fault(0.2) => {
                let wait = pauses::wait_for_release();
                return Ok(self.pause_and_report(claim, &scene, wait));
            }
            Step::ReleaseRetained => self.store.try_release_retained(claim)?,
        }
        Ok(StageOutcome::continue_with(Stage::Load))
    }

    /// Observes the pod that still asks, asks again, or has the lease's name next, so that it has a
    /// lease, be it another one.
    pub(crate) fn observe_current_pod(&mut self, claim: &Claim, scene: &Scene) {
        let lease = &scene.loaded.lease;
        if let Some(pod) = succession::pod_to_observe(lease, &scene.pod, scene.successor.as_ref()) {
            self.store.observe_pod(
                self.now,
                requesting_pod(claim, lease, &pod.uid, pod.controller.as_deref(), &pod.request),
            );
        }
    }

    fn reserve_ports_for(
        &mut self,
        claim: &Claim,
        scene: &Scene,
    ) -> Result<StageOutcome, StoreError> {
        let Request::Dnat(request) = &scene.loaded.lease.request else {
            return Ok(reload_after_change());
        };
        let candidates = self.candidate_eips();
        let mut dice = self.derive_dice();
        let reserved =
            match self.store.reserve_ports(self.now, claim, request, &candidates, &mut dice) {
                Ok(reserved) => reserved,
                Err(error) => return self.conflict_to_pause(claim, scene, Err(error)),
            };
        let groups: Vec<_> = candidates.chunks(1).map(<[_]>::to_vec).collect();
        let searched = PortSearch {
            gateways: &[],
            configured: &[],
            candidates: &groups,
            ports: request.ports.len(),
        };
        match reservation::wait_after_reservation(&reserved, &searched) {
            Some(wait) => Ok(self.pause_and_report(claim, scene, wait)),
            None => Ok(StageOutcome::continue_with(Stage::Load)),
        }
    }

    /// Changes in the cloud, and what became of them.
    fn change_cloud(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        step: &Step,
    ) -> Result<StageOutcome, StoreError> {
        let now = self.now;
        match step {
            Step::QueueEipChange { resource, change } => {
                return Ok(if self.store.queue_eip_change(now, claim, resource, change)? {
                    StageOutcome::continue_with(Stage::Load)
                } else {
                    pause(&pauses::wait_for_other_eip_change())
                });
            }
            Step::QueueChanges { gateway, requests } => {
                let queued = self.store.queue_changes(now, claim, gateway, requests)?;
                return Ok(if queued > 0 {
                    StageOutcome::continue_with(Stage::Load)
                } else {
                    pause(&pauses::wait_for_other_change())
                });
            }
            Step::Settle { operation, outcome, answer } => {
                let of_id = scene.loaded.operations.iter().find(|known| known.id == *operation);
                let Some(known) = of_id else { return Ok(reload_after_change()) };
                self.store.settle_operation(
                    now,
                    SettledBy::ClaimHolder(claim),
                    known,
                    *outcome,
                    answer.as_ref(),
                    LeaseEffect::None,
                );
            }
            Step::CountReadWithoutEffect(operation) => {
                self.store.count_read_without_effect(now, claim, *operation)?;
                return Ok(pause(&pauses::wait_for_next_read(String::new())));
            }
            _ => {}
        }
        Ok(StageOutcome::continue_with(Stage::Load))
    }

    /// Writes to the cluster, which knows no claims.
    fn write_to_cluster(&mut self, claim: &Claim, scene: Box<Scene>, step: &Step) -> StageOutcome {
        let lease = scene.loaded.lease.clone();
        match step {
            Step::WriteCustomResource(content) => {
                if !self.store.is_claim_held(claim) {
                    self.note_late_write(&lease);
                }
                if self.clusters[claim.cluster]
                    .write_spec(&lease, scene.resource_version, content)
                    .is_err()
                {
                    return reload_after_change();
                }
            }
            Step::RemoveCustomResource => self.clusters[claim.cluster].remove_resource(
                &lease.pod_name,
                lease.kind,
                scene.resource_version,
            ),
            Step::Publish(publication) => {
                let writes = publishing::publication_writes(
                    lease.phase,
                    &scene.pod,
                    &scene.resource,
                    publication,
                );
                return StageOutcome::continue_with(Stage::Write(scene, writes.into()));
            }
            Step::Withdraw(withdrawal) | Step::WithdrawLimited(withdrawal) => {
                let writes = publishing::withdrawal_writes(
                    lease.phase,
                    &scene.pod,
                    &scene.resource,
                    withdrawal,
                );
                return StageOutcome::continue_with(Stage::Write(scene, writes.into()));
            }
            _ => {}
        }
        StageOutcome::continue_with(Stage::Load)
    }
}

/// A pod of the lease's name. When it was made is known from its next event.
fn requesting_pod<'a>(
    claim: &Claim,
    lease: &'a Lease,
    uid: &'a PodUid,
    controller: Option<&'a str>,
    request: &'a Request,
) -> RequestingPod<'a> {
    RequestingPod {
        cluster: claim.cluster,
        name: &lease.pod_name,
        uid,
        controller,
        created_at: None,
        request,
    }
}
