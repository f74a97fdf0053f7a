//! A lease as a whole: read under a claim, and changed by decisions.

use crate::hand_off::{keeps, to_json};
use crate::jobs::fenced;
use crate::{Claim, Error, Store};
use jiff::Timestamp;
use sqlx::PgConnection;
use std::net::Ipv4Addr;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{AllocationId, EniId, ForwardEntryId, ForwardTableId, LeaseId, NatGatewayId, PodUid, VSwitchId, VpcId, ZoneId};
use waygate_core::lease::{GatewayFact, PortKey};
use waygate_core::lease::{Lease, LeasedEip, LeasedPort, Phase, Target};
use waygate_core::operation::{Operation, Refused};
use waygate_core::request::{ExposedPort, Kind, Protocol, Request};

/// A lease under a claim, with its unresolved operations.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The lease.
    pub lease: Lease,
    /// Its operations whose end is not known, the oldest first.
    pub operations: Vec<Operation>,
    /// What is known of the gateway on which its ports stand.
    pub gateway: GatewayFact,
    /// News so far; see [`crate::Finish::wake`].
    pub wake: i64,
    /// Waits in a row for `reason`.
    pub tries: i32,
    /// What it waited for last.
    pub reason: Option<String>,
    /// Why a queued change was not carried out; not told yet.
    pub refused: Option<Refused>,
    /// How often that has happened in a row.
    pub refusals: i32,
    /// How long ago its last operation was settled, or there was news of its gateway: a read that began since then shows what came of it.
    pub stirred_ago: Option<Duration>,
    /// Postgres' clock.
    pub now: Timestamp,
}

/// So many pods of a gateway are told within ten minutes that their entries are lost, or a twentieth of those that have some.
const LOSSES: i64 = 5;

/// Holds the lease's row, so that its claim cannot pass to somebody else before this commits; says in which phase it is.
async fn lock_claim(connection: &mut PgConnection, claim: &Claim) -> Result<Phase, Error> {
    let locked = sqlx::query_scalar!(
        "SELECT phase FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE",
        claim.lease_id.0,
        claim.owner,
        claim.epoch,
    )
    .fetch_optional(connection)
    .await?;
    phase(&locked.ok_or(Error::ClaimLost)?)
}

impl Store {
    /// Reads a claimed lease and renews the claim for `period`.
    pub async fn load(&self, claim: &Claim, period: Duration) -> Result<Loaded, Error> {
        let row = sqlx::query!(
            r#"UPDATE lease SET due_at = now() + make_interval(secs => $4)
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND due_at > now()
             RETURNING kind, namespace, pod_name, pod_uid, controller, request, phase, allocation_id, host(eip_address) AS eip_address, ours,
               eni_id, vswitch_id, zone_id, vpc_id, host(private_ip) AS private_ip, primary_ip, generation, resource, doubts, spilling, told, lost_to, wake, tries,
               reason, refused, refusals, extract(epoch FROM parted_at)::float8 AS parted_at, extract(epoch FROM created_at)::float8 AS "created_at!",
               extract(epoch FROM now() - greatest(news_at, (SELECT max(settled_at) FROM operation o WHERE o.lease_id = $1)))::float8 AS stirred_ago,
               coalesce(lost_at > now() - interval '10 minutes', false) AS "told_of_loss!",
               extract(epoch FROM ends_at)::float8 AS ends_at, extract(epoch FROM now())::float8 AS "now!""#,
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            period.as_secs_f64(),
        )
        .fetch_optional(&self.pool)
        .await?
        .ok_or(Error::ClaimLost)?;
        let request: Request = serde_json::from_value(row.request).map_err(Error::corrupt)?;
        let eip = match (row.allocation_id, row.eip_address) {
            (Some(id), Some(ip)) => Some(LeasedEip { allocation_id: AllocationId::new(id), ip_address: address(&ip)?, ours: row.ours }),
            _ => None,
        };
        let target = match (row.eni_id, row.private_ip) {
            (Some(eni), Some(ip)) => Some(Target {
                eni_id: EniId::new(eni),
                vswitch_id: VSwitchId::new(row.vswitch_id.unwrap_or_default()),
                zone_id: ZoneId::new(row.zone_id.unwrap_or_default()),
                vpc_id: VpcId::new(row.vpc_id.unwrap_or_default()),
                private_ip: address(&ip)?,
                primary: row.primary_ip.unwrap_or(false),
            }),
            _ => None,
        };
        let kind = if row.kind == Kind::Eip.as_str() { Kind::Eip } else { Kind::Dnat };
        let (ports, mut gateway) = if kind == Kind::Dnat { self.ports_of(claim.lease_id, &request).await? } else { Default::default() };
        // What was begun is not left half-done: its pod is one of those that are told.
        gateway.losses_held &= !row.told_of_loss;
        let lease = Lease {
            id: claim.lease_id,
            kind,
            namespace: row.namespace,
            pod_name: row.pod_name,
            pod_uid: PodUid::new(row.pod_uid.to_string()),
            controller: row.controller,
            request,
            phase: phase(&row.phase)?,
            eip,
            ports,
            target,
            generation: row.generation,
            resource: row.resource,
            doubts: row.doubts,
            spilling: row.spilling,
            told: row.told,
            lost_to: row.lost_to,
            parted_at: row.parted_at.map(moment).transpose()?,
            created_at: moment(row.created_at)?,
            ends_at: row.ends_at.map(moment).transpose()?,
        };
        let operations = self.unresolved(claim.lease_id).await?;
        Ok(Loaded {
            lease,
            operations,
            gateway,
            wake: row.wake,
            tries: row.tries,
            reason: row.reason,
            refused: row.refused.map(serde_json::from_value).transpose().map_err(Error::corrupt)?,
            refusals: row.refusals,
            stirred_ago: row.stirred_ago.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            now: moment(row.now)?,
        })
    }

