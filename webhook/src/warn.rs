//! `/warn`: warns the author of a workload about its pod template. Always allows: `kubectl apply`
//! exits with 0 even for a bad template, and the refusal of its pods would only be an event on the
//! ReplicaSet.

use crate::objects::Workload;
use crate::policy::{AdmissionPolicy, not_served_warning, problem_texts};
use crate::review::{Answer, Request};
use waygate_core::annotations::Owner;

pub(crate) fn warn_workload(policy: &AdmissionPolicy, request: &Request<Workload>) -> Answer {
    let template = |object: &Option<Workload>| {
        object
            .as_ref()
            .and_then(Workload::pod_template)
            .map(|pod| pod.metadata.annotations().clone())
    };
    let Some(pod) = request
        .object
        .as_ref()
        .and_then(Workload::pod_template)
        .filter(|_| request.sub_resource.is_none())
    else {
        return Answer::default();
    };
    if request.old_object.is_some() && template(&request.old_object) == template(&request.object) {
        return Answer::default();
    }
    // The name of the controller, which a Deployment or a CronJob does not know yet, is not judged.
    let owner = Owner { kind: &request.kind.kind, name: "" };
    let parsed = policy.parse_pod(pod, &request.namespace, Some(owner));
    let problems = problem_texts(&parsed.problems).map(|problem| {
        let fate = if policy.rejects_invalid() {
            "pods of this template will be refused"
        } else {
            "pods of this template will get no address"
        };
        format!("{fate}: {problem}")
    });
    let off =
        parsed.requests.kinds().filter(|kind| !policy.serves_kind(*kind)).map(not_served_warning);
    Answer {
        warnings: problems.chain(problem_texts(&parsed.warnings)).chain(off).collect(),
        ..Answer::default()
    }
}
