//! Identifiers of resources in the cloud, the cluster and the store, each of its own type, so that
//! one cannot be passed for another.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the ID unchecked; only its owner can say if the resource exists.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }
            /// The ID as its owner writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// An Elastic IP's instance ID, `eip-…`. Leases are keyed by it, never by address: the cloud
    /// reuses addresses.
    AllocationId,
    /// A NAT gateway, `ngw-…`.
    NatGatewayId,
    /// The DNAT table of a gateway, `ftb-…`.
    ForwardTableId,
    /// A DNAT entry of a gateway, `fwd-…`.
    ForwardEntryId,
    /// An elastic network interface, `eni-…`.
    EniId,
    /// A virtual private cloud, `vpc-…`.
    VpcId,
    /// A vSwitch of a VPC, `vsw-…`.
    VSwitchId,
    /// A zone such as `cn-hangzhou-j`.
    ZoneId,
    /// A region such as `cn-hangzhou`.
    RegionId,
    /// A shared bandwidth package, `cbwp-…`.
    BandwidthPackageId,
    /// UID of a pod, `metadata.uid`.
    PodUid,
}

/// ID of a lease in the store. Random, so that the ID, and every name made of it, stays unique
/// after a restore of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub uuid::Uuid);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
