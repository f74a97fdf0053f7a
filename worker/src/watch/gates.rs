//! Sets the conditions of Waygate's readiness gates on pods without a lease: True where the pod
//! requests no address of the kind, False where its annotations are invalid.

use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::objects::{custom_resource, pod as pods};
use k8s_openapi::api::core::v1::Pod;
use waygate_core::annotations::Problem;
use waygate_core::condition::{ConditionState, Reason};
use waygate_core::request::Kind;

/// Kinds whose condition a lease of the pod writes: the requested ones, and those switched off in
/// the configuration, whose leases keep the condition they wrote last.
pub(crate) fn list_answered_by_leases(
    leases: Vec<Kind>,
    serves: impl Fn(Kind) -> bool,
    requested: impl IntoIterator<Item = Kind>,
) -> Vec<Kind> {
    leases.into_iter().filter(|kind| !serves(*kind)).chain(requested).collect()
}

/// Writes the condition of a pod's readiness gates that no lease answers; `answered_kinds` are
/// the kinds whose lease writes it. False if a gate is left to another controller for now.
pub(crate) async fn answer_gates(
    worker: &Worker,
    pod: &Pod,
    answered_kinds: &[Kind],
    problems: &[Problem],
) -> Result<bool, Error> {
    let condition = state_without_lease(problems);
    let unanswered = list_unanswered(pod, answered_kinds, &condition);
    for kind in &unanswered {
        // One condition per event: the write itself causes the next event.
        if write_own_condition(worker, pod, *kind, &condition).await? {
            return Ok(true);
        }
    }
    Ok(unanswered.is_empty())
}

/// True if no gate waits for an answer but those of `answered_kinds`.
pub(super) fn are_answered(pod: &Pod, answered_kinds: &[Kind], problems: &[Problem]) -> bool {
    list_unanswered(pod, answered_kinds, &state_without_lease(problems)).is_empty()
}

/// Reports on a pod that its events cannot be recorded: the first time by an event, and by the
/// condition of each gate that is not True.
pub(super) async fn report_failure(worker: &Worker, pod: &Pod, error: &Error, first: bool) {
    let message = format!("{}; Waygate tries again in growing pauses", error_chain(error));
    if first {
        worker.events.write_warning(pod, error.reason(), &message).await;
    }
    let condition = ConditionState { status: false, reason: error.reason().to_owned(), message };
    let waiting = list_unanswered(pod, &[], &condition)
        .into_iter()
        .filter(|kind| pods::find_condition(pod, *kind).is_none_or(|it| it.status != "True"));
    for kind in waiting {
        if let Err(error) = write_own_condition(worker, pod, kind, &condition).await {
            tracing::debug!(error = error_chain(&error), "reporting a failure on a pod failed");
        }
    }
}

/// Writes the condition of a gate, unless the controller that made a foreign custom resource
/// answers it. False if it does.
async fn write_own_condition(
    worker: &Worker,
    pod: &Pod,
    kind: Kind,
    condition: &ConditionState,
) -> Result<bool, Error> {
    if custom_resource::is_foreign(worker, pod, kind).await? {
        return Ok(false);
    }
    pods::write_condition(worker, pod, kind, condition).await?;
    Ok(true)
}

/// Kinds whose gate the pod has, no lease answers, and whose condition does not say this yet.
fn list_unanswered(pod: &Pod, answered_kinds: &[Kind], condition: &ConditionState) -> Vec<Kind> {
    if pods::has_exited(pod) || pod.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let waits = |kind: &Kind| {
        pods::has_readiness_gate(pod, *kind)
            && !answered_kinds.contains(kind)
            && !condition_shows(pod, *kind, condition)
    };
    Kind::ALL.into_iter().filter(waits).collect()
}

fn condition_shows(pod: &Pod, kind: Kind, state: &ConditionState) -> bool {
    pods::find_condition(pod, kind).is_some_and(|condition| {
        (condition.status == "True") == state.status
            && condition.message.as_deref() == Some(&state.message)
    })
}

fn state_without_lease(problems: &[Problem]) -> ConditionState {
    if problems.is_empty() {
        let message = "the pod does not ask for a public address of this kind";
        return ConditionState::new(true, Reason::NotRequested, message);
    }
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    ConditionState::new(false, Reason::InvalidAnnotations, problems.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A pod with the gates of both kinds and no condition.
    fn gated() -> Pod {
        let gates = Kind::ALL.map(|kind| json!({"conditionType": kind.readiness_gate()}));
        serde_json::from_value(json!({
            "metadata": {"name": "pod"}, "spec": {"containers": [], "readinessGates": gates},
        }))
        .unwrap()
    }

    #[test]
    fn a_gate_is_answered_where_no_lease_answers_it() {
        let not_requested = state_without_lease(&[]);
        assert_eq!(list_unanswered(&gated(), &[], &not_requested), Kind::ALL);
        assert_eq!(list_unanswered(&gated(), &Kind::ALL[..1], &not_requested), Kind::ALL[1..]);
        assert_eq!(
            list_unanswered(&gated(), &Kind::ALL, &not_requested),
            [],
            "one requested, one switched off"
        );
    }

    #[test]
    fn a_gate_of_a_kind_switched_off_is_left_to_its_lease() {
        let serves = |kind| kind == Kind::Dnat;
        assert_eq!(
            list_answered_by_leases(Kind::ALL.to_vec(), serves, Some(Kind::Dnat)),
            [Kind::Eip, Kind::Dnat]
        );
        assert_eq!(list_answered_by_leases(vec![Kind::Eip], serves, None), [Kind::Eip]);
        assert_eq!(
            list_answered_by_leases(vec![Kind::Dnat], serves, None),
            [],
            "its lease is being released, as the pod requests nothing"
        );
        assert_eq!(
            list_answered_by_leases(Vec::new(), serves, None),
            [],
            "a new pod does not wait for an address that is not served"
        );
    }

    #[test]
    fn a_gate_of_an_exited_or_answered_pod_is_left_alone() {
        let not_requested = state_without_lease(&[]);
        let exited =
            Pod { status: serde_json::from_value(json!({"phase": "Failed"})).unwrap(), ..gated() };
        assert_eq!(list_unanswered(&exited, &[], &not_requested), []);
        let conditions = Kind::ALL.map(
            |kind| json!({"type": kind.readiness_gate(), "status": "True", "message": not_requested.message}),
        );
        let answered = Pod {
            status: serde_json::from_value(json!({"conditions": conditions})).unwrap(),
            ..gated()
        };
        assert_eq!(list_unanswered(&answered, &[], &not_requested), []);
    }
}
