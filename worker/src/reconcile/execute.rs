//! Carries out one step of the plan. Decides nothing: the step says what to do, and
//! `waygate_core::rules` what an answer means.

use super::outcome::StepOutcome;
use super::pass::Pass;
use crate::errors::Error;
use crate::objects::custom_resource;
use crate::refusals;
use uuid::Uuid;
use waygate_core::change::Answer;
use waygate_core::ids::NatGatewayId;
use waygate_core::lease::Phase;
use waygate_core::operation::{ChangeRequest, Operation, Outcome};
use waygate_core::plan::{CustomResourceContent, EndReason, Step, Successor};
use waygate_core::rules::{pauses, priority};
use waygate_store::{OwnsCustomResource, SettledBy, Settlement};

impl Pass<'_> {
    /// Carries out the step and returns what follows.
    pub(crate) async fn execute_step(&self, step: Step) -> Result<StepOutcome, Error> {
        let claimed = self.under_claim();
        match step {
            Step::StartProvisioning => claimed.set_phase(Phase::Provisioning).await?,
            Step::DeleteLease => return self.delete_lease().await,
            Step::BeginRelease(why) => self.begin_release(why).await?,
            Step::UpdateRequest(request) => claimed.update_request(&request).await?,
            Step::BeginHandover => claimed.begin_handover().await?,
            Step::Retain(seconds) => self.retain_lease(seconds).await?,
            Step::TransferToSuccessor(successor) => {
                return self.transfer_to_successor(&successor).await;
            }
            Step::ReleaseRetained => return self.release_retained().await,
            Step::AdoptEip(candidates, or) => return self.adopt_eip(&candidates, or).await,
            Step::PreemptEip(allocation_id) => self.preempt_eip(&allocation_id).await?,
            Step::AdoptPrepaidEip(lease) => return self.adopt_prepaid_eip(lease).await,
            Step::ForgetEip => self.forget_eip().await?,
            Step::ReservePorts { zone } => return self.reserve_ports(&zone).await,
            Step::MarkForeignPorts(port) => claimed.mark_foreign(&port).await?,
            Step::RecordEntry(port, entry) => claimed.record_entry(&port, &entry).await?,
            Step::VacateGateway => self.vacate_gateway().await?,
            Step::CoolDownPorts(port) => {
                claimed.start_cooldown(&port, self.worker.cooldown).await?;
            }
            Step::SetTarget(target) => {
                let set = claimed.set_target(&target).await;
                return self.pause_on_conflict(set).await;
            }
            Step::ClearTarget => claimed.clear_target().await?,
            Step::OwnCustomResource => {
                let set = claimed.set_owns_custom_resource(OwnsCustomResource::Yes).await;
                return self.pause_on_conflict(set).await;
            }
            Step::DisownCustomResource => {
                claimed.set_owns_custom_resource(OwnsCustomResource::No).await?;
            }
            Step::CountMissedRead => {
                claimed.count_missed_read().await?;
                let message = "one read did not show the published address; the next read decides";
                return Ok(StepOutcome::pause(pauses::wait_for_next_read(message.to_owned())));
            }
            Step::QueueEipChange { resource, change } => {
                return self.queue_eip_change(ChangeRequest { resource, change }).await;
            }
            Step::QueueChanges { gateway, requests } => {
                return self.queue_changes(&gateway, &requests).await;
            }
            Step::CancelQueued(id) => claimed.cancel_queued_change(id).await?,
            Step::Requeue(id) => self.requeue_change(id).await?,
            Step::Settle { operation, outcome, answer } => {
                self.settle_by_read(operation, outcome, answer.as_ref()).await?;
            }
            Step::CountReadWithoutEffect(id) => return self.count_read_without_effect(id).await,
            Step::WriteCustomResource(content) => self.write_custom_resource(&content).await?,
            Step::Publish(publication) => self.publish_address(&publication).await?,
            Step::Withdraw(withdrawal) => self.withdraw_address(&withdrawal).await?,
            Step::WithdrawLimited(withdrawal) => self.withdraw_within_limit(&withdrawal).await?,
            Step::RemoveCustomResource => {
                custom_resource::remove_custom_resource(
                    self.worker,
                    self.lease(),
                    &self.observation.resource,
                )
                .await?;
            }
            Step::ReportRejection(rejection) => return self.report_rejection(rejection).await,
            Step::AwaitRetry(refusal) => return self.await_retry(refusal).await,
            Step::Wait(wait) => return self.report_and_pause(wait).await,
        }
        Ok(StepOutcome::Continue)
    }

    fn find_operation(&self, id: Uuid) -> Result<&Operation, Error> {
        self.loaded.operations.iter().find(|operation| operation.id == id).ok_or(Error::Changed)
    }

    async fn write_custom_resource(&self, content: &CustomResourceContent) -> Result<(), Error> {
        custom_resource::write_spec(self.worker, self.lease(), &self.observation.resource, content)
            .await
    }

    /// Removes the EIP from the lease. One that was released leaves room in the account's quota.
    async fn forget_eip(&self) -> Result<(), Error> {
        self.under_claim().clear_eip().await?;
        if self.lease().eip.as_ref().is_some_and(|eip| eip.release_accepted_at.is_some()) {
            refusals::wake_after_release(self.worker).await?;
        }
        Ok(())
    }

    async fn retain_lease(&self, seconds: Option<u64>) -> Result<(), Error> {
        self.under_claim().retain_lease(seconds).await?;
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), seconds,
            "address retained for a successor"
        );
        Ok(())
    }

    async fn transfer_to_successor(&self, successor: &Successor) -> Result<StepOutcome, Error> {
        let Ok(uid) = successor.uid.as_str().parse() else { return Err(Error::Changed) };
        let transferred = self.under_claim().transfer_to_successor(uid, &successor.request).await;
        self.pause_on_conflict(transferred).await
    }

    async fn begin_release(&self, why: EndReason) -> Result<(), Error> {
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), reason = why.as_str(),
            "lease release started"
        );
        self.under_claim().set_phase(Phase::Releasing).await?;
        // The next pod's lease begins beside this release, which may take long.
        self.observe_next_pod().await
    }

    async fn delete_lease(&self) -> Result<StepOutcome, Error> {
        // A next pod that the watch recorded between this lease's last read and its release has no
        // lease yet.
        self.observe_next_pod().await?;
        self.under_claim().delete_empty_lease().await?;
        tracing::info!(lease.id = %self.lease().id, pod = self.pod_name(), "lease deleted");
        // A lease of the same pod name may be waiting for this deletion.
        self.worker.due.notify_one();
        Ok(StepOutcome::Deleted)
    }

    async fn release_retained(&self) -> Result<StepOutcome, Error> {
        if self.under_claim().try_release_retained().await? {
            tracing::info!(
                lease.id = %self.claim.lease_id, pod = self.pod_name(),
                "retained address released: its custom resource was deleted"
            );
            return Ok(StepOutcome::Continue);
        }
        tracing::warn!(
            lease.id = %self.claim.lease_id, pod = self.pod_name(),
            "release limited: many retained custom resources were deleted within ten minutes"
        );
        self.report_and_pause(pauses::wait_for_release()).await
    }

    /// Counts a read that showed no effect of an unanswered change; pauses until the next read.
    async fn count_read_without_effect(&self, id: Uuid) -> Result<StepOutcome, Error> {
        let action = self.find_operation(id)?.change.action();
        self.under_claim().count_read_without_effect(id).await?;
        let message = format!(
            "{action} got no answer and one read shows no effect of it; the next read decides"
        );
        Ok(StepOutcome::pause(pauses::wait_for_next_read(message)))
    }

    async fn settle_by_read(
        &self,
        id: Uuid,
        outcome: Outcome,
        answer: Option<&Answer>,
    ) -> Result<(), Error> {
        let operation = self.find_operation(id)?;
        tracing::info!(
            lease.id = %self.lease().id, cloud.action = operation.change.action(), ?outcome,
            "operation settled by a read"
        );
        self.worker
            .store
            .settle_operation(
                SettledBy::ClaimHolder(self.claim),
                operation,
                Settlement::from_read(outcome, answer),
            )
            .await?;
        Ok(())
    }

    /// Queues a change of the lease's EIP for the account sender and wakes it.
    async fn queue_eip_change(&self, request: ChangeRequest) -> Result<StepOutcome, Error> {
        let priority = priority::change_priority(self.lease(), &self.observation.pod);
        let queued = self.under_claim().queue_eip_change(&request, priority).await?;
        self.worker.account_wakeups.notify_queued(request.change.action());
        if queued {
            return Ok(StepOutcome::Continue);
        }
        Ok(StepOutcome::pause(pauses::wait_for_other_eip_change()))
    }

    /// Queues changes for the gateway sender and wakes it.
    async fn queue_changes(
        &self,
        gateway: &NatGatewayId,
        requests: &[ChangeRequest],
    ) -> Result<StepOutcome, Error> {
        let queued = self.under_claim().queue_changes(gateway, requests).await?;
        self.worker.queue_wakeups.notify_queued(gateway);
        if queued > 0 {
            return Ok(StepOutcome::Continue);
        }
        // Zero queued: the store holds an unresolved change of the same entry, of another lease.
        Ok(StepOutcome::pause(pauses::wait_for_other_change()))
    }

    /// Queues an unanswered change again and wakes its sender.
    async fn requeue_change(&self, id: Uuid) -> Result<(), Error> {
        let change = &self.find_operation(id)?.change;
        self.under_claim().requeue_unanswered(id).await?;
        if change.forward_table().is_none() {
            self.worker.account_wakeups.notify_queued(change.action());
        } else if let Some(port) = self.lease().ports.first() {
            self.worker.queue_wakeups.notify_queued(&port.gateway_id);
        }
        Ok(())
    }
}
