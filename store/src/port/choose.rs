//! Which of two EIPs has more room.
//!
//! Counted, because whatever is counted on the side costs a lock that every reservation waits for;
//! and counted only so far as it decides anything, because an EIP may hold 65,535 runs. Two random
//! EIPs, and not all: nearly as even, and the cost of a reservation does not grow with the pool.

use crate::error::Error;
use sqlx::PgConnection;
use waygate_core::ids::AllocationId;
use waygate_core::request::{ExposedPort, Protocol};

/// Entries that a gateway is supposed to take until it refuses one: what the cloud gives an account
/// to begin with. Nothing is barred by it.
const USUAL_QUOTA: i32 = 100;

/// So many entries of a gateway are counted: beyond, chance alone spreads well enough.
const ENTRIES_COUNTED: i64 = 256;

/// So many free ports of an EIP are counted: below, few pods find all of theirs there.
const FREE_COUNTED: i64 = 64;

/// How many ports are missing, by protocol.
pub(crate) struct Asked {
    protocols: Vec<i16>,
    most: i64,
}

impl Asked {
    pub(crate) fn of(missing: &[ExposedPort]) -> Self {
        let count = |protocol| missing.iter().filter(|port| port.protocol == protocol).count();
        let asked =
            [Protocol::Tcp, Protocol::Udp].map(|protocol| (protocol.number(), count(protocol)));
        let protocols =
            asked.iter().filter(|(_, count)| *count > 0).map(|(number, _)| *number).collect();
        let most = asked.iter().map(|(_, count)| *count).max().unwrap_or_default();
        Self { protocols, most: i64::try_from(most).unwrap_or(i64::MAX).min(FREE_COUNTED) }
    }
}

/// The two, the better first: the one that has ports enough, then the one on the gateway that takes
/// more entries yet, then the one that has more free ports. An EIP that is not known is left out.
pub(crate) async fn better_first(
    connection: &mut PgConnection,
    two: &[AllocationId],
    asked: &Asked,
) -> Result<Vec<AllocationId>, Error> {
    if two.len() < 2 {
        return Ok(two.to_vec());
    }
    let ids: Vec<_> = two.iter().map(|eip| eip.as_str().to_owned()).collect();
    let ordered = sqlx::query_file_scalar!(
        "src/queries/order_eips_by_room.sql",
        &ids,
        &asked.protocols,
        asked.most,
        USUAL_QUOTA,
        ENTRIES_COUNTED,
        FREE_COUNTED,
    )
    .fetch_all(connection)
    .await?;
    Ok(ordered.into_iter().map(AllocationId::new).collect())
}
