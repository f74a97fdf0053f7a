//! Waits that follow from how a step went, beside those that the plan asks for.

use crate::condition::Reason;
use crate::plan::Wait;
use crate::retry::RetryPolicy;

/// Wait for another read, after one that did not show what it should.
pub fn wait_for_next_read(message: String) -> Wait {
    Wait { reason: Reason::RereadPending, message, retry_policy: RetryPolicy::Event }
}

/// Wait for the next look at what EIPs there are: another lease adopted the PrePaid one.
pub fn wait_for_another_eip() -> Wait {
    let message = "another pod adopted the PrePaid EIP first; looking for another EIP".to_owned();
    Wait { reason: Reason::RereadPending, message, retry_policy: RetryPolicy::Poll }
}

/// Wait for earlier releases to age: many retained custom resources were deleted at once.
pub fn wait_for_release() -> Wait {
    let message = "many retained custom resources were deleted within ten minutes; this address \
                   stays retained until the earlier releases are ten minutes old; to release it \
                   now, set the annotation waygate.dev/release to \"true\" on the custom resource";
    Wait {
        reason: Reason::ReleasesLimited,
        message: message.to_owned(),
        retry_policy: RetryPolicy::Person,
    }
}

/// Wait for an earlier, unresolved change of the same EIP.
pub fn wait_for_other_eip_change() -> Wait {
    let message = "waiting for an earlier change of the same EIP".to_owned();
    Wait { reason: Reason::EipChanging, message, retry_policy: RetryPolicy::Poll }
}

/// Wait for another lease's unresolved change of the same forward entry, beside which none of this
/// lease's could be queued.
pub fn wait_for_other_change() -> Wait {
    let message = "waiting for another pod's change of the same forward entry".to_owned();
    Wait { reason: Reason::EntriesPending, message, retry_policy: RetryPolicy::Poll }
}
