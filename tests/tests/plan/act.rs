//! Executes a step, as `worker/src/reconcile/execute.rs` does: decisions on the lease, changes
//! asked of the cloud, writes to the cluster.

use crate::operations::Bringer;
use crate::store::{Asking, Claim, No};
use crate::worker::{After, Scene, Stage, changed, doubtful, pause};
use crate::world::World;
use waygate_core::condition::Reason;
use waygate_core::ids::PodUid;
use waygate_core::lease::{Lease, Phase};
use waygate_core::plan::{Step, Wait};
use waygate_core::request::Request;
use waygate_core::retry::Patience;
use waygate_core::rules::reservation::{self, Searched};
use waygate_core::rules::response::LeaseEffect;
use waygate_core::rules::{publishing, succession};

impl World {
    /// Executes a step of the plan.
    #[expect(clippy::too_many_lines, reason = "one arm a step, as in the worker")]
    pub(crate) fn act(
        &mut self,
        claim: &Claim,
        scene: Box<Scene>,
        step: &Step,
    ) -> Result<After, No> {
        match step {
            Step::Change { .. }
            | Step::Queue { .. }
            | Step::Resend(_)
            | Step::Settle { .. }
            | Step::Miss(_) => {
                return self.ask(claim, scene, step);
            }
            Step::WriteResource(_)
            | Step::Publish(_)
            | Step::Withdraw(_)
            | Step::WithdrawLost(_)
            | Step::RemoveResource => {
                if let (Step::WithdrawLost(_), Some(port)) =
                    (step, scene.loaded.lease.ports.first())
                    && !self.store.lose(self.now, claim, &port.gateway_id)?
                {
                    return Ok(After::then(Stage::Load));
                }
                return Ok(self.show(claim, scene, step));
            }
            Step::Report(refused) => {
                return Ok(self.report_rejection(claim, &scene, refused.clone()));
            }
            Step::Wait(wait) => return Ok(self.waits(claim, &scene, wait.clone())),
            Step::TakeEip(candidates, or) => {
                if !self.store.take_eip(claim, candidates)? {
                    return Ok(self.waits(claim, &scene, or.clone()));
                }
            }
            Step::TakeSpare(spare) => {
                if !self.store.take_spare(self.now, claim, *spare)? {
                    return Ok(pause("Doubtful", Patience::Poll));
                }
            }
            Step::TakeOver(id) => self.store.take_over(self.now, claim, id)?,
            Step::Unqueue(id) => self.store.unqueue(claim, *id)?,
            Step::Requeue(id) => self.store.requeue(self.now, claim, *id)?,
            Step::YieldResource => self.store.set_resource(claim, false)?,
            Step::Part => self.store.part(self.now, claim)?,
            Step::SetTarget(target) => {
                let set = self.store.set_target(claim, target);
                return self.taken_or(claim, &scene, set);
            }
            Step::ClaimResource => {
                let claimed = self.store.set_resource(claim, true);
                return self.taken_or(claim, &scene, claimed);
            }
            Step::ReservePorts { .. } => return self.reserve(claim, &scene),
            Step::Forget => {
                self.sight_who_asks(claim, &scene);
                self.store.forget(claim)?;
                return Ok(After::Gone);
            }
            Step::Doubt => {
                self.store.doubt(claim)?;
                return Ok(doubtful());
            }
            Step::End(_) => {
                self.store.set_phase(claim, Phase::Ending)?;
                self.sight_who_asks(claim, &scene);
            }
            Step::Want => self.store.set_phase(claim, Phase::Wanted)?,
            Step::ForgetEip => self.store.forget_eip(claim)?,
            Step::MarkForeign(span) => self.store.mark_foreign(claim, span)?,
            Step::Spill => self.store.spill(claim)?,
            Step::NoteEntry(port, entry) => self.store.note_entry(claim, port, entry)?,
            Step::QuietPort(port) => self.store.quiet_port(self.now, claim, port)?,
            Step::ClearTarget => self.store.clear_target(claim)?,
            Step::Adjust(request) => self.store.adjust(claim, request)?,
            Step::Keep(seconds) => self.store.keep(self.now, claim, *seconds)?,
            Step::Succeed(successor) => {
                let succeeded =
                    self.store.succeed(self.now, claim, &successor.uid, &successor.request);
                return self.taken_or(claim, &scene, succeeded);
            }
            Step::ReleaseKept if self.fault(0.2) => {
                let wait = Wait {
                    reason: Reason::ReleaseHeld,
                    message: "many go at once".to_owned(),
                    patience: Patience::Person,
                };
                return Ok(self.waits(claim, &scene, wait));
            }
            Step::ReleaseKept => self.store.release_kept(claim)?,
        }
        Ok(After::then(Stage::Load))
    }

