//! The actions on EIPs: describe, associate, unassociate, release, modify.

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde_json::{Value, json};

use super::{
    Binding, Cloud, Eip, EipStatus, Outcome, Target, dispatch::Context, is_busy, tags::matches_tags,
};
use crate::{params::Params, refusal::Refusal};

/// Ids or addresses one describe may name.
const MOST_IDS: usize = 50;

impl Cloud {
    pub(super) fn describe_eip_addresses(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let page = params.get_page(100)?;
        let ids = params.get_comma_list("AllocationId");
        let addresses = params.get_comma_list("EipAddress");
        if [&ids, &addresses].into_iter().flatten().any(|named| named.len() > MOST_IDS) {
            return Err(Refusal::bad_request(
                "InstanceIdLength.Exceed",
                "The number of the specified instances exceeds the limit.",
            ));
        }
        check_filters(params)?;
        let tags = params.get_tags();
        // Named ids are looked up, not searched for: a worker asks for a few of many, and often.
        let candidates: Vec<&Eip> = match &ids {
            Some(ids) => ids
                .iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .filter_map(|id| self.eips.get(*id))
                .collect(),
            None => self.eips.values().collect(),
        };
        let is_named = |eip: &Eip| {
            addresses.as_ref().is_none_or(|list| list.contains(&eip.address.to_string().as_str()))
        };
        let passes = |eip: &Eip| {
            is_named(eip) && matches_tags(&eip.tags, &tags) && self.passes_filters(eip, params)
        };
        let shown = candidates.into_iter().filter(|eip| passes(eip)).collect();
        Ok(page.wrap_items(shown, "EipAddresses", "EipAddress", |eip| self.described_eip(eip)))
    }

    /// The quirk: bound to an interface's primary address, an EIP shows no private address at all.
    fn described_eip(&self, eip: &Eip) -> Value {
        let private = eip
            .binding
            .as_ref()
            .filter(|binding| !binding.is_primary)
            .and_then(|binding| binding.private_address);
        self.eip_json(eip, &private.map(|address| address.to_string()).unwrap_or_default())
    }

    pub(super) fn associate_eip_address(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let id = params.get_required("AllocationId")?;
        let instance_id = params.get_required("InstanceId")?;
        self.check_bindable(id)?;
        let binding = match params.get("InstanceType").unwrap_or("EcsInstance") {
            "EcsInstance" => self.bind_to_instance(instance_id)?,
            "Nat" => self.bind_to_gateway(instance_id)?,
            "NetworkInterface" => self.bind_to_interface(instance_id, context)?,
            "SlbInstance" | "HaVip" | "IpAddress" => return Err(no_such_target()),
            _ => {
                return Err(Refusal::bad_request(
                    "Invalid.DirectEip.BindType",
                    "The specified bind type is invalid.",
                ));
            }
        };
        self.begin_association(id, binding, context);
        Ok(json!({}))
    }

    /// All or none: every EIP is checked before the first is touched.
    pub(super) fn associate_eip_address_batch(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let ids: BTreeSet<&str> = params.get_list("InstanceIds").into_iter().collect();
        let target = params.get_required("BindedInstanceId")?;
        if !(1..=MOST_IDS).contains(&ids.len()) {
            return Err(Refusal::invalid_parameter("InstanceIds"));
        }
        if params.get_required("BindedInstanceType")? != "Nat" {
            return Err(Refusal::bad_request(
                "InvalidInstanceType.ValueNotSupported",
                "Only NAT gateways are bound to in batches here.",
            ));
        }
        let binding = self.bind_to_gateway(target)?;
        if self.eips_on(target).count() + ids.len() > self.quotas.eips_per_gateway {
            return Err(too_many_on_gateway());
        }
        for id in &ids {
            self.check_bindable(id)?;
        }
        for id in ids {
            self.begin_association(id, binding.clone(), context);
        }
        Ok(json!({}))
    }

    fn begin_association(&mut self, id: &str, binding: Binding, context: &Context<'_>) {
        if let Some(eip) = self.eips.get_mut(id) {
            eip.binding = Some(binding);
            eip.busy_until = context.answered_at;
        }
        self.start_eip(id, EipStatus::Associating, self.pace.association);
    }

    /// The EIP exists, is left alone and is in this state.
    fn check_eip(&self, id: &str, status: EipStatus) -> Result<&Eip, Refusal> {
        let eip = self.eips.get(id).ok_or_else(no_such_eip)?;
        if is_busy(eip.busy_until, self) {
            return Err(Refusal::bad_request(
                "TaskConflict",
                "The operation is too frequent, please wait a moment and try again.",
            ));
        }
        if eip.status == status { Ok(eip) } else { Err(wrong_status()) }
    }

