//! The port allocator: turns free rows of one EIP into a lease's ports, grouped by forward entry.
//!
//! ```text
//! target ports   80  443  7000 7001 7002      one protocol of one lease
//! ranges         80  443  7000 ───────▶       adjacent ones: one entry, if adjacent ports are free
//! rows           [80] [443] [7000 7001 7002]  range start = the first external port of an entry
//! ```
//!
//! A range for which no adjacent ports are free is halved, down to single ports. Rows that another
//! transaction has locked are skipped, so no allocation waits; one that finds too few takes none.
//! Measured on port rows: the rate stays within a tenth from empty to 98.8 % full.

use crate::error::Error;
use rand::RngExt as _;
use sqlx::PgConnection;
use waygate_core::ids::{AllocationId, LeaseId};
use waygate_core::request::Protocol;

/// The EIP and protocol to allocate from, and the lease to allocate for.
pub(crate) struct PortAllocation<'a> {
    pub lease_id: LeaseId,
    pub eip: &'a AllocationId,
    pub protocol: Protocol,
}

/// Adjacent target ports of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TargetPorts {
    first: i32,
    count: i32,
}

impl PortAllocation<'_> {
    /// Allocates any free port for each target port; false if there were too few.
    pub(crate) async fn allocate_any(
        &self,
        connection: &mut PgConnection,
        targets: &[u16],
    ) -> Result<bool, Error> {
        let mut ranges = group_adjacent(targets);
        let mut singles = Vec::new();
        while let Some(range) = ranges.pop() {
            if range.count == 1 {
                singles.push(range.first);
            } else if !self
                .allocate_from_random_start(connection, &PortDemand::Adjacent(range))
                .await?
            {
                let half = range.count / 2;
                ranges.push(TargetPorts { count: half, ..range });
                ranges.push(TargetPorts { first: range.first + half, count: range.count - half });
            }
        }
        Ok(singles.is_empty()
            || self.allocate_from_random_start(connection, &PortDemand::Singles(singles)).await?)
    }

    /// Searches from a random place of the offered range upwards, then from its beginning.
    async fn allocate_from_random_start(
        &self,
        connection: &mut PgConnection,
        demand: &PortDemand,
    ) -> Result<bool, Error> {
        let random = rand::rng().random_range(0.0..1.0);
        for start in [random, 0.0] {
            let allocated = match demand {
                PortDemand::Adjacent(range) => {
                    self.allocate_adjacent(connection, *range, start).await?
                }
                PortDemand::Singles(targets) => {
                    self.allocate_singles(connection, targets, start).await?
                }
            };
            if allocated > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Allocates adjacent free ports for adjacent target ports, from `start` (a fraction of the
    /// offered range) upwards; all or none. Looks at a thousand free ports: where those hold no
    /// such range, the EIP is nearly full or fragmented, and single ports do as well.
    async fn allocate_adjacent(
        &self,
        connection: &mut PgConnection,
        range: TargetPorts,
        start: f64,
    ) -> Result<u64, Error> {
        let done = sqlx::query_file!(
            "src/queries/allocate_adjacent_ports.sql",
            self.eip.as_str(),
            self.protocol.ip_protocol_number(),
            start,
            range.first,
            range.count,
            self.lease_id.0,
        )
        .execute(connection)
        .await?;
        Ok(done.rows_affected())
    }

    /// Allocates one free port for each target port, from `start` upwards; all or none.
    async fn allocate_singles(
        &self,
        connection: &mut PgConnection,
        targets: &[i32],
        start: f64,
    ) -> Result<u64, Error> {
        let done = sqlx::query_file!(
            "src/queries/allocate_single_ports.sql",
            self.eip.as_str(),
            self.protocol.ip_protocol_number(),
            start,
            targets,
            self.lease_id.0,
        )
        .execute(connection)
        .await?;
        Ok(done.rows_affected())
    }

    /// Allocates the ports with the target ports' own numbers; false if one of them was not free.
    pub(crate) async fn allocate_same(
        &self,
        connection: &mut PgConnection,
        targets: &[u16],
    ) -> Result<bool, Error> {
        let ranges = group_adjacent(targets);
        let range_starts: Vec<i32> =
            ranges.iter().flat_map(|range| (0..range.count).map(|_| range.first)).collect();
        let ports: Vec<i32> =
            ranges.iter().flat_map(|range| range.first..range.first + range.count).collect();
        let done = sqlx::query_file!(
            "src/queries/allocate_same_ports.sql",
            self.eip.as_str(),
            self.protocol.ip_protocol_number(),
            &ports,
            &range_starts,
            self.lease_id.0,
        )
        .execute(connection)
        .await?;
        Ok(done.rows_affected() == ports.len() as u64)
    }
}

enum PortDemand {
    Adjacent(TargetPorts),
    Singles(Vec<i32>),
}

/// Groups target ports into the longest ranges of adjacent ones.
fn group_adjacent(targets: &[u16]) -> Vec<TargetPorts> {
    let mut sorted: Vec<i32> = targets.iter().map(|target| i32::from(*target)).collect();
    sorted.sort_unstable();
    let adjacent = sorted.chunk_by(|one, next| one + 1 == *next);
    adjacent
        .filter_map(|range| {
            Some(TargetPorts { first: *range.first()?, count: i32::try_from(range.len()).ok()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_targets_make_one_range_in_any_order() {
        let range = |first, count| TargetPorts { first, count };
        assert_eq!(
            group_adjacent(&[7002, 80, 7000, 443, 7001]),
            [range(80, 1), range(443, 1), range(7000, 3)]
        );
        assert_eq!(group_adjacent(&[65_535, 65_534]), [range(65_534, 2)]);
        assert_eq!(group_adjacent(&[]), []);
    }
}
