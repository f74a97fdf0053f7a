//! The annotation keys that Waygate reads and writes, with all their spellings.

use crate::request::Kind;
use crate::spelling::nearest_name;
use crate::text::{Edge, Origin, Text};

/// Key prefixes of the original controller; the first is the documented one.
pub const ORIGINAL_PREFIXES: [&str; 2] = ["k8s.aliyun.com/", "network.alibabacloud.com/"];
/// Prefix of the keys that Waygate adds to the original's.
pub const WAYGATE_PREFIX: &str = "waygate.dev/";
/// Label on pods that have or request an address, by which the watch selects them. The value is the
/// kind, or `missed` where the worker had to set it.
pub const POD_LABEL: &str = "waygate.dev/pod";
/// Annotation with the public IP of a pod's EIP, written once the EIP is bound.
pub const ALLOCATED_EIP: &str = "k8s.aliyun.com/allocated-eipAddress";
/// Annotation with a pod's external addresses and ports, written once its DNAT entries work.
pub const ALLOCATED_DNAT: &str = "k8s.aliyun.com/allocated-dnat";

/// True if Waygate reads this annotation key, in any spelling.
pub fn is_waygate_key(key: &str) -> bool {
    Key::from_annotation(key).is_some()
}

/// True for output keys, `allocated-…`: only a controller may write them, since start barriers wait
/// for them.
pub fn is_allocated_key(key: &str) -> bool {
    ORIGINAL_PREFIXES
        .iter()
        .any(|prefix| key.strip_prefix(prefix).is_some_and(|name| name.starts_with("allocated-")))
}

/// A row of the list of texts as an annotation key that Waygate reads, in all its spellings.
pub(super) type Key = Text;

impl Key {
    /// Every annotation key that Waygate reads: the rows of annotations with a key of their own.
    pub(super) fn all_keys() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|text| {
            (text.origin(), text.edge()) == (Origin::Annotation, Edge::Refused)
                && text.key().contains('/')
        })
    }

    /// Settings of an EIP to be allocated; refused beside a given EIP or a pool.
    pub(super) const ALLOCATION: [Self; 11] = [
        Self::Bandwidth,
        Self::InternetChargeType,
        Self::InstanceChargeType,
        Self::BandwidthPackage,
        Self::Isp,
        Self::AddressPool,
        Self::ResourceGroup,
        Self::Name,
        Self::Description,
        Self::SecurityProtection,
        Self::Tags,
    ];

    /// Accepted names after the prefix, the documented one first.
    fn accepted_names(self) -> impl Iterator<Item = &'static str> {
        let documented = split_prefix(self.key()).map(|(_, name)| name);
        let others: &[&str] = match self {
            Self::PodWithEip => &["eci-with-eip"],
            Self::PodEipInstanceId => &["eci-eip-instanceid"],
            Self::InternetChargeType => &["eip-charge-type"],
            _ => &[],
        };
        documented.into_iter().chain(others.iter().copied())
    }

    fn accepted_prefixes(self) -> &'static [&'static str] {
        if self.key().starts_with(WAYGATE_PREFIX) { &[WAYGATE_PREFIX] } else { &ORIGINAL_PREFIXES }
    }

    /// The kind of address that a key configures; none for keys of both kinds.
    pub(super) fn address_kind(self) -> Option<Kind> {
        match self {
            Self::PodDnat
            | Self::ExposePort
            | Self::ExposeProtocol
            | Self::Fixed
            | Self::SamePort => Some(Kind::Dnat),
            Self::ReadinessGate
            | Self::OnTimeout
            | Self::ReadyTimeout
            | Self::WaitForAddress
            | Self::Paused => None,
            _ => Some(Kind::Eip),
        }
    }

    /// True if the key itself switches an address on.
    pub(super) fn is_switch(self) -> bool {
        matches!(self, Self::PodDnat | Self::PodWithEip | Self::PodEipInstanceId)
    }

    /// All accepted spellings, for tests.
    #[cfg(test)]
    pub(super) fn spellings(self) -> Vec<String> {
        self.accepted_prefixes()
            .iter()
            .flat_map(|prefix| self.accepted_names().map(move |name| format!("{prefix}{name}")))
            .collect()
    }

    /// The key that an annotation spells; none for other annotations.
    pub(super) fn from_annotation(annotation: &str) -> Option<Self> {
        let (prefix, name) = split_prefix(annotation)?;
        Self::all_keys().find(|key| {
            key.accepted_prefixes().contains(&prefix)
                && key.accepted_names().any(|accepted| accepted == name)
        })
    }

    /// The key that a misspelt annotation probably means; none for keys of other products under the
    /// same prefixes.
    pub(super) fn closest_to(annotation: &str) -> Option<Self> {
        let (_, name) = split_prefix(annotation)?;
        let close = nearest_name(name, Self::all_keys().flat_map(Self::accepted_names))?;
        Self::all_keys().find(|key| key.accepted_names().any(|accepted| accepted == close))
    }
}

fn split_prefix(annotation: &str) -> Option<(&'static str, &str)> {
    ORIGINAL_PREFIXES
        .into_iter()
        .chain([WAYGATE_PREFIX])
        .find_map(|prefix| Some((prefix, annotation.strip_prefix(prefix)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_row_in_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
        let reference = std::fs::read_to_string(path).unwrap();
        let keys: Vec<_> = reference
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
            .flat_map(|cell| cell.split('`'))
            .map(|key| key.trim_start_matches(WAYGATE_PREFIX))
            .collect();
        for name in Key::all_keys().flat_map(Key::accepted_names) {
            assert!(keys.contains(&name), "docs/reference.md has no row for {name}");
        }
    }
}
