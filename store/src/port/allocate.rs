//! The allocator: free rows of one EIP become a lease's, and say which forward entries they make.
//!
//! ```text
//! targets  80  443  7000 7001 7002           one protocol of one lease
//! runs     80  443  7000 ───────▶            adjacent targets: one entry, if adjacent ports are free
//! rows     [80] [443] [7000 7001 7002]       head = the first external port of each entry
//! ```
//!
//! A run for which no adjacent ports are free is halved, down to single ports. Rows that others are
//! taking are passed over, so nobody waits; who takes too few takes none. Measured on slot rows:
//! the rate stays within a tenth from empty to 98.8 % full.

use crate::error::Error;
use rand::RngExt as _;
use sqlx::PgConnection;
use waygate_core::ids::{AllocationId, LeaseId};
use waygate_core::request::Protocol;

/// Where free ports are taken from, and for whom.
pub(crate) struct Take<'a> {
    pub lease_id: LeaseId,
    pub eip: &'a AllocationId,
    pub protocol: Protocol,
}

/// Adjacent ports of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Targets {
    first: i32,
    count: i32,
}

impl Take<'_> {
    /// A free port for each target, whichever; says whether there were enough.
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

    /// From a random place of the range on offer upwards, then from its beginning.
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

    /// Adjacent free ports for adjacent targets, from `start` (a fraction of the range on offer)
    /// upwards; all or none. A thousand free ports are looked through: where those hold no run, the
    /// EIP is nearly full or cut into pieces, and single ports do as well.
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

    /// As many free ports as there are targets, from `start` upwards; all or none.
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

    /// The ports with the targets' own numbers; says whether all of them were free.
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

/// The targets as the longest runs of adjacent ones.
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
