//! One change that the claim holder itself sends to the cloud: intent committed, sent once, answer
//! recorded. Forward entries are sent by `worker/src/gateway/sender.rs` instead.
//!
//! ```text
//! intend ─▶ (commit) ─▶ send ─┬▶ definite answer: settle as done or refused
//!                             └▶ no definite answer: unresolved, the next read decides
//! ```

use super::outcome::StepOutcome;
use super::pass::Pass;
use crate::errors::{Error, error_chain};
use crate::metrics::CallOutcome;
use waygate_core::change::Change;
use waygate_core::operation::Operation;
use waygate_core::rules::response::{self, LearnedFact, Record};
use waygate_core::rules::timing::{CALL_TIMEOUT, FENCE};
use waygate_store::{SettledBy, Settlement};

impl Pass<'_> {
    /// Commits a change as a new operation, then sends it.
    pub(crate) async fn change_cloud(
        &self,
        resource: &str,
        change: &Change,
    ) -> Result<StepOutcome, Error> {
        let operation =
            self.under_claim().intend_change(resource, change, CALL_TIMEOUT, FENCE).await?;
        self.send_operation(&operation).await
    }

    /// Renews an unresolved operation's fence, then sends the same change again.
    pub(crate) async fn resend_operation(
        &self,
        operation: &Operation,
    ) -> Result<StepOutcome, Error> {
        self.under_claim().intend_resend(operation.id, CALL_TIMEOUT, FENCE).await?;
        self.send_operation(operation).await
    }

    async fn send_operation(&self, operation: &Operation) -> Result<StepOutcome, Error> {
        let (worker, token) = (self.worker, operation.id.to_string());
        let action = operation.change.action();
        let answered = worker
            .cloud
            .send_change(
                &operation.change,
                operation.change.takes_token().then_some(token.as_str()),
                CALL_TIMEOUT,
            )
            .await;
        worker.metrics.count_cloud_change(action, CallOutcome::from_result(&answered));
        let error = match answered {
            Ok(answer) => {
                tracing::info!(
                    lease.id = %self.claim.lease_id, cloud.action = action,
                    cloud.request_id = answer.request_id, "cloud change succeeded"
                );
                let by = SettledBy::ClaimHolder(self.claim);
                worker
                    .store
                    .settle_operation(by, operation, Settlement::from_success(&answer))
                    .await?;
                return Ok(StepOutcome::Continue);
            }
            Err(error) => error,
        };
        let (cause, failure) = (error_chain(&error), error.call_failure());
        // At the account's rate most tries of a crowd end here; the condition reports the wait.
        if failure.lacks_permit() {
            tracing::debug!(
                lease.id = %self.claim.lease_id, cloud.action = action, error = cause,
                "cloud change not sent"
            );
        } else {
            tracing::info!(
                lease.id = %self.claim.lease_id, cloud.action = action, error = cause,
                "cloud change failed"
            );
        }
        let may_still_arrive =
            response::may_still_arrive(operation, &self.loaded.operations, self.loaded.now);
        let mut after = StepOutcome::Continue;
        for record in response::claim_holder_records(&operation.change, &failure, may_still_arrive)
        {
            if let Some(pause) = self.apply_record(operation, record, &cause).await? {
                after = pause;
            }
        }
        Ok(after)
    }

    /// Carries out one record of a failed change; returns the pause where the record causes one.
    async fn apply_record(
        &self,
        operation: &Operation,
        record: Record,
        cause: &str,
    ) -> Result<Option<StepOutcome>, Error> {
        let store = &self.worker.store;
        match record {
            Record::Settle(outcome, effect) => {
                store
                    .settle_operation(
                        SettledBy::ClaimHolder(self.claim),
                        operation,
                        Settlement::from_failure(outcome, effect, cause),
                    )
                    .await?;
            }
            Record::Learn(LearnedFact::AddressNotReclaimable) => {
                tracing::info!(
                    lease.id = %self.claim.lease_id, error = cause,
                    "former address cannot be reclaimed; allocating a new one"
                );
                self.under_claim().delete_former_address().await?;
            }
            Record::AwaitFence => store.await_fence(operation.id).await?,
            Record::Reject(rejection) => return Ok(Some(self.report_rejection(rejection).await?)),
            // Only the gateway sender gets these records.
            Record::Learn(LearnedFact::GatewayFull | LearnedFact::ModifyDenied)
            | Record::Requeue
            | Record::MarkUnanswered => {}
        }
        Ok(None)
    }
}
