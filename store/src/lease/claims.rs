//! The lease as a job: claimed by one worker for a while, renewed during the work, finished with
//! the time at which it is due again.

use crate::claimed::{Claim, Claimed};
use crate::cluster::Cluster;
use crate::columns::{parse_kind, parse_phase};
use crate::error::Error;
use crate::store::Store;
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::LeaseId;
use waygate_core::lease::Phase;
use waygate_core::operation::Rejection;
use waygate_core::request::Kind;

/// The end of a claim: the reason of the wait, and the time at which the lease is due again.
#[derive(Clone, Debug)]
pub struct Finish<'a> {
    /// Value of `lease.wake` that the last step had read. If the column has grown since, the lease
    /// is due at once.
    pub wake: i64,
    /// Time until the lease is due again.
    pub retry_in: Duration,
    /// Waits in a row for the same reason.
    pub tries: i32,
    /// The reason of the wait, as in the pod condition, for programs.
    pub reason: &'a str,
    /// The message of the pod condition, for people.
    pub message: &'a str,
    /// Begin of the look that ended with this wait; none where the look failed.
    pub looked_at: Option<Timestamp>,
    /// True if that look did not find the pod, false if it found it or another of its name; none
    /// where the pod was not read.
    pub pod_missing: Option<bool>,
    /// What becomes of the lease's history of refusals.
    pub history: RefusalHistory<'a>,
}

/// What a pause says of the changes that the cloud has refused.
#[derive(Clone, Copy, Debug)]
pub enum RefusalHistory<'a> {
    /// Nothing new.
    Unchanged,
    /// This rejection was published in the condition: its change is not asked for again before the
    /// lease is due by itself.
    Acknowledged {
        /// The rejection.
        rejection: &'a Rejection,
        /// True if the count of refusals starts anew with it.
        starts_anew: bool,
    },
    /// The lease rests: refusals are history.
    Ended,
}

impl<'a> RefusalHistory<'a> {
    fn acknowledged(self) -> Option<&'a Rejection> {
        if let Self::Acknowledged { rejection, .. } = self { Some(rejection) } else { None }
    }

    fn keeps_count(self) -> bool {
        matches!(self, Self::Unchanged | Self::Acknowledged { starts_anew: false, .. })
    }
}

impl Store {
    /// Claims up to `limit` leases that have been due for `due_for`, the longest due first. A claim
    /// expires after `period`; then any worker may claim the lease again.
    pub async fn claim_due_leases(
        &self,
        cluster: Cluster,
        owner: Uuid,
        limit: i64,
        due_for: Duration,
        period: Duration,
    ) -> Result<Vec<Claim>, Error> {
        // The planner sees that few leases are due only where the column is compared with now().
        // An array, not a join: however many leases are due, the planner looks each of them up.
        let rows = sqlx::query!(
            "WITH due AS MATERIALIZED (
               SELECT lease_id FROM lease WHERE cluster_id = $1 AND due_at <= now() AND due_at <= now() - make_interval(secs => $5) ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
             UPDATE lease SET owner = $2, epoch = epoch + 1, due_at = now() + make_interval(secs => $4)
             WHERE lease_id = ANY(ARRAY(SELECT lease_id FROM due))
             RETURNING lease_id, epoch",
            cluster.id,
            owner,
            limit,
            period.as_secs_f64(),
            due_for.as_secs_f64(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Claim { lease_id: LeaseId(row.lease_id), owner, epoch: row.epoch })
            .collect())
    }

    /// Extends those of the owner's claims that still hold by `period`. Expired claims stay
    /// expired.
    pub async fn renew_claims(
        &self,
        owner: Uuid,
        leases: &[LeaseId],
        period: Duration,
    ) -> Result<(), Error> {
        let ids: Vec<_> = leases.iter().map(|lease| lease.0).collect();
        sqlx::query!(
            "UPDATE lease SET due_at = now() + make_interval(secs => $3) WHERE lease_id = ANY($2) AND owner = $1 AND due_at > now()",
            owner,
            &ids,
            period.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// What a claim holder must know of a lease to give it back, read apart from the rest, which may be
/// unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedJob {
    /// Number of wake-ups at the time of the read; see [`Finish::wake`].
    pub wake: i64,
    /// Waits in a row for `reason`.
    pub tries: i32,
    /// The reason of the last wait.
    pub reason: Option<String>,
    /// Kind of the lease.
    pub kind: Kind,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod_name: String,
    /// UID of the pod.
    pub pod_uid: Uuid,
    /// Phase of the lease.
    pub phase: Phase,
}

impl Claimed<'_> {
    /// Reads what is needed to give the claim back, and nothing that could be unreadable.
    pub async fn load_job(&self) -> Result<ClaimedJob, Error> {
        let row = sqlx::query!(
            "SELECT wake, tries, reason, kind, namespace, pod_name, pod_uid, phase FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
        )
        .fetch_optional(&self.store.pool)
        .await?
        .ok_or(Error::ClaimLost)?;
        Ok(ClaimedJob {
            wake: row.wake,
            tries: row.tries,
            reason: row.reason,
            kind: parse_kind(&row.kind),
            namespace: row.namespace,
            pod_name: row.pod_name,
            pod_uid: row.pod_uid,
            phase: parse_phase(&row.phase)?,
        })
    }

    /// Gives the claim back and sets the time at which the lease is due again. Returns how long that
    /// is: nothing if the lease was woken during the claim.
    pub async fn finish_claim(&self, finish: &Finish<'_>) -> Result<Duration, Error> {
        let acknowledged = finish.history.acknowledged();
        // A rejection recorded during the claim differs from the acknowledged one, and stays.
        let woken = sqlx::query_scalar!(
            r#"UPDATE lease SET owner = NULL, tries = $5, reason = $6, message = $7,
               rejections = CASE WHEN $11 THEN rejections ELSE 0 END + ($9::jsonb IS NOT NULL)::int,
               rejection = CASE WHEN rejection = $9 THEN NULL ELSE rejection END, looked_at = coalesce(to_timestamp($13::float8), looked_at),
               refusal = CASE WHEN $12 THEN NULL ELSE coalesce($9, refusal) END,
               refused_for = CASE WHEN $12 THEN NULL ELSE coalesce($10, refused_for) END,
               refused_until = CASE WHEN $12 THEN NULL WHEN $9 IS NOT NULL THEN now() + make_interval(secs => $8) ELSE refused_until END,
               pod_missing_since = CASE WHEN $14::bool IS NULL THEN pod_missing_since WHEN $14 THEN coalesce(pod_missing_since, now()) END,
               due_at = CASE WHEN wake <> $4 THEN now() ELSE now() + make_interval(secs => $8) END
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3
             RETURNING wake <> $4 AS "woken!""#,
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            finish.wake,
            finish.tries,
            finish.reason,
            finish.message,
            finish.retry_in.as_secs_f64(),
            acknowledged.map(serde_json::to_value).transpose().map_err(Error::corrupt_value)?,
            acknowledged.map(|rejection| rejection.reason.as_str()),
            finish.history.keeps_count(),
            matches!(finish.history, RefusalHistory::Ended),
            finish.looked_at.map(|moment| moment.as_duration().as_secs_f64()),
            finish.pod_missing,
        )
        .fetch_optional(&self.store.pool)
        .await?
        .ok_or(Error::ClaimLost)?;
        Ok(if woken { Duration::ZERO } else { finish.retry_in })
    }
}
