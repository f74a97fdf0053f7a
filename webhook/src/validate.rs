//! `/validate`: decides on the final object and names the pods to announce. The server writes the
//! announcements.

use crate::announce::AdmittedPod;
use crate::objects::Pod;
use crate::policy::{AdmissionPolicy, not_served_warning, problem_texts};
use crate::review::{Answer, Operation, Request};
use waygate_core::annotations::{ParsedAnnotations, Problem, is_waygate_key, readiness_gate_for};
use waygate_core::request::{Kind, Request as Asked, Requests};
use waygate_core::text::Text;

/// The response to a review, and its consequences.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    pub(crate) answer: Answer,
    /// Announcements of an admitted pod; empty for a dry run.
    pub(crate) announcements: Vec<AdmittedPod>,
    /// True if the pod should have a gate and arrived without it.
    pub(crate) gate_is_missing: bool,
}

pub(crate) fn validate_pod(policy: &AdmissionPolicy, request: &Request<Pod>) -> Decision {
    let Some(pod) = request
        .object
        .as_ref()
        .filter(|pod| request.sub_resource.is_none() && !pod.is_untouchable())
    else {
        return Decision::default();
    };
    match request.operation {
        Operation::Create => decide_create(policy, request, pod),
        Operation::Update => decide_update(policy, request, pod),
        Operation::Delete | Operation::Connect => Decision::default(),
    }
}

fn decide_create(policy: &AdmissionPolicy, request: &Request<Pod>, pod: &Pod) -> Decision {
    let mut parsed = policy.parse_pod(pod, &request.namespace, pod.owner());
    // Before the answer: a pod whose names cannot be stored gets no announcement.
    if !parsed.requests.is_empty() || !parsed.problems.is_empty() {
        parsed.problems.extend(check_names(request, pod));
    }
    if !parsed.problems.is_empty() {
        parsed.requests = Requests::default();
    }
    let mut answer = answer_findings(policy, &parsed.problems, &parsed.warnings);
    let off = parsed.requests.kinds().filter(|kind| !policy.serves_kind(*kind));
    answer.warnings.extend(off.map(not_served_warning));
    let served: Vec<_> =
        parsed.requests.iter().filter(|request| policy.serves_kind(request.kind())).collect();
    let stateful = policy.is_stateful(pod.owner());
    let gates = served
        .iter()
        .filter_map(|request| readiness_gate_for(request, parsed.gate, stateful))
        .map(Kind::readiness_gate);
    let missing: Vec<_> = gates.filter(|gate| !pod.has_gate(gate)).collect();
    answer.warnings.extend(missing.iter().map(|gate| {
        format!("this pod lacks the readiness gate {gate} and may become Ready before its address works; check for a webhook that runs after zz-waygate")
    }));
    let admitted = |asked: &&Asked| {
        AdmittedPod::from_metadata(&request.namespace, &pod.metadata, (*asked).clone())
    };
    let announcements = if request.dry_run == Some(true) {
        Vec::new()
    } else {
        served.iter().filter_map(admitted).collect()
    };
    Decision { answer, announcements, gate_is_missing: !missing.is_empty() }
}

/// The problems of a review's names. The API server checks them only after admission, and other
/// callers not at all. Absent names are none: the API server makes some of them later.
fn check_names(request: &Request<Pod>, pod: &Pod) -> Vec<Problem> {
    let names = [
        (Text::ReviewNamespace, Some(request.namespace.as_str())),
        (Text::PodName, pod.metadata.name.as_deref()),
        (Text::PodUid, pod.metadata.uid.as_deref()),
    ];
    let given = names.into_iter().filter_map(|(text, name)| Some((text, name?)));
    given
        .filter(|(_, name)| !name.is_empty())
        .filter_map(|(text, name)| {
            text.check(name).err().map(|fault| Problem::from_fault(text, name, fault))
        })
        .collect()
}

/// Decides on the changed annotations only. Earlier problems are not the change's fault, and a pod
/// that was admitted without a review must still accept other changes.
fn decide_update(policy: &AdmissionPolicy, request: &Request<Pod>, pod: &Pod) -> Decision {
    let Some(old) = request.old_object.as_ref().filter(|old| waygate_keys_changed(old, pod)) else {
        return Decision::default();
    };
    let owner = pod.owner();
    let before =
        policy.parse_annotations_on(old.metadata.annotations(), pod, &request.namespace, owner);
    let ParsedAnnotations { problems, warnings, .. } =
        policy.parse_pod(pod, &request.namespace, owner);
    let answer = answer_findings(
        policy,
        &exclude_known(problems, &before.problems),
        &exclude_known(warnings, &before.warnings),
    );
    Decision { answer, ..Decision::default() }
}

fn waygate_keys_changed(old: &Pod, new: &Pod) -> bool {
    let (old, new) = (old.metadata.annotations(), new.metadata.annotations());
    let differs = |key: &&String| old.get(*key) != new.get(*key);
    old.keys().chain(new.keys()).filter(differs).any(|key| is_waygate_key(key))
}

fn exclude_known(mut problems: Vec<Problem>, known: &[Problem]) -> Vec<Problem> {
    problems.retain(|problem| !known.contains(problem));
    problems
}

fn answer_findings(policy: &AdmissionPolicy, problems: &[Problem], warnings: &[Problem]) -> Answer {
    let warnings = problem_texts(warnings);
    if policy.rejects_invalid() {
        Answer {
            refusal: refusal_message(problems),
            warnings: warnings.collect(),
            ..Answer::default()
        }
    } else {
        Answer { warnings: problem_texts(problems).chain(warnings).collect(), ..Answer::default() }
    }
}

fn refusal_message(problems: &[Problem]) -> Option<String> {
    let listed: Vec<String> = problem_texts(problems).collect();
    match listed.as_slice() {
        [] => None,
        [one] => Some(format!("Waygate: {one}")),
        many => Some(format!("Waygate: {} problems: {}", many.len(), many.join("; "))),
    }
}
