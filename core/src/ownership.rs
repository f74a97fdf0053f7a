//! Ownership marks in the cloud: tags on EIPs, names of forward entries.

use crate::ids::LeaseId;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Tag key: the store that owns the EIP, by its UUID.
pub const TAG_STORE: &str = "waygate.dev/store";
/// Tag key: the cluster, by the UID of its kube-system namespace.
pub const TAG_CLUSTER: &str = "waygate.dev/cluster";
/// Tag key: the lease that the EIP was allocated for.
pub const TAG_LEASE: &str = "waygate.dev/lease";
/// Tag key: the EIP pool that an operator puts an EIP into; the value is the pool's name.
pub const TAG_POOL: &str = "waygate.dev/eip-pool";

/// Owner of what Waygate makes in the cloud: a store and a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// UUID of the lease store.
    pub store: Uuid,
    /// UID of the cluster's kube-system namespace.
    pub cluster: Uuid,
}

impl Owner {
    /// Tags that an EIP is allocated with; by them the EIP is found when the answer to its
    /// allocation was lost.
    pub fn lease_tags(&self, lease: LeaseId) -> BTreeMap<String, String> {
        [(TAG_STORE, self.store), (TAG_CLUSTER, self.cluster), (TAG_LEASE, lease.0)]
            .map(|(key, id)| (key.to_owned(), id.to_string()))
            .into()
    }

    /// The name of a forward entry: `wg2.<store>.<cluster>.<lease>.<generation>`, at most 113 of
    /// the API's 128 characters, beginning with a letter.
    pub fn entry_name(&self, lease: LeaseId, generation: i32) -> String {
        format!(
            "wg2.{}.{}.{}.{generation}",
            self.store.simple(),
            self.cluster.simple(),
            lease.0.simple()
        )
    }

    /// Reads an entry's name; none if it is not of this store and cluster.
    pub fn read_entry_name(&self, name: &str) -> Option<EntryName> {
        read_entry_name(name).filter(|name| name.owner == *self)
    }

    /// True if an entry's name is of a lease of this store, in any cluster; the entries of another
    /// store are foreign.
    pub fn shares_store(&self, name: &str) -> bool {
        read_entry_name(name).is_some_and(|name| name.owner.store == self.store)
    }
}

/// Reads an entry's name, of any store and cluster; none if the name is not Waygate's.
pub fn read_entry_name(name: &str) -> Option<EntryName> {
    let parts: Vec<_> = name.split('.').collect();
    let ["wg2", store, cluster, lease, generation] = parts[..] else { return None };
    let id = |text| Uuid::try_parse(text).ok();
    let owner = Owner { store: id(store)?, cluster: id(cluster)? };
    Some(EntryName { owner, lease: LeaseId(id(lease)?), generation: generation.parse().ok()? })
}

/// The parts of a forward entry's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryName {
    /// Store and cluster that made the entry.
    pub owner: Owner,
    /// Lease that the entry was made for.
    pub lease: LeaseId,
    /// Generation of the target that the entry was made for.
    pub generation: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_name_tells_lease_and_generation_to_its_own_cluster_only() {
        let owner = Owner { store: Uuid::from_u128(1), cluster: Uuid::from_u128(2) };
        let lease = LeaseId(Uuid::from_u128(3));
        let name = owner.entry_name(lease, 7);
        assert!(name.len() <= 128);
        assert_eq!(owner.read_entry_name(&name), Some(EntryName { owner, lease, generation: 7 }));
        let (other_cluster, other_store) = (
            Owner { cluster: Uuid::from_u128(9), ..owner },
            Owner { store: Uuid::from_u128(9), ..owner },
        );
        assert_eq!(
            (other_cluster.read_entry_name(&name), other_store.read_entry_name(&name)),
            (None, None)
        );
        assert!(other_cluster.shares_store(&name) && !other_store.shares_store(&name));
        for other in ["wg2.x".to_owned(), format!("{name}.8"), name.replacen("wg2", "wg1", 1)] {
            assert_eq!(read_entry_name(&other), None, "{other}");
        }
    }
}
