//! What `worker/src/act.rs` does with a step: decisions on the lease, changes asked of the cloud, writes to the cluster.

use crate::store::{Claim, No};
use crate::worker::{After, Scene, Stage, Write, changed, doubtful};
use crate::world::World;
use std::collections::VecDeque;
use waygate_core::lease::Phase;
use waygate_core::plan::{Asks, EndReason, Patience, PodFact, Publication, Reason, ResourceFact, Step, Verdict, Wait, Withdrawal};
use waygate_core::request::Request;

impl World {
    /// Takes the step.
    pub(crate) fn act(&mut self, claim: &Claim, scene: Box<Scene>, step: &Step) -> Result<After, No> {
        match step {
            Step::Change { .. } | Step::Queue { .. } | Step::Requeue(_) | Step::Resend(_) | Step::Settle { .. } | Step::Miss(_) => {
                return self.ask(claim, scene, step);
            }
            Step::WriteResource(_) | Step::Publish(_) | Step::Withdraw(_) | Step::RemoveResource => {
                return Ok(self.show(claim, scene, step));
            }
            Step::Wait(wait) => return Ok(self.waits(&scene, wait.clone())),
            Step::TakeEip(candidates) => {
                if !self.store.take_eip(claim, candidates)? {
                    return Ok(doubtful());
                }
            }
            Step::SetTarget(target) => {
                let set = self.store.set_target(claim, target);
                return self.taken_or(&scene, set);
            }
            Step::ClaimResource => {
                let claimed = self.store.set_resource(claim);
                return self.taken_or(&scene, claimed);
            }
            Step::ReservePorts { .. } => return self.reserve(claim, &scene),
            Step::Forget => {
                self.sight_again(&scene);
                self.store.forget(claim)?;
                return Ok(After::Gone);
            }
            Step::Doubt => {
                self.store.doubt(claim)?;
                return Ok(doubtful());
            }
            Step::End(why) => {
                self.store.set_phase(claim, Phase::Ending)?;
                if *why == EndReason::RequestChanged {
                    self.sight_again(&scene);
                }
            }
            Step::Want => self.store.set_phase(claim, Phase::Wanted)?,
            Step::ForgetEip => self.store.forget_eip(claim)?,
            Step::MarkForeign(span) => self.store.mark_foreign(claim, span)?,
            Step::Spill => self.store.spill(claim)?,
            Step::NoteEntry(port, entry) => self.store.note_entry(claim, port, entry)?,
            Step::QuietPort(port) => self.store.quiet_port(self.now, claim, port)?,
            Step::ClearTarget => self.store.clear_target(claim)?,
            Step::Adjust(request) => self.store.adjust(claim, request)?,
            Step::Part | Step::Keep(_) | Step::Succeed(_) | Step::ReleaseKept | Step::Unqueue(_) => {
                self.fail(|| format!("nothing here asks to be kept, or waits in a queue: {step:?}"));
            }
            Step::TakeOver(_) | Step::TakeSpare(_) | Step::YieldResource => {
                self.fail(|| format!("nothing here is paid by the month or taken over: {step:?}"));
            }
        }
        Ok(After::then(Stage::Load))
    }

    /// The pod still asks, or asks again: it has a lease, be it another one.
    fn sight_again(&mut self, scene: &Scene) {
        let lease = &scene.loaded.lease;
        if let PodFact::Here(here) = &scene.pod
            && let (Asks::For(request), false, false) = (&here.asks, here.exited, here.terminating)
        {
            self.store.sight(self.now, &lease.pod_name, &lease.pod_uid, request);
        }
    }

    fn reserve(&mut self, claim: &Claim, scene: &Scene) -> Result<After, No> {
        let Request::Dnat(request) = &scene.loaded.lease.request else { return Ok(changed()) };
        let first = self.dice_below(2);
        if self.store.reserve_ports(claim, request, first)? {
            return Ok(After::then(Stage::Load));
        }
        let wait = Wait { reason: Reason::NoFreePort, message: "no room".to_owned(), patience: Patience::Event };
        Ok(self.waits(scene, wait))
    }

    /// Changes in the cloud, and what became of them.
    fn ask(&mut self, claim: &Claim, scene: Box<Scene>, step: &Step) -> Result<After, No> {
        let now = self.now;
        match step {
            Step::Change { resource, change } => {
                let operation = self.store.intend(now, claim, resource, change)?;
                return Ok(After::then(Stage::Send(scene, operation, now)));
            }
            // Here every gateway is free at once: what is asked for first is sent, and the rest is asked for again.
            Step::Queue { asks, .. } => {
                let Some(ask) = asks.first() else { return Ok(changed()) };
                let operation = self.store.intend(now, claim, &ask.resource, &ask.change)?;
                return Ok(After::then(Stage::Send(scene, operation, now)));
            }
            Step::Resend(id) | Step::Requeue(id) => {
                self.store.intend_again(now, claim, *id)?;
                let operation = scene.loaded.operations.iter().find(|operation| operation.id == *id).cloned();
                return Ok(operation.map_or_else(changed, |operation| After::then(Stage::Send(scene, operation, now))));
            }
            Step::Settle { operation, outcome, answer } => {
                self.store.settle(now, claim, *operation, *outcome, answer.as_ref(), false);
            }
            Step::Miss(operation) => {
                self.store.miss(claim, *operation)?;
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
                if self.cluster.write_spec(&lease, scene.resource_version, content).is_err() {
                    return changed();
                }
            }
            Step::RemoveResource => self.cluster.remove_resource(&lease.pod_name, lease.kind, scene.resource_version),
            Step::Publish(publication) => {
                let writes = publishing(&scene, publication);
                return After::then(Stage::Write(scene, writes));
            }
            Step::Withdraw(withdrawal) => {
                let writes = withdrawing(&scene, withdrawal);
                return After::then(Stage::Write(scene, writes));
            }
            _ => {}
        }
        After::then(Stage::Load)
    }
}

/// Status, annotation, condition, phase, in this order; nothing is written where it stands already.
fn publishing(scene: &Scene, publication: &Publication) -> VecDeque<Write> {
    let mut writes = VecDeque::new();
    if !matches!(&scene.resource, ResourceFact::Mine(object, _) if publication.content.is(object)) {
        writes.push_back(Write::Status(Some(publication.content.clone())));
    }
    let reason = publication.reason.as_str().to_owned();
    let condition = Verdict { status: true, reason, message: publication.message.clone() };
    writes.extend([Write::Announce(Some(publication.annotation.clone())), Write::Condition(condition), Write::Phase(Phase::Held)]);
    writes
}

fn withdrawing(scene: &Scene, withdrawal: &Withdrawal) -> VecDeque<Write> {
    let mut writes = VecDeque::new();
    if matches!(scene.resource, ResourceFact::Mine(..)) {
        writes.push_back(Write::Status(None));
    }
    if let PodFact::Here(here) = &scene.pod
        && !here.exited
    {
        writes.push_back(Write::Announce(None));
        if !here.terminating {
            let reason = withdrawal.reason.as_str().to_owned();
            writes.push_back(Write::Condition(Verdict { status: withdrawal.status, reason, message: withdrawal.message.clone() }));
        }
    }
    if scene.loaded.lease.phase == Phase::Held {
        writes.push_back(Write::Phase(Phase::Wanted));
    }
    writes
}