    fn check_bindable(&self, id: &str) -> Result<(), Refusal> {
        if self.check_eip(id, EipStatus::Available)?.is_expired(self.now) {
            return Err(Refusal::bad_request(
                "Forbidden.FinancialLocked",
                "The EIP is locked for financial reasons.",
            ));
        }
        Ok(())
    }

    fn bind_to_instance(&self, instance_id: &str) -> Result<Binding, Refusal> {
        if !self.topology.nodes.iter().any(|node| node.instance_id == instance_id) {
            return Err(no_such_target());
        }
        if self.eips_on(instance_id).next().is_some() {
            return Err(duplicated_target());
        }
        Ok(new_binding(Target::EcsInstance, instance_id, None, "NAT"))
    }

    fn bind_to_gateway(&self, instance_id: &str) -> Result<Binding, Refusal> {
        let gateway = self.gateways.get(instance_id).ok_or_else(no_such_target)?;
        if gateway.is_locked {
            return Err(Refusal::bad_request(
                "NATGATEWAY_FINANCIALLOCKED",
                "The NAT gateway is locked for financial reasons.",
            ));
        }
        if self.eips_on(instance_id).count() >= self.quotas.eips_per_gateway {
            return Err(too_many_on_gateway());
        }
        Ok(new_binding(Target::Nat, instance_id, None, "MULTI_BINDED"))
    }

    fn bind_to_interface(
        &self,
        instance_id: &str,
        context: &Context<'_>,
    ) -> Result<Binding, Refusal> {
        let interface = self.find_interface(instance_id).ok_or_else(no_such_target)?;
        let named = context.params.get_address("PrivateIpAddress", "InvalidParameter")?;
        let address = match named {
            None if self.pace.private_address_required => {
                return Err(Refusal::missing_parameter("PrivateIpAddress"));
            }
            None => interface.primary,
            Some(address) if interface.has_address(address) => address,
            Some(_) => {
                return Err(Refusal::bad_request(
                    "InvalidParams.NotFound",
                    "The specified PrivateIpAddress is not on the interface.",
                ));
            }
        };
        if self.eip_of_private(address).is_some() {
            return Err(duplicated_target());
        }
        if self.entries.values().any(|entry| entry.internal_ip == address) {
            let message = "The instance already has a port mapping or a bound EIP.";
            return Err(Refusal::bad_request("BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP", message));
        }
        let mode = context.params.get("Mode").unwrap_or("NAT");
        if !["NAT", "MULTI_BINDED", "BINDED"].contains(&mode) {
            return Err(Refusal::invalid_parameter("Mode"));
        }
        let mut bound = new_binding(Target::NetworkInterface, instance_id, Some(address), mode);
        bound.is_primary = address == interface.primary;
        Ok(bound)
    }

    /// The EIP bound to this private address.
    pub(super) fn eip_of_private(&self, address: Ipv4Addr) -> Option<&Eip> {
        self.eips.values().find(|eip| {
            eip.binding.as_ref().is_some_and(|binding| binding.private_address == Some(address))
        })
    }

    pub(super) fn unassociate_eip_address(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let id = params.get_required("AllocationId")?;
        let eip = self.check_eip(id, EipStatus::InUse)?;
        let Some(binding) = eip.binding.clone() else { return Err(wrong_status()) };
        if params.get("InstanceId").is_some_and(|instance| instance != binding.instance_id) {
            return Err(Refusal::bad_request(
                "InvalidInstanceId.NotFound",
                "The EIP is not bound to the specified instance.",
            ));
        }
        let other_type =
            params.get("InstanceType").is_some_and(|kind| kind != binding.target.as_str());
        let private = params.get_address("PrivateIpAddress", "InvalidParameter")?;
        if other_type
            || private
                .is_some_and(|address| binding.private_address.is_some_and(|own| own != address))
        {
            return Err(Refusal::not_found(
                "InvalidBindInstance.NotFound",
                "The EIP is not bound to the specified instance.",
            ));
        }
        if binding.target == Target::Nat {
            let address = eip.address;
            self.free_gateway_address(address, params.get_bool("Force"))?;
        }
        if let Some(eip) = self.eips.get_mut(id) {
            eip.busy_until = context.answered_at;
        }
        self.start_eip(id, EipStatus::Unassociating, self.pace.association);
        Ok(json!({}))
    }

    /// Entries on the address keep it on its gateway; with force they are deleted too.
    fn free_gateway_address(&mut self, address: Ipv4Addr, by_force: bool) -> Result<(), Refusal> {
        if by_force {
            self.entries.retain(|_, entry| entry.external_ip != address);
            self.drop_snat_of(address);
            return Ok(());
        }
        if self.is_snat_source(address) {
            return Err(Refusal::bad_request(
                "InvalidIpStatus.HasBeenUsedBySnatTable",
                "The specified IP is used by a SNAT entry.",
            ));
        }
        let mut on_it =
            self.entries.values().filter(|entry| entry.external_ip == address).peekable();
        if on_it.peek().is_none() {
            return Ok(());
        }
        if on_it.any(|entry| entry.status != super::EntryStatus::Available) {
            return Err(Refusal::bad_request(
                "InvalidStatus.SnatOrDnat",
                "A SNAT or DNAT entry of the EIP is not in a stable state.",
            ));
        }
        Err(Refusal::bad_request(
            "InvalidIpStatus.HasBeenUsedByForwardEntry",
            "The specified IP is used by a forward entry.",
        ))
    }

