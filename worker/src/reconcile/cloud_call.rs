//! One change asked of the cloud by a lease's claim holder: intent committed, sent once, answer
//! recorded. Forward entries go another way: see `worker/src/gateway/sender.rs`.
//!
//! ```text
//! intend ─▶ (commit) ─▶ send ─▶ settle: done │ refused        no answer, or not a definite one: unresolved, for the next look
//! ```

use super::outcome::After;
use super::pass::Pass;
use crate::errors::{Error, chain};
use crate::metrics::CallOutcome;
use waygate_core::change::Change;
use waygate_core::operation::Operation;
use waygate_core::rules::response::{self, Lesson, Record};
use waygate_core::rules::timing::{CALL, FENCE};
use waygate_store::{Bringer, Settlement};

impl Pass<'_> {
    /// Asks for a change as a new operation.
    pub(crate) async fn ask_cloud(&self, resource: &str, change: &Change) -> Result<After, Error> {
        let operation = self.claimed().intend(resource, change, CALL, FENCE).await?;
        self.send(&operation).await
    }

    /// Sends an unresolved operation again.
    pub(crate) async fn resend(&self, operation: &Operation) -> Result<After, Error> {
        self.claimed().intend_again(operation.id, CALL, FENCE).await?;
        self.send(operation).await
    }

    async fn send(&self, operation: &Operation) -> Result<After, Error> {
        let (worker, token) = (self.worker, operation.id.to_string());
        let action = operation.change.action();
        let answered = worker
            .cloud
            .change(
                &operation.change,
                operation.change.takes_token().then_some(token.as_str()),
                CALL,
            )
            .await;
        worker.metrics.calls(action, CallOutcome::of(&answered));
        let error = match answered {
            Ok(answer) => {
                tracing::info!(lease.id = %self.claim.lease_id, cloud.action = action, cloud.request_id = answer.request_id, "cloud change succeeded");
                let by = Bringer::Claimant(self.claim);
                worker.store.settle(by, operation, Settlement::succeeded(&answer)).await?;
                return Ok(After::Next);
            }
            Err(error) => error,
        };
        let cause = chain(&error);
        tracing::info!(lease.id = %self.claim.lease_id, cloud.action = action, error = cause, "cloud change failed");
        let may_still_arrive =
            response::may_still_arrive(operation, &self.loaded.operations, self.loaded.now);
        let mut after = After::Next;
        for record in response::of_claimant(&operation.change, &error.failure(), may_still_arrive) {
            if let Some(pause) = self.record(operation, record, &cause).await? {
                after = pause;
            }
        }
        Ok(after)
    }

    /// Records one thing of a failed change; gives what follows, where it is a pause.
    async fn record(
        &self,
        operation: &Operation,
        record: Record,
        cause: &str,
    ) -> Result<Option<After>, Error> {
        let store = &self.worker.store;
        match record {
            Record::Settle(outcome, effect) => {
                store
                    .settle(
                        Bringer::Claimant(self.claim),
                        operation,
                        Settlement::failed(outcome, effect, cause),
                    )
                    .await?;
            }
            Record::Learn(Lesson::AddressNotReclaimable) => {
                tracing::info!(lease.id = %self.claim.lease_id, error = cause, "previous address cannot be reclaimed; a new one is allocated");
                self.claimed().forget_former().await?;
            }
            Record::AwaitFence => store.wait_out(operation.id).await?,
            Record::Reject(refused) => return Ok(Some(self.report_rejection(refused).await?)),
            // A gateway's sender records these.
            Record::Learn(Lesson::GatewayFull | Lesson::ModifyDenied)
            | Record::Requeue
            | Record::MarkUnanswered => {}
        }
        Ok(None)
    }
}
