//! Accounts and regions beside the topology's own: each is a cloud by itself, in which nothing was
//! made yet.

use super::{
    Cloud, Settings,
    dispatch::{Call, product_of},
    network::ACCOUNT,
};
use crate::topology::{Topology, Vpc};

/// An account and a region.
pub type Place = (String, String);

/// Regions that exist beside the topology's.
const REGIONS: [&str; 4] = ["cn-hangzhou", "cn-beijing", "cn-shanghai", "ap-southeast-1"];

impl Cloud {
    /// The place that a call is for, by its key and its `RegionId`; none if it is this cloud's own,
    /// or no region at all. Keys are the same everywhere.
    pub fn find_other_place(&self, call: &Call<'_>) -> Option<Place> {
        if product_of(call.action) == Some("Sts") {
            return None;
        }
        let account = self.access_key(call.caller?).ok()?.account();
        let own = self.topology.region.as_str();
        let region = call.params.get("RegionId").unwrap_or(own);
        let is_elsewhere = account != ACCOUNT || region != own;
        let exists = region == own || REGIONS.contains(&region);
        (is_elsewhere && exists).then(|| (account.to_owned(), region.to_owned()))
    }

    /// The cloud of another place: a VPC, and nothing in it.
    #[must_use]
    pub fn found_elsewhere(&self, (account, region): &Place) -> Self {
        let topology = Topology {
            region: region.clone(),
            vpc: Vpc { id: format!("vpc-{account}-{region}"), cidr: self.topology.vpc.cidr },
            zones: vec![format!("{region}-a")],
            v_switches: Vec::new(),
            nodes: Vec::new(),
            nat_gateways: Vec::new(),
            bandwidth_packages: Vec::new(),
        };
        let seed = account
            .bytes()
            .chain(region.bytes())
            .fold(1, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let (pace, quotas) = (self.pace.clone(), self.quotas);
        let mut cloud = Self::new(Settings { topology, pace, quotas, seed, start: self.now });
        // Public addresses are unique in all places.
        cloud.next_address += 0x8000;
        cloud
    }

    /// Takes over the keys of all accounts.
    pub fn copy_keys(&mut self, of: &Self) {
        self.keys.clone_from(&of.keys);
    }
}