    pub(super) fn release_eip_address(&mut self, context: &Context<'_>) -> Outcome {
        let id = context.params.get_required("AllocationId")?;
        let eip = self.check_eip(id, EipStatus::Available)?;
        if eip.expires_at.is_some() && !eip.is_expired(self.now) {
            return Err(Refusal::bad_request(
                "Forbidden.ChargeTypeIsPrepaid",
                "A prepaid EIP cannot be released.",
            ));
        }
        self.start_eip(id, EipStatus::Releasing, self.pace.release);
        Ok(json!({}))
    }

    pub(super) fn modify_eip_address_attribute(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let bandwidth = params.get_number("Bandwidth")?;
        if bandwidth.is_some_and(|bandwidth| !(1..=500).contains(&bandwidth)) {
            return Err(Refusal::invalid_parameter("Bandwidth"));
        }
        let eip =
            self.eips.get_mut(params.get_required("AllocationId")?).ok_or_else(no_such_eip)?;
        if matches!(eip.status, EipStatus::Releasing) {
            return Err(wrong_status());
        }
        eip.bandwidth = bandwidth.unwrap_or(eip.bandwidth);
        if let Some(name) = params.get("Name") {
            name.clone_into(&mut eip.name);
        }
        if let Some(description) = params.get("Description") {
            description.clone_into(&mut eip.description);
        }
        Ok(json!({}))
    }

    fn passes_filters(&self, eip: &Eip, params: &Params) -> bool {
        let is = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
        let binding = eip.binding.as_ref();
        is("Status", eip.status.as_str())
            && is("ISP", &eip.isp)
            && is("ChargeType", eip.charge_type())
            && is("EipName", &eip.name)
            && is("ResourceGroupId", &eip.resource_group)
            && is("PublicIpAddressPoolId", &eip.pool)
            && is("AssociatedInstanceType", binding.map_or("", |binding| binding.target.as_str()))
            && is(
                "AssociatedInstanceId",
                binding.map_or("", |binding| binding.instance_id.as_str()),
            )
            && is("LockReason", if eip.is_expired(self.now) { "financial" } else { "" })
            && params.get("SegmentInstanceId").is_none()
    }
}

/// Filters whose values come from a closed list.
fn check_filters(params: &Params) -> Result<(), Refusal> {
    let is_none_of =
        |name: &str, known: &[&str]| params.get(name).is_some_and(|value| !known.contains(&value));
    if is_none_of(
        "AssociatedInstanceType",
        &["EcsInstance", "SlbInstance", "Nat", "HaVip", "NetworkInterface", "IpAddress"],
    ) {
        let message = "The specified value of AssociatedInstanceType is not supported.";
        return Err(Refusal::bad_request(
            "InvalidIAssociatedInstanceType.ValueNotSupported",
            message,
        ));
    }
    if is_none_of("ChargeType", &["PostPaid", "PrePaid"]) {
        return Err(Refusal::bad_request(
            "InvalidChargeType.ValueNotSupported",
            "The specified value of ChargeType is not supported.",
        ));
    }
    if is_none_of("LockReason", &["financial", "security"]) {
        return Err(Refusal::not_found(
            "InvalidLockReason.NotFound",
            "The specified LockReason does not exist.",
        ));
    }
    Ok(())
}

fn new_binding(
    target: Target,
    instance_id: &str,
    private_address: Option<Ipv4Addr>,
    mode: &str,
) -> Binding {
    Binding {
        target,
        instance_id: instance_id.to_owned(),
        private_address,
        is_primary: false,
        mode: mode.to_owned(),
    }
}

fn too_many_on_gateway() -> Refusal {
    Refusal::bad_request(
        "QuotaExceeded.NumberOfEip",
        "The number of EIPs bound to the NAT gateway exceeds the quota.",
    )
}

fn no_such_eip() -> Refusal {
    Refusal::not_found("InvalidAllocationId.NotFound", "Specified allocation ID is not found.")
}

fn no_such_target() -> Refusal {
    Refusal::not_found("InvalidInstanId.NotFound", "The specified instance is not found.")
}

fn wrong_status() -> Refusal {
    Refusal::bad_request(
        "IncorrectEipStatus",
        "Current elastic IP status does not support this operation.",
    )
}

fn duplicated_target() -> Refusal {
    Refusal::bad_request(
        "InvalidAssociation.Duplicated",
        "Specified instance already is associated.",
    )
}
