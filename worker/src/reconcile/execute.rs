//! Carries out one step of the plan. Decides nothing: the step says what to do, and
//! `waygate_core::rules` what an answer means.

use super::outcome::{After, Pause};
use super::pass::Pass;
use crate::errors::Error;
use crate::objects::custom_resource;
use uuid::Uuid;
use waygate_core::change::Answer;
use waygate_core::condition::Reason;
use waygate_core::ids::NatGatewayId;
use waygate_core::lease::Phase;
use waygate_core::operation::{Ask, Operation, Outcome};
use waygate_core::plan::{Content, EndReason, Step, Successor, Wait};
use waygate_core::retry::Patience;
use waygate_store::{Bringer, Settlement, Writes};

impl Pass<'_> {
    /// Carries out the step and returns what follows.
    pub(crate) async fn execute(&self, step: Step) -> Result<After, Error> {
        let claimed = self.claimed();
        match step {
            Step::Want => claimed.set_phase(Phase::Wanted).await?,
            Step::Forget => return self.forget().await,
            Step::End(why) => self.end(why).await?,
            Step::Adjust(request) => claimed.adjust(&request).await?,
            Step::Part => claimed.part().await?,
            Step::Keep(seconds) => self.keep(seconds).await?,
            Step::Succeed(successor) => return self.transfer_to(&successor).await,
            Step::ReleaseKept => return self.release_kept().await,
            Step::TakeEip(candidates, or) => return self.take_eip(&candidates, or).await,
            Step::TakeOver(allocation_id) => self.take_over(&allocation_id).await?,
            Step::TakeSpare(spare) => return self.take_spare(spare).await,
            Step::ForgetEip => claimed.forget_eip().await?,
            Step::ReservePorts { zone } => return self.reserve_ports(&zone).await,
            Step::MarkForeign(port) => claimed.mark_foreign(&port).await?,
            Step::NoteEntry(port, entry) => claimed.note_entry(&port, &entry).await?,
            Step::Spill => self.spill().await?,
            Step::QuietPort(port) => claimed.quiet_port(&port, self.worker.quiet).await?,
            Step::SetTarget(target) => {
                let set = claimed.set_target(&target).await;
                return self.wait_on_conflict(set).await;
            }
            Step::ClearTarget => claimed.clear_target().await?,
            Step::ClaimResource => {
                return self.wait_on_conflict(claimed.set_resource(Writes::Yes).await).await;
            }
            Step::YieldResource => claimed.set_resource(Writes::No).await?,
            Step::Doubt => {
                claimed.doubt().await?;
                return Ok(After::reread(
                    "one read did not show the published address; the next read decides",
                    Patience::Event,
                ));
            }
            Step::Change { resource, change } => return self.ask_cloud(&resource, &change).await,
            Step::Queue { gateway, asks } => return self.queue(&gateway, &asks).await,
            Step::Unqueue(id) => claimed.unqueue(id).await?,
            Step::Requeue(id) => self.requeue(id).await?,
            Step::Resend(id) => return self.resend(self.operation(id)?).await,
            Step::Settle { operation, outcome, answer } => {
                self.settle_by_read(operation, outcome, answer.as_ref()).await?;
            }
            Step::Miss(operation) => {
                claimed.miss(operation).await?;
                return Ok(After::reread(
                    "a change got no answer and one read shows no effect; the next read decides",
                    Patience::Event,
                ));
            }
            Step::WriteResource(content) => self.write_resource(&content).await?,
            Step::Publish(publication) => self.publish(&publication).await?,
            Step::Withdraw(withdrawal) => self.withdraw(&withdrawal).await?,
            Step::WithdrawLost(withdrawal) => self.withdraw_lost(&withdrawal).await?,
            Step::RemoveResource => {
                custom_resource::remove(self.worker, self.lease(), &self.observed.resource).await?;
            }
            Step::Report(refused) => return self.report_rejection(refused).await,
            Step::Wait(wait) => return self.wait(wait).await,
        }
        Ok(After::Next)
    }

    fn operation(&self, id: Uuid) -> Result<&Operation, Error> {
        self.loaded.operations.iter().find(|operation| operation.id == id).ok_or(Error::Changed)
    }

    async fn write_resource(&self, content: &Content) -> Result<(), Error> {
        custom_resource::write(self.worker, self.lease(), &self.observed.resource, content).await
    }

    async fn keep(&self, seconds: Option<u64>) -> Result<(), Error> {
        self.claimed().keep(seconds).await?;
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), ?seconds,
            "address retained for a successor"
        );
        Ok(())
    }

    async fn transfer_to(&self, successor: &Successor) -> Result<After, Error> {
        let Ok(uid) = successor.uid.as_str().parse() else { return Err(Error::Changed) };
        let transferred = self.claimed().succeed(uid, &successor.request).await;
        self.wait_on_conflict(transferred).await
    }

    async fn end(&self, why: EndReason) -> Result<(), Error> {
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), ?why, "lease release started"
        );
        self.claimed().set_phase(Phase::Ending).await?;
        // The next pod's lease begins beside this release, which may take long.
        self.observe_next_pod().await
    }

    async fn forget(&self) -> Result<After, Error> {
        // A next pod that the watch recorded between this lease's last read and its release has no
        // lease yet.
        self.observe_next_pod().await?;
        self.claimed().forget().await?;
        tracing::info!(lease.id = %self.lease().id, pod = self.pod_name(), "lease deleted");
        // A lease of the same pod name may be waiting for this deletion.
        self.worker.due.notify_one();
        Ok(After::Gone)
    }

    async fn release_kept(&self) -> Result<After, Error> {
        if self.claimed().release_kept().await? {
            tracing::info!(
                lease.id = %self.claim.lease_id, pod = self.pod_name(),
                "retained address released: its custom resource was deleted"
            );
            return Ok(After::Next);
        }
        let message = "many retained custom resources were deleted within ten minutes; this \
                       address stays retained until the earlier releases are ten minutes old; to \
                       release it now, set the annotation waygate.dev/release to \"true\" on the \
                       custom resource";
        tracing::warn!(
            lease.id = %self.claim.lease_id, pod = self.pod_name(),
            "release limited: many retained custom resources were deleted within ten minutes"
        );
        self.wait(Wait {
            reason: Reason::ReleaseHeld,
            message: message.to_owned(),
            patience: Patience::Person,
        })
        .await
    }

    async fn settle_by_read(
        &self,
        id: Uuid,
        outcome: Outcome,
        answer: Option<&Answer>,
    ) -> Result<(), Error> {
        let operation = self.operation(id)?;
        tracing::info!(
            lease.id = %self.lease().id, cloud.action = operation.change.action(), ?outcome,
            "operation resolved by a read"
        );
        self.worker
            .store
            .settle(Bringer::Claimant(self.claim), operation, Settlement::observed(outcome, answer))
            .await?;
        Ok(())
    }

    /// Queues changes for the gateway sender and wakes it.
    async fn queue(&self, gateway: &NatGatewayId, asks: &[Ask]) -> Result<After, Error> {
        let queued = self.claimed().queue(gateway, asks).await?;
        self.worker.lanes.queued(gateway);
        if queued > 0 {
            return Ok(After::Next);
        }
        // Zero queued: the store holds an unresolved change of the same entry, of another lease.
        let message = "waiting for another pod's change of the same forward entry";
        Ok(After::Pause(Pause::new(Reason::EntriesPending.as_str(), message, Patience::Poll)))
    }

    /// Queues an unanswered change again and wakes the gateway sender.
    async fn requeue(&self, id: Uuid) -> Result<(), Error> {
        self.claimed().requeue(id).await?;
        if let Some(port) = self.lease().ports.first() {
            self.worker.lanes.queued(&port.gateway_id);
        }
        Ok(())
    }
}