    /// The ports of a lease, in the order the pod asked for them, and what is known of their gateway.
    async fn ports_of(&self, lease: LeaseId, request: &Request) -> Result<(Vec<LeasedPort>, GatewayFact), Error> {
        let rows = sqlx::query!(
            r#"SELECT p.allocation_id, p.proto, p.port, p.head AS "head!", p.gateway_id, p.target AS "target!", p.entry_id, p.deleted,
                 host(e.address) AS "address!", e.table_id, e.snat, e.trouble,
                 CASE WHEN g.full_until > now() THEN g.full_at END AS full_at, coalesce(g.modify_denied_until > now(), false) AS "modify_denied!",
                 coalesce(g.losses_held_until > now(), false) AS "losses_held!"
               FROM port p JOIN gateway_eip e USING (allocation_id) LEFT JOIN gateway g ON g.gateway_id = p.gateway_id
               WHERE p.lease_id = $1"#,
            lease.0,
        )
        .fetch_all(&self.pool)
        .await?;
        // All are on one EIP.
        let gateway = rows.first().map_or_else(GatewayFact::default, |row| GatewayFact {
            full_at: row.full_at.and_then(|most| usize::try_from(most).ok()),
            snat: row.snat,
            trouble: row.trouble.clone(),
            modify_denied: row.modify_denied,
            losses_held: row.losses_held,
        });
        let ports: Result<Vec<_>, Error> = rows
            .into_iter()
            .map(|row| {
                Ok(LeasedPort {
                    allocation_id: AllocationId::new(row.allocation_id),
                    external_ip: address(&row.address)?,
                    external_port: port(row.port)?,
                    head: port(row.head)?,
                    exposed: ExposedPort { port: port(row.target)?, protocol: protocol(row.proto) },
                    gateway_id: NatGatewayId::new(row.gateway_id),
                    table_id: ForwardTableId::new(row.table_id),
                    entry_id: row.entry_id.map(ForwardEntryId::new),
                    deleted: row.deleted,
                })
            })
            .collect();
        let mut ports = ports?;
        if let Request::Dnat(request) = request {
            ports.sort_by_key(|port| request.ports.iter().position(|asked| *asked == port.exposed));
        }
        Ok((ports, gateway))
    }

