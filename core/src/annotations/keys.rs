//! The keys Waygate reads and writes, in all their spellings.

use crate::nearest::nearest;
use crate::request::Kind;

/// The prefixes of the original's keys; the first is the one its documents use.
pub const PREFIXES: [&str; 2] = ["k8s.aliyun.com/", "network.alibabacloud.com/"];
/// The prefix of the keys that are only ours.
pub const OURS: &str = "waygate.dev/";
/// The label by which a watch selects the pods that have, or ask for, an address; its value is the
/// kind.
pub const LABEL: &str = "waygate.dev/pod";
/// Written onto a pod whose EIP works.
pub const ALLOCATED_EIP: &str = "k8s.aliyun.com/allocated-eipAddress";
/// Written onto a pod whose DNAT entries work.
pub const ALLOCATED_DNAT: &str = "k8s.aliyun.com/allocated-dnat";

/// Whether a key is one of those Waygate reads.
pub fn is_ours(key: &str) -> bool {
    Key::of(key).is_some()
}

/// Whether a key is an output, `allocated-…`: only a controller may write it, since start barriers
/// wait for it.
pub fn is_allocated(key: &str) -> bool {
    PREFIXES
        .iter()
        .any(|prefix| key.strip_prefix(prefix).is_some_and(|name| name.starts_with("allocated-")))
}

/// A key Waygate reads. Each stands for all its spellings.
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

    /// What EIPs to be allocated should be like.
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

    /// Names after the prefix; the first is the one to tell people.
    fn names(self) -> &'static [&'static str] {
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

    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::SamePort
            | Self::ReadinessGate
            | Self::OnTimeout
            | Self::ReadyTimeout
            | Self::WaitForAddress
            | Self::EipPool
            | Self::Paused => &[OURS],
            _ => &PREFIXES,
        }
    }

    /// The kind of address a key belongs to; none for those that serve both.
    pub(super) fn feature(self) -> Option<Kind> {
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

    /// Whether the key itself switches an address on.
    pub(super) fn is_switch(self) -> bool {
        matches!(self, Self::PodDnat | Self::PodWithEip | Self::PodEipInstanceId)
    }

    /// Whether its value is a list or an object, which people write in several lines.
    pub(super) fn is_spaced(self) -> bool {
        matches!(self, Self::ExposePort | Self::SecurityProtection | Self::Tags)
    }

    /// The spelling to tell people.
    pub(super) fn canonical(self) -> String {
        format!("{}{}", self.prefixes()[0], self.names()[0])
    }

    /// Every spelling.
    #[cfg(test)]
    pub(super) fn spellings(self) -> Vec<String> {
        self.prefixes()
            .iter()
            .flat_map(|prefix| self.names().iter().map(move |name| format!("{prefix}{name}")))
            .collect()
    }

    /// The key that a pod's annotation spells.
    pub(super) fn of(annotation: &str) -> Option<Self> {
        let (prefix, name) = split(annotation)?;
        Self::ALL
            .into_iter()
            .find(|key| key.prefixes().contains(&prefix) && key.names().contains(&name))
    }

    /// The key that a misspelt annotation probably means. Keys of other products under our prefixes
    /// mean none.
    pub(super) fn meant_by(annotation: &str) -> Option<Self> {
        let (_, name) = split(annotation)?;
        let close =
            nearest(name, Self::ALL.into_iter().flat_map(|key| key.names().iter().copied()))?;
        Self::ALL.into_iter().find(|key| key.names().contains(&close))
    }
}

fn split(annotation: &str) -> Option<(&'static str, &str)> {
    PREFIXES
        .into_iter()
        .chain([OURS])
        .find_map(|prefix| Some((prefix, annotation.strip_prefix(prefix)?)))
}
