//! The writes that show an address or take it back, in the order in which others look: custom
//! resource status, then annotation (which wakes OpenKruiseGame), then the condition. Taken back in
//! the same order, so that an address that is about to stop working is not read.

use crate::condition::{Reason, Verdict};
use crate::lease::Phase;
use crate::plan::{Content, PodFact, Publication, ResourceFact, Withdrawal};

/// One write. A list of these is carried out in its order, and ends where one finds that its object
/// has changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The custom resource's status; none clears it.
    Status(Option<Content>),
    /// The pod's `allocated-…` annotation; none removes it.
    Annotation(Option<String>),
    /// The pod's condition.
    Condition(Verdict),
    /// An event of the pod.
    Event(Event),
    /// The lease's phase.
    Phase(Phase),
}

/// An event of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `Normal` or `Warning`.
    pub kind: EventKind,
    /// CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Kubernetes' two types of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// Reason of the event that tells of an address that has begun to work.
const ADDRESS_READY: &str = "AddressReady";

/// Shows an address. What stands already is not written again.
pub fn publication(
    phase: Phase,
    pod: &PodFact,
    resource: &ResourceFact,
    publication: &Publication,
) -> Vec<Write> {
    let mut writes = Vec::new();
    if !matches!(resource, ResourceFact::Mine(object, _) if publication.content.is(object)) {
        writes.push(Write::Status(Some(publication.content.clone())));
    }
    let condition = Verdict::new(true, publication.reason, publication.message.clone());
    let (announced, answered) = match pod {
        PodFact::Here(here) => (
            here.announced.as_ref() == Some(&publication.annotation),
            here.verdict.as_ref() == Some(&condition),
        ),
        PodFact::Gone => (false, false),
    };
    writes.extend((!announced).then(|| Write::Annotation(Some(publication.annotation.clone()))));
    writes.extend((!answered).then_some(Write::Condition(condition)));
    writes.push(Write::Phase(Phase::Held));
    if phase != Phase::Held {
        let message = publication.message.clone();
        writes.push(Write::Event(Event {
            kind: EventKind::Normal,
            reason: ADDRESS_READY,
            message,
        }));
    }
    writes
}

/// Takes an address back. A pod that has exited is left as it is, and one that is terminating keeps
/// its condition: Ready False would end its drain.
pub fn withdrawal(
    phase: Phase,
    pod: &PodFact,
    resource: &ResourceFact,
    withdrawal: &Withdrawal,
) -> Vec<Write> {
    let mut writes = Vec::new();
    if matches!(resource, ResourceFact::Mine(..)) {
        writes.push(Write::Status(None));
    }
    if let PodFact::Here(here) = pod
        && !here.exited
    {
        writes.extend(here.announced.is_some().then_some(Write::Annotation(None)));
        let condition =
            Verdict::new(withdrawal.status, withdrawal.reason, withdrawal.message.clone());
        if !here.terminating && here.verdict.as_ref() != Some(&condition) {
            writes.push(Write::Condition(condition));
        }
        let kind = if withdrawal.reason == Reason::AddressLost {
            EventKind::Warning
        } else {
            EventKind::Normal
        };
        writes.push(Write::Event(Event {
            kind,
            reason: withdrawal.reason.as_str(),
            message: withdrawal.message.clone(),
        }));
    }
    if phase == Phase::Held {
        writes.push(Write::Phase(Phase::Wanted));
    }
    writes
}
