//! Parses the EIP keys: an EIP allocated for the pod, taken from a pool, or given by instance ID.

use super::context::Context;
use super::keys::Key;
use super::reader::Reader;
use super::values::{self, ValueError, refuse_value};
use crate::ids::{AllocationId, BandwidthPackageId};
use crate::request::{
    EipRequest, EipSource, EipSpec, InstanceChargeType, InternetChargeType, Kind, ReleaseStrategy,
};

/// The EIP request; none if no EIP is requested, or if its source cannot be parsed.
pub(super) fn read_eip_request(reader: &mut Reader, context: &Context) -> Option<EipRequest> {
    let allocate = reader.parse_value(Key::PodWithEip, values::parse_bool);
    if !reader.requests_kind(Kind::Eip) {
        return None;
    }
    let release = read_release_strategy(reader, context);
    if reader.has_key(Key::PodEipInstanceId) {
        let given = reader
            .parse_value(Key::PodEipInstanceId, |text| values::parse_resource_id(text, "eip-"));
        check_beside_given(reader, allocate);
        return Some(EipRequest {
            source: EipSource::Given(AllocationId::new(given?)),
            // No other strategy applies: a given EIP is never released.
            release: ReleaseStrategy::Follow,
        });
    }
    if reader.has_key(Key::EipPool) {
        let pool = reader.parse_value(Key::EipPool, values::parse_tag_value);
        check_beside_pool(reader);
        return Some(EipRequest { source: EipSource::Pool(pool?), release });
    }
    Some(EipRequest { source: EipSource::Allocate(read_eip_spec(reader)), release })
}

/// Checks the keys beside an instance ID. `pod-with-eip` requests an allocation only, so the ID
/// counts even where that key is false. Unless that key is false, allocation settings contradict
/// the ID.
fn check_beside_given(reader: &mut Reader, allocate: Option<bool>) {
    for key in Key::ALLOCATION {
        if !reader.has_key(key) {
            continue;
        }
        if allocate == Some(false) {
            reader.add_warning(key, "has no effect beside an instance ID");
        } else {
            reader.add_problem(
                key,
                "contradicts the instance ID: a given EIP is never modified",
                "either an instance ID or settings of a new EIP",
            );
        }
    }
    if reader.has_key(Key::EipPool) {
        reader.add_problem(
            Key::EipPool,
            "contradicts the instance ID",
            "either an instance ID or a pool",
        );
    }
    if reader.has_key(Key::ReleaseStrategy) {
        reader.add_warning(
            Key::ReleaseStrategy,
            "has no effect beside an instance ID: a given EIP is never released",
        );
    }
}

/// Refuses allocation settings beside a pool: pool EIPs stay as they were bought.
fn check_beside_pool(reader: &mut Reader) {
    for key in Key::ALLOCATION.into_iter().filter(|key| reader.has_key(*key)).collect::<Vec<_>>() {
        reader.add_problem(
            key,
            "contradicts the pool: its EIPs are never modified",
            "either a pool or settings of a new EIP",
        );
    }
}

fn read_release_strategy(reader: &mut Reader, context: &Context) -> ReleaseStrategy {
    let strategy =
        reader.parse_value(Key::ReleaseStrategy, parse_release_strategy).unwrap_or_default();
    if strategy != ReleaseStrategy::Follow && !context.stateful {
        reader.add_problem(
            Key::ReleaseStrategy,
            "needs a stateful pod: other pods get a new name when replaced",
            "Follow",
        );
    }
    strategy
}

fn parse_release_strategy(text: &str) -> Result<ReleaseStrategy, ValueError> {
    match text {
        "Follow" => Ok(ReleaseStrategy::Follow),
        "Never" => Ok(ReleaseStrategy::Never),
        _ => match values::parse_duration(text) {
            Ok(ttl) => {
                // Rounded up, so that the EIP is never released early.
                let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
                Ok(ReleaseStrategy::Ttl { seconds, text: text.to_owned() })
            }
            Err(_) => refuse_value(
                "is not a release strategy",
                "Follow, Never, or a positive Go duration such as 5m30s",
            ),
        },
    }
}

