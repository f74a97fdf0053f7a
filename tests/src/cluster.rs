//! The shared cluster: clients for it, and the objects applied to it once.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions, wait::await_condition},
};
use tokio::time::timeout;

use crate::{manifests, nodes::Topology};

/// Time limit until a definition is served; 100 ms are usual.
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a client from a kubeconfig file. Where the API server is too busy, the client asks again.
pub async fn connect_cluster(kubeconfig: &Path) -> Result<Client> {
    Ok(Client::try_from(read_kubeconfig(kubeconfig).await?)?)
}

/// Makes a client that returns every refusal to its caller. An eviction that a budget forbids is
/// refused with 429, and the usual client would repeat that for minutes.
pub async fn connect_without_retries(kubeconfig: &Path) -> Result<Client> {
    let mut config = read_kubeconfig(kubeconfig).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn read_kubeconfig(kubeconfig: &Path) -> Result<Config> {
    install_tls();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

/// Address of the API server, and the authority of its certificate.
#[derive(Clone, Debug)]
pub struct ApiServer {
    /// `https://HOST:PORT`.
    pub url: String,
    /// Certificates of the authority, as PEM text.
    pub ca_pem: Vec<u8>,
}

impl ApiServer {
    /// Reads both from a kubeconfig file.
    pub fn from_kubeconfig(kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let cluster = kubeconfig.clusters.first().and_then(|named| named.cluster.clone());
        let cluster = cluster.context("the kubeconfig names no cluster")?;
        let ca_pem = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
            (Some(data), _) => STANDARD.decode(data)?,
            (None, Some(file)) => std::fs::read(file)?,
            (None, None) => bail!("the kubeconfig names no certificate authority"),
        };
        Ok(Self { url: cluster.server.context("the kubeconfig names no server")?, ca_pem })
    }
}

/// Makes ring the process' TLS provider; a second call changes nothing.
pub(crate) fn install_tls() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Gives a cluster its nodes, if it is new, and our resource definitions.
pub async fn prepare_cluster(client: &Client, new_nodes: Option<&Topology>) -> Result<()> {
    if let Some(topology) = new_nodes {
        topology.create_nodes(client).await.context("making the nodes")?;
    }
    apply_definitions(client).await.context("applying the resource definitions")
}

/// Applies `manifests/crds.yaml` and waits until its resources are served.
async fn apply_definitions(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for document in manifests::read_manifest("crds.yaml")? {
        let definition: CustomResourceDefinition = serde_json::from_value(document)?;
        let name = definition.metadata.name.clone().context("a definition without a name")?;
        definitions
            .patch(&name, &PatchParams::apply("testbed").force(), &Patch::Apply(&definition))
            .await?;
        let established =
            await_condition(definitions.clone(), &name, conditions::is_crd_established());
        timeout(ESTABLISH_TIMEOUT, established)
            .await
            .with_context(|| format!("{name} is not served in time"))??;
    }
    Ok(())
}
