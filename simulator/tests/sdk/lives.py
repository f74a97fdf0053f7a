"""A whole EIP life and a whole DNAT life through the official SDKs; only endpoint and protocol differ from production.

Reads the simulator's ready line from its first argument. Every documented field must arrive, with the type the SDK gives it.
"""

import json
import sys
import time

from alibabacloud_ecs20140526 import models as ecs_models
from alibabacloud_ecs20140526.client import Client as EcsClient
from alibabacloud_tea_openapi.models import Config
from alibabacloud_vpc20160428 import models as vpc_models
from alibabacloud_vpc20160428.client import Client as VpcClient

READY = json.loads(sys.argv[1])
REGION = READY["regionId"]


def config():
    return Config(
        access_key_id=READY["accessKeyId"],
        access_key_secret=READY["accessKeySecret"],
        endpoint=READY["endpoint"].removeprefix("http://"),
        protocol="http",
        region_id=REGION,
    )


VPC = VpcClient(config())
ECS = EcsClient(config())


def eventually(what, check, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found is not None:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not in {seconds} s: {what}")


def check_types(what, value, **fields):
    """Each named field of an SDK object has this type, and is there."""
    for name, kind in fields.items():
        got = getattr(value, name)
        assert isinstance(got, kind), f"{what}.{name} is {got!r}, not {kind}"


def refused(code, call):
    try:
        call()
    except Exception as error:  # the SDK has a class per status; the code is what counts
        assert getattr(error, "code", None) == code, f"{code} expected: {error!r}"
        return error
    raise AssertionError(f"{code} expected, but it went well")


EIP_TEXTS = """allocation_id ip_address name description region_id resource_group_id zone vpc_id netmode biz_type status
business_status instance_id instance_type instance_region_id private_ip_address mode bandwidth eip_bandwidth internet_charge_type
charge_type bandwidth_package_id bandwidth_package_type bandwidth_package_bandwidth has_reservation_data allocation_time
expired_time isp public_ip_address_pool_id segment_instance_id hdmonitor_status""".split()


def describe_eip(allocation_id):
    request = vpc_models.DescribeEipAddressesRequest(region_id=REGION, allocation_id=allocation_id)
    body = VPC.describe_eip_addresses(request).body
    check_types("DescribeEipAddresses", body, request_id=str, total_count=int, page_number=int, page_size=int)
    eips = body.eip_addresses.eip_address
    return eips[0] if eips else None


def eip_in(allocation_id, status):
    def check():
        eip = describe_eip(allocation_id)
        return eip if eip and eip.status == status else None

    return eventually(f"{allocation_id} {status}", check)


def find_interface(address):
    def check():
        request = ecs_models.DescribeNetworkInterfacesRequest(
            region_id=REGION, vpc_id=READY["vpcId"], status="InUse", private_ip_address=[address], max_results=100
        )
        found = ECS.describe_network_interfaces(request).body.network_interface_sets.network_interface_set
        return found[0] if found else None

    interface = eventually(f"the interface of {address}", check)
    check_types(
        "NetworkInterface", interface, network_interface_id=str, network_interface_name=str, mac_address=str, instance_id=str, vpc_id=str,
        v_switch_id=str, zone_id=str, type=str, status=str, private_ip_address=str, service_managed=bool, source_dest_check=bool,
        delete_on_release=bool, network_interface_traffic_mode=str, queue_number=int, resource_group_id=str, owner_id=str,
        creation_time=str, description=str,
    )
    check_types("Attachment", interface.attachment, instance_id=str, device_index=int, trunk_network_interface_id=str, network_card_index=int)
    for private in interface.private_ip_sets.private_ip_set:
        check_types("PrivateIpSet", private, private_ip_address=str, primary=bool, private_dns_name=str)
    assert interface.security_group_ids.security_group_id
    return interface


def eip_life():
    request = vpc_models.AllocateEipAddressRequest(
        region_id=REGION, bandwidth="7", name="sdk", client_token="sdk-allocate",
        tag=[vpc_models.AllocateEipAddressRequestTag(key="owner", value="a b+c/*~")],
    )
    allocated = VPC.allocate_eip_address(request).body
    check_types("AllocateEipAddress", allocated, request_id=str, allocation_id=str, eip_address=str, resource_group_id=str)
    again = VPC.allocate_eip_address(request).body
    assert again.allocation_id == allocated.allocation_id, "a repeated token must not allocate twice"
    request.bandwidth = "8"
    refused("IdempotentParameterMismatch", lambda: VPC.allocate_eip_address(request))

    eip = describe_eip(allocated.allocation_id)
    check_types("EipAddress", eip, **dict.fromkeys(EIP_TEXTS, str))
    check_types("EipAddress", eip, deletion_protection=bool, second_limited=bool, service_managed=int, service_id=int)
    assert (eip.status, eip.bandwidth, eip.instance_id) == ("Available", "7", "")
    assert [(tag.key, tag.value) for tag in eip.tags.tag] == [("owner", "a b+c/*~")]

    pod = "10.1.0.21"
    interface = find_interface(pod)
    associate = vpc_models.AssociateEipAddressRequest(
        region_id=REGION, allocation_id=eip.allocation_id, instance_id=interface.network_interface_id,
        instance_type="NetworkInterface", private_ip_address=pod, client_token="sdk-associate",
    )
    VPC.associate_eip_address(associate)
    bound = eip_in(eip.allocation_id, "InUse")
    assert (bound.instance_type, bound.private_ip_address) == ("NetworkInterface", pod)
    shown = [it.associated_public_ip for it in find_interface(pod).private_ip_sets.private_ip_set if it.private_ip_address == pod]
    assert shown[0].allocation_id == eip.allocation_id

    VPC.modify_eip_address_attribute(
        vpc_models.ModifyEipAddressAttributeRequest(region_id=REGION, allocation_id=eip.allocation_id, bandwidth="9")
    )
    tags = vpc_models.ListTagResourcesRequest(region_id=REGION, resource_type="EIP", resource_id=[eip.allocation_id])
    VPC.tag_resources(
        vpc_models.TagResourcesRequest(
            region_id=REGION, resource_type="EIP", resource_id=[eip.allocation_id],
            tag=[vpc_models.TagResourcesRequestTag(key="pod", value="ns/name")],
        )
    )
    listed = VPC.list_tag_resources(tags).body.tag_resources.tag_resource
    for tag in listed:
        check_types("TagResource", tag, resource_id=str, resource_type=str, tag_key=str, tag_value=str)
    assert {tag.tag_key for tag in listed} == {"owner", "pod"}

    release = vpc_models.ReleaseEipAddressRequest(region_id=REGION, allocation_id=eip.allocation_id)
    refused("IncorrectEipStatus", lambda: VPC.release_eip_address(release))
    VPC.unassociate_eip_address(
        vpc_models.UnassociateEipAddressRequest(region_id=REGION, allocation_id=eip.allocation_id, client_token="sdk-unassociate")
    )
    eip_in(eip.allocation_id, "Available")
    VPC.release_eip_address(release)
    eventually("the EIP is gone", lambda: True if describe_eip(eip.allocation_id) is None else None)
    error = refused("InvalidAllocationId.NotFound", lambda: VPC.release_eip_address(release))
    assert error.status_code == 404 and error.request_id, repr(error)


def describe_entries(**filters):
    request = vpc_models.DescribeForwardTableEntriesRequest(region_id=REGION, page_size=50, **filters)
    body = VPC.describe_forward_table_entries(request).body
    check_types("DescribeForwardTableEntries", body, request_id=str, total_count=int, page_number=int, page_size=int)
    for entry in body.forward_table_entries.forward_table_entry:
        check_types(
            "ForwardTableEntry", entry, forward_entry_id=str, forward_table_id=str, nat_gateway_id=str, forward_entry_name=str,
            external_ip=str, external_port=str, internal_ip=str, internal_port=str, ip_protocol=str, status=str,
        )
    return body.forward_table_entries.forward_table_entry


def check_gateway():
    gateways = VPC.describe_nat_gateways(vpc_models.DescribeNatGatewaysRequest(region_id=REGION)).body.nat_gateways.nat_gateway
    assert [it.nat_gateway_id for it in gateways] == [it["natGatewayId"] for it in READY["natGateways"]]
    gateway = gateways[0]
    check_types(
        "NatGateway", gateway, nat_gateway_id=str, name=str, description=str, vpc_id=str, region_id=str, resource_group_id=str,
        creation_time=str, expired_time=str, status=str, business_status=str, nat_type=str, network_type=str, eip_bind_mode=str,
        deletion_protection=bool, ecs_metric_enabled=bool, icmp_reply_enabled=bool, private_link_enabled=bool,
        security_protection_enabled=bool, internet_charge_type=str, spec=str,
    )
    check_types(
        "NatGatewayPrivateInfo", gateway.nat_gateway_private_info, eni_instance_id=str, eni_type=str, iz_no=str, private_ip_address=str,
        vswitch_id=str, max_bandwidth=int, max_session_quota=int, max_session_establish_rate=int,
    )
    for address in gateway.ip_lists.ip_list:
        check_types("IpList", address, allocation_id=str, ip_address=str, private_ip_address=str, snat_entry_enabled=bool, using_status=str)
    return gateway.forward_table_ids.forward_table_id[0], gateway.ip_lists.ip_list[0].ip_address


def dnat_life():
    table, external = check_gateway()
    create = vpc_models.CreateForwardEntryRequest(
        region_id=REGION, forward_table_id=table, external_ip=external, external_port="7000/7009", internal_ip="10.3.0.5",
        internal_port="80/89", ip_protocol="TCP", forward_entry_name="ns/pod a~b*", client_token="sdk-create",
    )
    made = VPC.create_forward_entry(create).body
    check_types("CreateForwardEntry", made, request_id=str, forward_entry_id=str)
    assert VPC.create_forward_entry(create).body.forward_entry_id == made.forward_entry_id

    def stable():
        found = describe_entries(forward_table_id=table, external_ip=external, external_port="7000/7009", ip_protocol="tcp")
        return found[0] if found and found[0].status == "Available" else None

    entry = eventually("the entry is Available", stable)
    assert (entry.forward_entry_name, entry.internal_port) == ("ns/pod a~b*", "80/89")
    create.dry_run = True
    refused("DryRunOperation", lambda: VPC.create_forward_entry(create))
    create.dry_run, create.client_token, create.external_port, create.internal_port = False, "sdk-again", "7009", "99"
    try:
        VPC.create_forward_entry(create)
        raise AssertionError("overlapping ranges must be refused")
    except Exception as error:
        assert getattr(error, "code", "") in ("OperationUnsupported.ForwardEntry", "Forbidden.Already.Bounded"), repr(error)
    VPC.modify_forward_entry(
        vpc_models.ModifyForwardEntryRequest(
            region_id=REGION, forward_table_id=table, forward_entry_id=made.forward_entry_id, internal_ip="10.3.0.6"
        )
    )
    eventually("the entry points at the new address", lambda: (lambda it: it if it and it.internal_ip == "10.3.0.6" else None)(stable()))
    VPC.delete_forward_entry(
        vpc_models.DeleteForwardEntryRequest(region_id=REGION, forward_table_id=table, forward_entry_id=made.forward_entry_id)
    )
    eventually("the entry is gone", lambda: True if not describe_entries(forward_table_id=table) else None)
    refused(
        "InvalidForwardTableId.NotFound",
        lambda: VPC.describe_forward_table_entries(
            vpc_models.DescribeForwardTableEntriesRequest(region_id=REGION, forward_table_id="ftb-none")
        ),
    )


def network():
    vpcs = VPC.describe_vpcs(vpc_models.DescribeVpcsRequest(region_id=REGION, vpc_id=READY["vpcId"])).body.vpcs.vpc
    check_types(
        "Vpc", vpcs[0], vpc_id=str, vpc_name=str, cidr_block=str, status=str, is_default=bool, owner_id=int, region_id=str, creation_time=str
    )
    assert len(vpcs[0].nat_gateway_ids.nat_gateway_ids) == len(READY["natGateways"])
    assert vpcs[0].router_table_ids.router_table_ids
    switches = VPC.describe_vswitches(vpc_models.DescribeVSwitchesRequest(region_id=REGION, page_size=50)).body.v_switches.v_switch
    for switch in switches:
        check_types(
            "VSwitch", switch, v_switch_id=str, vpc_id=str, cidr_block=str, zone_id=str, status=str, available_ip_address_count=int,
            enabled_ipv_6=bool, is_default=bool, creation_time=str,
        )
        check_types("RouteTable", switch.route_table, route_table_id=str, route_table_type=str)
    assert switches


eip_life()
dnat_life()
network()
print("every life was lived")
