//! Loads a lease as a whole, under a claim: what it holds, its unresolved operations, and the facts
//! about its gateway.

use crate::claimed::Claimed;
use crate::columns::{address, kind, moment, phase, port, protocol};
use crate::error::Error;
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{
    AllocationId, EniId, ForwardEntryId, ForwardTableId, LeaseId, NatGatewayId, PodUid, VSwitchId,
    VpcId, ZoneId,
};
use waygate_core::lease::{GatewayFact, Lease, LeasedEip, LeasedPort, Target};
use waygate_core::operation::{Operation, Refused, Sending};
use waygate_core::request::{ExposedPort, Kind, Request};
use waygate_core::rules::timing::LOSSES_COUNTED;

/// A lease under a claim, with its unresolved operations and its gateway's facts.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The lease with the EIP or the ports that it holds.
    pub lease: Lease,
    /// Unresolved operations of the lease, the oldest first.
    pub operations: Vec<Operation>,
    /// Known facts about the gateway that has the lease's ports.
    pub gateway: GatewayFact,
    /// Number of wake-ups at the time of the read; see [`crate::Finish::wake`].
    pub wake: i64,
    /// Waits in a row for `reason`.
    pub tries: i32,
    /// The reason of the last wait.
    pub reason: Option<String>,
    /// The rejection of a queued change that has not been published yet.
    pub refused: Option<Refused>,
    /// Rejections in a row without a change that succeeded.
    pub refusals: i32,
    /// Time since the lease's last operation settled or its gateway changed, whichever is later. A
    /// read that began after that shows the result.
    pub stirred_ago: Option<Duration>,
    /// The time of the read, by Postgres' clock.
    pub now: Timestamp,
}

/// A row of `load_lease.sql`.
struct LeaseRow {
    kind: String,
    namespace: String,
    pod_name: String,
    pod_uid: Uuid,
    controller: Option<String>,
    request: serde_json::Value,
    phase: String,
    allocation_id: Option<String>,
    eip_address: Option<String>,
    ours: bool,
    eni_id: Option<String>,
    vswitch_id: Option<String>,
    zone_id: Option<String>,
    vpc_id: Option<String>,
    private_ip: Option<String>,
    primary_ip: Option<bool>,
    generation: i32,
    resource: bool,
    doubts: i32,
    spilling: bool,
    told: bool,
    lost_to: Option<String>,
    wake: i64,
    tries: i32,
    reason: Option<String>,
    refused: Option<serde_json::Value>,
    refusals: i32,
    parted_at: Option<f64>,
    created_at: f64,
    stirred_ago: Option<f64>,
    told_of_loss: bool,
    ends_at: Option<f64>,
    now: f64,
}

impl LeaseRow {
    fn kind(&self) -> Kind {
        kind(&self.kind)
    }

    fn eip(&self) -> Result<Option<LeasedEip>, Error> {
        let (Some(id), Some(ip)) = (&self.allocation_id, &self.eip_address) else {
            return Ok(None);
        };
        Ok(Some(LeasedEip {
            allocation_id: AllocationId::new(id),
            ip_address: address(ip)?,
            ours: self.ours,
        }))
    }

    fn target(&self) -> Result<Option<Target>, Error> {
        let (Some(eni), Some(ip)) = (&self.eni_id, &self.private_ip) else { return Ok(None) };
        let id = |column: &Option<String>| column.clone().unwrap_or_default();
        Ok(Some(Target {
            eni_id: EniId::new(eni),
            vswitch_id: VSwitchId::new(id(&self.vswitch_id)),
            zone_id: ZoneId::new(id(&self.zone_id)),
            vpc_id: VpcId::new(id(&self.vpc_id)),
            private_ip: address(ip)?,
            primary: self.primary_ip.unwrap_or(false),
        }))
    }