    /// Sets the phase. `Ending` is for good: the row is written only while it is not ending. What is held has its successor, if it had to wait for one.
    pub async fn set_phase(&self, claim: &Claim, phase: Phase) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET phase = $4, doubts = 0, told = told OR $4 = 'held', parted_at = CASE WHEN $4 <> 'held' THEN parted_at END
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND (phase <> 'ending' OR $4 = 'ending')",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            phase.as_str(),
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// The pod asks for something else that the lease can become.
    pub async fn adjust(&self, claim: &Claim, request: &Request) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET request = $4, keeps = $5 WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            to_json(request)?,
            keeps(request),
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// Nothing points anywhere: kept for a successor, for `seconds` by Postgres' clock or until a person ends it.
    pub async fn keep(&self, claim: &Claim, seconds: Option<u64>) -> Result<(), Error> {
        // A hundred years are as good as the longest Go duration, and no interval overflows.
        let seconds = seconds.map(|seconds| f64::from(u32::try_from(seconds).unwrap_or(u32::MAX)));
        let done = sqlx::query!(
            "UPDATE lease SET phase = 'kept', doubts = 0, ends_at = now() + make_interval(secs => $4)
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND private_ip IS NULL AND phase <> 'ending'",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            seconds,
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// The pod is gone, and its entries stand for a while for its successor.
    pub async fn part(&self, claim: &Claim) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET parted_at = coalesce(parted_at, now())
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND phase <> 'ending'",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// A lease that is kept, or whose entries stand for it, becomes the successor's. [`Error::Taken`] by `lease_pod`: the successor has one.
    pub async fn succeed(&self, claim: &Claim, pod: Uuid, request: &Request) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET phase = 'wanted', pod_uid = $4, pod_created_at = NULL, request = $5, keeps = $6, ends_at = NULL, created_at = now()
             WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND (phase = 'kept' OR (phase <> 'ending' AND parted_at IS NOT NULL))",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            pod,
            to_json(request)?,
            keeps(request),
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// A person deleted the custom resource of a kept lease: it ends, unless more than 20 of the cluster, or 5 % of those kept, went within
    /// ten minutes: nobody deletes so many one by one, but uninstalling another controller does. Says whether it ends.
    pub async fn release_kept(&self, claim: &Claim) -> Result<bool, Error> {
        let mut transaction = self.pool.begin().await?;
        if lock_claim(&mut transaction, claim).await? != Phase::Kept {
            return Err(Error::ClaimLost);
        }
        // Counted one at a time: many are deleted together.
        sqlx::query!("SELECT one FROM store FOR UPDATE").fetch_one(&mut *transaction).await?;
        let done = sqlx::query!(
            "WITH l AS MATERIALIZED (
               SELECT lease_id, cluster_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND phase = 'kept'),
             r AS (
               INSERT INTO release (cluster_id, lease_id) SELECT cluster_id, lease_id FROM l
               WHERE (SELECT count(*) FROM release x WHERE x.cluster_id = l.cluster_id AND x.at > now() - interval '10 minutes')
                   < greatest(20, (SELECT count(*) / 20 FROM lease k WHERE k.cluster_id = l.cluster_id AND k.phase = 'kept'))
               RETURNING lease_id)
             UPDATE lease SET phase = 'ending' FROM r WHERE lease.lease_id = r.lease_id",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Whether the pod may be told that its entries at the gateway are lost; it is counted then, once in ten minutes. False: so many were told that no
    /// more are for now, see [`GatewayFact::losses_held`].
    pub async fn lose(&self, claim: &Claim, gateway: &NatGatewayId) -> Result<bool, Error> {
        let mut transaction = self.pool.begin().await?;
        lock_claim(&mut transaction, claim).await?;
        // Counted one at a time: many are lost together.
        sqlx::query!("INSERT INTO gateway (gateway_id) VALUES ($1) ON CONFLICT DO NOTHING", gateway.as_str())
            .execute(&mut *transaction)
            .await?;
        sqlx::query!("SELECT gateway_id FROM gateway WHERE gateway_id = $1 FOR UPDATE", gateway.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        let told = sqlx::query_scalar!(
            r#"WITH l AS MATERIALIZED (
                 SELECT lease_id, phase, CASE WHEN lost_at > now() - interval '10 minutes' THEN lost_at END AS lost_at FROM lease
                 WHERE lease_id IN (SELECT lease_id FROM port WHERE gateway_id = $2)),
               t AS (
                 UPDATE lease SET lost_at = now() WHERE lease_id = $1
                   AND (SELECT count(*) FROM l WHERE lost_at IS NOT NULL AND lease_id <> $1)
                     < greatest($3, (SELECT count(*) / 20 FROM l WHERE phase = 'held'))
                 RETURNING lease_id),
               h AS (
                 UPDATE gateway SET losses_held_until = (SELECT min(lost_at) FROM l) + interval '10 minutes'
                 WHERE gateway_id = $2 AND NOT EXISTS (SELECT FROM t))
             SELECT EXISTS (SELECT FROM t) AS "told!""#,
            claim.lease_id.0,
            gateway.as_str(),
            LOSSES,
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(told)
    }

    /// One definite read did not show what was published.
    pub async fn doubt(&self, claim: &Claim) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET doubts = doubts + 1 WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// Deletes a lease that holds nothing. One that still has something is kept, whatever the caller believed.
    pub async fn forget(&self, claim: &Claim) -> Result<(), Error> {
        let done = sqlx::query!(
            "DELETE FROM lease l WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND allocation_id IS NULL AND private_ip IS NULL
               AND NOT EXISTS (SELECT FROM port p WHERE p.lease_id = l.lease_id)
               AND NOT EXISTS (SELECT FROM operation o WHERE o.lease_id = l.lease_id AND o.outcome IS NULL)",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// The lease's EIP is given back, or is nothing of ours.
    pub async fn forget_eip(&self, claim: &Claim) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET allocation_id = NULL, eip_address = NULL, ours = false WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// From here on something may point at this address. Forward entries may be pointed there from another as they stand; an EIP has one
    /// binding, which must be gone. [`Error::Taken`] by `lease_target` or `port_internal`: an earlier pod's lease still does.
    pub async fn set_target(&self, claim: &Claim, target: &Target) -> Result<(), Error> {
        let done = sqlx::query!(
            "WITH l AS (
               UPDATE lease SET eni_id = $4, vswitch_id = $5, zone_id = $6, vpc_id = $7, private_ip = $8::text::inet, primary_ip = $9,
                 generation = generation + 1, parted_at = NULL
               WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND (private_ip IS NULL OR kind = 'dnat') RETURNING lease_id),
             p AS (UPDATE port SET private_ip = $8::text::inet FROM l WHERE port.lease_id = l.lease_id)
             SELECT lease_id FROM l",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            target.eni_id.as_str(),
            target.vswitch_id.as_str(),
            target.zone_id.as_str(),
            target.vpc_id.as_str(),
            target.private_ip.to_string(),
            target.primary,
        )
        .fetch_optional(&self.pool)
        .await?;
        fenced(u64::from(done.is_some()))
    }

    /// Nothing points there any more, and nothing can.
    pub async fn clear_target(&self, claim: &Claim) -> Result<(), Error> {
        let done = sqlx::query!(
            "WITH l AS (
               UPDATE lease SET eni_id = NULL, vswitch_id = NULL, zone_id = NULL, vpc_id = NULL, private_ip = NULL, primary_ip = NULL, parted_at = NULL
               WHERE lease_id = $1 AND owner = $2 AND epoch = $3 RETURNING lease_id),
             p AS (UPDATE port SET private_ip = NULL, entry_id = NULL, deleted = false FROM l WHERE port.lease_id = l.lease_id)
             SELECT lease_id FROM l",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
        )
        .fetch_optional(&self.pool)
        .await?;
        fenced(u64::from(done.is_some()))
    }

    /// Makes the lease the writer of its custom resource, or ends that. [`Error::Taken`] by `lease_name`: a predecessor still is.
    pub async fn set_resource(&self, claim: &Claim, writes: Writes) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET resource = $4 WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            writes == Writes::Yes,
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// Which of these leases the store knows.
    pub async fn known(&self, leases: &[LeaseId]) -> Result<Vec<LeaseId>, Error> {
        let ids: Vec<_> = leases.iter().map(|lease| lease.0).collect();
        let rows = sqlx::query_scalar!("SELECT lease_id FROM lease WHERE lease_id = ANY($1)", &ids).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(LeaseId).collect())
    }
}

/// Whether a lease writes the custom resource of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It does.
    Yes,
    /// It does not, or no more.
    No,
}

pub(crate) fn address(text: &str) -> Result<Ipv4Addr, Error> {
    text.parse().map_err(|_| Error::corrupt(format_args!("address \"{text}\"")))
}

pub(crate) fn port(number: i32) -> Result<u16, Error> {
    u16::try_from(number).map_err(|_| Error::corrupt(format_args!("port {number}")))
}

pub(crate) fn protocol(number: i16) -> Protocol {
    if number == Protocol::Udp.number() { Protocol::Udp } else { Protocol::Tcp }
}

pub(crate) fn moment(seconds: f64) -> Result<Timestamp, Error> {
    jiff::SignedDuration::try_from_secs_f64(seconds).and_then(Timestamp::from_duration).map_err(Error::corrupt)
}

fn phase(text: &str) -> Result<Phase, Error> {
    [Phase::Headstart, Phase::Wanted, Phase::Held, Phase::Kept, Phase::Ending]
        .into_iter()
        .find(|phase| phase.as_str() == text)
        .ok_or_else(|| Error::corrupt(format_args!("phase \"{text}\"")))
}

/// The columns that name an entry's port rows.
pub(crate) fn key(port: &PortKey) -> (&str, i16, i32) {
    (port.allocation_id.as_str(), port.protocol.number(), i32::from(port.port))
}
