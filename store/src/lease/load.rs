//! Loads a lease as a whole, under a claim: what it holds, its unresolved operations, and the facts
//! about its gateway.

use crate::claimed::Claimed;
use crate::columns::{
    parse_address, parse_kind, parse_phase, port_from_column, protocol_from_number,
    timestamp_from_seconds,
};
use crate::error::Error;
use crate::lease::claims::ClaimedJob;
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{
    AllocationId, EniId, ForwardEntryId, ForwardTableId, LeaseId, NatGatewayId, PodUid, VSwitchId,
    VpcId, ZoneId,
};
use waygate_core::lease::{GatewayState, Lease, LeasedEip, LeasedPort, Target};
use waygate_core::operation::{Operation, Refusal, Rejection, SendState};
use waygate_core::request::{ExposedPort, Kind, Request};
use waygate_core::rules::timing::LOSS_WINDOW;

/// Reads of a lease that is woken all the time; then its claim is left to expire.
const MAX_READS: usize = 10;

/// A lease under a claim, with its unresolved operations and its gateway's facts.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The lease with the EIP or the ports that it holds.
    pub lease: Lease,
    /// Unresolved operations of the lease, the oldest first.
    pub operations: Vec<Operation>,
    /// Known facts about the gateway that has the lease's ports.
    pub gateway: GatewayState,
    /// Number of wake-ups at the time of the read; see [`crate::Finish::wake`].
    pub wake: i64,
    /// Waits in a row for `reason`.
    pub tries: i32,
    /// The reason of the last wait.
    pub reason: Option<String>,
    /// The rejection of a queued change that has not been published yet.
    pub rejection: Option<Rejection>,
    /// The last rejection that was published, and until when its change is not asked for again.
    pub refusal: Option<Refusal>,
    /// Rejections since a refused change was done, or the lease rested.
    pub rejections: i32,
    /// Time since the lease's last operation settled or its gateway changed, whichever is later. A
    /// read that began after that shows the result.
    pub since_last_change: Option<Duration>,
    /// The time of the read, by Postgres' clock.
    pub now: Timestamp,
}

impl Loaded {
    /// What is needed to give the claim back.
    pub fn job(&self) -> ClaimedJob {
        ClaimedJob {
            wake: self.wake,
            tries: self.tries,
            reason: self.reason.clone(),
            kind: self.lease.kind,
            namespace: self.lease.namespace.clone(),
            pod_name: self.lease.pod_name.clone(),
            pod_uid: self.lease.pod_uid.as_str().parse().unwrap_or_default(),
            phase: self.lease.phase,
        }
    }
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
    managed: bool,
    eni_id: Option<String>,
    vswitch_id: Option<String>,
    zone_id: Option<String>,
    vpc_id: Option<String>,
    private_ip: Option<String>,
    primary_ip: Option<bool>,
    generation: i32,
    owns_custom_resource: bool,
    missed_reads: i32,
    vacating: bool,
    was_published: bool,
    preempted_by: Option<String>,
    wake: i64,
    tries: i32,
    reason: Option<String>,
    rejection: Option<serde_json::Value>,
    rejections: i32,
    refusal: Option<serde_json::Value>,
    refused_until: Option<f64>,
    handover_since: Option<f64>,
    pod_missing_since: Option<f64>,
    created_at: f64,
    since_last_change: Option<f64>,
    loss_reported: bool,
    release_accepted_at: Option<f64>,
    retained_until: Option<f64>,
    now: f64,
}

impl LeaseRow {
    fn kind(&self) -> Kind {
        parse_kind(&self.kind)
    }

    fn leased_eip(&self) -> Result<Option<LeasedEip>, Error> {
        let (Some(id), Some(ip)) = (&self.allocation_id, &self.eip_address) else {
            return Ok(None);
        };
        Ok(Some(LeasedEip {
            allocation_id: AllocationId::new(id),
            ip_address: parse_address(ip)?,
            managed: self.managed,
            release_accepted_at: self
                .release_accepted_at
                .map(timestamp_from_seconds)
                .transpose()?,
        }))
    }

