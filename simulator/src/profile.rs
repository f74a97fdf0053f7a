//! Latencies and strictness of the cloud. A profile changes times, rates and which quirks show,
//! never the rules of the API.

use std::time::Duration;

/// The three clouds there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// State changes take 0–5 ms, gateways take parallel changes, no rate limits.
    Instant,
    /// Latencies and rates as published; a gateway takes one writer at a time.
    Realistic,
    /// Realistic, and a gateway takes no change while any entry is Pending or Deleting.
    Strict,
}

/// Which protocols the machine's service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocols {
    /// With a session's token, and without any.
    Both,
    /// Only the older one, without tokens.
    V1,
    /// Only the newer one: the machine is hardened.
    V2,
}

/// An inclusive range a duration is drawn from.
pub type Span = (Duration, Duration);

/// Everything a profile decides.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Arrival of a call to its answer.
    pub call: Span,
    /// Associating → InUse and Unassociating → Available.
    pub association: Span,
    /// Time from Releasing to gone.
    pub release: Span,
    /// Time from Pending to Available.
    pub entry_pending: Span,
    /// Time from Deleting to gone.
    pub entry_deleting: Span,
    /// BINDING → BINDED in a bandwidth package.
    pub package: Span,
    /// First question about an address → its network interface shows it.
    pub interface_visible: Duration,
    /// InUse on a gateway → entries may use the address.
    pub in_binding: Duration,
    /// True if a second change on a gateway or address during the first call is refused.
    pub one_writer: bool,
    /// True if a gateway refuses changes while one of its entries is not Available.
    pub stable_entries_only: bool,
    /// True if an association with a network interface must name the private address.
    pub private_address_required: bool,
    /// True if answers vary where the documentation and the real API disagree: protocols in lower
    /// case, interfaces that name their instance only in `Attachment`, as members of a trunk do.
    pub quirks: bool,
    /// Calls allowed per account in 60 s.
    pub rates: &'static [(&'static str, usize)],
}

/// Published rates per account and 60 seconds (openapi reference, quotas and rate limits).
const PUBLISHED: &[(&str, usize)] = &[
    ("AllocateEipAddress", 120),
    ("AssociateEipAddress", 120),
    ("UnassociateEipAddress", 120),
    ("AssociateEipAddressBatch", 30),
    ("DescribeEipAddresses", 600),
    ("ReleaseEipAddress", 600),
];

/// The published ones and what Terway holds itself to for reads without a published figure.
const CAUTIOUS: &[(&str, usize)] = &[
    ("AllocateEipAddress", 120),
    ("AssociateEipAddress", 120),
    ("UnassociateEipAddress", 120),
    ("AssociateEipAddressBatch", 30),
    ("DescribeEipAddresses", 600),
    ("ReleaseEipAddress", 600),
    ("DescribeNetworkInterfaces", 800),
    ("DescribeVSwitches", 300),
];

const fn span_ms(from_ms: u64, to_ms: u64) -> Span {
    (Duration::from_millis(from_ms), Duration::from_millis(to_ms))
}

impl Profile {
    /// Returns the profile's latencies, rates and strictness.
    pub fn pace(self) -> Pace {
        match self {
            Self::Instant => Pace {
                call: span_ms(0, 0),
                association: span_ms(0, 5),
                release: span_ms(0, 5),
                entry_pending: span_ms(0, 5),
                entry_deleting: span_ms(0, 5),
                package: span_ms(0, 5),
                interface_visible: Duration::ZERO,
                in_binding: Duration::ZERO,
                one_writer: false,
                stable_entries_only: false,
                private_address_required: false,
                quirks: false,
                rates: &[],
            },
            Self::Realistic => Pace {
                call: span_ms(100, 200),
                association: span_ms(1500, 2500),
                release: span_ms(300, 700),
                entry_pending: span_ms(800, 1200),
                entry_deleting: span_ms(800, 1200),
                package: span_ms(800, 1200),
                interface_visible: Duration::from_secs(1),
                in_binding: Duration::from_secs(1),
                one_writer: true,
                stable_entries_only: false,
                private_address_required: false,
                quirks: false,
                rates: PUBLISHED,
            },
            Self::Strict => Pace {
                in_binding: Duration::from_secs(3),
                stable_entries_only: true,
                private_address_required: true,
                quirks: true,
                rates: CAUTIOUS,
                ..Self::Realistic.pace()
            },
        }
    }
}
