//! Durations on which worker, store and model must agree.

use std::time::Duration;

/// Duration of a claim without a renewal: the extra wait of a pod whose worker was killed.
pub const CLAIM: Duration = Duration::from_secs(15);
/// Duration of a worker lock without a renewal.
pub const WORKER_LOCK: Duration = Duration::from_secs(15);
/// Longest call to the cloud, its permit included; shorter than a claim and a worker lock.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Greatest age of the last look at a lease when a change that gives something is sent for it.
pub const LOOK_AGE: Duration = Duration::from_secs(10);
/// Time in which a change that was marked as sent must be written; later it goes back into its queue.
pub const SEND_WITHIN: Duration = Duration::from_secs(2);
/// Length of the fence after a send: later the send is not expected to take effect. A request that
/// hangs in the network for longer remains a risk, since the cloud accepts a signature for 15
/// minutes.
pub const FENCE: Duration = Duration::from_mins(1);
/// Least distance of two reads that count as two reads without effect.
pub const READS_WITHOUT_EFFECT_APART: Duration = Duration::from_secs(30);
/// Least distance of the two looks that prove a pod absent whose lease holds something.
pub const POD_LOOKS_APART: Duration = Duration::from_secs(3);
/// Life of an announcement without its pod. The watch observes a pod within a second of its
/// admission; quota and AlreadyExists are checked after the webhook and may still refuse the pod.
pub const ANNOUNCEMENT_LIFETIME: Duration = Duration::from_secs(30);
/// Time in which the cloud sells a released address back to the account that had it
/// (AllocateEipAddressPro).
pub const RECLAIM_WINDOW: Duration = Duration::from_hours(7 * 24);
/// Time in which a gateway that refused an entry for its quota gets no further one.
pub const GATEWAY_FULL: Duration = Duration::from_mins(10);
/// Time in which entries are not modified after the right to do so was denied.
pub const MODIFY_DENIED: Duration = Duration::from_hours(1);
/// Fallback check of a lease whose entries must settle before its next change: the gateway sender
/// wakes the lease when they have, and a missed wake-up costs at most this.
pub const ENTRIES_SETTLED: Duration = Duration::from_secs(10);
/// Window in which lost entries at a gateway, and releases of retained leases in a cluster, are
/// counted against their limits.
pub const LOSS_WINDOW: Duration = Duration::from_mins(10);
/// Age limit of the entry list for a lease that does not poll: the lease looks in it for foreign
/// entries and for its own changes, which take longer than this in a gateway's queue.
pub const SHARED_LIST_AGE: Duration = Duration::from_secs(10);
/// Age limit of the entry list for a lease that polls for a change.
pub const POLLED_LIST_AGE: Duration = Duration::from_millis(300);
