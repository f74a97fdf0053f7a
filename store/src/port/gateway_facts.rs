//! Facts about a gateway from reads and refusals: foreign entries, room for more, permission to
//! modify.

use crate::error::Error;
use crate::store::Store;
use std::time::Duration;
use waygate_core::ids::NatGatewayId;
use waygate_core::lease::PortSpan;
use waygate_core::request::Protocol;

/// The result of one read of all entries of a gateway.
#[derive(Clone, Debug, Default)]
pub struct ObservedEntries {
    /// Number of entries, foreign ones included.
    pub entry_count: usize,
    /// Number of foreign entries, which this store did not make.
    pub foreign_count: usize,
    /// The ports that the foreign entries cover.
    pub foreign_ports: Vec<PortSpan>,
}

impl Store {
    /// Marks the ports of foreign entries before a lease gets them, and frees those whose foreign
    /// entry no read has shown for `grace`. Held ports are left to their lease. If there are more
    /// entries than the gateway once refused to exceed, its quota was raised, and the limit is
    /// dropped.
    pub async fn record_entries(
        &self,
        gateway: &NatGatewayId,
        observed: &ObservedEntries,
        grace: Duration,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO gateway (gateway_id, foreign_entries) VALUES ($1, $2) ON CONFLICT (gateway_id) DO UPDATE SET foreign_entries = $2,
               entries_when_full = CASE WHEN gateway.entries_when_full < $3 THEN NULL ELSE gateway.entries_when_full END
             WHERE gateway.foreign_entries <> $2 OR gateway.entries_when_full < $3",
            gateway.as_str(),
            saturating_i32(observed.foreign_count),
            saturating_i32(observed.entry_count),
        )
        .execute(&self.pool)
        .await?;
        let spans =
            |of: fn(&PortSpan) -> i32| observed.foreign_ports.iter().map(of).collect::<Vec<_>>();
        let eips: Vec<_> = observed
            .foreign_ports
            .iter()
            .map(|span| span.allocation_id.as_str().to_owned())
            .collect();
        let protocols = spans(|span| {
            span.protocol.map_or(0, |protocol| i32::from(Protocol::ip_protocol_number(protocol)))
        });
        let (first, last) = (
            spans(|span| i32::from(*span.ports.start())),
            spans(|span| i32::from(*span.ports.end())),
        );
        sqlx::query!(
            "WITH f AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::int[], $3::int[], $4::int[]) f (allocation_id, proto, first, last))
             UPDATE port SET state = 'foreign', cooldown_until = NULL FROM f
             WHERE port.allocation_id = f.allocation_id AND port.proto = ANY(CASE WHEN f.proto = 0 THEN '{6,17}' ELSE ARRAY[f.proto] END)
               AND port.port BETWEEN f.first AND f.last
               AND port.state IN ('free', 'cooldown')",
            &eips,
            &protocols,
            &first,
            &last,
        )
        .execute(&self.pool)
        .await?;
        sqlx::query_file!(
            "src/queries/free_foreign_ports.sql",
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

    /// Records that the gateway refused another entry while it had `entry_count`. Believed for
    /// `period`: quotas are raised without notice.
    pub async fn record_gateway_full(
        &self,
        gateway: &NatGatewayId,
        entry_count: usize,
        period: Duration,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO gateway (gateway_id, entries_when_full, full_until) VALUES ($1, $2, now() + make_interval(secs => $3))
             ON CONFLICT (gateway_id) DO UPDATE SET entries_when_full = $2, full_until = now() + make_interval(secs => $3)",
            gateway.as_str(),
            saturating_i32(entry_count),
            period.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records that the account may not modify entries, at this gateway or any other. Believed for
    /// `period`: rights are granted without notice.
    pub async fn record_modify_denied(
        &self,
        gateway: &NatGatewayId,
        period: Duration,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO gateway (gateway_id) VALUES ($1) ON CONFLICT DO NOTHING",
            gateway.as_str()
        )
        .execute(&self.pool)
        .await?;
        // No WHERE: the right belongs to the account, so it is missing at every gateway.
        sqlx::query!(
            "UPDATE gateway SET modify_denied_until = now() + make_interval(secs => $1)",
            period.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn saturating_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
