//! Picks the one of two EIPs that has more room.
//!
//! Room is counted, because a stored counter would be a lock that every reservation waits for; and
//! counted only as far as the choice needs, because an EIP may hold 65,535 entries. Comparing two
//! random EIPs instead of all is nearly as even, and the cost of a reservation does not grow with
//! the pool.

use crate::error::Error;
use sqlx::PgConnection;
use waygate_core::ids::AllocationId;
use waygate_core::request::{ExposedPort, Protocol};

/// Entries that a gateway is assumed to take until it refuses one: the cloud's initial quota of an
/// account. Used for the order only; no reservation is rejected because of it.
const USUAL_QUOTA: i32 = 100;

/// Entries of a gateway that are counted at most: beyond, chance alone spreads well enough.
const ENTRIES_COUNTED: i64 = 256;

/// Free ports of an EIP that are counted at most: with fewer, few pods find all of theirs there.
const FREE_COUNTED: i64 = 64;

/// Number of missing ports by protocol.
pub(crate) struct MissingPorts {
    protocols: Vec<i16>,
    most: i64,
}

impl MissingPorts {
    pub(crate) fn count_by_protocol(missing: &[ExposedPort]) -> Self {
        let count = |protocol| missing.iter().filter(|port| port.protocol == protocol).count();
        let counts = [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| (protocol.ip_protocol_number(), count(protocol)));
        let protocols =
            counts.iter().filter(|(_, count)| *count > 0).map(|(number, _)| *number).collect();
        let most = counts.iter().map(|(_, count)| *count).max().unwrap_or_default();
        Self { protocols, most: i64::try_from(most).unwrap_or(i64::MAX).min(FREE_COUNTED) }
    }
}

/// Orders two EIPs, the better first: enough free ports, then the gateway with room for more
/// entries, then more free ports. Unknown EIPs are left out.
pub(crate) async fn order_by_room(
    connection: &mut PgConnection,
    two: &[AllocationId],
    missing: &MissingPorts,
) -> Result<Vec<AllocationId>, Error> {
    if two.len() < 2 {
        return Ok(two.to_vec());
    }
    let ids: Vec<_> = two.iter().map(|eip| eip.as_str().to_owned()).collect();
    let ordered = sqlx::query_file_scalar!(
        "src/queries/order_eips_by_room.sql",
        &ids,
        &missing.protocols,
        missing.most,
        USUAL_QUOTA,
        ENTRIES_COUNTED,
        FREE_COUNTED,
    )
    .fetch_all(connection)
    .await?;
    Ok(ordered.into_iter().map(AllocationId::new).collect())
}
