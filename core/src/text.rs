//! Every text that comes from outside: from a pod and its owner, a review, a custom resource, the
//! configuration, the cloud, the API server and Postgres.
//!
//! ```text
//! outside ─▶ edge: Text::check (refused, with key and reason) or Text::clean ─▶ store, conditions
//! ```
//!
//! Invariant: a text that reaches Postgres, a condition, an event or a log line is a row of this
//! list. One that is only compared with texts of ours, or parsed into another type, is a row, too,
//! and is neither stored nor shown.

mod rule;
mod shown;

pub use rule::{Alphabet, TextFault, TextRule, describe_fault};
pub use shown::{clean_text, escape_for_message, find_forbidden};

/// Where a text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Annotation of a pod, or of a workload's template.
    Annotation,
    /// Another field of a pod, of its namespace or of its owner reference.
    Pod,
    /// AdmissionReview, beside its object.
    Review,
    /// PodEIP or PodDNAT, which others may write.
    CustomResource,
    /// Configuration file.
    Configuration,
    /// Answer of the cloud.
    Cloud,
    /// Answer of the API server or of Postgres.
    Server,
}

/// What becomes of a text at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Refused where it breaks its rule, with key, reason and what is allowed.
    Refused,
    /// Cleaned: forbidden characters escaped, length cut. The text is for people, and no object may
    /// fail because of it.
    Cleaned,
    /// Compared with known texts, or parsed into a number, an address or a time: neither stored nor
    /// shown as it is.
    Compared,
}

macro_rules! texts {
    ($($name:ident: $origin:ident $edge:ident $alphabet:ident $longest:literal $key:literal, $bound:literal;)+) => {
        /// A text that comes from outside.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the table has each row's key and bound")]
        pub enum Text { $($name),+ }

        impl Text {
            /// Every text of the list.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Key or field that has the text, as messages name it.
            pub fn key(self) -> &'static str {
                match self { $(Self::$name => $key),+ }
            }

            /// Origin of the text.
            pub fn origin(self) -> Origin {
                match self { $(Self::$name => Origin::$origin),+ }
            }

            /// Treatment of the text at the edge.
            pub fn edge(self) -> Edge {
                match self { $(Self::$name => Edge::$edge),+ }
            }

            /// Alphabet and longest length of the text.
            pub fn rule(self) -> TextRule {
                match self {
                    $(Self::$name => TextRule { alphabet: Alphabet::$alphabet, longest: $longest }),+
                }
            }

            /// The rule of Kubernetes, or the page of the cloud's API, that the bounds come from.
            pub fn bound_by(self) -> &'static str {
                match self { $(Self::$name => $bound),+ }
            }
        }
    };
}

