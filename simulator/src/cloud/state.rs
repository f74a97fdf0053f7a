//! One account's resources in one region, and when everything that happens later happens.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    rates::Rates,
    resources::{AccessKey, Eip, ForwardEntry, Gateway, Interfaces, Released, SnatEntry},
    timeline::Timeline,
    tokens::Tokens,
};
use crate::{dice::Dice, profile::Pace, topology::Topology};

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// EIPs per account, those of the gateways included.
    pub eips: usize,
    /// Forward entries per NAT gateway.
    pub entries_per_gateway: usize,
    /// EIPs per NAT gateway.
    pub eips_per_gateway: usize,
}

/// Published defaults.
impl Default for Quotas {
    fn default() -> Self {
        Self { eips: 20, entries_per_gateway: 100, eips_per_gateway: 20 }
    }
}

/// What a cloud is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What exists from the start.
    pub topology: Topology,
    /// How slow and strict it is.
    pub pace: Pace,
    /// How many there may be.
    pub quotas: Quotas,
    /// Seed of ids and latencies.
    pub seed: u64,
    /// When it starts.
    pub start: Timestamp,
}

/// One account's resources in one region.
#[derive(Clone, Debug)]
pub struct Cloud {
    pub(super) topology: Topology,
    pub(super) pace: Pace,
    pub(super) quotas: Quotas,
    pub(super) dice: Dice,
    pub(super) born: u64,
    pub(super) now: Timestamp,
    pub(super) timeline: Timeline,
    pub(super) tokens: Tokens,
    pub(super) rates: Rates,
    pub(super) keys: BTreeMap<String, AccessKey>,
    pub(super) eips: BTreeMap<String, Eip>,
    pub(super) released: Released,
    pub(super) gateways: BTreeMap<String, Gateway>,
    pub(super) entries: BTreeMap<String, ForwardEntry>,
    pub(super) snat: BTreeMap<String, SnatEntry>,
    pub(super) permissions: Vec<serde_json::Value>,
    pub(super) interfaces: Interfaces,
    pub(super) next_address: u32,
}

/// Whether a resource's previous change is still being taken in: the second writer is refused.
pub(super) fn is_busy(busy_until: Timestamp, cloud: &Cloud) -> bool {
    cloud.pace.one_writer && cloud.now < busy_until
}

/// `2026-01-02T03:04:05Z`.
pub(super) fn iso(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
