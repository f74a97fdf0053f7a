//! Times that worker, store and model must agree on.

use std::time::Duration;

/// How long a claim holds without a sign of life: what a pod waits longer when its worker is
/// killed.
pub const CLAIM: Duration = Duration::from_secs(15);
/// How long a gateway's lock holds without a sign of life.
pub const GATEWAY_LOCK: Duration = Duration::from_secs(15);
/// What one call to the cloud may take, its permit included; less than a claim or a gateway's lock
/// holds.
pub const CALL: Duration = Duration::from_secs(10);
/// After this nothing that was sent is expected to take effect any more. A request that hung in the
/// network longer than this is what remains of the window: the cloud accepts a signature for 15
/// minutes.
pub const FENCE: Duration = Duration::from_mins(1);
/// Two reads that show no effect of an operation count as two only this far apart.
pub const MISSED_READS_APART: Duration = Duration::from_secs(30);
/// How long a head start waits for its pod. The watch sees a pod within a second of its admission;
/// quota and AlreadyExists come after us.
pub const HEAD_START: Duration = Duration::from_secs(30);
/// How long the cloud sells a released address back to the account that had it
/// (AllocateEipAddressPro).
pub const RECLAIMABLE: Duration = Duration::from_hours(7 * 24);
/// How long a gateway that refused an entry for its quota is not asked for another.
pub const GATEWAY_FULL: Duration = Duration::from_mins(10);
/// How long the right to modify entries is not asked for again once it was denied.
pub const MODIFY_DENIED: Duration = Duration::from_hours(1);
/// Where entries must come to rest before anything else, the gateway's sender wakes the lease when
/// they have; should that be missed, the lease looks by itself after this.
pub const ENTRIES_AT_REST: Duration = Duration::from_secs(10);
/// The period in which losses of entries at one gateway, and releases of kept leases in one
/// cluster, are counted together.
pub const LOSSES_COUNTED: Duration = Duration::from_mins(10);
/// How old a list of entries may be that shows a lease what came of its own changes: others'
/// entries are looked out for, and that takes turns at the gateway, which are longer than this.
pub const RESTING_LIST: Duration = Duration::from_secs(10);
/// And for a lease that looks again and again for something to change.
pub const POLLED_LIST: Duration = Duration::from_millis(300);
