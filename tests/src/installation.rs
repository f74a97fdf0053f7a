//! Installing Waygate into the shared cluster as `manifests/chart` says, several times side by side.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use serde_json::{Value, json};

use crate::{
    cluster::ApiServer,
    manifests::{Group, Rendering, STAND_LABEL},
    pods,
    wait::eventually,
};

/// Time limit until pods can be created in a new namespace; 50 ms are usual.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit until the API server applies policy and registrations; 1 s is usual.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(30);

/// The worker's service account.
const WORKER_ACCOUNT: &str = "waygate-worker";

/// Lifetime of a worker's token: longer than any run.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

/// The user that a worker in this namespace is.
#[must_use]
pub(crate) fn worker_user_in(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{WORKER_ACCOUNT}")
}

/// A kubeconfig of the worker for an API server.
pub(crate) fn build_worker_kubeconfig(server: &ApiServer, token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "worker",
        "clusters": [{"name": "testbed", "cluster": {"server": server.url, "certificate-authority-data": STANDARD.encode(&server.ca_pem)}}],
        "users": [{"name": "worker", "user": {"token": token}}],
        "contexts": [{"name": "worker", "context": {"cluster": "testbed", "user": "worker"}}],
    })
}

/// A Waygate in the cluster.
#[derive(Clone)]
pub struct Installation {
    client: Client,
    /// The stand it belongs to; without one it is the whole cluster's.
    stand: Option<String>,
    namespace: String,
    objects: Rendering,
}

impl Installation {
    /// An installation for one stand's namespaces, or for the whole cluster, of which nothing is
    /// applied yet.
    #[must_use]
    pub fn new(client: Client, stand: Option<&str>, namespace: String, objects: Rendering) -> Self {
        Self { client, stand: stand.map(str::to_owned), namespace, objects }
    }

    /// The namespace of our own objects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the configuration file that webhook and worker share.
    pub fn configuration_file(&self) -> Result<&str> {
        self.objects.configuration_file()
    }

    /// Applies our namespace, service accounts and rights.
    pub async fn apply_prerequisites(&self) -> Result<()> {
        self.apply_group(Group::Prerequisite, &PatchParams::apply("testbed").force()).await
    }

    /// Applies policy and registrations, now that the webhook answers, and waits until the API
    /// server applies them; policies are read once a second.
    pub async fn apply_registrations(&self, namespace: &str) -> Result<()> {
        const FORGED: &str = "k8s.aliyun.com/allocated-eipAddress";
        let force = PatchParams::apply("testbed").force();
        let asking = pods::annotated_pod("probe", &[("k8s.aliyun.com/pod-with-eip", "true")]);
        let gated =
            |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.readiness_gates.is_some());
        self.apply_group(Group::Policy, &force).await?;
        self.wait_until_admitted_as(namespace, &asking, gated).await.context("the policy")?;

        // The policy leaves such a pod alone; the webhook removes the address, which Waygate never
        // allocated.
        let forging = pods::annotated_pod(
            "probe",
            &[("k8s.aliyun.com/eip-bandwidth", "5"), (FORGED, "192.0.2.1")],
        );
        self.apply_group(Group::Registration, &force).await?;
        self.wait_until_admitted_as(namespace, &forging, |pod| {
            pods::annotation_value(pod, FORGED).is_none()
        })
        .await
        .context("the registrations")
    }

    /// Waits until a pod would be admitted as it should be.
    async fn wait_until_admitted_as(
        &self,
        namespace: &str,
        pod: &Pod,
        as_it_should: impl Fn(&Pod) -> bool,
    ) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let probe = || async { Ok(as_it_should(&pods.create(&dry, pod).await?).then_some(())) };
        eventually(probe, "pods are admitted as they should be", ADMISSION_TIMEOUT).await
    }

    /// Asks the API server whether it would take the objects that are never applied here, such as
    /// the Deployments.
    pub async fn dry_run_programs(&self) -> Result<()> {
        self.apply_group(Group::Program, &PatchParams::apply("testbed").force().dry_run()).await
    }

    async fn apply_group(&self, group: Group, how: &PatchParams) -> Result<()> {
        for object in self.objects.objects_in(group) {
            self.apply_object(object, how)
                .await
                .with_context(|| format!("applying {} of manifests/chart", object["kind"]))?;
        }
        Ok(())
    }

    async fn apply_object(&self, document: &Value, how: &PatchParams) -> Result<()> {
        let text = |path: &str| document.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (group, version) =
            text("/apiVersion").rsplit_once('/').unwrap_or(("", text("/apiVersion")));
        let (resource, capabilities) =
            pinned_kind(&self.client, &GroupVersionKind::gvk(group, version, text("/kind")))
                .await?;
        let objects: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => {
                Api::namespaced_with(self.client.clone(), text("/metadata/namespace"), &resource)
            }
        };
        objects.patch(text("/metadata/name"), how, &Patch::Apply(document)).await?;
        Ok(())
    }

    /// A token of the worker's account, with just the rights that the chart gives it.
    pub async fn issue_worker_token(&self) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let request: TokenRequest = serde_json::from_value(
            json!({"spec": {"audiences": [], "expirationSeconds": TOKEN_SECONDS}}),
        )?;
        let answer =
            accounts.create_token_request(WORKER_ACCOUNT, &PostParams::default(), &request).await?;
        Ok(answer.status.context("a token request without an answer")?.token)
    }

    /// Makes a namespace that this installation serves, and waits until pods can be created in it.
    pub async fn serve_namespace(&self, name: &str) -> Result<()> {
        let labels = self.stand.as_ref().map(|stand| json!({STAND_LABEL: stand}));
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.apply_object(&namespace, &PatchParams::apply("testbed").force()).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), name);
        let probe = || async { Ok(accounts.get_opt("default").await?.map(drop)) };
        eventually(probe, "the namespace has its default service account", NAMESPACE_TIMEOUT).await
    }
}
