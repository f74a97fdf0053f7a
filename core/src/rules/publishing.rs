//! Writes that publish or withdraw an address, in the order in which clients read: custom resource
//! status, then the annotation (which wakes OpenKruiseGame), then the condition. Withdrawn in the
//! same order, so that no client reads an address that is about to stop working.

use crate::condition::{ConditionState, Reason};
use crate::lease::Phase;
use crate::plan::{CustomResourceContent, CustomResourceState, PodState, Publication, Withdrawal};

/// A write to the cluster or to the lease. A list of writes is carried out in order, and ends at
/// the first whose object has changed meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub enum PublishWrite {
    /// Status of the custom resource; none clears it.
    Status(Option<CustomResourceContent>),
    /// Pod's `allocated-…` annotation; none removes it.
    Annotation(Option<String>),
    /// Condition of the pod for the lease's kind.
    Condition(ConditionState),
    /// Kubernetes event about the pod.
    Event(Event),
    /// New phase of the lease.
    Phase(Phase),
}

/// Kubernetes event about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Event type: `Normal` or `Warning`.
    pub kind: EventKind,
    /// Reason of the event, in CamelCase.
    pub reason: &'static str,
    /// Message of the event, for people.
    pub message: String,
}

/// The two types of Kubernetes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Event type `Normal`, for information.
    Normal,
    /// Event type `Warning`, for a lost address.
    Warning,
}

/// Reason of the event about an address that has begun to work.
const ADDRESS_READY: &str = "AddressReady";

/// Writes that publish an address; an object that shows it already is not written again.
pub fn publication_writes(
    phase: Phase,
    pod: &PodState,
    resource: &CustomResourceState,
    publication: &Publication,
) -> Vec<PublishWrite> {
    let mut writes = Vec::new();
    if !matches!(resource, CustomResourceState::Owned(object, _) if publication.content.matches_object(object))
    {
        writes.push(PublishWrite::Status(Some(publication.content.clone())));
    }
    let condition = ConditionState::new(true, publication.reason, publication.message.clone());
    let (annotation_shown, condition_shown) = match pod {
        PodState::Present(here) => (
            here.annotation.as_ref() == Some(&publication.annotation),
            here.condition.as_ref() == Some(&condition),
        ),
        PodState::Absent | PodState::NotFound => (false, false),
    };
    writes.extend(
        (!annotation_shown).then(|| PublishWrite::Annotation(Some(publication.annotation.clone()))),
    );
    writes.extend((!condition_shown).then_some(PublishWrite::Condition(condition)));
    // After the writes that it stands for: a worker that dies in between publishes again.
    writes.push(PublishWrite::Phase(Phase::Bound));
    if phase != Phase::Bound {
        let message = publication.message.clone();
        writes.push(PublishWrite::Event(Event {
            kind: EventKind::Normal,
            reason: ADDRESS_READY,
            message,
        }));
    }
    writes
}

/// Writes that withdraw an address. A pod that has exited is left alone, and a terminating pod
/// keeps its condition: Ready False would end its drain.
pub fn withdrawal_writes(
    phase: Phase,
    pod: &PodState,
    resource: &CustomResourceState,
    withdrawal: &Withdrawal,
) -> Vec<PublishWrite> {
    let mut writes = Vec::new();
    if matches!(resource, CustomResourceState::Owned(..)) {
        writes.push(PublishWrite::Status(None));
    }
    if let PodState::Present(here) = pod
        && !here.exited
    {
        writes.extend(here.annotation.is_some().then_some(PublishWrite::Annotation(None)));
        let condition =
            ConditionState::new(withdrawal.status, withdrawal.reason, withdrawal.message.clone());
        if !here.terminating && here.condition.as_ref() != Some(&condition) {
            writes.push(PublishWrite::Condition(condition));
        }
        let kind = if withdrawal.reason == Reason::AddressLost {
            EventKind::Warning
        } else {
            EventKind::Normal
        };
        writes.push(PublishWrite::Event(Event {
            kind,
            reason: withdrawal.reason.as_str(),
            message: withdrawal.message.clone(),
        }));
    }
    // Last: the claim holder that follows a dead worker finds phase bound, and withdraws again.
    if phase == Phase::Bound {
        writes.push(PublishWrite::Phase(Phase::Provisioning));
    }
    writes
}
