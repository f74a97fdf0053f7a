//! Changes at the cloud's console.

use serde_json::{Value, json};

use super::client::{Answer, Stand};

async fn call_console(stand: &Stand, name: &str, body: Value) -> Answer {
    stand.admin("POST", &format!("/console/{name}"), &body.to_string()).await
}

async fn change_at_console(stand: &Stand, name: &str, body: Value) -> Value {
    let answer = call_console(stand, name, body).await;
    assert_eq!(answer.status, 200, "{name}: {answer:?}");
    answer.body
}

async fn find_resource(stand: &Stand, list: &str, field: &str, wanted: &str) -> Value {
    let state = stand.state().await;
    state[list]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it[field] == wanted)
        .cloned()
        .unwrap_or_default()
}

#[tokio::test]
async fn the_console_takes_an_eip_through_its_life() {
    let stand = Stand::start("--profile strict").await;
    let made = change_at_console(
        &stand,
        "allocate-eip",
        json!({"bandwidth": 7, "tag": [{"key": "k", "value": "v"}]}),
    )
    .await;
    let id = made["AllocationId"].as_str().unwrap();
    let eip = find_resource(&stand, "eips", "AllocationId", id).await;
    assert_eq!((&eip["Bandwidth"], &eip["Tags"]["Tag"][0]["Key"]), (&json!("7"), &json!("k")));
    change_at_console(&stand, "announce", json!({"ips": ["10.1.0.21"]})).await;
    change_at_console(&stand, "time", json!({"advanceMs": 1000})).await;
    let interfaces = stand.state().await["networkInterfaces"].clone();
    let interface = interfaces
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["PrivateIpAddress"] == "10.1.0.20")
        .unwrap();
    let interface = interface["NetworkInterfaceId"].as_str().unwrap();
    let target = json!({"allocationId": id, "instanceId": interface, "instanceType": "NetworkInterface", "privateIpAddress": "10.1.0.21"});
    change_at_console(&stand, "associate-eip", target.clone()).await;
    assert_eq!(find_resource(&stand, "eips", "AllocationId", id).await["Status"], "InUse");
    assert_eq!(
        call_console(&stand, "associate-eip", target).await.body["error"],
        "IncorrectEipStatus"
    );
    change_at_console(&stand, "detach-eni", json!({"networkInterfaceId": interface})).await;
    assert_eq!(find_resource(&stand, "eips", "AllocationId", id).await["Status"], "Available");
    change_at_console(&stand, "release-eip", json!({"allocationId": id})).await;
    assert_eq!(find_resource(&stand, "eips", "AllocationId", id).await, Value::Null);
}

#[tokio::test]
async fn the_console_changes_entries_and_gateways() {
    let stand = Stand::start("--profile realistic").await;
    let gateway = &stand.ready["natGateways"][0];
    let (id, table, eip) =
        (&gateway["natGatewayId"], &gateway["forwardTableId"], &gateway["eips"][0]);
    let entry = json!({"forwardTableId": table, "externalIp": eip["ipAddress"], "externalPort": "80", "internalIp": "10.1.0.5",
        "internalPort": 80, "ipProtocol": "TCP", "forwardEntryName": "by-hand"});
    let made = change_at_console(&stand, "create-forward-entry", entry).await["ForwardEntryId"]
        .as_str()
        .unwrap()
        .to_owned();
    change_at_console(
        &stand,
        "modify-forward-entry",
        json!({"forwardEntryId": made, "internalIp": "10.1.0.6"}),
    )
    .await;
    let shown = find_resource(&stand, "forwardEntries", "ForwardEntryId", &made).await;
    assert_eq!((&shown["InternalIp"], &shown["Status"]), (&json!("10.1.0.6"), &json!("Available")));
    change_at_console(
        &stand,
        "quota",
        json!({"eips": 500, "natGatewayId": id, "entriesPerGateway": 1}),
    )
    .await;
    change_at_console(&stand, "delete-forward-entry", json!({"forwardEntryId": made})).await;
    assert_eq!(find_resource(&stand, "forwardEntries", "ForwardEntryId", &made).await, Value::Null);
    let snat = change_at_console(
        &stand,
        "snat-entry",
        json!({"natGatewayId": id, "snatIp": eip["ipAddress"], "sourceCIDR": "10.1.0.0/16"}),
    )
    .await;
    assert_eq!(
        find_resource(&stand, "snatEntries", "SnatEntryId", snat["SnatEntryId"].as_str().unwrap())
            .await["SourceCIDR"],
        "10.1.0.0/16"
    );
    change_at_console(&stand, "delete-snat-entry", json!({"snatEntryId": snat["SnatEntryId"]}))
        .await;
    change_at_console(&stand, "unbind-gateway-eip", json!({"allocationId": eip["allocationId"]}))
        .await;
    change_at_console(&stand, "lock-nat-gateway", json!({"natGatewayId": id})).await;
    assert_eq!(
        find_resource(&stand, "natGateways", "NatGatewayId", id.as_str().unwrap()).await["BusinessStatus"],
        "FinancialLocked"
    );
    change_at_console(&stand, "delete-nat-gateway", json!({"natGatewayId": id})).await;
    assert_eq!(stand.state().await["natGateways"].as_array().unwrap().len(), 1);
    assert_eq!(
        call_console(&stand, "delete-nat-gateway", json!({"natGatewayId": id})).await.status,
        404
    );
    assert_eq!(call_console(&stand, "paint-it-blue", json!({})).await.status, 404);
}

