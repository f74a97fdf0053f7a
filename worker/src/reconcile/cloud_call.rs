//! One change that the claim holder itself sends to the cloud: intent committed, sent once, answer
//! recorded. Forward entries are sent by `worker/src/gateway/sender.rs` instead.
//!
//! ```text
//! intend ─▶ (commit) ─▶ send ─┬▶ definite answer: settle as done or refused
//!                             └▶ no definite answer: unresolved, the next read decides
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
    /// Commits a change as a new operation, then sends it.
    pub(crate) async fn ask_cloud(&self, resource: &str, change: &Change) -> Result<After, Error> {
        let operation = self.claimed().intend(resource, change, CALL, FENCE).await?;
        self.send(&operation).await
    }

    /// Renews an unresolved operation's fence, then sends the same change again.
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
                tracing::info!(
                    lease.id = %self.claim.lease_id, cloud.action = action,
                    cloud.request_id = answer.request_id, "cloud change succeeded"
                );
                let by = Bringer::Claimant(self.claim);
                worker.store.settle(by, operation, Settlement::succeeded(&answer)).await?;
                return Ok(After::Next);
            }
            Err(error) => error,
        };
        let cause = chain(&error);
        tracing::info!(
            lease.id = %self.claim.lease_id, cloud.action = action, error = cause,
            "cloud change failed"
        );
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

    /// Carries out one record of a failed change; returns the pause where the record causes one.
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
                tracing::info!(
                    lease.id = %self.claim.lease_id, error = cause,
                    "previous address cannot be reclaimed; allocating a new one"
                );
                self.claimed().forget_former().await?;
            }
            Record::AwaitFence => store.wait_out(operation.id).await?,
            Record::Reject(refused) => return Ok(Some(self.report_rejection(refused).await?)),
            // Only the gateway sender gets these records.
            Record::Learn(Lesson::GatewayFull | Lesson::ModifyDenied)
            | Record::Requeue
            | Record::MarkUnanswered => {}
        }
        Ok(None)
    }
}