    fn lease_target(&self) -> Result<Option<Target>, Error> {
        let (Some(eni), Some(ip)) = (&self.eni_id, &self.private_ip) else { return Ok(None) };
        let id = |column: &Option<String>| column.clone().unwrap_or_default();
        Ok(Some(Target {
            eni_id: EniId::new(eni),
            vswitch_id: VSwitchId::new(id(&self.vswitch_id)),
            zone_id: ZoneId::new(id(&self.zone_id)),
            vpc_id: VpcId::new(id(&self.vpc_id)),
            private_ip: parse_address(ip)?,
            primary: self.primary_ip.unwrap_or(false),
        }))
    }

    fn last_refusal(&self) -> Result<Option<Refusal>, Error> {
        let (Some(rejection), Some(until)) = (&self.refusal, self.refused_until) else {
            return Ok(None);
        };
        Ok(Some(Refusal {
            rejection: serde_json::from_value(rejection.clone()).map_err(Error::corrupt_value)?,
            until: timestamp_from_seconds(until)?,
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
        gateway.withdrawals_limited &= !self.loss_reported;
        let refusal = self.last_refusal()?;
        let lease = Lease {
            id,
            kind: self.kind(),
            eip: self.leased_eip()?,
            target: self.lease_target()?,
            namespace: self.namespace,
            pod_name: self.pod_name,
            pod_uid: PodUid::new(self.pod_uid.to_string()),
            controller: self.controller,
            request,
            phase: parse_phase(&self.phase)?,
            ports,
            generation: self.generation,
            owns_custom_resource: self.owns_custom_resource,
            missed_reads: self.missed_reads,
            vacating: self.vacating,
            was_published: self.was_published,
            preempted_by: self.preempted_by,
            handover_since: self.handover_since.map(timestamp_from_seconds).transpose()?,
            created_at: timestamp_from_seconds(self.created_at)?,
            pod_missing_since: self.pod_missing_since.map(timestamp_from_seconds).transpose()?,
            retained_until: self.retained_until.map(timestamp_from_seconds).transpose()?,
        };
        Ok(Loaded {
            lease,
            operations,
            gateway,
            wake: self.wake,
            tries: self.tries,
            reason: self.reason,
            rejection: self
                .rejection
                .map(serde_json::from_value)
                .transpose()
                .map_err(Error::corrupt_value)?,
            refusal,
            rejections: self.rejections,
            since_last_change: self
                .since_last_change
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            now: timestamp_from_seconds(self.now)?,
        })
    }
}

/// The ports of a lease, and the facts about their gateway.
type LoadedPorts = (Vec<LeasedPort>, GatewayState);

impl Claimed<'_> {
    /// Reads a claimed lease and renews the claim for `period`.
    ///
    /// Lease, ports and operations are read one after the other, and a sender may settle an operation
    /// in between. It wakes the lease in the same statement: what was read before a wake-up is read
    /// again, so that no operation is taken for unasked whose effect the lease does not show yet.
    pub async fn load(&self, period: Duration) -> Result<Loaded, Error> {
        for _ in 0..MAX_READS {
            let (row, ports) = self.load_row(period).await?;
            let (operations, wake) = self.load_operations().await?;
            if wake == row.wake {
                let request =
                    serde_json::from_value(row.request.clone()).map_err(Error::corrupt_value)?;
                return row.into_loaded(self.claim.lease_id, request, ports, operations);
            }
        }
        Err(Error::ClaimLost)
    }

    async fn load_row(&self, period: Duration) -> Result<(LeaseRow, LoadedPorts), Error> {
        let row = sqlx::query_file_as!(
            LeaseRow,
            "src/queries/load_lease.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            period.as_secs_f64(),
            LOSS_WINDOW.as_secs_f64(),
        )
        .fetch_optional(&self.store.pool)
        .await?
        .ok_or(Error::ClaimLost)?;
        let request = serde_json::from_value(row.request.clone()).map_err(Error::corrupt_value)?;
        let ports = if row.kind() == Kind::Dnat {
            self.load_ports(&request).await?
        } else {
            Default::default()
        };
        Ok((row, ports))
    }

    /// The ports of a lease, in the order in which the pod lists them, with the facts about their
    /// gateway.
    async fn load_ports(&self, request: &Request) -> Result<LoadedPorts, Error> {
        let rows = sqlx::query_file!("src/queries/load_ports.sql", self.claim.lease_id.0,)
            .fetch_all(&self.store.pool)
            .await?;
        // All ports of a lease are on one EIP, so any row has the gateway's facts.
        let gateway = rows.first().map_or_else(GatewayState::default, |row| GatewayState {
            entries_when_full: row.entries_when_full.and_then(|count| usize::try_from(count).ok()),
            snat: row.snat,
            unavailable_reason: row.unavailable_reason.clone(),
            modify_denied: row.modify_denied,
            withdrawals_limited: row.withdrawals_limited,
        });
        let ports: Result<Vec<_>, Error> = rows
            .into_iter()
            .map(|row| {
                Ok(LeasedPort {
                    allocation_id: AllocationId::new(row.allocation_id),
                    external_ip: parse_address(&row.address)?,
                    external_port: port_from_column(row.port)?,
                    range_start: port_from_column(row.range_start)?,
                    exposed: ExposedPort {
                        port: port_from_column(row.target_port)?,
                        protocol: protocol_from_number(row.proto),
                    },
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

    /// The unresolved operations of a lease, the oldest first, and the lease's wake-ups by then.
    async fn load_operations(&self) -> Result<(Vec<Operation>, i64), Error> {
        let rows = sqlx::query_file_as!(
            OperationRow,
            "src/queries/load_operations.sql",
            self.claim.lease_id.0,
        )
        .fetch_all(&self.store.pool)
        .await?;
        let wake = rows.first().ok_or(Error::ClaimLost)?.wake;
        let operations: Result<Vec<_>, _> =
            rows.into_iter().filter_map(OperationRow::into_operation).collect();
        Ok((operations?, wake))
    }
}

/// A row of `load_operations.sql`: the lease's wake-ups, and an operation if it has any.
struct OperationRow {
    wake: i64,
    operation_id: Option<Uuid>,
    resource: Option<String>,
    change: Option<serde_json::Value>,
    sends: Option<i32>,
    reads_without_effect: Option<i32>,
    awaits_fence: Option<bool>,
    queued: Option<bool>,
    answer_by: Option<f64>,
    fence_until: Option<f64>,
}

impl OperationRow {
    fn into_operation(self) -> Option<Result<Operation, Error>> {
        let (id, resource, change) = (self.operation_id?, self.resource?, self.change?);
        let (fence_until, queued) = (self.fence_until?, self.queued?);
        let send_state = || -> Result<SendState, Error> {
            Ok(match (queued, self.answer_by) {
                (true, _) => SendState::Queued,
                (false, Some(moment)) => {
                    SendState::Sent { answer_by: timestamp_from_seconds(moment)? }
                }
                (false, None) => SendState::Unanswered,
            })
        };
        let build = || -> Result<Operation, Error> {
            Ok(Operation {
                id,
                resource,
                change: serde_json::from_value(change).map_err(Error::corrupt_value)?,
                send_state: send_state()?,
                sends: self.sends.unwrap_or(0),
                fence_until: timestamp_from_seconds(fence_until)?,
                reads_without_effect: self.reads_without_effect.unwrap_or(0),
                awaits_fence: self.awaits_fence.unwrap_or(false),
            })
        };
        Some(build())
    }
}
