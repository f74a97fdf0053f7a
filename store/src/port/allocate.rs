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
//! Measured on slot rows: the rate stays within a tenth from empty to 98.8 % full.

use crate::error::Error;
use rand::RngExt as _;
use sqlx::PgConnection;
use waygate_core::ids::{AllocationId, LeaseId};
use waygate_core::request::Protocol;

/// The EIP and protocol to allocate from, and the lease to allocate for.
pub(crate) struct Take<'a> {
    pub lease_id: LeaseId,
    pub eip: &'a AllocationId,
    pub protocol: Protocol,
}

/// Adjacent target ports of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Targets {
    first: i32,
    count: i32,
}

impl Take<'_> {
    /// Allocates any free port for each target port; false if there were too few.
    pub(crate) async fn any(
        &self,
        connection: &mut PgConnection,
        targets: &[u16],
    ) -> Result<bool, Error> {
        let mut runs = adjacent(targets);
        let mut singles = Vec::new();
        while let Some(run) = runs.pop() {
            if run.count == 1 {
                singles.push(run.first);
            } else if !self.anywhere(connection, &Wanted::Run(run)).await? {
                let half = run.count / 2;
                runs.push(Targets { count: half, ..run });
                runs.push(Targets { first: run.first + half, count: run.count - half });
            }
        }
        Ok(singles.is_empty() || self.anywhere(connection, &Wanted::Singles(singles)).await?)
    }

    /// Searches from a random place of the offered range upwards, then from its beginning.
    async fn anywhere(
        &self,
        connection: &mut PgConnection,
        wanted: &Wanted,
    ) -> Result<bool, Error> {
        let random = rand::rng().random_range(0.0..1.0);
        for start in [random, 0.0] {
            let taken = match wanted {
                Wanted::Run(run) => self.run(connection, *run, start).await?,
                Wanted::Singles(targets) => self.singles(connection, targets, start).await?,
            };
            if taken > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Allocates adjacent free ports for adjacent target ports, from `start` (a fraction of the
    /// offered range) upwards; all or none. Looks at a thousand free ports: where those hold no
    /// such range, the EIP is nearly full or fragmented, and single ports do as well.
    async fn run(
        &self,
        connection: &mut PgConnection,
        run: Targets,
        start: f64,
    ) -> Result<u64, Error> {
        let done = sqlx::query_file!(
            "src/queries/allocate_adjacent_ports.sql",
            self.eip.as_str(),
            self.protocol.number(),
            start,
            run.first,
            run.count,
            self.lease_id.0,
        )
        .execute(connection)
        .await?;
        Ok(done.rows_affected())
    }

    /// Allocates one free port for each target port, from `start` upwards; all or none.
    async fn singles(
        &self,
        connection: &mut PgConnection,
        targets: &[i32],
        start: f64,
    ) -> Result<u64, Error> {
        let done = sqlx::query_file!(
            "src/queries/allocate_single_ports.sql",
            self.eip.as_str(),
            self.protocol.number(),
            start,
            targets,
            self.lease_id.0,
        )
        .execute(connection)
        .await?;
        Ok(done.rows_affected())
    }

    /// Allocates the ports with the target ports' own numbers; false if one of them was not free.
    pub(crate) async fn equal(
        &self,
        connection: &mut PgConnection,
        targets: &[u16],
    ) -> Result<bool, Error> {
        let runs = adjacent(targets);
        let heads: Vec<i32> =
            runs.iter().flat_map(|run| (0..run.count).map(|_| run.first)).collect();
        let ports: Vec<i32> =
            runs.iter().flat_map(|run| run.first..run.first + run.count).collect();
        let done = sqlx::query_file!(
            "src/queries/allocate_same_ports.sql",
            self.eip.as_str(),
            self.protocol.number(),
            &ports,
            &heads,
            self.lease_id.0,
        )
        .execute(connection)
        .await?;
        Ok(done.rows_affected() == ports.len() as u64)
    }
}

enum Wanted {
    Run(Targets),
    Singles(Vec<i32>),
}

/// Groups target ports into the longest ranges of adjacent ones.
fn adjacent(targets: &[u16]) -> Vec<Targets> {
    let mut sorted: Vec<i32> = targets.iter().map(|target| i32::from(*target)).collect();
    sorted.sort_unstable();
    let by_run = sorted.chunk_by(|one, next| one + 1 == *next);
    by_run
        .filter_map(|run| {
            Some(Targets { first: *run.first()?, count: i32::try_from(run.len()).ok()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_targets_make_one_run_in_whatever_order_they_are_asked_for() {
        let run = |first, count| Targets { first, count };
        assert_eq!(adjacent(&[7002, 80, 7000, 443, 7001]), [run(80, 1), run(443, 1), run(7000, 3)]);
        assert_eq!(adjacent(&[65_535, 65_534]), [run(65_534, 2)]);
        assert_eq!(adjacent(&[]), []);
    }
}