    /// Observes the pod that still asks, asks again, or has the lease's name next, so that it has a
    /// lease, be it another one.
    pub(crate) fn sight_who_asks(&mut self, claim: &Claim, scene: &Scene) {
        let lease = &scene.loaded.lease;
        if let Some(pod) = succession::pod_to_observe(lease, &scene.pod, scene.successor.as_ref()) {
            self.store.sight(
                self.now,
                asking(claim, lease, &pod.uid, pod.controller.as_deref(), &pod.request),
            );
        }
    }

    fn reserve(&mut self, claim: &Claim, scene: &Scene) -> Result<After, No> {
        let Request::Dnat(request) = &scene.loaded.lease.request else { return Ok(changed()) };
        let candidates = self.candidates();
        let mut dice = self.another_dice();
        let reserved =
            match self.store.reserve_ports(self.now, claim, request, &candidates, &mut dice) {
                Ok(reserved) => reserved,
                Err(no) => return self.taken_or(claim, scene, Err(no)),
            };
        let groups: Vec<_> = candidates.chunks(1).map(<[_]>::to_vec).collect();
        let searched = Searched {
            gateways: &[],
            configured: &[],
            candidates: &groups,
            ports: request.ports.len(),
        };
        match reservation::wait_for(&reserved, &searched) {
            Some(wait) => Ok(self.waits(claim, scene, wait)),
            None => Ok(After::then(Stage::Load)),
        }
    }

    /// Changes in the cloud, and what became of them.
    fn ask(&mut self, claim: &Claim, scene: Box<Scene>, step: &Step) -> Result<After, No> {
        let now = self.now;
        match step {
            Step::Change { resource, change } => {
                let operation = self.store.intend(now, claim, resource, change)?;
                return Ok(After::then(Stage::Send(scene, operation, now)));
            }
            Step::Queue { gateway, asks } => {
                let queued = self.store.queue(now, claim, gateway, asks)?;
                return Ok(if queued > 0 {
                    After::then(Stage::Load)
                } else {
                    pause(Reason::EntriesPending.as_str(), Patience::Poll)
                });
            }
            Step::Resend(id) => {
                self.store.intend_again(now, claim, *id)?;
                let operation =
                    scene.loaded.operations.iter().find(|operation| operation.id == *id).cloned();
                return Ok(operation.map_or_else(changed, |operation| {
                    After::then(Stage::Send(scene, operation, now))
                }));
            }
            Step::Settle { operation, outcome, answer } => {
                self.store.settle(
                    now,
                    Bringer::Claimant(claim),
                    *operation,
                    *outcome,
                    answer.as_ref(),
                    LeaseEffect::Plain,
                );
            }
            Step::Miss(operation) => {
                self.store.miss(now, claim, *operation)?;
                return Ok(doubtful());
            }
            _ => {}
        }
        Ok(After::then(Stage::Load))
    }

    /// Writes to the cluster, which knows no claims.
    fn show(&mut self, claim: &Claim, scene: Box<Scene>, step: &Step) -> After {
        let lease = scene.loaded.lease.clone();
        match step {
            Step::WriteResource(content) => {
                if !self.store.holds(claim) {
                    self.late_write(&lease);
                }
                if self.clusters[claim.cluster]
                    .write_spec(&lease, scene.resource_version, content)
                    .is_err()
                {
                    return changed();
                }
            }
            Step::RemoveResource => self.clusters[claim.cluster].remove_resource(
                &lease.pod_name,
                lease.kind,
                scene.resource_version,
            ),
            Step::Publish(publication) => {
                let writes =
                    publishing::publication(lease.phase, &scene.pod, &scene.resource, publication);
                return After::then(Stage::Write(scene, writes.into()));
            }
            Step::Withdraw(withdrawal) | Step::WithdrawLost(withdrawal) => {
                let writes =
                    publishing::withdrawal(lease.phase, &scene.pod, &scene.resource, withdrawal);
                return After::then(Stage::Write(scene, writes.into()));
            }
            _ => {}
        }
        After::then(Stage::Load)
    }
}

/// A pod of the lease's name. When it was made is known from its next event.
fn asking<'a>(
    claim: &Claim,
    lease: &'a Lease,
    uid: &'a PodUid,
    controller: Option<&'a str>,
    request: &'a Request,
) -> Asking<'a> {
    Asking { cluster: claim.cluster, name: &lease.pod_name, uid, controller, made: None, request }
}
