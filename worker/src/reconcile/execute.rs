//! Carries out one step. Decides nothing: what to do stands in the step, and what an answer means
//! in `waygate_core::rules`.

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
    /// Carries out the step.
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
                    "what was published did not show in one read; the next decides",
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
                    "an answer was lost and no effect shows; the next read decides",
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
        tracing::info!(lease.id = %self.lease().id, pod = self.pod_name(), ?seconds, "kept for a successor");
        Ok(())
    }

    async fn transfer_to(&self, successor: &Successor) -> Result<After, Error> {
        let Ok(uid) = successor.uid.as_str().parse() else { return Err(Error::Changed) };
        let transferred = self.claimed().succeed(uid, &successor.request).await;
        self.wait_on_conflict(transferred).await
    }

    async fn end(&self, why: EndReason) -> Result<(), Error> {
        tracing::info!(lease.id = %self.lease().id, pod = self.pod_name(), ?why, "ending");
        self.claimed().set_phase(Phase::Ending).await?;
        // The next lease begins beside the end of this one, which may take long.
        self.observe_next_pod().await
    }

    async fn forget(&self) -> Result<After, Error> {
        // The next pod may have asked after the read that ended this lease and before it was
        // ending.
        self.observe_next_pod().await?;
        self.claimed().forget().await?;
        tracing::info!(lease.id = %self.lease().id, pod = self.pod_name(), "lease deleted");
        // A successor of the same name may be waiting for this.
        self.worker.due.notify_one();
        Ok(After::Gone)
    }

    async fn release_kept(&self) -> Result<After, Error> {
        if self.claimed().release_kept().await? {
            tracing::info!(lease.id = %self.claim.lease_id, pod = self.pod_name(), "released: its custom resource was deleted");
            return Ok(After::Next);
        }
        let message = "many kept custom resources were deleted within ten minutes; this one's is kept until somebody sets waygate.dev/release to \
                       \"true\" on it, or the others are through";
        tracing::warn!(lease.id = %self.claim.lease_id, pod = self.pod_name(), "{message}");
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
        tracing::info!(lease.id = %self.lease().id, cloud.action = operation.change.action(), ?outcome, "operation resolved by a read");
        self.worker
            .store
            .settle(Bringer::Claimant(self.claim), operation, Settlement::observed(outcome, answer))
            .await?;
        Ok(())
    }

    /// Hands changes over to the gateway's sender.
    async fn queue(&self, gateway: &NatGatewayId, asks: &[Ask]) -> Result<After, Error> {
        let queued = self.claimed().queue(gateway, asks).await?;
        self.worker.lanes.queued(gateway);
        if queued > 0 {
            return Ok(After::Next);
        }
        let message = "another pod's change of the same forward entry is under way";
        Ok(After::Pause(Pause::new(Reason::EntriesPending.as_str(), message, Patience::Poll)))
    }

    /// Hands one over again.
    async fn requeue(&self, id: Uuid) -> Result<(), Error> {
        self.claimed().requeue(id).await?;
        if let Some(port) = self.lease().ports.first() {
            self.worker.lanes.queued(&port.gateway_id);
        }
        Ok(())
    }
}
