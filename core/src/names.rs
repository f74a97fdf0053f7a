//! How ownership is written where the cloud lets us write: tags on EIPs, names of forward entries.

use crate::ids::LeaseId;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Tag key: the store that owns the EIP.
pub const TAG_STORE: &str = "waygate.dev/store";
/// Tag key: the cluster, by the UID of its kube-system namespace.
pub const TAG_CLUSTER: &str = "waygate.dev/cluster";
/// Tag key: the lease.
pub const TAG_LEASE: &str = "waygate.dev/lease";
/// Tag key: the pool of EIPs bought beforehand that people put the EIP into; its value is the pool's name.
pub const TAG_POOL: &str = "waygate.dev/eip-pool";

/// On whose behalf things are made in the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The lease store.
    pub store: Uuid,
    /// UID of the cluster's kube-system namespace.
    pub cluster: Uuid,
}

impl Owner {
    /// The tags an EIP is born with; they find it again when the answer to its allocation was lost.
    pub fn tags(&self, lease: LeaseId) -> BTreeMap<String, String> {
        [(TAG_STORE, self.store), (TAG_CLUSTER, self.cluster), (TAG_LEASE, lease.0)]
            .map(|(key, id)| (key.to_owned(), id.to_string()))
            .into()
    }

    /// The name of a forward entry: `wg1.<cluster>.<lease>.<generation>`, at most 128 characters, beginning with a letter.
    pub fn entry_name(&self, lease: LeaseId, generation: i32) -> String {
        format!("wg1.{}.{}.{generation}", self.cluster.simple(), lease.0.simple())
    }

    /// Reads an entry's name; none if it is not one of this cluster's.
    pub fn read_entry_name(&self, name: &str) -> Option<EntryName> {
        read_entry_name(name).filter(|(cluster, _)| *cluster == self.cluster).map(|(_, name)| name)
    }
}

/// Reads an entry's name, whichever cluster's it is. A gateway belongs to one store: every such name is of a lease of it, or a former one.
pub fn read_entry_name(name: &str) -> Option<(Uuid, EntryName)> {
    let mut parts = name.split('.');
    let (version, cluster, lease, generation) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "wg1" || parts.next().is_some() {
        return None;
    }
    let name = EntryName { lease: LeaseId(Uuid::try_parse(lease).ok()?), generation: generation.parse().ok()? };
    Some((Uuid::try_parse(cluster).ok()?, name))
}

/// What a forward entry's name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryName {
    /// The lease it was made for.
    pub lease: LeaseId,
    /// The target it was made for.
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
        assert_eq!(owner.read_entry_name(&name), Some(EntryName { lease, generation: 7 }));
        assert_eq!(Owner { cluster: Uuid::from_u128(9), ..owner }.read_entry_name(&name), None);
        assert_eq!(owner.read_entry_name("wg1.x"), None);
        assert_eq!(owner.read_entry_name(&format!("{name}.8")), None);
    }
}