    fn into_loaded(
        self,
        id: LeaseId,
        request: Request,
        (ports, mut gateway): LoadedPorts,
        operations: Vec<Operation>,
    ) -> Result<Loaded, Error> {
        // A withdrawal that has begun is finished: this pod was already counted, so the limit does
        // not apply.
        gateway.losses_held &= !self.told_of_loss;
        let lease = Lease {
            id,
            kind: self.kind(),
            eip: self.eip()?,
            target: self.target()?,
            namespace: self.namespace,
            pod_name: self.pod_name,
            pod_uid: PodUid::new(self.pod_uid.to_string()),
            controller: self.controller,
            request,
            phase: phase(&self.phase)?,
            ports,
            generation: self.generation,
            resource: self.resource,
            doubts: self.doubts,
            spilling: self.spilling,
            told: self.told,
            lost_to: self.lost_to,
            parted_at: self.parted_at.map(moment).transpose()?,
            created_at: moment(self.created_at)?,
            ends_at: self.ends_at.map(moment).transpose()?,
        };
        Ok(Loaded {
            lease,
            operations,
            gateway,
            wake: self.wake,
            tries: self.tries,
            reason: self.reason,
            refused: self
                .refused
                .map(serde_json::from_value)
                .transpose()
                .map_err(Error::corrupt)?,
            refusals: self.refusals,
            stirred_ago: self
                .stirred_ago
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            now: moment(self.now)?,
        })
    }
}

/// The ports of a lease, and the facts about their gateway.
type LoadedPorts = (Vec<LeasedPort>, GatewayFact);

impl Claimed<'_> {
    /// Reads a claimed lease and renews the claim for `period`.
    pub async fn load(&self, period: Duration) -> Result<Loaded, Error> {
        let row = sqlx::query_file_as!(
            LeaseRow,
            "src/queries/load_lease.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            period.as_secs_f64(),
            LOSSES_COUNTED.as_secs_f64(),
        )
        .fetch_optional(&self.store.pool)
        .await?
        .ok_or(Error::ClaimLost)?;
        let request = serde_json::from_value(row.request.clone()).map_err(Error::corrupt)?;
        let ports = if row.kind() == Kind::Dnat {
            self.load_ports(&request).await?
        } else {
            Default::default()
        };
        let operations = self.load_operations().await?;
        row.into_loaded(self.claim.lease_id, request, ports, operations)
    }

    /// The ports of a lease, in the order in which the pod lists them, with the facts about their
    /// gateway.
    async fn load_ports(&self, request: &Request) -> Result<LoadedPorts, Error> {
        let rows = sqlx::query_file!("src/queries/load_ports.sql", self.claim.lease_id.0,)
            .fetch_all(&self.store.pool)
            .await?;
        // All ports of a lease are on one EIP, so any row has the gateway's facts.
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

    /// The unresolved operations of a lease, the oldest first.
    async fn load_operations(&self) -> Result<Vec<Operation>, Error> {
        let rows = sqlx::query!(
            r#"SELECT operation_id, resource, change, misses, waits_out, queued, lane IS NOT NULL AND answer_by > now() AS "under_way!",
               extract(epoch FROM fence_until)::float8 AS "fence_until!"
             FROM operation WHERE lease_id = $1 AND outcome IS NULL ORDER BY intended_at, operation_id"#,
            self.claim.lease_id.0,
        )
        .fetch_all(&self.store.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Operation {
                    id: row.operation_id,
                    resource: row.resource,
                    change: serde_json::from_value(row.change).map_err(Error::corrupt)?,
                    sending: match (row.queued, row.under_way) {
                        (true, _) => Sending::Queued,
                        (false, true) => Sending::Sent,
                        // A claim holder waits for its own answer, so an unresolved operation that
                        // is loaded here was sent under an earlier claim.
                        (false, false) => Sending::Unanswered,
                    },
                    fence_until: moment(row.fence_until)?,
                    misses: row.misses,
                    waits_out: row.waits_out,
                })
            })
            .collect()
    }
}
