//! Every gate of ours gets a verdict, also where no lease stands behind it: True where nothing is asked for, False where what is asked for
//! cannot be.

use crate::errors::Error;
use crate::worker::Worker;
use crate::{pods, publish};
use k8s_openapi::api::core::v1::Pod;
use waygate_core::annotations::Problem;
use waygate_core::plan::{Reason, Verdict};
use waygate_core::request::Kind;

/// Answers the gates of a pod for which no lease of the gate's kind speaks; `asked` is the kind whose lease does.
pub(crate) async fn answer_gates(worker: &Worker, pod: &Pod, asked: Option<Kind>, problems: &[Problem]) -> Result<(), Error> {
    if pods::exited(pod) || pod.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let unasked = Kind::ALL.into_iter().filter(|kind| Some(*kind) != asked && pods::gated(pod, *kind));
    // One condition an event: the write brings the next event.
    let Some(kind) = unasked.into_iter().find(|kind| !stands(pod, *kind, &verdict(problems))) else { return Ok(()) };
    publish::condition(worker, pod, kind, &verdict(problems)).await
}

fn stands(pod: &Pod, kind: Kind, verdict: &Verdict) -> bool {
    pods::condition(pod, kind)
        .is_some_and(|condition| (condition.status == "True") == verdict.status && condition.message.as_deref() == Some(&verdict.message))
}

fn verdict(problems: &[Problem]) -> Verdict {
    if problems.is_empty() {
        let message = "the pod does not ask for a public address of this kind".to_owned();
        return Verdict { status: true, reason: Reason::NotRequested.as_str().to_owned(), message };
    }
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Verdict { status: false, reason: Reason::InvalidAnnotations.as_str().to_owned(), message: problems.join("; ") }
}
