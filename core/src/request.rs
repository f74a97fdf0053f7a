//! What a pod asks for, after its annotations were read and found right.

use crate::ids::{AllocationId, BandwidthPackageId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// All that a pod asks for. Each thing is a lease of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The pod's public IPv4 address.
    pub address: Option<Request>,
}

impl Requests {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.address.iter()
    }

    /// The one of this kind.
    pub fn of_kind(&self, kind: Kind) -> Option<&Request> {
        self.iter().find(|request| request.kind() == kind)
    }

    /// The kinds asked for.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.iter().map(Request::kind)
    }
}

/// The one public address a pod asks for. An EIP and DNAT exclude each other: the cloud refuses to
/// bind an EIP to an address that has a forward entry (`BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// An Elastic IP of its own.
    Eip(EipRequest),
    /// Ports on a NAT gateway.
    Dnat(DnatRequest),
}

/// Which of the two kinds a lease is of. Closed: it is a column, a metric label and part of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An Elastic IP of the pod's own.
    Eip,
    /// Ports on a NAT gateway.
    Dnat,
}

impl Kind {
    /// Both, for loops.
    pub const ALL: [Self; 2] = [Self::Eip, Self::Dnat];

    /// `eip` or `dnat`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eip => "eip",
            Self::Dnat => "dnat",
        }
    }

    /// The readiness gate, and the pod condition that answers it.
    pub fn gate(self) -> &'static str {
        match self {
            Self::Eip => "k8s.aliyun.com/eip",
            Self::Dnat => "k8s.aliyun.com/dnat",
        }
    }
}

/// How long what was given outlives its pod, for a successor of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Not at all.
    Not,
    /// So many seconds.
    Seconds(u64),
    /// Until a person deletes the custom resource.
    Always,
}

impl Request {
    /// How long it is kept. A given EIP is its owner's to keep.
    pub fn keep(&self) -> Keep {
        match self {
            Self::Eip(EipRequest { source: EipSource::Given(_), .. }) => Keep::Not,
            Self::Eip(request) => match request.release {
                ReleaseStrategy::Follow => Keep::Not,
                ReleaseStrategy::Never => Keep::Always,
                ReleaseStrategy::Ttl { seconds, .. } => Keep::Seconds(seconds),
            },
            Self::Dnat(request) if request.fixed => Keep::Always,
            Self::Dnat(_) => Keep::Not,
        }
    }

    /// Whether a pod that had this and now asks for `wanted` needs another address or other ports.
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

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Eip(_) => Kind::Eip,
            Self::Dnat(_) => Kind::Dnat,
        }
    }
}

/// An EIP for one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EipRequest {
    /// Where the EIP comes from.
    pub source: EipSource,
    /// What becomes of it when the pod goes.
    pub release: ReleaseStrategy,
}

/// Where a pod's EIP comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EipSource {
    /// Bought for this pod.
    Allocate(EipSpec),
    /// Named by the pod; one pod at a time, never modified, never released.
    Given(AllocationId),
    /// Any of those that people bought beforehand and tagged with this pool's name; never modified,
    /// never released.
    Pool(String),
}

/// What an EIP to be allocated should be like. Absent means the cloud's default, except where the
/// original set another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EipSpec {
    /// Peak bandwidth in Mbit/s.
    pub bandwidth: u32,
    /// How traffic is billed; the original's default is `PayByTraffic`, the cloud's is not.
    pub internet_charge_type: InternetChargeType,
    /// How the instance is billed.
    pub instance_charge_type: InstanceChargeType,
    /// Line type.
    pub isp: Option<String>,
    /// `pippool-…`
    pub public_ip_address_pool_id: Option<String>,
    /// `rg-…`
    pub resource_group_id: Option<String>,
    /// Joined after allocation, left before release.
    pub bandwidth_package: Option<BandwidthPackageId>,
    /// Name; the cloud takes none for PrePaid.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Such as `AntiDDoS_Enhanced`.
    pub security_protection_types: Vec<String>,
    /// The user's own tags.
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

/// How an EIP's traffic is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InternetChargeType {
    /// By data moved.
    PayByTraffic,
    /// By peak bandwidth.
    PayByBandwidth,
}

impl InternetChargeType {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PayByTraffic => "PayByTraffic",
            Self::PayByBandwidth => "PayByBandwidth",
        }
    }
}

/// How an EIP itself is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceChargeType {
    /// Until released.
    PostPaid,
    /// By the month; cannot be released before it expires.
    PrePaid,
}

impl InstanceChargeType {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PostPaid => "PostPaid",
            Self::PrePaid => "PrePaid",
        }
    }
}

/// What becomes of an allocated EIP when its pod goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseStrategy {
    /// Released with the pod.
    #[default]
    Follow,
    /// Kept until a person deletes the PodEIP.
    Never,
    /// Kept for a while.
    Ttl {
        /// How long, in seconds (fractions of a second are rounded up).
        seconds: u64,
        /// As the user wrote it, a Go duration such as `5m30s`.
        text: String,
    },
}

/// Ports on a NAT gateway for one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnatRequest {
    /// The pod's ports, in the order asked for; never empty, never twice the same.
    pub ports: Vec<ExposedPort>,
    /// External address and ports are kept over restarts of a stateful pod.
    pub fixed: bool,
    /// The external port must equal the internal one.
    pub same_port: bool,
}

/// One port of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExposedPort {
    /// 1–65535.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// What a forwarded port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Lower case, as annotations and custom resources write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The IP protocol number: 6 or 17.
    pub fn number(self) -> i16 {
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