fn read_eip_spec(reader: &mut Reader) -> EipSpec {
    let usual = EipSpec::default();
    let instance_charge_type = reader
        .parse_value(Key::InstanceChargeType, parse_instance_charge_type)
        .unwrap_or(usual.instance_charge_type);
    let internet_charge_type = reader
        .parse_value(Key::InternetChargeType, parse_internet_charge_type)
        .unwrap_or(usual.internet_charge_type);
    // The charge types are read first, since the limit of the bandwidth depends on them.
    let most = max_bandwidth(instance_charge_type, internet_charge_type);
    let bandwidth = reader
        .parse_value(Key::Bandwidth, |text| parse_bandwidth(text, most))
        .unwrap_or(usual.bandwidth);
    if instance_charge_type == InstanceChargeType::PrePaid {
        check_prepaid(reader, internet_charge_type);
    }
    EipSpec {
        bandwidth,
        internet_charge_type,
        instance_charge_type,
        isp: reader.parse_value(Key::Isp, values::parse_isp).map(str::to_owned),
        public_ip_address_pool_id: reader
            .parse_value(Key::AddressPool, |text| values::parse_resource_id(text, "pippool-")),
        resource_group_id: reader
            .parse_value(Key::ResourceGroup, |text| values::parse_resource_id(text, "rg-")),
        bandwidth_package: reader
            .parse_value(Key::BandwidthPackage, |text| values::parse_resource_id(text, "cbwp-"))
            .map(BandwidthPackageId::new),
        name: reader.parse_value(Key::Name, values::parse_free_text),
        description: reader.parse_value(Key::Description, values::parse_free_text),
        security_protection_types: reader
            .parse_value(Key::SecurityProtection, values::parse_security_protection)
            .unwrap_or_default(),
        tags: reader.parse_value(Key::Tags, values::parse_tags).unwrap_or_default(),
    }
}

fn check_prepaid(reader: &mut Reader, internet: InternetChargeType) {
    if internet != InternetChargeType::PayByBandwidth {
        reader.add_problem(
            Key::InternetChargeType,
            "must be PayByBandwidth for a PrePaid EIP",
            "PayByBandwidth",
        );
    }
    if reader.has_key(Key::BandwidthPackage) {
        reader.add_problem(
            Key::BandwidthPackage,
            "cannot be joined by a PrePaid EIP",
            "a PostPaid EIP, or no package",
        );
    }
    if reader.has_key(Key::Name) {
        reader.add_warning(Key::Name, "has no effect: the cloud accepts no name for a PrePaid EIP");
    }
}

fn parse_instance_charge_type(text: &str) -> Result<InstanceChargeType, ValueError> {
    values::parse_word(
        text,
        &[InstanceChargeType::PostPaid, InstanceChargeType::PrePaid]
            .map(|kind| (kind.as_str(), kind)),
    )
}

fn parse_internet_charge_type(text: &str) -> Result<InternetChargeType, ValueError> {
    values::parse_word(
        text,
        &[InternetChargeType::PayByTraffic, InternetChargeType::PayByBandwidth]
            .map(|kind| (kind.as_str(), kind)),
    )
}

/// The largest bandwidth that AllocateEipAddress accepts, in Mbit/s, and the charge type that
/// limits it.
fn max_bandwidth(
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

fn parse_bandwidth(text: &str, (most, charge): (u32, &str)) -> Result<u32, ValueError> {
    let allowed = format!("1–{most} Mbit/s with {charge}");
    match text.parse::<u32>() {
        Ok(bandwidth) if (1..=most).contains(&bandwidth) => Ok(bandwidth),
        Ok(_) => refuse_value("is out of range", allowed),
        Err(_) => refuse_value("is not a whole number of Mbit/s", allowed),
    }
}
