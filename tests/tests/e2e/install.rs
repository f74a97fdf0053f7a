//! Parts of the chart that only an API server can judge.

use anyhow::{Context as _, Result};
use k8s_openapi::api::{core::v1::Secret, flowcontrol::v1::FlowSchema};
use kube::{Api, Client, ResourceExt as _, api::ListParams, client::Body, core::request::Request};
use testbed::{cluster::connect_cluster, stand::Stand, wait::TIMEOUT};

#[tokio::test]
async fn the_api_server_takes_the_deployments_as_they_are() -> Result<()> {
    let stand = Stand::start().await?;
    stand.installation.dry_run_programs().await
}

#[tokio::test]
async fn the_worker_issues_the_webhooks_certificate_with_the_rights_it_has() -> Result<()> {
    let stand = Stand::start().await?;
    let secrets = Api::<Secret>::namespaced(stand.client.clone(), stand.installation.namespace());
    let probe = || async { Ok(secrets.get_opt("waygate-webhook-tls").await?) };
    let secret = stand.eventually(probe, "the certificate is issued", TIMEOUT).await?;
    let data = secret.data.context("data")?;
    for key in ["tls.crt", "tls.key", "ca.crt"] {
        assert!(!data.get(key).with_context(|| format!("{key} is there"))?.0.is_empty());
    }
    Ok(())
}

/// Asks for a pod, and returns the UID of the FlowSchema that the API server chose for that.
async fn read_flow_schema_uid(client: &Client) -> Result<String> {
    let request = Request::new("/api/v1/pods").list(&ListParams::default().limit(1))?;
    let answer = client.send(request.map(Body::from)).await?;
    let uid = answer.headers().get("X-Kubernetes-PF-FlowSchema-UID").context("no FlowSchema")?;
    Ok(uid.to_str()?.to_owned())
}

#[tokio::test]
async fn the_workers_requests_get_the_charts_flow_schema() -> Result<()> {
    let stand = Stand::start().await?;
    let worker = connect_cluster(&stand.dir.join("worker.kubeconfig")).await?;
    let schemas = Api::<FlowSchema>::all(stand.client.clone());
    let own = schemas.get(&format!("waygate-worker-{}", stand.id)).await?.uid().context("a UID")?;
    // The API server reads new FlowSchemas within a second or two.
    let probe = || async { Ok((read_flow_schema_uid(&worker).await? == own).then_some(())) };
    stand.eventually(probe, "the worker's requests are in its own FlowSchema", TIMEOUT).await
}
