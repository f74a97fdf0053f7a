//! Parses the EIP keys: an EIP allocated for the pod, taken from a pool, or given by instance ID.

use super::context::Context;
use super::keys::Key;
use super::reader::Reader;
use super::values::{self, Refusal, refusal};
use crate::ids::{AllocationId, BandwidthPackageId};
use crate::request::{
    EipRequest, EipSource, EipSpec, InstanceChargeType, InternetChargeType, Kind, ReleaseStrategy,
};

/// The EIP request; none if no EIP is requested, or if its source cannot be parsed.
pub(super) fn read(reader: &mut Reader, context: &Context) -> Option<EipRequest> {
    let allocate = reader.parse(Key::PodWithEip, values::boolean);
    if !reader.on(Kind::Eip) {
        return None;
    }
    let release = release_strategy(reader, context);
    if reader.has(Key::PodEipInstanceId) {
        let given = reader.parse(Key::PodEipInstanceId, |text| values::id(text, "eip-"));
        beside_given(reader, allocate);
        return Some(EipRequest {
            source: EipSource::Given(AllocationId::new(given?)),
            // No other strategy applies: a given EIP is never released.
            release: ReleaseStrategy::Follow,
        });
    }
    if reader.has(Key::EipPool) {
        let pool = reader.parse(Key::EipPool, values::tag_value);
        beside_pool(reader);
        return Some(EipRequest { source: EipSource::Pool(pool?), release });
    }
    Some(EipRequest { source: EipSource::Allocate(spec(reader)), release })
}

/// Checks the keys beside an instance ID. `pod-with-eip` requests an allocation only, so the ID
/// counts even where that key is false. Unless that key is false, allocation settings contradict
/// the ID.
fn beside_given(reader: &mut Reader, allocate: Option<bool>) {
    for key in Key::ALLOCATION {
        if !reader.has(key) {
            continue;
        }
        if allocate == Some(false) {
            reader.warn(key, "has no effect beside an instance ID");
        } else {
            reader.refuse(
                key,
                "contradicts the instance ID: a given EIP is never modified",
                "either an instance ID or settings of a new EIP",
            );
        }
    }
    if reader.has(Key::EipPool) {
        reader.refuse(
            Key::EipPool,
            "contradicts the instance ID",
            "either an instance ID or a pool",
        );
    }
    if reader.has(Key::ReleaseStrategy) {
        reader.warn(
            Key::ReleaseStrategy,
            "has no effect beside an instance ID: a given EIP is never released",
        );
    }
}

/// Refuses allocation settings beside a pool: pool EIPs stay as they were bought.
fn beside_pool(reader: &mut Reader) {
    for key in Key::ALLOCATION.into_iter().filter(|key| reader.has(*key)).collect::<Vec<_>>() {
        reader.refuse(
            key,
            "contradicts the pool: its EIPs are never modified",
            "either a pool or settings of a new EIP",
        );
    }
}

fn release_strategy(reader: &mut Reader, context: &Context) -> ReleaseStrategy {
    let strategy = reader.parse(Key::ReleaseStrategy, strategy).unwrap_or_default();
    if strategy != ReleaseStrategy::Follow && !context.stateful {
        reader.refuse(
            Key::ReleaseStrategy,
            "needs a stateful pod: other pods get a new name when replaced",
            "Follow",
        );
    }
    strategy
}

fn strategy(text: &str) -> Result<ReleaseStrategy, Refusal> {
    match text {
        "Follow" => Ok(ReleaseStrategy::Follow),
        "Never" => Ok(ReleaseStrategy::Never),
        _ => match values::duration(text) {
            Ok(ttl) => {
                // Rounded up, so that the EIP is never released early.
                let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
                Ok(ReleaseStrategy::Ttl { seconds, text: text.to_owned() })
            }
            Err(_) => refusal(
                "is not a release strategy",
                "Follow, Never, or a positive Go duration such as 5m30s",
            ),
        },
    }
}

