//! Common bandwidth packages: EIPs that share a line.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::resources::Membership;
use super::{
    Cloud, Eip, EipStatus, Outcome, dispatch::Context, gateways::RESOURCE_GROUP, timeline::Event,
};
use crate::refusal::Refusal;

impl Cloud {
    pub(super) fn package_bandwidth(&self, id: &str) -> u32 {
        self.topology
            .bandwidth_packages
            .iter()
            .find(|package| package.id == id)
            .map_or(0, |package| package.bandwidth)
    }

    pub(super) fn settle_member(&mut self, id: &str, due: Timestamp) {
        if let Some(member) = self.eips.get_mut(id).and_then(|eip| eip.membership.as_mut())
            && member.settles_at == Some(due)
        {
            member.settles_at = None;
        }
    }

    pub(super) fn add_to_package(&mut self, context: &Context<'_>) -> Outcome {
        let package = context.params.get_required("BandwidthPackageId")?;
        let eip = context.params.get_required("IpInstanceId")?;
        self.check_joins(package, eip, 404)?;
        self.join_package(package, eip);
        Ok(json!({}))
    }

    /// Adds up to ten EIPs; an unknown one is refused with status 400, not 404.
    pub(super) fn add_many_to_package(&mut self, context: &Context<'_>) -> Outcome {
        let package = context.params.get_required("BandwidthPackageId")?;
        let eips = context.params.get_list("IpInstanceIds");
        if !(1..=10).contains(&eips.len()) {
            return Err(Refusal::invalid_parameter("IpInstanceIds"));
        }
        for eip in &eips {
            self.check_joins(package, eip, 400)?;
        }
        for eip in eips {
            self.join_package(package, eip);
        }
        Ok(json!({}))
    }

    fn check_joins(&self, package: &str, eip: &str, not_found: u16) -> Result<(), Refusal> {
        if !self.topology.bandwidth_packages.iter().any(|it| it.id == package) {
            return Err(Refusal::new(
                not_found,
                "InvalidBandwidthPackageId.NotFound",
                "The specified bandwidth package does not exist.",
            ));
        }
        let no_eip = || {
            Refusal::new(
                not_found,
                "InvalidIpInstanceId.NotFound",
                "The specified EIP does not exist.",
            )
        };
        let eip = self.eips.get(eip).ok_or_else(no_eip)?;
        if eip.expires_at.is_some() {
            return Err(Refusal::bad_request(
                "IpInstanceId.ChargeType.NotSupport",
                "A prepaid EIP cannot join a bandwidth package.",
            ));
        }
        if eip.membership.is_some() {
            return Err(Refusal::bad_request(
                "IpInstanceId.AlreadyInBandwidthPackage",
                "The EIP is already in a bandwidth package.",
            ));
        }
        match eip.status {
            EipStatus::Available | EipStatus::InUse => Ok(()),
            EipStatus::Associating | EipStatus::Unassociating | EipStatus::Releasing => {
                Err(Refusal::bad_request(
                    "IncorrectStatus.Eip",
                    "The status of the EIP does not support this operation.",
                ))
            }
        }
    }

    fn join_package(&mut self, package: &str, id: &str) {
        let settles_at = self.now + self.draw_duration(self.pace.package);
        if let Some(eip) = self.eips.get_mut(id) {
            eip.membership =
                Some(Membership { package: package.to_owned(), settles_at: Some(settles_at) });
            self.timeline.push_event(settles_at, Event::Member(id.to_owned()));
        }
    }

    pub(super) fn remove_from_package(&mut self, context: &Context<'_>) -> Outcome {
        let package = context.params.get_required("BandwidthPackageId")?;
        let no_eip = || {
            Refusal::not_found("InvalidIpInstanceId.NotFound", "The specified EIP does not exist.")
        };
        let eip =
            self.eips.get_mut(context.params.get_required("IpInstanceId")?).ok_or_else(no_eip)?;
        match &eip.membership {
            Some(member) if member.package == package && member.settles_at.is_some() => {
                Err(Refusal::bad_request(
                    "EipOperation.TooFrequently",
                    "The EIP is being added to the bandwidth package.",
                ))
            }
            Some(member) if member.package == package => {
                eip.membership = None;
                Ok(json!({}))
            }
            _ => Err(Refusal::bad_request(
                "OperationUnsupported.IpNotInCbwp",
                "The EIP is not in the bandwidth package.",
            )),
        }
    }

    pub(super) fn describe_packages(&mut self, context: &Context<'_>) -> Outcome {
        let page = context.params.get_page(50)?;
        let wanted = context.params.get("BandwidthPackageId");
        let all = self.packages_json();
        let shown = all
            .into_iter()
            .filter(|package| wanted.is_none_or(|id| package["BandwidthPackageId"] == id))
            .collect();
        Ok(page.wrap_items(shown, "CommonBandwidthPackages", "CommonBandwidthPackage", |row| row))
    }

    pub(super) fn packages_json(&self) -> Vec<Value> {
        let packages = self.topology.bandwidth_packages.iter();
        packages
            .map(|package| {
                let members = self.eips.values().filter_map(|eip| member_json(eip, &package.id));
                json!({
                    "BandwidthPackageId": package.id, "Name": "", "Description": "", "RegionId": self.topology.region,
                    "ResourceGroupId": RESOURCE_GROUP, "Status": "Available", "BusinessStatus": "Normal",
                    "Bandwidth": package.bandwidth.to_string(), "ISP": "BGP", "InternetChargeType": "PayByBandwidth",
                    "InstanceChargeType": "PostPaid", "Ratio": 100, "DeletionProtection": false, "BizType": "", "CreationTime": "",
                    "ExpiredTime": "", "HasReservationData": "false", "ServiceManaged": 0, "Zone": "",
                    "SecurityProtectionTypes": {"SecurityProtectionType": []},
                    // The inner name lacks its last letter in the real API, too.
                    "PublicIpAddresses": {"PublicIpAddresse": members.collect::<Vec<_>>()}, "Tags": {"Tag": []},
                })
            })
            .collect()
    }
}

fn member_json(eip: &Eip, package: &str) -> Option<Value> {
    let member = eip.membership.as_ref().filter(|member| member.package == package)?;
    let relation = if member.settles_at.is_some() { "BINDING" } else { "BINDED" };
    Some(
        json!({"AllocationId": eip.id, "IpAddress": eip.address, "BandwidthPackageIpRelationStatus": relation}),
    )
}
