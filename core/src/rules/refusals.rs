//! The history of a lease's refusals, which decides how long it waits after the next one.
//!
//! The count grows with every refusal that is reported, whatever is done in between: two changes that
//! are asked for in turn, one of them refused each time, do not keep it small. It starts anew once the
//! refused change was done, or once the lease rests.

use crate::operation::{Refusal, Rejection};
use crate::retry::RetryPolicy;

/// True if the count starts anew with `rejection`: the pod asks the same of its EIP in another way,
/// as after a correction of an annotation.
pub fn starts_anew(before: Option<&Refusal>, rejection: &Rejection) -> bool {
    let Some(Refusal { rejection: before, .. }) = before else { return false };
    let (before, now) = (&before.change, &rejection.change);
    now.forward_table().is_none() && before.action() == now.action() && before != now
}

/// True if a pause by this policy proves that no change is asked for: then what was refused before
/// is history.
pub fn ends_history(retry_policy: RetryPolicy) -> bool {
    matches!(retry_policy, RetryPolicy::Idle | RetryPolicy::PodExit)
}
