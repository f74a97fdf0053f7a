//! Pins: the account, region and VPC of a store's resources. With another account's key, or in
//! another region, all of them would seem gone, so a worker that differs does nothing.

use crate::ids::{AccountId, RegionId, VpcId};
use std::fmt;

/// Account, region and VPC, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Account that owns the resources; none while the cloud has not named the caller's.
    pub account: Option<AccountId>,
    /// Region of the resources.
    pub region: Option<RegionId>,
    /// VPC of the cluster's pods.
    pub vpc: Option<VpcId>,
}

/// What is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pin {
    /// Account of the credentials.
    Account,
    /// `regionID` of the configuration.
    Region,
    /// `vpcID` of the configuration.
    Vpc,
}

impl Pin {
    /// All pins, in the order of their report.
    pub const ALL: [Self; 3] = [Self::Account, Self::Region, Self::Vpc];
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account => "account of the credentials",
            Self::Region => "regionID",
            Self::Vpc => "vpcID",
        })
    }
}

/// A pin that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What differs.
    pub pin: Pin,
    /// Value in the store.
    pub expected: String,
    /// Value that this worker found.
    pub found: String,
}

/// Compares what a worker found with what is pinned. What is not known on one side matches: that the
/// cloud names no account, for example since it does not answer, proves nothing.
pub fn find_mismatches(pinned: &Place, found: &Place) -> Vec<Mismatch> {
    let text = |place: &Place, pin| match pin {
        Pin::Account => place.account.as_ref().map(ToString::to_string),
        Pin::Region => place.region.as_ref().map(ToString::to_string),
        Pin::Vpc => place.vpc.as_ref().map(ToString::to_string),
    };
    let differing = Pin::ALL.into_iter().filter_map(|pin| {
        let (expected, found) = (text(pinned, pin)?, text(found, pin)?);
        (expected != found).then_some(Mismatch { pin, expected, found })
    });
    differing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(account: Option<&str>, region: &str, vpc: &str) -> Place {
        Place {
            account: account.map(AccountId::new),
            region: Some(RegionId::new(region)),
            vpc: Some(VpcId::new(vpc)),
        }
    }

    #[test]
    fn each_pin_that_differs_is_named_and_an_unknown_one_matches() {
        let pinned = place(Some("1"), "cn-a", "vpc-1");
        let pins = |found| -> Vec<_> {
            find_mismatches(&pinned, &found).into_iter().map(|it| it.pin).collect()
        };
        assert_eq!(pins(place(Some("1"), "cn-a", "vpc-1")), []);
        assert_eq!(pins(place(None, "cn-a", "vpc-1")), [], "no answer is no mismatch");
        assert_eq!(pins(place(None, "cn-b", "vpc-1")), [Pin::Region]);
        assert_eq!(pins(place(Some("2"), "cn-b", "vpc-2")), Pin::ALL);
        let unpinned = find_mismatches(&Place::default(), &pinned);
        assert_eq!(unpinned, [], "nothing is pinned yet");
    }
}