#[tokio::test]
async fn the_console_makes_the_cloud_slower_or_faster_and_its_quotas_smaller() {
    let stand = Stand::start(
        "--profile instant --quota-eips 6 --quota-entries 7 --quota-eips-per-gateway 3",
    )
    .await;
    assert_eq!(
        stand.state().await["quotas"],
        json!({"eips": 6, "entriesPerGateway": 7, "eipsPerGateway": 3})
    );
    change_at_console(
        &stand,
        "pace",
        json!({"entryPending": [60_000, 60_000], "stableEntriesOnly": true}),
    )
    .await;
    let gateway = &stand.ready["natGateways"][0];
    let entry = |port: u16| {
        let (table, address) = (
            gateway["forwardTableId"].as_str().unwrap(),
            gateway["eips"][0]["ipAddress"].as_str().unwrap(),
        );
        format!(
            "ForwardTableId={table}&ExternalIp={address}&ExternalPort={port}&InternalIp=10.1.0.5&InternalPort={port}&IpProtocol=TCP"
        )
    };
    assert_eq!(stand.call("CreateForwardEntry", &entry(80)).await.status, 200);
    assert_eq!(
        stand.call("CreateForwardEntry", &entry(81)).await.code(),
        "IncorretForwardEntryStatus"
    );
    change_at_console(&stand, "pace", json!({"stableEntriesOnly": false})).await;
    assert_eq!(stand.call("CreateForwardEntry", &entry(81)).await.status, 200);
    change_at_console(&stand, "quota", json!({"entriesPerGateway": 2, "eips": 4})).await;
    assert_eq!(stand.call("CreateForwardEntry", &entry(82)).await.code(), "QuotaExceeded");
    assert_eq!(stand.call("AllocateEipAddress", "").await.code(), "QuotaExceeded.Eip");
    assert_eq!(
        stand.admin("GET", "/calls", "").await.body["errors"]["CreateForwardEntry"],
        json!({"IncorretForwardEntryStatus": 1, "QuotaExceeded": 1})
    );
    assert!(
        (400..500).contains(&call_console(&stand, "pace", json!({"entryPending": 5})).await.status)
    );
}

#[tokio::test]
async fn the_console_denies_actions_and_adds_keys() {
    let stand = Stand::start("--profile instant").await;
    change_at_console(&stand, "policy", json!({"denied": ["vpc:AllocateEipAddress"]})).await;
    let refused = stand.call("AllocateEipAddress", "").await;
    assert_eq!((refused.status, refused.code()), (403, "Forbidden.RAM"));
    assert_eq!(refused.body["AccessDeniedDetail"]["AuthAction"], "vpc:AllocateEipAddress");
    change_at_console(&stand, "policy", json!({"denied": []})).await;
    assert_eq!(stand.call("AllocateEipAddress", "").await.status, 200);
    change_at_console(
        &stand,
        "access-key",
        json!({"accessKeyId": "LTAIsecond", "accessKeySecret": "s"}),
    )
    .await;
    let second =
        super::client::Key { id: "LTAIsecond".to_owned(), secret: "s".to_owned(), token: None };
    assert_eq!(stand.try_call(&second, "DescribeVpcs", "").await.unwrap().status, 200);
    change_at_console(&stand, "access-key", json!({"accessKeyId": "LTAIsecond", "inactive": true}))
        .await;
    assert_eq!(
        stand.try_call(&second, "DescribeVpcs", "").await.unwrap().code(),
        "InvalidAccessKeyId.Inactive"
    );
    let rule = json!({"Direction": "ingress", "IpProtocol": "TCP", "PortRange": "80/80", "Policy": "Drop", "Priority": "1"});
    change_at_console(&stand, "security-group", json!({"permissions": [rule]})).await;
    let group = stand
        .call("DescribeSecurityGroupAttribute", "SecurityGroupId=sg-bp1waygate000000000")
        .await;
    assert_eq!(group.body["Permissions"]["Permission"][0]["Policy"], "Drop");
}
