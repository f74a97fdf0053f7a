//! What gateways offer: their EIPs, and one row for each port.

use crate::{Error, Store};
use std::net::Ipv4Addr;
use waygate_core::ids::{AllocationId, ForwardTableId, NatGatewayId, ZoneId};

/// An EIP of a gateway in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayEip {
    /// Its ID.
    pub allocation_id: AllocationId,
    /// Its address.
    pub address: Ipv4Addr,
    /// The gateway.
    pub gateway_id: NatGatewayId,
    /// The gateway's DNAT table.
    pub table_id: ForwardTableId,
    /// The gateway's zone.
    pub zone_id: ZoneId,
}

/// External ports on offer, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Store {
    /// Offers the ports of an EIP, for TCP and UDP. Repeating it adds only what is missing.
    pub async fn offer(&self, eip: &GatewayEip, ports: PortRange) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO gateway_eip (allocation_id, gateway_id, table_id, zone_id, address, first_port, last_port)
             VALUES ($1, $2, $3, $4, $5::text::inet, $6, $7)
             ON CONFLICT (allocation_id) DO UPDATE SET
               gateway_id = $2, table_id = $3, zone_id = $4, address = $5::text::inet, first_port = $6, last_port = $7",
            eip.allocation_id.as_str(),
            eip.gateway_id.as_str(),
            eip.table_id.as_str(),
            eip.zone_id.as_str(),
            eip.address.to_string(),
            i32::from(ports.first),
            i32::from(ports.last),
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!(
            "INSERT INTO port (allocation_id, gateway_id, proto, port)
             SELECT $1, $2, proto, port FROM generate_series($3::int, $4::int) port, unnest(ARRAY[6, 17]::smallint[]) proto
             ON CONFLICT DO NOTHING",
            eip.allocation_id.as_str(),
            eip.gateway_id.as_str(),
            i32::from(ports.first),
            i32::from(ports.last),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Frees ports whose quiet time is over; says how many.
    pub async fn end_quiet(&self) -> Result<u64, Error> {
        let done = sqlx::query!(
            "UPDATE port SET state = 'free', quiet_until = NULL WHERE (allocation_id, proto, port) IN (
               SELECT allocation_id, proto, port FROM port WHERE quiet_until <= now() ORDER BY quiet_until LIMIT 1000 FOR UPDATE SKIP LOCKED)"
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