fn spec(reader: &mut Reader) -> EipSpec {
    let usual = EipSpec::default();
    let instance_charge_type = reader
        .parse(Key::InstanceChargeType, instance_charge_type)
        .unwrap_or(usual.instance_charge_type);
    let internet_charge_type = reader
        .parse(Key::InternetChargeType, internet_charge_type)
        .unwrap_or(usual.internet_charge_type);
    // The charge types are read first, since the limit of the bandwidth depends on them.
    let most = most_bandwidth(instance_charge_type, internet_charge_type);
    let bandwidth =
        reader.parse(Key::Bandwidth, |text| bandwidth(text, most)).unwrap_or(usual.bandwidth);
    if instance_charge_type == InstanceChargeType::PrePaid {
        check_prepaid(reader, internet_charge_type);
    }
    EipSpec {
        bandwidth,
        internet_charge_type,
        instance_charge_type,
        isp: reader.parse(Key::Isp, values::isp).map(str::to_owned),
        public_ip_address_pool_id: reader
            .parse(Key::AddressPool, |text| values::id(text, "pippool-")),
        resource_group_id: reader.parse(Key::ResourceGroup, |text| values::id(text, "rg-")),
        bandwidth_package: reader
            .parse(Key::BandwidthPackage, |text| values::id(text, "cbwp-"))
            .map(BandwidthPackageId::new),
        name: reader.parse(Key::Name, |text| values::text(text, 128)),
        description: reader.parse(Key::Description, |text| values::text(text, 256)),
        security_protection_types: reader
            .parse(Key::SecurityProtection, values::security_protection)
            .unwrap_or_default(),
        tags: reader.parse(Key::Tags, values::tags).unwrap_or_default(),
    }
}

fn check_prepaid(reader: &mut Reader, internet: InternetChargeType) {
    if internet != InternetChargeType::PayByBandwidth {
        reader.refuse(
            Key::InternetChargeType,
            "must be PayByBandwidth for a PrePaid EIP",
            "PayByBandwidth",
        );
    }
    if reader.has(Key::BandwidthPackage) {
        reader.refuse(
            Key::BandwidthPackage,
            "cannot be joined by a PrePaid EIP",
            "a PostPaid EIP, or no package",
        );
    }
    if reader.has(Key::Name) {
        reader.warn(Key::Name, "has no effect: the cloud accepts no name for a PrePaid EIP");
    }
}

fn instance_charge_type(text: &str) -> Result<InstanceChargeType, Refusal> {
    values::one_of(
        text,
        &[InstanceChargeType::PostPaid, InstanceChargeType::PrePaid]
            .map(|kind| (kind.as_str(), kind)),
    )
}

fn internet_charge_type(text: &str) -> Result<InternetChargeType, Refusal> {
    values::one_of(
        text,
        &[InternetChargeType::PayByTraffic, InternetChargeType::PayByBandwidth]
            .map(|kind| (kind.as_str(), kind)),
    )
}

/// The largest bandwidth that AllocateEipAddress accepts, in Mbit/s, and the charge type that
/// limits it.
fn most_bandwidth(
    instance: InstanceChargeType,
    internet: InternetChargeType,
) -> (u32, &'static str) {
    match (instance, internet) {
        (InstanceChargeType::PrePaid, _) => (1000, instance.as_str()),
        (InstanceChargeType::PostPaid, InternetChargeType::PayByBandwidth) => {
            (500, internet.as_str())
        }
        (InstanceChargeType::PostPaid, InternetChargeType::PayByTraffic) => {
            (200, internet.as_str())
        }
    }
}

fn bandwidth(text: &str, (most, charge): (u32, &str)) -> Result<u32, Refusal> {
    let allowed = format!("1–{most} Mbit/s with {charge}");
    match text.parse::<u32>() {
        Ok(bandwidth) if (1..=most).contains(&bandwidth) => Ok(bandwidth),
        Ok(_) => refusal("is out of range", allowed),
        Err(_) => refusal("is not a whole number of Mbit/s", allowed),
    }
}