// Words of closed sets have a bound far above the longest word, so that their parsers name what is
// allowed; the bound is only for what is no typing error.
texts! {
    PodDnat: Annotation Refused Line 64 "k8s.aliyun.com/pod-dnat", "strconv.ParseBool";
    ExposePort: Annotation Refused Lines 16384 "k8s.aliyun.com/pod-dnat-expose-port", "ports with protocols; 1,600 of the longest";
    ExposeProtocol: Annotation Refused Line 64 "k8s.aliyun.com/pod-dnat-expose-protocol", "tcp or udp";
    Fixed: Annotation Refused Line 64 "k8s.aliyun.com/pod-dnat-fixed", "strconv.ParseBool";
    PodWithEip: Annotation Refused Line 64 "k8s.aliyun.com/pod-with-eip", "strconv.ParseBool";
    PodEipInstanceId: Annotation Refused Line 64 "k8s.aliyun.com/pod-eip-instanceid", "AssociateEipAddress, AllocationId; IDs have 20 to 30";
    Bandwidth: Annotation Refused Line 64 "k8s.aliyun.com/eip-bandwidth", "AllocateEipAddress, Bandwidth";
    InternetChargeType: Annotation Refused Line 64 "k8s.aliyun.com/eip-internet-charge-type", "AllocateEipAddress, InternetChargeType";
    InstanceChargeType: Annotation Refused Line 64 "k8s.aliyun.com/eip-instance-charge-type", "AllocateEipAddress, InstanceChargeType";
    BandwidthPackage: Annotation Refused Line 64 "k8s.aliyun.com/eip-common-bandwidth-package-id", "AddCommonBandwidthPackageIp, BandwidthPackageId";
    Isp: Annotation Refused Line 64 "k8s.aliyun.com/eip-isp", "AllocateEipAddress, ISP";
    AddressPool: Annotation Refused Line 64 "k8s.aliyun.com/eip-public-ip-address-pool-id", "AllocateEipAddress, PublicIpAddressPoolId";
    ResourceGroup: Annotation Refused Line 64 "k8s.aliyun.com/eip-resource-group-id", "AllocateEipAddress, ResourceGroupId";
    Name: Annotation Refused Line 128 "k8s.aliyun.com/eip-name", "AllocateEipAddress, Name: 1 to 128";
    Description: Annotation Refused Line 256 "k8s.aliyun.com/eip-description", "AllocateEipAddress, Description: 2 to 256";
    SecurityProtection: Annotation Refused Lines 256 "k8s.aliyun.com/eip-security-protection-types", "AllocateEipAddress, SecurityProtectionTypes: at most 10";
    Tags: Annotation Refused Lines 65536 "k8s.aliyun.com/eip-tags", "TagResources: 17 tags of 256, six times as long in JSON's escapes";
    ReleaseStrategy: Annotation Refused Line 64 "k8s.aliyun.com/pod-eip-release-strategy", "time.ParseDuration";
    SamePort: Annotation Refused Line 64 "waygate.dev/same-port", "strconv.ParseBool";
    ReadinessGate: Annotation Refused Line 64 "waygate.dev/readiness-gate", "strconv.ParseBool";
    OnTimeout: Annotation Refused Line 64 "waygate.dev/on-timeout", "hold, release or fail";
    ReadyTimeout: Annotation Refused Line 64 "waygate.dev/ready-timeout", "time.ParseDuration";
    WaitForAddress: Annotation Refused Line 64 "waygate.dev/wait-for-address", "strconv.ParseBool";
    EipPool: Annotation Refused Line 128 "waygate.dev/eip-pool", "TagResources, Tag.Value: at most 128";
    Paused: Annotation Refused Line 64 "waygate.dev/paused", "strconv.ParseBool";
    TagKey: Annotation Refused Line 128 "eip-tags, a key", "TagResources, Tag.Key: at most 128";
    TagValue: Annotation Refused Line 128 "eip-tags, a value", "TagResources, Tag.Value: at most 128";
    OtherKey: Annotation Cleaned Line 64 "an unknown key of our prefixes", "shown in a warning";
    AllocatedEip: Annotation Compared Line 64 "k8s.aliyun.com/allocated-eipAddress", "compared with the lease";
    AllocatedDnat: Annotation Compared Lines 65536 "k8s.aliyun.com/allocated-dnat", "compared with the lease";

    Namespace: Pod Refused DnsLabel 63 "metadata.namespace", "apimachinery ValidateNamespaceName";
    PodName: Pod Refused DnsSubdomain 253 "metadata.name", "apimachinery NameIsDNSSubdomain";
    PodUid: Pod Refused Uuid 36 "metadata.uid", "apimachinery NewUUID";
    OwnerKind: Pod Refused Kind 63 "metadata.ownerReferences[].kind", "apiextensions: kinds are DNS labels in any case; owner references are not checked";
    OwnerName: Pod Refused Line 253 "metadata.ownerReferences[].name", "apimachinery: names of at most 253; owner references are not checked";
    OwnerUid: Pod Compared Line 253 "metadata.ownerReferences[].uid", "not read";
    PodIp: Pod Compared Line 64 "status.podIP", "parsed as an IPv4 address";
    NodeName: Pod Cleaned Line 253 "spec.nodeName", "apimachinery NameIsDNSSubdomain; shown in a condition";
    PodPhase: Pod Compared Line 64 "status.phase", "compared with Succeeded and Failed";
    Gate: Pod Compared Line 317 "spec.readinessGates[].conditionType", "compared with our gates";
    Condition: Pod Compared Lines 32768 "status.conditions[]", "compared with what the lease says";
    Label: Pod Compared Line 63 "metadata.labels", "compared with the kind; namespaces' with the selector";

    ReviewUid: Review Refused Line 128 "request.uid", "apimachinery NewUUID; sent back with the answer";
    ReviewNamespace: Review Refused DnsLabel 63 "request.namespace", "apimachinery ValidateNamespaceName";
    Operation: Review Compared Line 64 "request.operation", "a closed set";
    ReviewKind: Review Compared Line 63 "request.kind.kind", "compared with the stateful kinds";
    SubResource: Review Compared Line 253 "request.subResource", "only its absence counts";
    User: Review Compared Line 1024 "request.userInfo.username", "compared with the worker's";

    LeaseAnnotation: CustomResource Compared Line 36 "waygate.dev/lease", "parsed as a UUID";
    PodUidAnnotation: CustomResource Compared Line 36 "waygate.dev/pod-uid", "compared with the lease's";
    ReleaseAnnotation: CustomResource Compared Line 64 "waygate.dev/release", "compared with true";
    ResourceContent: CustomResource Compared Line 65536 "spec and status", "compared with what the lease says";

    ClusterId: Configuration Refused Word 64 "clusterID", "part of names and of keys in the store";
    RegionId: Configuration Refused CloudId 64 "regionID", "DescribeRegions";
    VpcId: Configuration Refused CloudId 64 "vpcID", "DescribeVpcs";
    GatewayId: Configuration Refused CloudId 64 "natgwId", "DescribeNatGateways";
    GatewayZone: Configuration Refused CloudId 64 "zoneId", "DescribeZones";
    GatewayName: Configuration Refused DnsLabel 63 "name", "shown in messages";
    GatewayNamespace: Configuration Refused DnsLabel 63 "namespaces[]", "apimachinery ValidateNamespaceName";
    StatefulKind: Configuration Refused Kind 63 "customStatefulWorkloadKinds[]", "as an owner's kind";
    SelectorKey: Configuration Refused LabelKey 317 "namespaceSelector, a key", "apimachinery IsQualifiedName";
    SelectorValue: Configuration Refused LabelValue 63 "namespaceSelector, a value", "apimachinery IsValidLabelValue";
    ListedEip: Configuration Compared Line 64 "eips[]", "parsed as an IPv4 address";
    AccessKey: Configuration Refused Line 128 "accessKey", "a header's value; never shown";
    AccessSecret: Configuration Refused Line 128 "accessSecret", "never shown";
    OtherConfigKey: Configuration Cleaned Line 64 "an unknown key", "shown in a warning";

    AllocationId: Cloud Refused CloudId 64 "AllocationId", "DescribeEipAddresses";
    ForwardEntryId: Cloud Refused CloudId 64 "ForwardEntryId", "DescribeForwardTableEntries";
    ForwardTableId: Cloud Refused CloudId 64 "ForwardTableId", "DescribeNatGateways";
    NatGatewayId: Cloud Refused CloudId 64 "NatGatewayId", "DescribeNatGateways";
    EniId: Cloud Refused CloudId 64 "NetworkInterfaceId", "DescribeNetworkInterfaces";
    VSwitchId: Cloud Refused CloudId 64 "VSwitchId", "DescribeNetworkInterfaces";
    EniZone: Cloud Refused CloudId 64 "ZoneId", "DescribeNetworkInterfaces";
    EniVpc: Cloud Refused CloudId 64 "VpcId", "DescribeNetworkInterfaces";
    PackageId: Cloud Refused CloudId 64 "BandwidthPackageId", "DescribeEipAddresses";
    RequestId: Cloud Cleaned Line 100 "RequestId", "a UUID; stored with the answer";
    ErrorCode: Cloud Cleaned Line 100 "Code", "the API's error codes";
    ErrorMessage: Cloud Cleaned Line 300 "Message", "long enough for each but those that echo the request";
    DeniedAction: Cloud Cleaned Line 100 "AccessDeniedDetail.AuthAction", "names of actions";
    EipText: Cloud Cleaned Line 8192 "Name, Description, Tags, ISP, InstanceId and other texts", "DescribeEipAddresses: at most 256 each; cut where it is no text of the API's";
    EntryName: Cloud Cleaned Line 8192 "ForwardEntryName", "CreateForwardEntry: at most 128; parsed";
    Status: Cloud Compared Line 8192 "Status, BusinessStatus, UsingStatus", "closed sets";
    NextToken: Cloud Compared Line 8192 "NextToken", "only sent back";

    ErrorText: Server Cleaned Line 2048 "errors of the API server, of Postgres and of connections", "a condition's message; logs";
}

impl Text {
    /// Checks a text at the edge.
    pub fn check(self, text: &str) -> Result<(), TextFault> {
        self.rule().check(text)
    }

    /// True if the text keeps to its rule.
    pub fn allows(self, text: &str) -> bool {
        self.rule().allows(text)
    }

    /// The text as it is stored and shown: forbidden characters escaped, length cut to the rule's.
    pub fn clean(self, text: &str) -> String {
        clean_text(text, self.rule().longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_text_has_a_key_of_its_own_and_a_bound() {
        let keys: BTreeSet<_> =
            Text::ALL.iter().map(|text| (text.origin() as u8, text.key())).collect();
        assert_eq!(keys.len(), Text::ALL.len());
        for text in Text::ALL {
            assert!(!text.bound_by().is_empty() && text.rule().longest > 0, "{text:?}");
            assert!(!text.allows("a\0b") && !text.allows(&"a".repeat(70_000)), "{text:?}");
        }
    }
}
