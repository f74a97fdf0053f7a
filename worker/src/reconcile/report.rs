//! Reports a lease's wait in its pod's condition and events, as `waygate_core::rules::report`
//! rules.

use super::outcome::{Pause, StepOutcome};
use super::pass::Pass;
use crate::errors::Error;
use crate::objects::pod;
use waygate_core::condition::ConditionState;
use waygate_core::operation::{Refusal, Rejection};
use waygate_core::plan::Wait;
use waygate_core::retry::RetryPolicy;
use waygate_core::rules::report::{self, PreviousWait, Report};

impl Pass<'_> {
    /// Reports the reason of a wait on the pod.
    pub(crate) async fn report_wait(&self, wait: &Wait) -> Result<(), Error> {
        self.write_report(
            wait.retry_policy,
            &ConditionState::new(false, wait.reason, wait.message.clone()),
        )
        .await
    }

    /// Reports on the pod why the cloud rejected a change, and pauses by the rejection's policy.
    pub(crate) async fn report_rejection(
        &self,
        rejection: Rejection,
    ) -> Result<StepOutcome, Error> {
        self.write_rejection(&rejection).await?;
        Ok(StepOutcome::Pause(Pause::from(rejection)))
    }

    /// Waits for the retry of a refused change, under the reason of its refusal.
    pub(crate) async fn await_retry(&self, refusal: Refusal) -> Result<StepOutcome, Error> {
        let Refusal { rejection, until } = refusal;
        self.write_rejection(&rejection).await?;
        let retry_policy = RetryPolicy::Until(until);
        Ok(StepOutcome::Pause(Pause::new(rejection.reason, rejection.message, retry_policy)))
    }

    async fn write_rejection(&self, rejection: &Rejection) -> Result<(), Error> {
        let condition = ConditionState {
            status: false,
            reason: rejection.reason.clone(),
            message: rejection.message.clone(),
        };
        self.write_report(rejection.retry_policy, &condition).await
    }

    async fn write_report(
        &self,
        retry_policy: RetryPolicy,
        condition: &ConditionState,
    ) -> Result<(), Error> {
        let Some(live) = &self.observation.live else { return Ok(()) };
        let previous = PreviousWait {
            reason: self.loaded.reason.as_deref(),
            tries: self.loaded.tries,
            rejections: self.loaded.rejections,
        };
        let report = report::report_for_wait(
            self.lease().phase,
            &self.observation.pod,
            &self.observation.resource,
            previous,
            retry_policy,
            condition,
        );
        if matches!(report, Report::Condition | Report::ConditionAndEvent) {
            pod::write_condition(self.worker, live, self.lease().kind, condition).await?;
        }
        if matches!(report, Report::Event | Report::ConditionAndEvent) {
            self.worker.events.write_warning(&**live, &condition.reason, &condition.message).await;
        }
        Ok(())
    }
}
