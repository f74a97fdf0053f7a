//! The port pool: the gateways' EIPs, with one row for each offered port.

use crate::error::Error;
use crate::lease::wake::wake_leases;
use crate::store::Store;
use std::net::Ipv4Addr;
use waygate_core::ids::{AllocationId, ForwardTableId, NatGatewayId, ZoneId};

/// An EIP of a gateway whose ports are offered to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayEip {
    /// `eip-…`; the address can be given to another allocation later, the ID cannot.
    pub allocation_id: AllocationId,
    /// The public IPv4 address.
    pub address: Ipv4Addr,
    /// The NAT gateway that the EIP is bound to.
    pub gateway_id: NatGatewayId,
    /// The gateway's DNAT table, which holds its forward entries.
    pub table_id: ForwardTableId,
    /// The zone of the gateway's vSwitch.
    pub zone_id: ZoneId,
    /// True if the gateway's SNAT uses this EIP as well.
    pub snat: bool,
}

/// External ports offered on an EIP, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedPorts {
    /// The lowest port offered.
    pub first: u16,
    /// The highest port offered.
    pub last: u16,
}

/// Ports offered by one statement, each with two rows: about 20 ms of work.
const OFFERED_AT_ONCE: u16 = 1000;
/// Ports freed by one statement: about 20 ms of work.
const FREED_AT_ONCE: i64 = 1000;

impl Store {
    /// Offers the ports of an EIP, for TCP and UDP, in batches. Repeating it writes nothing. An EIP
    /// that has moved from another gateway brings all its ports along, held ones included: the
    /// former gateway cannot forward from it any more.
    pub async fn offer_ports(&self, eip: &GatewayEip, ports: OfferedPorts) -> Result<(), Error> {
        if self.is_offered(eip, ports).await? {
            return Ok(());
        }
        for (first, last) in split_ports(ports.first, ports.last) {
            self.insert_missing_ports(eip, first, last).await?;
        }
        for (first, last) in split_ports(1, u16::MAX) {
            self.move_unheld_ports(eip, first, last).await?;
        }
        self.record_offer(eip, ports).await
    }

