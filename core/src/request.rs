//! The address that a pod requests, after its annotations were parsed and found valid.

use crate::ids::{AllocationId, BandwidthPackageId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// All addresses that a pod requests; each becomes a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The pod's public IPv4 address.
    pub address: Option<Request>,
}

impl Requests {
    /// All requests, at most one today.
    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.address.iter()
    }

    /// True if the pod requests nothing.
    pub fn is_empty(&self) -> bool {
        self.address.is_none()
    }

    /// The request of this kind, if there is one.
    pub fn of_kind(&self, kind: Kind) -> Option<&Request> {
        self.iter().find(|request| request.kind() == kind)
    }

    /// The kinds of all requests.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.iter().map(Request::kind)
    }
}

/// A pod's request for a public address. An EIP and DNAT exclude each other: the cloud refuses to
/// bind an EIP to an address that has a forward entry (`BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// An Elastic IP for this pod alone.
    Eip(EipRequest),
    /// Forwarded ports on a shared NAT gateway.
    Dnat(DnatRequest),
}

/// The kind of a lease. Closed, because it is a column, a metric label and part of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Elastic IP of a single pod.
    Eip,
    /// Ports on a NAT gateway.
    Dnat,
}

impl Kind {
    /// Both kinds, for iteration.
    pub const ALL: [Self; 2] = [Self::Eip, Self::Dnat];

    /// Lower-case name, `eip` or `dnat`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eip => "eip",
            Self::Dnat => "dnat",
        }
    }

    /// The readiness gate of this kind, which is also the type of the pod condition that Waygate
    /// writes.
    pub fn readiness_gate(self) -> &'static str {
        match self {
            Self::Eip => "k8s.aliyun.com/eip",
            Self::Dnat => "k8s.aliyun.com/dnat",
        }
    }
}

/// Time that an address outlives its pod, for a successor of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Released with the pod.
    None,
    /// Retained for this many seconds.
    For(u64),
    /// Retained until an operator deletes the custom resource.
    Forever,
}

impl Request {
    /// The retention that the request asks for; none for a given EIP, which Waygate never releases.
    pub fn retention(&self) -> Retention {
        match self {
            Self::Eip(EipRequest { source: EipSource::Given(_), .. }) => Retention::None,
            Self::Eip(request) => match request.release {
                ReleaseStrategy::Follow => Retention::None,
                ReleaseStrategy::Never => Retention::Forever,
                ReleaseStrategy::Ttl { seconds, .. } => Retention::For(seconds),
            },
            Self::Dnat(request) if request.fixed => Retention::Forever,
            Self::Dnat(_) => Retention::None,
        }
    }

    /// True if a pod that had this request and now has `wanted` needs another address or other
    /// ports.
    pub fn needs_another_lease(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Eip(had), Self::Eip(wanted)) => match (&had.source, &wanted.source) {
                (EipSource::Allocate(_), EipSource::Allocate(_)) => false,
                (EipSource::Given(_), EipSource::Given(_))
                | (EipSource::Pool(_), EipSource::Pool(_)) => had.source != wanted.source,
                (EipSource::Allocate(_) | EipSource::Given(_) | EipSource::Pool(_), _) => true,
            },
            (Self::Dnat(had), Self::Dnat(wanted)) => had.ports != wanted.ports,
            (Self::Eip(_), Self::Dnat(_)) | (Self::Dnat(_), Self::Eip(_)) => true,
        }
    }

    /// The kind of address requested.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Eip(_) => Kind::Eip,
            Self::Dnat(_) => Kind::Dnat,
        }
    }
}

/// A request for an EIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EipRequest {
    /// The source of the EIP.
    pub source: EipSource,
    /// The fate of the EIP when the pod is gone.
    pub release: ReleaseStrategy,
}

/// The source of a pod's EIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EipSource {
    /// Allocated for this pod, with these settings.
    Allocate(EipSpec),
    /// Given by instance ID: one pod at a time, never modified, never released.
    Given(AllocationId),
    /// Any EIP that was bought beforehand and tagged with this pool's name; never modified, never
    /// released.
    Pool(String),
}

/// Settings of an EIP to be allocated. Absent means the cloud's default, except where the original
/// controller set another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EipSpec {
    /// Peak bandwidth in Mbit/s.
    pub bandwidth: u32,
    /// Billing of traffic; the original's default is `PayByTraffic`, the cloud's is not.
    pub internet_charge_type: InternetChargeType,
    /// Billing of the EIP itself; `PostPaid` by default.
    pub instance_charge_type: InstanceChargeType,
    /// Line type, such as `BGP`; the cloud's default if absent.
    pub isp: Option<String>,
    /// Address pool to allocate from, `pippool-…`; the cloud's own pool if absent.
    pub public_ip_address_pool_id: Option<String>,
    /// Resource group, `rg-…`; the account's default group if absent.
    pub resource_group_id: Option<String>,
    /// Shared bandwidth package, joined after allocation and left before release.
    pub bandwidth_package: Option<BandwidthPackageId>,
    /// Name in the cloud; the cloud accepts none for PrePaid.
    pub name: Option<String>,
    /// Description in the cloud's console.
    pub description: Option<String>,
    /// Security protections, such as `AntiDDoS_Enhanced`.
    pub security_protection_types: Vec<String>,
    /// The user's tags, without those of Waygate.
    pub tags: BTreeMap<String, String>,
}

impl Default for EipSpec {
    fn default() -> Self {
        Self {
            bandwidth: 5,
            internet_charge_type: InternetChargeType::PayByTraffic,
            instance_charge_type: InstanceChargeType::PostPaid,
            isp: None,
            public_ip_address_pool_id: None,
            resource_group_id: None,
            bandwidth_package: None,
            name: None,
            description: None,
            security_protection_types: Vec::new(),
            tags: BTreeMap::new(),
        }
    }
}

/// Billing of an EIP's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InternetChargeType {
    /// Billed by data transferred.
    PayByTraffic,
    /// Billed by peak bandwidth.
    PayByBandwidth,
}

impl InternetChargeType {
    /// The spelling of the cloud's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PayByTraffic => "PayByTraffic",
            Self::PayByBandwidth => "PayByBandwidth",
        }
    }
}

/// Billing of the EIP itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceChargeType {
    /// Pay-as-you-go, billed until released.
    PostPaid,
    /// Subscription by the month; cannot be released before it expires.
    PrePaid,
}

impl InstanceChargeType {
    /// The spelling of the cloud's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PostPaid => "PostPaid",
            Self::PrePaid => "PrePaid",
        }
    }
}

/// The fate of an allocated EIP when its pod is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseStrategy {
    /// Released with the pod.
    #[default]
    Follow,
    /// Retained until an operator deletes the PodEIP.
    Never,
    /// Retained for a time after the pod's end.
    Ttl {
        /// Retention in seconds; fractions of a second are rounded up.
        seconds: u64,
        /// The user's spelling, a Go duration such as `5m30s`.
        text: String,
    },
}

/// A request for ports on a NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnatRequest {
    /// Ports of the pod in the order requested; never empty, without duplicates.
    pub ports: Vec<ExposedPort>,
    /// True if a stateful pod keeps its external address and ports over restarts.
    pub fixed: bool,
    /// True if each external port must equal the internal one.
    pub same_port: bool,
}

/// A port of the pod to expose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExposedPort {
    /// Port number from 1 to 65535.
    pub port: u16,
    /// Transport protocol, TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// Transport protocol of a forwarded port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

impl Protocol {
    /// Lower-case name, as in annotations and custom resources.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The IP protocol number: 6 or 17.
    pub fn ip_protocol_number(self) -> i16 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
