//! The check after every object was deleted: no resource of Waygate's is left in cloud, store or
//! cluster.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::{Api, api::ListParams};
use waygate_core::resources::{PodDNAT, PodEIP};

use crate::stand::Stand;

/// Lists the EIPs that the stand's worker allocated, by their store's tag.
pub async fn list_allocated_eips(stand: &Stand) -> Result<Vec<serde_json::Value>> {
    let tagged = |eip: &serde_json::Value| eip["Tags"].to_string().contains("waygate.dev/lease");
    Ok(stand.cloud.list_resources("eips").await?.into_iter().filter(tagged).collect())
}

/// Waits until neither cloud, store nor cluster hold a resource of the stand's.
pub async fn wait_until_nothing_is_left(stand: &Stand) -> Result<()> {
    let (eips, dnats) = (
        Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace),
        Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace),
    );
    let probe = || async {
        let entries = stand.cloud.list_resources("forwardEntries").await?;
        let entries_left = entries
            .iter()
            .filter(|entry| {
                entry["ForwardEntryName"].as_str().is_some_and(|name| name.starts_with("wg2."))
            })
            .count();
        let eips_left = list_allocated_eips(stand).await?.len();
        let (leases, ports): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM lease), (SELECT count(*) FROM port WHERE state = 'held')",
        )
        .fetch_one(&stand.database)
        .await?;
        let resources = eips.list(&ListParams::default()).await?.items.len()
            + dnats.list(&ListParams::default()).await?.items.len();
        ensure!(
            eips_left + entries_left + resources == 0 && leases + ports == 0,
            "left: {eips_left} EIPs, {entries_left} entries, {leases} leases, {ports} ports, {resources} custom resources"
        );
        Ok(Some(()))
    };
    stand.eventually(probe, "nothing of Waygate's is left", Duration::from_secs(30)).await
}
