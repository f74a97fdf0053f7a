//! The annotation keys that Waygate reads and writes, with all their spellings.

use crate::request::Kind;
use crate::spelling::nearest_name;
use crate::text::Text;

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

/// An annotation key that Waygate reads; one variant stands for all spellings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    PodDnat,
    ExposePort,
    ExposeProtocol,
    Fixed,
    PodWithEip,
    PodEipInstanceId,
    Bandwidth,
    InternetChargeType,
    InstanceChargeType,
    BandwidthPackage,
    Isp,
    AddressPool,
    ResourceGroup,
    Name,
    Description,
    SecurityProtection,
    Tags,
    ReleaseStrategy,
    SamePort,
    ReadinessGate,
    OnTimeout,
    ReadyTimeout,
    WaitForAddress,
    EipPool,
    Paused,
}

impl Key {
    pub(super) const ALL: [Self; 25] = [
        Self::PodDnat,
        Self::ExposePort,
        Self::ExposeProtocol,
        Self::Fixed,
        Self::PodWithEip,
        Self::PodEipInstanceId,
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
        Self::ReleaseStrategy,
        Self::SamePort,
        Self::ReadinessGate,
        Self::OnTimeout,
        Self::ReadyTimeout,
        Self::WaitForAddress,
        Self::EipPool,
        Self::Paused,
    ];

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

    /// Accepted names after the prefix; messages use the first.
    fn accepted_names(self) -> &'static [&'static str] {
        match self {
            Self::PodDnat => &["pod-dnat"],
            Self::ExposePort => &["pod-dnat-expose-port"],
            Self::ExposeProtocol => &["pod-dnat-expose-protocol"],
            Self::Fixed => &["pod-dnat-fixed"],
            Self::PodWithEip => &["pod-with-eip", "eci-with-eip"],
            Self::PodEipInstanceId => &["pod-eip-instanceid", "eci-eip-instanceid"],
            Self::Bandwidth => &["eip-bandwidth"],
            Self::InternetChargeType => &["eip-internet-charge-type", "eip-charge-type"],
            Self::InstanceChargeType => &["eip-instance-charge-type"],
            Self::BandwidthPackage => &["eip-common-bandwidth-package-id"],
            Self::Isp => &["eip-isp"],
            Self::AddressPool => &["eip-public-ip-address-pool-id"],
            Self::ResourceGroup => &["eip-resource-group-id"],
            Self::Name => &["eip-name"],
            Self::Description => &["eip-description"],
            Self::SecurityProtection => &["eip-security-protection-types"],
            Self::Tags => &["eip-tags"],
            Self::ReleaseStrategy => &["pod-eip-release-strategy"],
            Self::SamePort => &["same-port"],
            Self::ReadinessGate => &["readiness-gate"],
            Self::OnTimeout => &["on-timeout"],
            Self::ReadyTimeout => &["ready-timeout"],
            Self::WaitForAddress => &["wait-for-address"],
            Self::EipPool => &["eip-pool"],
            Self::Paused => &["paused"],
        }
    }

    fn accepted_prefixes(self) -> &'static [&'static str] {
        match self {
            Self::SamePort
            | Self::ReadinessGate
            | Self::OnTimeout
            | Self::ReadyTimeout
            | Self::WaitForAddress
            | Self::EipPool
            | Self::Paused => &[WAYGATE_PREFIX],
            _ => &ORIGINAL_PREFIXES,
        }
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

    /// The row of the key's value in the list of texts, which bounds it.
    pub(super) fn text(self) -> Text {
        match self {
            Self::PodDnat => Text::PodDnat,
            Self::ExposePort => Text::ExposePort,
            Self::ExposeProtocol => Text::ExposeProtocol,
            Self::Fixed => Text::Fixed,
            Self::PodWithEip => Text::PodWithEip,
            Self::PodEipInstanceId => Text::PodEipInstanceId,
            Self::Bandwidth => Text::Bandwidth,
            Self::InternetChargeType => Text::InternetChargeType,
            Self::InstanceChargeType => Text::InstanceChargeType,
            Self::BandwidthPackage => Text::BandwidthPackage,
            Self::Isp => Text::Isp,
            Self::AddressPool => Text::AddressPool,
            Self::ResourceGroup => Text::ResourceGroup,
            Self::Name => Text::Name,
            Self::Description => Text::Description,
            Self::SecurityProtection => Text::SecurityProtection,
            Self::Tags => Text::Tags,
            Self::ReleaseStrategy => Text::ReleaseStrategy,
            Self::SamePort => Text::SamePort,
            Self::ReadinessGate => Text::ReadinessGate,
            Self::OnTimeout => Text::OnTimeout,
            Self::ReadyTimeout => Text::ReadyTimeout,
            Self::WaitForAddress => Text::WaitForAddress,
            Self::EipPool => Text::EipPool,
            Self::Paused => Text::Paused,
        }
    }

    /// The spelling that messages and documents use.
    pub(super) fn canonical_spelling(self) -> String {
        format!("{}{}", self.accepted_prefixes()[0], self.accepted_names()[0])
    }

    /// All accepted spellings, for tests.
    #[cfg(test)]
    pub(super) fn spellings(self) -> Vec<String> {
        self.accepted_prefixes()
            .iter()
            .flat_map(|prefix| {
                self.accepted_names().iter().map(move |name| format!("{prefix}{name}"))
            })
            .collect()
    }

    /// The key that an annotation spells; none for other annotations.
    pub(super) fn from_annotation(annotation: &str) -> Option<Self> {
        let (prefix, name) = split_prefix(annotation)?;
        Self::ALL.into_iter().find(|key| {
            key.accepted_prefixes().contains(&prefix) && key.accepted_names().contains(&name)
        })
    }

    /// The key that a misspelt annotation probably means; none for keys of other products under the
    /// same prefixes.
    pub(super) fn closest_to(annotation: &str) -> Option<Self> {
        let (_, name) = split_prefix(annotation)?;
        let close = nearest_name(
            name,
            Self::ALL.into_iter().flat_map(|key| key.accepted_names().iter().copied()),
        )?;
        Self::ALL.into_iter().find(|key| key.accepted_names().contains(&close))
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
    fn every_key_is_in_the_list_of_texts_and_the_list_has_no_other() {
        use crate::text::{Edge, Origin};
        let refused = Text::ALL.iter().filter(|text| {
            (text.origin(), text.edge()) == (Origin::Annotation, Edge::Refused)
                && text.key().contains('/')
        });
        let listed: Vec<_> = refused.map(|text| text.key().to_owned()).collect();
        assert_eq!(listed, Key::ALL.map(Key::canonical_spelling));
        assert_eq!(listed, Key::ALL.map(|key| key.text().key().to_owned()));
    }

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
        for name in Key::ALL.into_iter().flat_map(Key::accepted_names) {
            assert!(keys.contains(name), "docs/reference.md has no row for {name}");
        }
    }
}
