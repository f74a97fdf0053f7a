//! Ports on NAT gateways, as pods ask for them, and stands with few of them.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    cloud::Cloud,
    layout,
    stand::{Options, Stand},
};

/// The readiness gate of pods with ports, and the condition that answers it.
pub const GATE: &str = "k8s.aliyun.com/dnat";
/// The annotation by which a pod asks for ports.
pub const WITH_DNAT: (&str, &str) = ("k8s.aliyun.com/pod-dnat", "true");

/// The annotation that lists the ports a pod asks for.
#[must_use]
pub fn ports_annotation(list: &str) -> (&str, &str) {
    ("k8s.aliyun.com/pod-dnat-expose-port", list)
}

/// Lists the forward entries to a pod IP.
pub async fn list_entries_to(stand: &Stand, pod_ip: &str) -> Result<Vec<Value>> {
    Ok(stand
        .cloud
        .list_resources("forwardEntries")
        .await?
        .into_iter()
        .filter(|entry| entry["InternalIp"] == pod_ip)
        .collect())
}

/// Starts a stand with one gateway, this number of its EIPs and these external ports; the worker
/// reads the gateway once a second.
pub async fn start_with_one_gateway(
    simulator: &str,
    eips: usize,
    first: u16,
    last: u16,
) -> Result<Stand> {
    // The simulator draws addresses by its seed, so a first simulator shows which ones there will
    // be.
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let looks =
        Cloud::start(&layout::scratch_folder().join("logs").join("addresses"), &words(simulator))
            .await?;
    let gateway = looks.account.nat_gateways.first().context("a gateway")?;
    let eips: Vec<_> = gateway.eips.iter().take(eips).map(|eip| eip.ip_address.clone()).collect();
    let pool = json!([{
        "natgwId": gateway.nat_gateway_id, "zoneId": gateway.zone_id, "portRangeStart": first, "portRangeEnd": last, "eips": eips,
    }]);
    let config = json!({"networkController": {"natGwPool": pool}});
    let worker = words("--cooldown-seconds 0 --discovery-seconds 1");
    Stand::start_with(Options { simulator: words(simulator), worker, config, ..Options::default() })
        .await
}
