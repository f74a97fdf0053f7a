//! Decisions about a lease as a whole: its phase, its request, its end.

use crate::claimed::{Claimed, write_under_claim};
use crate::columns::{outlives_pod, request_to_json};
use crate::error::Error;
use uuid::Uuid;
use waygate_core::lease::Phase;
use waygate_core::request::Request;

impl Claimed<'_> {
    /// Sets the phase. Releasing is final: a lease in that phase accepts no other. Binding a lease
    /// also ends its handover: the successor, if one was awaited, has taken the entries over.
    pub async fn set_phase(&self, phase: Phase) -> Result<(), Error> {
        write_under_claim!(
            self,
            "UPDATE lease SET phase = $4, missed_reads = 0, was_published = was_published OR $4 = 'bound', handover_since = CASE WHEN $4 <> 'bound' THEN handover_since END
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND (phase <> 'releasing' OR $4 = 'releasing')",
            phase.as_str(),
        )
    }

    /// Replaces the request by one that the pod asks for now and that this lease can satisfy. What was
    /// recorded of the pod is forgotten, so that a return to it is news for any listener.
    pub async fn update_request(&self, request: &Request) -> Result<(), Error> {
        write_under_claim!(
            self,
            "UPDATE lease SET request = $4, retains = $5, pod_digest = NULL WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
            request_to_json(request)?,
            outlives_pod(request),
        )
    }

    /// Sets the phase to retained: an unbound lease waits for a successor, for `seconds` by
    /// Postgres' clock, or until a person ends it.
    pub async fn retain_lease(&self, seconds: Option<u64>) -> Result<(), Error> {
        // A hundred years are as good as the longest Go duration, and no interval overflows.
        let seconds = seconds.map(|seconds| f64::from(u32::try_from(seconds).unwrap_or(u32::MAX)));
        write_under_claim!(
            self,
            "UPDATE lease SET phase = 'retained', missed_reads = 0, retained_until = now() + make_interval(secs => $4)
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND private_ip IS NULL AND phase <> 'releasing'",
            seconds,
        )
    }

    /// Begins the handover: the pod is gone, and its entries exist a little longer for its
    /// successor.
    pub async fn begin_handover(&self) -> Result<(), Error> {
        write_under_claim!(
            self,
            "UPDATE lease SET handover_since = coalesce(handover_since, now())
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND phase <> 'releasing'",
        )
    }

    /// Transfers a lease that is retained, or in its handover, to the successor.
    /// [`Error::Conflict`] by `LeaseOfPod`: the successor already has a lease.
    pub async fn transfer_to_successor(&self, pod: Uuid, request: &Request) -> Result<(), Error> {
        write_under_claim!(
            self,
            "UPDATE lease SET phase = 'provisioning', pod_uid = $4, pod_created_at = NULL, request = $5, retains = $6, retained_until = NULL, pod_missing_since = NULL, created_at = now()
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND (phase = 'retained' OR (phase <> 'releasing' AND handover_since IS NOT NULL))",
            pod,
            request_to_json(request)?,
            outlives_pod(request),
        )
    }

    /// Counts one definite read that did not show the published state.
    pub async fn count_missed_read(&self) -> Result<(), Error> {
        write_under_claim!(
            self,
            "UPDATE lease SET missed_reads = missed_reads + 1 WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
        )
    }

    /// Deletes a lease that holds nothing. A lease that still has an EIP, a target, a port or an
    /// unresolved operation is not deleted, and the call returns [`Error::ClaimLost`].
    pub async fn delete_empty_lease(&self) -> Result<(), Error> {
        write_under_claim!(
            self,
            "DELETE FROM lease l WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND allocation_id IS NULL AND private_ip IS NULL
               AND NOT EXISTS (SELECT FROM port p WHERE p.lease_id = l.lease_id)
               AND NOT EXISTS (SELECT FROM operation o WHERE o.lease_id = l.lease_id AND o.settled_at IS NULL)",
        )
    }
}
