//! An account's resources in one region, and its scheduled changes.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    rates::Rates,
    resources::{AccessKey, Eip, ForwardEntry, Gateway, Interfaces, Released, SnatEntry},
    timeline::Timeline,
    tokens::Tokens,
};
use crate::{dice::Dice, profile::Pace, topology::Topology};

/// Upper limits of an account's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// EIPs per account, those of the gateways included.
    pub eips: usize,
    /// Forward entries per NAT gateway.
    pub entries_per_gateway: usize,
    /// EIPs per NAT gateway.
    pub eips_per_gateway: usize,
}

/// Defaults that the documentation publishes.
impl Default for Quotas {
    fn default() -> Self {
        Self { eips: 20, entries_per_gateway: 100, eips_per_gateway: 20 }
    }
}

/// Inputs that a cloud is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Resources that exist from the start.
    pub topology: Topology,
    /// Latencies, rates and strictness.
    pub pace: Pace,
    /// Upper limits of the account's resources.
    pub quotas: Quotas,
    /// Seed of ids and latencies.
    pub seed: u64,
    /// The cloud's time at its start.
    pub start: Timestamp,
}

/// An account's resources in one region.
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

/// True while a resource's previous change is still being applied; a second writer is refused.
pub(super) fn is_busy(busy_until: Timestamp, cloud: &Cloud) -> bool {
    cloud.pace.one_writer && cloud.now < busy_until
}

/// `2026-01-02T03:04:05Z`.
pub(super) fn iso_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
