"""A whole EIP life and a whole DNAT life through the official SDKs; only endpoint and protocol differ from production.

Reads the simulator's ready line from its first argument. Every documented field must arrive, with the type the SDK gives it.
"""

import base64
import inspect
import json
import sys
import time

from alibabacloud_ecs20140526 import models as ecs_models
from alibabacloud_ecs20140526.client import Client as EcsClient
from alibabacloud_sts20150401 import models as sts_models
from alibabacloud_sts20150401.client import Client as StsClient
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
STS = StsClient(config())


def eventually(what, check, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found is not None:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not in {seconds} s: {what}")


def check_typed(body):
    """Every field the SDK knows is there with the type the SDK declares, all the way down; gives the body."""
    for name, parameter in inspect.signature(type(body).__init__).parameters.items():
        if name == "self":
            continue
        value, where = getattr(body, name), f"{type(body).__name__}.{name}"
        if value is None:
            assert is_optional(where), f"{where} is missing"
        elif parameter.annotation in ("str", "int", "bool"):
            assert type(value).__name__ == parameter.annotation, f"{where} is {value!r}, not {parameter.annotation}"
        elif isinstance(value, list):
            for item in value:
                check_item(parameter.annotation, item, where)
        else:
            check_typed(value)
    return body


def check_item(annotation, item, where):
    if annotation == "List[str]":
        assert isinstance(item, str), f"{where} has {item!r}"
    else:
        check_typed(item)


def is_optional(where):
    """An unknown reservation, and the EIP of a private address that has none."""
    return ".reservation_" in where or "AssociatedPublicIp." in where


def refused(code, call):
    try:
        call()
    except Exception as error:  # the SDK has a class per status; the code is what counts
        assert getattr(error, "code", None) == code, f"{code} expected: {error!r}"
        return error
    raise AssertionError(f"{code} expected, but it went well")


def describe_eip(allocation_id):
    request = vpc_models.DescribeEipAddressesRequest(region_id=REGION, allocation_id=allocation_id)
    eips = check_typed(VPC.describe_eip_addresses(request).body).eip_addresses.eip_address
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
        found = check_typed(ECS.describe_network_interfaces(request).body).network_interface_sets.network_interface_set
        return found[0] if found else None

    interface = eventually(f"the interface of {address}", check)
    assert interface.security_group_ids.security_group_id
    return interface


def eip_life():
    request = vpc_models.AllocateEipAddressRequest(
        region_id=REGION, bandwidth="7", name="sdk", client_token="sdk-allocate",
        tag=[vpc_models.AllocateEipAddressRequestTag(key="owner", value="a b+c/*~")],
    )
    allocated = VPC.allocate_eip_address(request).body
    assert allocated.request_id and allocated.allocation_id and allocated.eip_address and allocated.resource_group_id
    again = VPC.allocate_eip_address(request).body
    assert again.allocation_id == allocated.allocation_id, "a repeated token must not allocate twice"
    request.bandwidth = "8"
    refused("IdempotentParameterMismatch", lambda: VPC.allocate_eip_address(request))

    eip = describe_eip(allocated.allocation_id)
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
    listed = check_typed(VPC.list_tag_resources(tags).body).tag_resources.tag_resource
    assert {tag.tag_key for tag in listed} == {"owner", "pod"}

    bandwidth_package_life(eip.allocation_id)
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
    return check_typed(VPC.describe_forward_table_entries(request).body).forward_table_entries.forward_table_entry


def check_gateway():
    request = vpc_models.DescribeNatGatewaysRequest(region_id=REGION)
    gateways = check_typed(VPC.describe_nat_gateways(request).body).nat_gateways.nat_gateway
    assert [it.nat_gateway_id for it in gateways] == [it["natGatewayId"] for it in READY["natGateways"]]
    gateway = gateways[0]
    request = vpc_models.GetNatGatewayAttributeRequest(region_id=REGION, nat_gateway_id=gateway.nat_gateway_id)
    attribute = check_typed(VPC.get_nat_gateway_attribute(request).body)
    assert attribute.ip_list[0].using_status == "idle" and attribute.forward_table.forward_entry_count == 0
    return gateway.forward_table_ids.forward_table_id[0], gateway.ip_lists.ip_list[0].ip_address


def dnat_life():
    table, external = check_gateway()
    create = vpc_models.CreateForwardEntryRequest(
        region_id=REGION, forward_table_id=table, external_ip=external, external_port="7000/7009", internal_ip="10.3.0.5",
        internal_port="80/89", ip_protocol="TCP", forward_entry_name="ns/pod a~b*", client_token="sdk-create",
    )
    made = VPC.create_forward_entry(create).body
    check_typed(made)
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


def bandwidth_package_life(allocation_id):
    package = READY["bandwidthPackages"][0]["id"]
    join = vpc_models.AddCommonBandwidthPackageIpRequest(region_id=REGION, bandwidth_package_id=package, ip_instance_id=allocation_id)
    VPC.add_common_bandwidth_package_ip(join)

    def bound():
        request = vpc_models.DescribeCommonBandwidthPackagesRequest(region_id=REGION, bandwidth_package_id=package)
        body = check_typed(VPC.describe_common_bandwidth_packages(request).body)
        member = body.common_bandwidth_packages.common_bandwidth_package[0].public_ip_addresses.public_ip_addresse[0]
        return True if member.bandwidth_package_ip_relation_status == "BINDED" else None

    eventually("the EIP is in the package", bound)
    assert describe_eip(allocation_id).bandwidth_package_id == package
    refused("IpInstanceId.AlreadyInBandwidthPackage", lambda: VPC.add_common_bandwidth_package_ip(join))
    leave = vpc_models.RemoveCommonBandwidthPackageIpRequest(region_id=REGION, bandwidth_package_id=package, ip_instance_id=allocation_id)
    VPC.remove_common_bandwidth_package_ip(leave)
    refused("OperationUnsupported.IpNotInCbwp", lambda: VPC.remove_common_bandwidth_package_ip(leave))


def gateway_pool():
    """Two EIPs join a gateway in one call and leave one by one."""
    gateway = READY["natGateways"][1]["natGatewayId"]
    request = vpc_models.AllocateEipAddressProRequest(region_id=REGION)
    ids = [check_allocated(VPC.allocate_eip_address_pro(request).body) for _ in range(2)]
    VPC.associate_eip_address_batch(
        vpc_models.AssociateEipAddressBatchRequest(
            region_id=REGION, binded_instance_id=gateway, binded_instance_type="Nat", instance_ids=ids
        )
    )
    for allocation_id in ids:
        assert eip_in(allocation_id, "InUse").instance_id == gateway
        VPC.unassociate_eip_address(vpc_models.UnassociateEipAddressRequest(region_id=REGION, allocation_id=allocation_id))
        eip_in(allocation_id, "Available")
        VPC.release_eip_address(vpc_models.ReleaseEipAddressRequest(region_id=REGION, allocation_id=allocation_id))


def prepaid_life():
    """Bought for a month, an EIP says until when, and stays."""
    request = vpc_models.AllocateEipAddressRequest(
        region_id=REGION, instance_charge_type="PrePaid", internet_charge_type="PayByBandwidth",
        pricing_cycle="Month", period=1, auto_pay=True,
    )
    bought = VPC.allocate_eip_address(request).body
    assert type(bought.order_id).__name__ == "int", repr(bought.order_id)
    eip = describe_eip(check_allocated(bought))
    assert eip.charge_type == "PrePaid" and eip.expired_time > eip.allocation_time, repr(eip)
    release = vpc_models.ReleaseEipAddressRequest(region_id=REGION, allocation_id=eip.allocation_id)
    refused("Forbidden.ChargeTypeIsPrepaid", lambda: VPC.release_eip_address(release))


def reclaim():
    """An address released a moment ago comes back, found by the key of its tag alone."""
    address = VPC.allocate_eip_address_pro(vpc_models.AllocateEipAddressProRequest(region_id=REGION)).body
    VPC.release_eip_address(vpc_models.ReleaseEipAddressRequest(region_id=REGION, allocation_id=address.allocation_id))
    eventually("the EIP is gone", lambda: True if describe_eip(address.allocation_id) is None else None)
    request = vpc_models.AllocateEipAddressProRequest(
        region_id=REGION, ip_address=address.eip_address,
        tag=[vpc_models.AllocateEipAddressProRequestTag(key="reclaimed", value="yes")],
    )
    back = VPC.allocate_eip_address_pro(request).body
    assert back.eip_address == address.eip_address
    request = vpc_models.DescribeEipAddressesRequest(
        region_id=REGION, tag=[vpc_models.DescribeEipAddressesRequestTag(key="reclaimed")]
    )
    found = check_typed(VPC.describe_eip_addresses(request).body).eip_addresses.eip_address
    assert [eip.allocation_id for eip in found] == [back.allocation_id]


def check_allocated(body):
    assert body.allocation_id and body.eip_address and body.request_id
    return body.allocation_id


def network():
    request = vpc_models.DescribeVpcsRequest(region_id=REGION, vpc_id=READY["vpcId"])
    vpc = check_typed(VPC.describe_vpcs(request).body).vpcs.vpc[0]
    assert len(vpc.nat_gateway_ids.nat_gateway_ids) == len(READY["natGateways"])
    request = vpc_models.DescribeVSwitchesRequest(region_id=REGION, page_size=50)
    assert check_typed(VPC.describe_vswitches(request).body).v_switches.v_switch
    request = vpc_models.DescribeRouteTableListRequest(region_id=REGION, vpc_id=READY["vpcId"])
    table = check_typed(VPC.describe_route_table_list(request).body).router_table_list.router_table_list_type[0]
    assert [table.route_table_id] == vpc.router_table_ids.router_table_ids
    request = vpc_models.DescribeRouteEntryListRequest(
        region_id=REGION, route_table_id=table.route_table_id, destination_cidr_block="0.0.0.0/0"
    )
    hop = check_typed(VPC.describe_route_entry_list(request).body).route_entrys.route_entry[0].next_hops.next_hop[0]
    assert (hop.next_hop_type, hop.next_hop_id) == ("NatGateway", READY["natGateways"][0]["natGatewayId"])
    request = vpc_models.DescribeSnatTableEntriesRequest(region_id=REGION, nat_gateway_id=READY["natGateways"][0]["natGatewayId"])
    assert check_typed(VPC.describe_snat_table_entries(request).body).snat_table_entries.snat_table_entry == []


def security_group():
    group = find_interface("10.1.0.21").security_group_ids.security_group_id[0]
    request = ecs_models.DescribeSecurityGroupAttributeRequest(region_id=REGION, security_group_id=group)
    assert check_typed(ECS.describe_security_group_attribute(request).body).permissions.permission


def temporary_keys():
    role = f"acs:ram::{READY['accountId']}:role/worker"
    me = check_typed(STS.get_caller_identity().body)
    assert me.identity_type == "RAMUser"
    body = STS.assume_role(sts_models.AssumeRoleRequest(role_arn=role, role_session_name="sdk", duration_seconds=900)).body
    in_session(check_typed(body).credentials)

    claims = {"iss": "https://k8s", "sub": "sa", "aud": ["sts.aliyuncs.com"], "iat": int(time.time()), "exp": int(time.time()) + 600}
    claims = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    request = sts_models.AssumeRoleWithOIDCRequest(
        role_arn=role, role_session_name="sdk", oidctoken=f"e30.{claims}.c2ln",
        oidcprovider_arn=f"acs:ram::{READY['accountId']}:oidc-provider/ack",
    )
    in_session(check_typed(STS.assume_role_with_oidc(request).body).credentials)


def in_session(credentials):
    session = config()
    session.access_key_id, session.access_key_secret = credentials.access_key_id, credentials.access_key_secret
    session.security_token = credentials.security_token
    who = check_typed(StsClient(session).get_caller_identity().body)
    assert who.identity_type == "AssumedRoleUser", who


eip_life()
prepaid_life()
reclaim()
gateway_pool()
dnat_life()
network()
security_group()
temporary_keys()
print("every life was lived")
