//! Leases that are set aside, by the rules of `worker/src/set_aside.rs`: the tries are counted in the
//! lease's row, and the reason of its wait says what fails.

use super::outcome::Pause;
use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::ObjectLoop;
use crate::objects::absence::none_if_absent;
use crate::objects::{custom_resource, pod};
use crate::set_aside::{JITTER, is_set_aside_after};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use rand::RngExt as _;
use waygate_core::condition::ConditionState;
use waygate_core::plan::{CustomResourceState, PodState};
use waygate_core::retry::{self, RetryPolicy, WaitHistory};
use waygate_core::rules::report::{self, PreviousWait, Report};
use waygate_store::{Claim, ClaimedJob, Error as StoreError, Finish, RefusalHistory};

/// The pause after a step's error. Where the lease is set aside for it, the pod is told.
pub(super) async fn pause_after_error(worker: &Worker, job: &ClaimedJob, error: &Error) -> Pause {
    let pause = Pause::from(error);
    let tries = wait_history(job).tries_for(&pause.reason);
    if !is_set_aside_after(error, tries) {
        return pause;
    }
    worker.metrics.count_set_aside(ObjectLoop::Leases, error.reason());
    if let Err(error) = tell_pod(worker, job, &pause).await {
        tracing::debug!(error = error_chain(&error), "reporting a lease set aside failed");
    }
    Pause { retry_policy: RetryPolicy::SetAside, ..pause }
}

/// Gives a lease back that cannot be loaded, or whose next write Postgres refuses. Errors that pass
/// are returned: the claim expires, and the lease is tried again.
pub(super) async fn set_lease_aside(
    worker: &Worker,
    claim: &Claim,
    error: Error,
) -> Result<(), Error> {
    let refused = matches!(
        &error,
        Error::Store(cause)
            if !cause.is_transient() && !matches!(cause, StoreError::ClaimLost)
    );
    if !refused {
        return Err(error);
    }
    let claimed = worker.store.under_claim(claim);
    let job = claimed.load_job().await?;
    let pause = pause_after_error(worker, &job, &error).await;
    let tries = wait_history(&job).tries_for(&pause.reason);
    let spread = rand::rng().random_range(JITTER);
    let retry_in = retry::retry_delay(pause.retry_policy, tries, Timestamp::UNIX_EPOCH, spread);
    tracing::error!(
        lease.id = %claim.lease_id, pod = format!("{}/{}", job.namespace, job.pod_name),
        retry_in = retry_in.as_secs_f32(), error = pause.message,
        "lease set aside; it is tried again, and delays no other"
    );
    let (reason, message) = (&pause.reason, &pause.message);
    let finish = Finish {
        wake: job.wake,
        retry_in,
        tries,
        reason,
        message,
        looked_at: None,
        pod_missing: None,
        history: RefusalHistory::Unchanged,
    };
    claimed.finish_claim(&finish).await?;
    Ok(())
}

fn wait_history(job: &ClaimedJob) -> WaitHistory<'_> {
    WaitHistory { reason: job.reason.as_deref(), tries: job.tries, rejections: None }
}

/// Reports the pause on the lease's pod, as other waits are. Nothing of what failed is used: the pod
/// is read anew, and of the custom resource its metadata alone.
async fn tell_pod(worker: &Worker, job: &ClaimedJob, pause: &Pause) -> Result<(), Error> {
    let answer = worker.pod_api(&job.namespace).get(&job.pod_name).await;
    let found = none_if_absent::<Pod, _>(answer, &job.pod_name)?;
    let Some(live) = found.filter(|pod| has_uid(pod, job)) else { return Ok(()) };
    if custom_resource::is_foreign(worker, &live, job.kind).await? {
        return Ok(());
    }
    let condition = ConditionState {
        status: false,
        reason: pause.reason.clone().into_owned(),
        message: pause.message.clone(),
    };
    let view = PodState::Present(Box::new(pod::pod_view(&worker.config, &live, job.kind)));
    let previous = PreviousWait { reason: job.reason.as_deref(), tries: 0, rejections: 0 };
    let report = report::report_for_wait(
        job.phase,
        &view,
        &CustomResourceState::Absent,
        previous,
        RetryPolicy::SetAside,
        &condition,
    );
    if matches!(report, Report::Condition | Report::ConditionAndEvent) {
        pod::write_condition(worker, &live, job.kind, &condition).await?;
    }
    if matches!(report, Report::Event | Report::ConditionAndEvent) {
        worker.events.write_warning(&live, &condition.reason, &condition.message).await;
    }
    Ok(())
}

fn has_uid(pod: &Pod, job: &ClaimedJob) -> bool {
    pod.metadata.uid.as_ref().is_some_and(|uid| *uid == job.pod_uid.to_string())
}
