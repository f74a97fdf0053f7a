//! Reports a lease's wait in its pod's condition and events, as `waygate_core::rules::report`
//! rules.

use super::outcome::{After, Pause};
use super::pass::Pass;
use crate::errors::Error;
use crate::objects::pod;
use waygate_core::condition::Verdict;
use waygate_core::operation::Refused;
use waygate_core::plan::Wait;
use waygate_core::retry::Patience;
use waygate_core::rules::report::{self, Before, Report};

impl Pass<'_> {
    /// Reports the reason of a wait on the pod.
    pub(crate) async fn report_wait(&self, wait: &Wait) -> Result<(), Error> {
        self.report(wait.patience, &Verdict::new(false, wait.reason, wait.message.clone())).await
    }

    /// Reports on the pod why the cloud rejected a change, and pauses by the rejection's policy.
    pub(crate) async fn report_rejection(&self, refused: Refused) -> Result<After, Error> {
        let told = Verdict {
            status: false,
            reason: refused.reason.clone(),
            message: refused.message.clone(),
        };
        self.report(refused.patience, &told).await?;
        Ok(After::Pause(Pause::from(refused)))
    }

    async fn report(&self, patience: Patience, told: &Verdict) -> Result<(), Error> {
        let Some(live) = &self.observed.live else { return Ok(()) };
        let before =
            Before { reason: self.loaded.reason.as_deref(), refusals: self.loaded.refusals };
        let report = report::of_wait(
            self.lease().phase,
            &self.observed.pod,
            &self.observed.resource,
            before,
            patience,
            told,
        );
        if matches!(report, Report::Condition | Report::ConditionAndEvent) {
            pod::write_condition(self.worker, live, self.lease().kind, told).await?;
        }
        if matches!(report, Report::Event | Report::ConditionAndEvent) {
            self.worker.events.warning(live, &told.reason, &told.message).await;
        }
        Ok(())
    }
}
