//! `/validate`: decides on the final object and names the pods to announce. The server writes the
//! announcements.

use crate::hand_off::Job;
use crate::judge::{Judge, as_warnings, not_served};
use crate::objects::Pod;
use crate::review::{Answer, Operation, Request};
use waygate_core::annotations::{Problem, Reading, gate_for, is_ours};
use waygate_core::request::{Kind, Request as Asked};

/// The response to a review, and its consequences.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) answer: Answer,
    /// Announcements of an admitted pod; empty for a dry run.
    pub(crate) jobs: Vec<Job>,
    /// True if the pod should have a gate and arrived without it.
    pub(crate) gate_is_missing: bool,
}

pub(crate) fn judge(judge: &Judge, request: &Request<Pod>) -> Judgement {
    let Some(pod) = request
        .object
        .as_ref()
        .filter(|pod| request.sub_resource.is_none() && !pod.is_untouchable())
    else {
        return Judgement::default();
    };
    match request.operation {
        Operation::Create => created(judge, request, pod),
        Operation::Update => updated(judge, request, pod),
        Operation::Delete | Operation::Connect => Judgement::default(),
    }
}

fn created(judge: &Judge, request: &Request<Pod>, pod: &Pod) -> Judgement {
    let reading = judge.read(pod, &request.namespace, pod.controller_kind());
    let mut answer = verdict(judge, &reading.problems, &reading.warnings);
    let off = reading.requests.kinds().filter(|kind| !judge.serves(*kind));
    answer.warnings.extend(off.map(not_served));
    let served: Vec<_> =
        reading.requests.iter().filter(|request| judge.serves(request.kind())).collect();
    let stateful = judge.is_stateful(pod.controller_kind());
    let gates = served
        .iter()
        .filter_map(|request| gate_for(request, reading.gate, stateful))
        .map(Kind::gate);
    let missing: Vec<_> = gates.filter(|gate| !pod.has_gate(gate)).collect();
    answer.warnings.extend(missing.iter().map(|gate| {
        format!("this pod lacks the readiness gate {gate} and may become Ready before its address works; check for a webhook that runs after zz-waygate")
    }));
    let job = |asked: &&Asked| Job::of(&request.namespace, &pod.metadata, (*asked).clone());
    let jobs = if request.dry_run == Some(true) {
        Vec::new()
    } else {
        served.iter().filter_map(job).collect()
    };
    Judgement { answer, jobs, gate_is_missing: !missing.is_empty() }
}

/// Decides on the changed annotations only. Earlier problems are not the change's fault, and a pod
/// that was admitted without a review must still accept other changes.
fn updated(judge: &Judge, request: &Request<Pod>, pod: &Pod) -> Judgement {
    let Some(old) = request.old_object.as_ref().filter(|old| ours_changed(old, pod)) else {
        return Judgement::default();
    };
    let controller = pod.controller_kind();
    let before = judge.read_as(old.metadata.annotations(), pod, &request.namespace, controller);
    let Reading { problems, warnings, .. } = judge.read(pod, &request.namespace, controller);
    let answer =
        verdict(judge, &without(problems, &before.problems), &without(warnings, &before.warnings));
    Judgement { answer, ..Judgement::default() }
}

fn ours_changed(old: &Pod, new: &Pod) -> bool {
    let (old, new) = (old.metadata.annotations(), new.metadata.annotations());
    let differs = |key: &&String| old.get(*key) != new.get(*key);
    old.keys().chain(new.keys()).filter(differs).any(|key| is_ours(key))
}

fn without(mut problems: Vec<Problem>, known: &[Problem]) -> Vec<Problem> {
    problems.retain(|problem| !known.contains(problem));
    problems
}

fn verdict(judge: &Judge, problems: &[Problem], warnings: &[Problem]) -> Answer {
    let warnings = as_warnings(warnings);
    if judge.refuses() {
        Answer { refusal: refusal(problems), warnings: warnings.collect(), ..Answer::default() }
    } else {
        Answer { warnings: as_warnings(problems).chain(warnings).collect(), ..Answer::default() }
    }
}

fn refusal(problems: &[Problem]) -> Option<String> {
    let listed: Vec<String> = as_warnings(problems).collect();
    match listed.as_slice() {
        [] => None,
        [one] => Some(format!("Waygate: {one}")),
        many => Some(format!("Waygate: {} problems: {}", many.len(), many.join("; "))),
    }
}
