//! `/warn`: warns the author of a workload about its pod template. Always allows: `kubectl apply`
//! exits with 0 even for a bad template, and the refusal of its pods would only be an event on the
//! ReplicaSet.

use crate::judge::{Judge, as_warnings, not_served};
use crate::objects::Workload;
use crate::review::{Answer, Request};

pub(crate) fn answer(judge: &Judge, request: &Request<Workload>) -> Answer {
    let template = |object: &Option<Workload>| {
        object.as_ref().and_then(Workload::template).map(|pod| pod.metadata.annotations().clone())
    };
    let Some(pod) = request
        .object
        .as_ref()
        .and_then(Workload::template)
        .filter(|_| request.sub_resource.is_none())
    else {
        return Answer::default();
    };
    if request.old_object.is_some() && template(&request.old_object) == template(&request.object) {
        return Answer::default();
    }
    let reading = judge.read(pod, &request.namespace, Some(&request.kind.kind));
    let problems = as_warnings(&reading.problems).map(|problem| {
        let fate = if judge.refuses() {
            "pods of this template will be refused"
        } else {
            "pods of this template will get no address"
        };
        format!("{fate}: {problem}")
    });
    let off = reading.requests.kinds().filter(|kind| !judge.serves(*kind)).map(not_served);
    Answer {
        warnings: problems.chain(as_warnings(&reading.warnings)).chain(off).collect(),
        ..Answer::default()
    }
}
