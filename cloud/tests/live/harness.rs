//! A simulator process that lives as long as one test, and clients for it.

use anyhow::{Context as _, Result, bail};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use waygate_cloud::{
    Cloud, Credentials, LocalPermits, Network, PermitFuture, Permits, SendBy, Settings,
};
use waygate_core::change::{Change, ForwardEntrySpec};
use waygate_core::ids::{AllocationId, ForwardTableId, NatGatewayId, RegionId, VpcId};
use waygate_core::request::{EipSpec, Protocol};

/// Time limit of every wait, longer than any test takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Unlimited permits, for tests of answers.
#[derive(Debug)]
pub(crate) struct Unlimited;

impl Permits for Unlimited {
    fn draw_permit(&self, _action: &'static str, _by: Instant) -> PermitFuture<'_> {
        Box::pin(async { Ok(()) })
    }
}

/// A running simulator. The process ends when dropping this closes its standard input.
pub(crate) struct Simulator {
    _child: Child,
    ready: Value,
    admin: reqwest::Client,
}

impl Simulator {
    pub(crate) async fn start(arguments: &[&str]) -> Result<Self> {
        _ = rustls::crypto::ring::default_provider().install_default();
        let mut child = Command::new(binary()?)
            .args(["--listen", "127.0.0.1:0", "--exit-with-stdin"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line))
            .await
            .context("the simulator does not start")??;
        Ok(Self {
            _child: child,
            ready: serde_json::from_str(&line)?,
            admin: reqwest::Client::new(),
        })
    }

    pub(crate) fn text(&self, pointer: &str) -> String {
        self.ready
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{pointer} in {}", self.ready))
            .to_owned()
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            region: RegionId::new(self.text("/regionId")),
            vpc: VpcId::new(self.text("/vpcId")),
            endpoint: Some(self.text("/endpoint").parse().unwrap()),
            network: Network::Public,
            call_deadline: Duration::from_secs(20),
            user_agent_suffix: String::new(),
        }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::access_key(
            self.text("/accessKeyId"),
            SecretString::from(self.text("/accessKeySecret")),
        )
    }

    pub(crate) fn cloud(&self) -> Cloud {
        self.cloud_with(LocalPermits::with_published_rates())
    }

    /// A client that no rate holds back.
    pub(crate) fn hasty_cloud(&self) -> Cloud {
        let actions = ["AllocateEipAddress", "DescribeEipAddresses", "DescribeNetworkInterfaces"];
        let entries = ["CreateForwardEntry", "DeleteForwardEntry", "DescribeForwardTableEntries"];
        let permits = actions
            .into_iter()
            .chain(entries)
            .fold(LocalPermits::with_published_rates(), |all, action| {
                all.with_rate(action, 1_000_000)
            });
        self.cloud_with(permits)
    }

    pub(crate) fn cloud_with(&self, permits: impl Permits + 'static) -> Cloud {
        Cloud::new(self.settings(), self.credentials(), Arc::new(permits)).unwrap()
    }

    pub(crate) fn gateway(&self) -> NatGatewayId {
        NatGatewayId::new(self.text("/natGateways/0/natGatewayId"))
    }

    /// The `number`th entry of the first gateway: external ports from 30000 on, one pod each.
    pub(crate) fn forward(&self, number: u16) -> ForwardEntrySpec {
        ForwardEntrySpec {
            table_id: ForwardTableId::new(self.text("/natGateways/0/forwardTableId")),
            name: format!("wg2.test.{number}.1"),
            external_ip: self.text("/natGateways/0/eips/0/ipAddress").parse().unwrap(),
            external_port: 30_000 + number,
            internal_ip: format!("10.1.0.{}", 10 + number % 200).parse().unwrap(),
            internal_port: 8000 + number / 200,
            ports: 1,
            protocol: Protocol::Tcp,
            port_break: false,
        }
    }

    pub(crate) async fn admin(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.text("/admin"));
        self.admin.get(url).send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.text("/admin"));
        let response = self.admin.post(url).json(&body).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path} {body}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub(crate) async fn fault(&self, action: &str, kind: &str, extra: Value) {
        let mut body = json!({"action": action, "kind": kind, "times": 1});
        body.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
        self.post("/faults", body).await;
    }

    /// How often `action` was called.
    pub(crate) async fn calls(&self, action: &str) -> u64 {
        self.admin("/calls")
            .await
            .pointer(&format!("/calls/{action}"))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }
}

/// Builds the simulator once per test process and returns its path, beside this test's binary.
fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let built = std::process::Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--bin", "simulator"])
            .args((!cfg!(debug_assertions)).then_some("--release"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .status();
        let beside = std::env::current_exe().ok()?.parent()?.parent()?.join("simulator");
        (built.is_ok_and(|status| status.success()) || beside.exists()).then_some(beside)
    };
    match BINARY.get_or_init(build) {
        Some(path) => Ok(path.clone()),
        None => bail!("the simulator cannot be built"),
    }
}

/// Waits until `check` returns a value; fails after a minute.
pub(crate) async fn eventually<T>(what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn allocate(cloud: &Cloud, tag: &str) -> AllocationId {
    let token = token();
    let tags = [("waygate.dev/lease".to_owned(), tag.to_owned())].into();
    let change = Change::AllocateEipAddress { spec: EipSpec::default(), tags };
    cloud.send_change(&change, Some(&token), soon(), PATIENCE).await.unwrap().allocation_id.unwrap()
}

/// Time to write a call that was just chosen.
pub(crate) fn soon() -> SendBy {
    SendBy::within(PATIENCE)
}

pub(crate) fn token() -> String {
    uuid::Uuid::new_v4().to_string()
}
