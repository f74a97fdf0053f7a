//! OpenKruiseGame's webhook for pods: the plugin of a pod's network type writes our keys onto the
//! pod as it is made.

use anyhow::{Context as _, Result};
use axum::{Json, Router, routing::post};
use axum_server::tls_rustls::RustlsConfig;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, api::PostParams};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::net::TcpListener;
use testbed::{
    address_kinds::{DNAT, EIP},
    manifests::STAND_LABEL,
    pods::{annotated_pod, annotation_value},
    stand::Stand,
    wait::TIMEOUT,
};
use tokio::task::JoinHandle;
use waygate_certs::Authority;

/// The annotation by which a pod of a GameServerSet names its plugin.
pub(crate) const NETWORK_TYPE: &str = "game.kruise.io/network-type";

/// A webhook that serves a stand's namespace until it is dropped.
pub(crate) struct KruiseWebhook(JoinHandle<std::io::Result<()>>);

impl Drop for KruiseWebhook {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl KruiseWebhook {
    /// Serves and registers it, and waits until the API server asks it.
    pub(crate) async fn serve_and_register(stand: &Stand) -> Result<Self> {
        let now = Timestamp::now();
        let authority = Authority::new(now)?;
        let pair = authority.issue_certificate(&["127.0.0.1".to_owned()], now)?;
        let key = pair.key_pem.expose_secret().as_bytes().to_vec();
        let tls = RustlsConfig::from_pem(pair.cert_pem.into_bytes(), key).await?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/mutate-v1-pod", post(answer_review));
        let serving = tokio::spawn(
            axum_server::from_tcp_rustls(listener, tls)?.serve(router.into_make_service()),
        );

        let url = format!("https://{address}/mutate-v1-pod");
        let registration = webhook_registration(&stand.id, &url, authority.ca_pem())
            .context("the registration")?;
        Api::all(stand.client.clone()).create(&PostParams::default(), &registration).await?;
        let this = Self(serving);
        await_annotated(stand).await?;
        Ok(this)
    }
}

/// The registration, named as OpenKruiseGame's, for the pods of one stand.
fn webhook_registration(
    stand: &str,
    url: &str,
    ca_pem: &str,
) -> serde_json::Result<MutatingWebhookConfiguration> {
    serde_json::from_value(json!({
        "metadata": {"name": format!("kruise-game-mutating-webhook-{stand}")},
        "webhooks": [{
            "name": "mgameserverset.kb.io",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": url, "caBundle": STANDARD.encode(ca_pem)},
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "namespaceSelector": {"matchLabels": {STAND_LABEL: stand}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
        }],
    }))
}

async fn await_annotated(stand: &Stand) -> Result<()> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let probe = || async {
        let pod = stand
            .pods()
            .create(&dry, &annotated_pod("probe", &[(NETWORK_TYPE, "AlibabaCloud-EIP")]))
            .await?;
        Ok(annotation_value(&pod, EIP.request[0].0).map(drop))
    };
    stand.eventually(probe, "OpenKruiseGame's webhook is asked", TIMEOUT).await
}

/// Adds the keys of the pod's plugin; pods of other plugins stay as they are.
async fn answer_review(Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    let keys = match request["object"]["metadata"]["annotations"][NETWORK_TYPE].as_str() {
        Some("AlibabaCloud-EIP") => EIP.request,
        Some("AlibabaCloud-NATGW") => DNAT.request,
        _ => &[],
    };
    let add = |(key, value): &(&str, &str)| {
        let path = format!("/metadata/annotations/{}", key.replace('/', "~1"));
        json!({"op": "add", "path": path, "value": value})
    };
    let patch = Value::Array(keys.iter().map(add).collect()).to_string();
    Json(json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": request["uid"], "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch)},
    }))
}
