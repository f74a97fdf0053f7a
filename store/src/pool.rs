//! What gateways offer: their EIPs, one row for each port, and what is known of their room for entries.

use crate::{Error, Store};
use std::net::Ipv4Addr;
use std::time::Duration;
use waygate_core::ids::{AllocationId, ForwardTableId, NatGatewayId, ZoneId};
use waygate_core::lease::PortSpan;
use waygate_core::request::Protocol;

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
    /// SNAT uses it, too.
    pub snat: bool,
}

/// External ports on offer, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// One look at all entries of a gateway.
#[derive(Clone, Debug, Default)]
pub struct EntriesSeen {
    /// How many there are, whosever.
    pub standing: usize,
    /// How many are not of this store.
    pub others: usize,
    /// The ports under those.
    pub foreign: Vec<PortSpan>,
}

/// Ports freed by one statement: some 20 ms of work.
const FREED_AT_ONCE: i64 = 1000;

impl Store {
    /// Offers the ports of an EIP, for TCP and UDP. Repeating it adds only what is missing. An EIP that has come from another gateway brings
    /// its ports along, held ones too: nothing can be forwarded from it by the gateway it has left.
    pub async fn offer(&self, eip: &GatewayEip, ports: PortRange) -> Result<(), Error> {
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
        sqlx::query!(
            "INSERT INTO port (allocation_id, gateway_id, proto, port)
             SELECT $1, $2, proto, port FROM generate_series($3::int, $4::int) port, unnest(ARRAY[6, 17]::smallint[]) proto
             ON CONFLICT DO NOTHING",
            eip.allocation_id.as_str(),
            eip.gateway_id.as_str(),
            i32::from(ports.first),
            i32::from(ports.last),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Which EIPs the gateway has; none if it is not there, or cannot be changed, for the reason `trouble`. Leases on EIPs that came or went are
    /// woken: they say so, or go on. Says how many EIPs those were.
    pub async fn bound(&self, gateway: &NatGatewayId, eips: &[AllocationId], trouble: Option<&str>) -> Result<usize, Error> {
        let eips: Vec<_> = eips.iter().map(|eip| eip.as_str().to_owned()).collect();
        let mut transaction = self.pool.begin().await?;
        let changed = sqlx::query_scalar!(
            "WITH e AS MATERIALIZED (
               SELECT allocation_id, CASE WHEN allocation_id = ANY($2) THEN NULL
                 ELSE coalesce($3, format('EIP %s (%s) is not bound to NAT gateway %s any more', host(address), allocation_id, gateway_id)) END AS trouble
               FROM gateway_eip WHERE gateway_id = $1)
             UPDATE gateway_eip g SET trouble = e.trouble FROM e
             WHERE g.allocation_id = e.allocation_id AND g.trouble IS DISTINCT FROM e.trouble RETURNING g.allocation_id",
            gateway.as_str(),
            &eips,
            trouble,
        )
        .fetch_all(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END, news_at = now()
             WHERE lease_id IN (SELECT lease_id FROM port WHERE allocation_id = ANY($1) AND head = port)",
            &changed,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(changed.len())
    }

    /// Marks what others' entries stand on, before anybody is given it, and frees what they have stood on and no look has shown for `grace`.
    /// Ports that are held are their lease's to look after. More entries than the gateway once refused to go beyond: its quota was raised.
    pub async fn saw_entries(&self, gateway: &NatGatewayId, seen: &EntriesSeen, grace: Duration) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO gateway (gateway_id, others) VALUES ($1, $2) ON CONFLICT (gateway_id) DO UPDATE SET others = $2,
               full_at = CASE WHEN gateway.full_at < $3 THEN NULL ELSE gateway.full_at END
             WHERE gateway.others <> $2 OR gateway.full_at < $3",
            gateway.as_str(),
            number(seen.others),
            number(seen.standing),
        )
        .execute(&self.pool)
        .await?;
        let spans = |of: fn(&PortSpan) -> i32| seen.foreign.iter().map(of).collect::<Vec<_>>();
        let eips: Vec<_> = seen.foreign.iter().map(|span| span.allocation_id.as_str().to_owned()).collect();
        let protocols = spans(|span| span.protocol.map_or(0, |protocol| i32::from(Protocol::number(protocol))));
        let (first, last) = (spans(|span| i32::from(*span.ports.start())), spans(|span| i32::from(*span.ports.end())));
        sqlx::query!(
            "WITH f AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::int[], $3::int[], $4::int[]) f (allocation_id, proto, first, last))
             UPDATE port SET state = 'foreign', quiet_until = NULL FROM f
             WHERE port.allocation_id = f.allocation_id AND f.proto IN (0, port.proto) AND port.port BETWEEN f.first AND f.last
               AND port.state IN ('free', 'quiet')",
            &eips,
            &protocols,
            &first,
            &last,
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!(
            "WITH f AS MATERIALIZED (SELECT * FROM unnest($2::text[], $3::int[], $4::int[], $5::int[]) f (allocation_id, proto, first, last)),
             l AS MATERIALIZED (
               SELECT p.allocation_id, p.proto, p.port, EXISTS (
                 SELECT FROM f WHERE f.allocation_id = p.allocation_id AND f.proto IN (0, p.proto) AND p.port BETWEEN f.first AND f.last) AS stands
               FROM port p JOIN gateway_eip e USING (allocation_id) WHERE e.gateway_id = $1 AND p.state = 'foreign')
             UPDATE port SET
               state = CASE WHEN NOT l.stands AND port.gone_since <= now() - make_interval(secs => $6) THEN 'free' ELSE 'foreign' END,
               gone_since = CASE WHEN l.stands OR port.gone_since <= now() - make_interval(secs => $6) THEN NULL ELSE coalesce(port.gone_since, now()) END
             FROM l WHERE port.allocation_id = l.allocation_id AND port.proto = l.proto AND port.port = l.port AND port.state = 'foreign'
               AND NOT (l.stands AND port.gone_since IS NULL)",
            gateway.as_str(),
            &eips,
            &protocols,
            &first,
            &last,
            grace.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The gateway refused another entry while `standing` stood. Believed for `period`: quotas are raised, and the cloud tells nobody.
    pub async fn gateway_full(&self, gateway: &NatGatewayId, standing: usize, period: Duration) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO gateway (gateway_id, full_at, full_until) VALUES ($1, $2, now() + make_interval(secs => $3))
             ON CONFLICT (gateway_id) DO UPDATE SET full_at = $2, full_until = now() + make_interval(secs => $3)",
            gateway.as_str(),
            number(standing),
            period.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The account may not modify entries, at this gateway or any other. Believed for `period`: rights are granted, and nobody tells us.
    pub async fn modify_denied(&self, gateway: &NatGatewayId, period: Duration) -> Result<(), Error> {
        sqlx::query!("INSERT INTO gateway (gateway_id) VALUES ($1) ON CONFLICT DO NOTHING", gateway.as_str()).execute(&self.pool).await?;
        sqlx::query!("UPDATE gateway SET modify_denied_until = now() + make_interval(secs => $1)", period.as_secs_f64())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Frees all ports whose quiet time is over; says how many. A batch at a time, so that no lock is held for long; and not one batch a call, or
    /// a pool whose pods come and go faster would run out of ports that nobody has.
    pub async fn end_quiet(&self) -> Result<u64, Error> {
        let mut freed = 0;
        loop {
            let done = sqlx::query!(
                "UPDATE port SET state = 'free', quiet_until = NULL WHERE (allocation_id, proto, port) IN (
                   SELECT allocation_id, proto, port FROM port WHERE quiet_until <= now() ORDER BY quiet_until LIMIT $1 FOR UPDATE SKIP LOCKED)",
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

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