    /// True if the EIP is offered with these ports already. The row is written after those of its
    /// ports, so they are all there.
    async fn is_offered(&self, eip: &GatewayEip, ports: OfferedPorts) -> Result<bool, Error> {
        let offered = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM gateway_eip
                 WHERE allocation_id = $1 AND gateway_id = $2 AND table_id = $3 AND zone_id = $4
                   AND address = $5::text::inet AND first_port = $6 AND last_port = $7 AND snat = $8) AS "offered!""#,
            eip.allocation_id.as_str(),
            eip.gateway_id.as_str(),
            eip.table_id.as_str(),
            eip.zone_id.as_str(),
            eip.address.to_string(),
            i32::from(ports.first),
            i32::from(ports.last),
            eip.snat,
        );
        Ok(offered.fetch_one(&self.pool).await?)
    }

    async fn insert_missing_ports(
        &self,
        eip: &GatewayEip,
        first: i32,
        last: i32,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO port (allocation_id, gateway_id, proto, port)
             SELECT $1, $2, proto, port FROM generate_series($3::int, $4::int) port, unnest(ARRAY[6, 17]::smallint[]) proto
             ON CONFLICT DO NOTHING",
            eip.allocation_id.as_str(),
            eip.gateway_id.as_str(),
            first,
            last,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Moves ports that no lease holds to the gateway that the EIP has moved to, rows outside the
    /// offered range included.
    async fn move_unheld_ports(
        &self,
        eip: &GatewayEip,
        first: i32,
        last: i32,
    ) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE port SET gateway_id = $2
             WHERE allocation_id = $1 AND proto IN (6, 17) AND port BETWEEN $3 AND $4 AND gateway_id <> $2 AND state <> 'held'",
            eip.allocation_id.as_str(),
            eip.gateway_id.as_str(),
            first,
            last,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Moves the held ports, together with the EIP itself: the ports of a lease are on one gateway.
    async fn record_offer(&self, eip: &GatewayEip, ports: OfferedPorts) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query!(
            "INSERT INTO gateway_eip (allocation_id, gateway_id, table_id, zone_id, address, first_port, last_port, snat)
             VALUES ($1, $2, $3, $4, $5::text::inet, $6, $7, $8)
             ON CONFLICT (allocation_id) DO UPDATE SET
               gateway_id = $2, table_id = $3, zone_id = $4, address = $5::text::inet, first_port = $6, last_port = $7, snat = $8",
            eip.allocation_id.as_str(),
            eip.gateway_id.as_str(),
            eip.table_id.as_str(),
            eip.zone_id.as_str(),
            eip.address.to_string(),
            i32::from(ports.first),
            i32::from(ports.last),
            eip.snat,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE port SET gateway_id = $2 WHERE allocation_id = $1 AND gateway_id <> $2",
            eip.allocation_id.as_str(),
            eip.gateway_id.as_str(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Records the EIPs that a gateway has; none if it does not exist, or cannot be changed for
    /// `unavailable_reason`. Wakes the leases on EIPs that became available or unavailable, so that
    /// they report it or go on, and returns the number of those EIPs.
    pub async fn set_gateway_eips(
        &self,
        gateway: &NatGatewayId,
        eips: &[AllocationId],
        unavailable_reason: Option<&str>,
    ) -> Result<usize, Error> {
        let eips: Vec<_> = eips.iter().map(|eip| eip.as_str().to_owned()).collect();
        let mut transaction = self.pool.begin().await?;
        let changed = sqlx::query_scalar!(
            "WITH e AS MATERIALIZED (
               SELECT allocation_id, CASE WHEN allocation_id = ANY($2) THEN NULL
                 ELSE coalesce($3, format('EIP %s (%s) is not bound to NAT gateway %s any more', host(address), allocation_id, gateway_id)) END AS unavailable_reason
               FROM gateway_eip WHERE gateway_id = $1)
             UPDATE gateway_eip g SET unavailable_reason = e.unavailable_reason FROM e
             WHERE g.allocation_id = e.allocation_id AND g.unavailable_reason IS DISTINCT FROM e.unavailable_reason RETURNING g.allocation_id",
            gateway.as_str(),
            &eips,
            unavailable_reason,
        )
        .fetch_all(&mut *transaction)
        .await?;
        wake_leases!(
            set = "gateway_changed_at = now()",
            "lease_id IN (SELECT lease_id FROM port WHERE gateway_id = $2 AND allocation_id = ANY($1) AND range_start = port)",
            &changed,
            gateway.as_str(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(changed.len())
    }

    /// Frees all ports whose cooldown is over and returns how many. Works in batches, so that no
    /// lock is held for long, and until none is left: with one batch a call, a pool whose pods come
    /// and go faster would run out of ports.
    pub async fn end_cooldowns(&self) -> Result<u64, Error> {
        let mut freed = 0;
        loop {
            let done = sqlx::query!(
                "UPDATE port SET state = 'free', cooldown_until = NULL WHERE (allocation_id, proto, port) IN (
                   SELECT allocation_id, proto, port FROM port WHERE cooldown_until <= now() ORDER BY cooldown_until LIMIT $1 FOR UPDATE SKIP LOCKED)",
                FREED_AT_ONCE,
            )
            .execute(&self.pool)
            .await?;
            freed += done.rows_affected();
            if done.rows_affected() < FREED_AT_ONCE.unsigned_abs() {
                return Ok(freed);
            }
        }
    }
}

/// Splits a range of ports into parts of [`OFFERED_AT_ONCE`], as first and last port of each.
fn split_ports(first: u16, last: u16) -> impl Iterator<Item = (i32, i32)> {
    let at_once = i32::from(OFFERED_AT_ONCE);
    let (first, last) = (i32::from(first), i32::from(last));
    (first..=last)
        .step_by(usize::from(OFFERED_AT_ONCE))
        .map(move |from| (from, last.min(from + at_once - 1)))
}
