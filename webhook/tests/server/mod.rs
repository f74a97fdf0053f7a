//! The router under test, with an unreachable Postgres.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use base64::Engine;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::ServiceExt;
use waygate_core::config::Config;
use waygate_store::Store;
use waygate_webhook::{AdmissionPolicy, Announcer, Metrics, admission_router};

/// The configuration of the documents, with both controllers.
pub(crate) const CONFIG: &str = "
clusterID: c11ba338192xxxxxxx
regionID: cn-hangzhou
vpcID: vpc-bp1rkq0zxxxxxx
enableControllers: [natgw, eip]
networkController:
  natGwPool:
    - {natgwId: ngw-bp1abc, zoneId: cn-hangzhou-j, portRangeStart: 512, portRangeEnd: 1024}
    - {natgwId: ngw-bp2abc, zoneId: cn-hangzhou-j, portRangeStart: 600, portRangeEnd: 601, namespaces: [games]}
  customStatefulWorkloadKinds: [CloneSet]
";

pub(crate) struct Server {
    router: axum::Router,
    registry: Registry,
}

impl Server {
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with_store(config, "postgres://waygate@127.0.0.1:1/nothing")
    }

    pub(crate) fn start_with_store(config: &str, url: &str) -> Self {
        let (config, _) = Config::from_yaml(config).unwrap();
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let store = Store::connect_lazy(&url.into(), 1, "test").unwrap();
        let announcer = Announcer::new(store, config.cluster_id.clone(), metrics.clone());
        let worker = "system:serviceaccount:waygate-system:waygate-worker".to_owned();
        Self {
            router: admission_router(
                AdmissionPolicy::new(config, vec![worker]),
                announcer,
                metrics,
            ),
            registry,
        }
    }

    pub(crate) async fn post(&self, path: &str, body: Body) -> (StatusCode, String) {
        let request =
            Request::post(path).header("content-type", "application/json").body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The response to a review, in the format of the case files.
    pub(crate) async fn review(&self, endpoint: &str, review: &Value) -> Value {
        let (status, text) = self.post(endpoint, review.to_string().into()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let response = &answer["response"];
        assert_eq!(
            (&answer["kind"], &response["uid"]),
            (&json!("AdmissionReview"), &review["request"]["uid"])
        );
        let patch = response["patch"].as_str().map_or(json!([]), |patch| {
            assert_eq!(response["patchType"], "JSONPatch");
            serde_json::from_slice(
                &base64::engine::general_purpose::STANDARD.decode(patch).unwrap(),
            )
            .unwrap()
        });
        let warnings =
            if response["warnings"].is_null() { json!([]) } else { response["warnings"].clone() };
        let mut read =
            json!({ "allowed": response["allowed"], "patch": patch, "warnings": warnings });
        if response["allowed"] == json!(false) {
            assert_eq!(response["status"]["code"], 403);
            read["message"] = response["status"]["message"].clone();
        }
        read
    }

    /// The sum of the samples whose name starts with `name`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let samples = text
            .lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit_once(' '));
        samples.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn expect_metric(&self, name: &str, expected: u64) {
        assert_eq!(self.metric(name), expected, "{name}");
    }
}

/// A stream that never yields.
pub(crate) struct Never;

impl futures::Stream for Never {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}
