//! Manifests that a real cluster applies and a stand does not.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use testbed::{stand::Stand, wait::TIMEOUT};

#[tokio::test]
async fn the_api_server_takes_the_deployments_as_they_are() -> Result<()> {
    let stand = Stand::start().await?;
    stand.installation.dry_run_file("deployments.yaml").await
}

#[tokio::test]
async fn the_worker_issues_the_webhooks_certificate_with_the_rights_it_has() -> Result<()> {
    let stand = Stand::start().await?;
    let secrets = Api::<Secret>::namespaced(stand.client.clone(), &stand.installation.namespace());
    let probe = || async { Ok(secrets.get_opt("waygate-webhook-tls").await?) };
    let secret = stand.eventually(probe, "the certificate is issued", TIMEOUT).await?;
    let data = secret.data.context("data")?;
    for key in ["tls.crt", "tls.key", "ca.crt"] {
        assert!(!data.get(key).with_context(|| format!("{key} is there"))?.0.is_empty());
    }
    Ok(())
}
