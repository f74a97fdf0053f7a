//! Buying EIPs: by use, by the month, or a certain address the account has held a few days ago.

use std::net::Ipv4Addr;

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde_json::json;

use super::{
    Cloud, Eip, EipStatus, Outcome, dispatch::Context, gateways::RESOURCE_GROUP, tags::check_tags,
};
use crate::{params::Params, refusal::Refusal};

/// Orders are numbered from here.
const FIRST_ORDER: u64 = 200_000_000_000_000;

/// Price of an EIP, and until when it is paid for.
struct Terms {
    bandwidth: u32,
    internet_charge_type: String,
    expires_at: Option<Timestamp>,
}

impl Cloud {
    pub(super) fn allocate_eip_address(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let tags = check_tags(params)?;
        let terms = self.read_terms(params)?;
        let wanted = self.find_former_address(params)?;
        if self.eips.len() >= self.quotas.eips {
            return Err(Refusal::bad_request(
                "QuotaExceeded.Eip",
                "Elastic IP address quota exceeded.",
            ));
        }
        let order = terms.expires_at.map(|_| self.next_order());
        if order.is_some() && !params.get_bool("AutoPay") {
            // The order waits to be paid at the console; until then there is no EIP.
            return Ok(json!({"OrderId": order}));
        }
        let eip = Eip {
            id: self.next_id("eip"),
            address: wanted.unwrap_or_else(|| self.free_address()),
            status: EipStatus::Available,
            binding: None,
            tags,
            membership: None,
            // No action takes a name for an EIP that is paid by the month.
            name: if order.is_some() { String::new() } else { params.get_or_empty("Name") },
            description: params.get_or_empty("Description"),
            bandwidth: terms.bandwidth,
            internet_charge_type: terms.internet_charge_type,
            expires_at: terms.expires_at,
            isp: params.get("ISP").unwrap_or("BGP").to_owned(),
            resource_group: params.get("ResourceGroupId").unwrap_or(RESOURCE_GROUP).to_owned(),
            pool: params.get_or_empty("PublicIpAddressPoolId"),
            security_protection: params
                .get_list("SecurityProtectionTypes")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            allocated_at: self.now,
            settles_at: None,
            busy_until: self.now,
            usable_from: self.now,
        };
        let mut answer = json!({"AllocationId": eip.id, "EipAddress": eip.address, "ResourceGroupId": eip.resource_group});
        if let Some(order) = order {
            answer["OrderId"] = json!(order);
        }
        self.eips.insert(eip.id.clone(), eip);
        Ok(answer)
    }

    /// Made for picking an address; knows no name, so that one has to be given afterwards.
    pub(super) fn allocate_eip_address_pro(&mut self, context: &Context<'_>) -> Outcome {
        let params = Params::new(context.params.pairs_without(&[
            "Name",
            "Description",
            "Zone",
            "ActivityId",
        ]));
        self.allocate_eip_address(&Context { params: &params, ..*context })
    }

    fn next_order(&mut self) -> u64 {
        self.born += 1;
        FIRST_ORDER + self.born
    }

    fn read_terms(&self, params: &Params) -> Result<Terms, Refusal> {
        let internet = params.get("InternetChargeType").unwrap_or("PayByBandwidth");
        let expires_at = match params.get("InstanceChargeType").unwrap_or("PostPaid") {
            "PostPaid" => None,
            "PrePaid" => Some(self.after_months(read_months(params)?)),
            _ => return Err(Refusal::invalid_parameter("InstanceChargeType")),
        };
        let most = match (internet, expires_at) {
            ("PayByBandwidth", Some(_)) => 1000,
            ("PayByBandwidth", None) => 500,
            ("PayByTraffic", None) => 200,
            _ => return Err(Refusal::invalid_parameter("InternetChargeType")),
        };
        let bandwidth = params.get_number("Bandwidth")?.unwrap_or(5);
        if !(1..=most).contains(&bandwidth) {
            return Err(Refusal::invalid_parameter("Bandwidth"));
        }
        Ok(Terms { bandwidth, internet_charge_type: internet.to_owned(), expires_at })
    }

    fn after_months(&self, months: u32) -> Timestamp {
        let now = self.now.to_zoned(TimeZone::UTC);
        now.checked_add(i64::from(months).months()).map_or(Timestamp::MAX, |then| then.timestamp())
    }

    /// Returns the address asked for, by itself or by the id it last had: free now, and held by
    /// this account not long ago. The new EIP has a new id.
    fn find_former_address(&mut self, params: &Params) -> Result<Option<Ipv4Addr>, Refusal> {
        let (address, id) =
            (params.get_address("IpAddress", "InvalidParameter")?, params.get("InstanceId"));
        if address.is_none() && id.is_none() {
            return Ok(None);
        }
        if address.is_some_and(|address| self.eip_at(address).is_some())
            || id.is_some_and(|id| self.eips.contains_key(id))
        {
            return Err(Refusal::bad_request(
                "Ip.Allocated",
                "The specified IP address is already allocated.",
            ));
        }
        self.released.forget_expired(self.now);
        let is_meant = |(known, (last, _)): &(&Ipv4Addr, &(String, Timestamp))| {
            address.is_none_or(|address| address == **known) && id.is_none_or(|id| id == last)
        };
        let found = self.released.known.iter().find(is_meant).map(|(known, _)| *known);
        let unfamiliar = || {
            let message =
                "Only an IP address that the account has held in the last 7 days can be specified.";
            Refusal::bad_request("OperationFailed.AllocateUnfamiliarIp", message)
        };
        found.map(Some).ok_or_else(unfamiliar)
    }
}

/// Reads the months paid for: 1 to 9 months, or 1 to 5 years.
fn read_months(params: &Params) -> Result<u32, Refusal> {
    let period =
        params.get_number("Period")?.ok_or_else(|| Refusal::missing_parameter("Period"))?;
    match params.get("PricingCycle").unwrap_or("Month") {
        "Month" if (1..=9).contains(&period) => Ok(period),
        "Year" if (1..=5).contains(&period) => Ok(period * 12),
        "Month" | "Year" => Err(Refusal::invalid_parameter("Period")),
        _ => Err(Refusal::invalid_parameter("PricingCycle")),
    }
}
