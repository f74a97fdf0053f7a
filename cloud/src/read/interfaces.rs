//! Finds the interface that owns a pod's address.
//!
//! The API finds primary and secondary addresses by filter. No filter matches an address out of a
//! prefix: the VPC's interfaces are listed and kept for some seconds as an index from prefix to
//! interface, and the found one is read again by its ID, so that the result is never older than
//! the request.

use super::batch::Batcher;
use super::queries::{InterfacesByAddress, InterfacesById, InterfacesWithPrefixes, QuerySource};
use crate::error::Error;
use crate::transport::{Read, Transport};
use crate::wire::eni::Interface;
use parking_lot::{Mutex, MutexGuard};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waygate_core::cloud_facts::Eni;
use waygate_core::ids::{EniId, VpcId};

/// Time for which a list of prefixes proves that an address is in none of them. Nodes add prefixes
/// by the minute, but a pod that waits for a new one should not wait long.
const INDEX_AGE: Duration = Duration::from_secs(3);
/// Longer for a VPC whose list showed no prefixes at all.
const EMPTY_INDEX_AGE: Duration = Duration::from_secs(30);
/// Most calls in flight for single addresses; a burst of a thousand pods takes ten calls.
const MAX_ADDRESS_CALLS: usize = 8;

/// Finds interfaces of one VPC.
pub(crate) struct Interfaces {
    by_address: Batcher<QuerySource<InterfacesByAddress>>,
    by_id: Batcher<QuerySource<InterfacesById>>,
    with_prefixes: Batcher<QuerySource<InterfacesWithPrefixes>>,
    index: Mutex<Option<Index>>,
}

type Index = Read<Arc<Vec<Interface>>>;

impl Interfaces {
    pub(crate) fn new(transport: &Arc<Transport>, vpc: &VpcId, timeout: Duration) -> Self {
        Self {
            by_address: QuerySource::new_batcher(
                transport,
                InterfacesByAddress(vpc.clone()),
                MAX_ADDRESS_CALLS,
                timeout,
            ),
            by_id: QuerySource::new_batcher(
                transport,
                InterfacesById(vpc.clone()),
                MAX_ADDRESS_CALLS,
                timeout,
            ),
            with_prefixes: QuerySource::new_batcher(
                transport,
                InterfacesWithPrefixes(vpc.clone()),
                1,
                timeout,
            ),
            index: Mutex::default(),
        }
    }

    /// The interface that owns `ip`; `None` while the cloud shows no such interface.
    pub(crate) async fn find_owner(&self, ip: Ipv4Addr) -> Result<Read<Option<Eni>>, Error> {
        let direct = self.by_address.read_key(ip).await?;
        if direct.value.is_some() {
            return Ok(direct.map(|found| found.map(|interface| interface.eni)));
        }
        let Some(id) = self.find_by_prefix(ip).await? else {
            return Ok(direct.map(|_| None));
        };
        let fresh = self.by_id.read_key(id).await?;
        if !fresh.value.as_ref().is_some_and(|interface| interface.owns(ip)) {
            // The prefix has moved to another interface: the index is stale.
            *self.lock_index() = None;
        }
        Ok(fresh.map(|found| {
            found.filter(|interface| interface.owns(ip)).map(|interface| interface.eni)
        }))
    }

    /// The security groups of an interface; `None` where the cloud shows no such interface in use.
    pub(crate) async fn security_groups(
        &self,
        id: &EniId,
    ) -> Result<Read<Option<Vec<String>>>, Error> {
        Ok(self
            .by_id
            .read_key(id.clone())
            .await?
            .map(|found| found.map(|interface| interface.security_groups)))
    }

    /// The interface whose prefix contains `ip`, by the index or by a new list.
    async fn find_by_prefix(&self, ip: Ipv4Addr) -> Result<Option<EniId>, Error> {
        let remembered = self.lock_index().clone();
        if let Some(index) = &remembered {
            let found = owner_in_index(index, ip);
            let age = if index.value.is_empty() { EMPTY_INDEX_AGE } else { INDEX_AGE };
            if found.is_some() || index.began + age > Instant::now() {
                return Ok(found);
            }
        }
        let fresh = self.with_prefixes.read_key(()).await?.map(Option::unwrap_or_default);
        let found = owner_in_index(&fresh, ip);
        *self.lock_index() = Some(fresh);
        Ok(found)
    }

    fn lock_index(&self) -> MutexGuard<'_, Option<Index>> {
        self.index.lock()
    }
}

fn owner_in_index(index: &Index, ip: Ipv4Addr) -> Option<EniId> {
    index
        .value
        .iter()
        .find(|interface| interface.owns(ip))
        .map(|interface| interface.eni.eni_id.clone())
}
