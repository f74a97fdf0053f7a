//! Identifiers of resources in the cloud, the cluster and the store, each of its own type, so that
//! one cannot be passed for another.

use crate::text::{clean_text, find_forbidden};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest ID that is kept where one holds what none may, in characters.
const LONGEST: usize = 64;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(from = "String")]
        pub struct $name(String);

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self::new(id)
            }
        }

        impl $name {
            /// Takes an ID; only its owner can say if the resource exists. What no ID may hold is
            /// escaped, so that the text names no resource and can be stored and shown.
            pub fn new(id: impl Into<String>) -> Self {
                let id = id.into();
                Self(if find_forbidden(&id).is_none() { id } else { clean_text(&id, LONGEST) })
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
    /// An account of the cloud, by its number.
    AccountId,
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
