//! The simulator as a process, and a client of its admin interface.

use std::{fs::OpenOptions, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    time::timeout,
};

use crate::{cluster, layout, process};

/// Time limit for the simulator's announcement.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A simulated cloud of a test's own.
#[derive(Debug)]
pub struct Cloud {
    /// Endpoints, access key and gateways, as the simulator announced them when it was ready.
    pub account: Account,
    http: reqwest::Client,
    child: Child,
}

/// The one line the simulator prints.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Base URL of the VPC, ECS and STS API.
    pub endpoint: String,
    /// Base URL of the unsigned admin interface: state, faults, console.
    pub admin: String,
    /// An access key that may do everything.
    pub access_key_id: String,
    /// The secret of that access key.
    #[serde(deserialize_with = "deserialize_secret")]
    pub access_key_secret: SecretString,
    /// Number of the account.
    pub account_id: String,
    /// The region of all resources, such as `cn-hangzhou`.
    pub region_id: String,
    /// ID of the simulator's only VPC.
    pub vpc_id: String,
    /// The gateways, one a zone.
    pub nat_gateways: Vec<NatGateway>,
}

/// A NAT gateway that exists from the start.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatGateway {
    /// ID of the gateway, `ngw-…`.
    pub nat_gateway_id: String,
    /// ID of its DNAT table, `ftb-…`.
    pub forward_table_id: String,
    /// Zone that the gateway is in.
    pub zone_id: String,
    /// The EIPs bound to it.
    pub eips: Vec<GatewayEip>,
}

/// An EIP of a gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayEip {
    /// ID of the EIP, `eip-…`.
    pub allocation_id: String,
    /// Public IPv4 address of the EIP.
    pub ip_address: String,
}

fn deserialize_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// A fault in force, to be released or removed by its number.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct FaultId(u64);

impl Cloud {
    /// Starts a simulator, with its log in `dir/logs/simulator.log` and its process ID in
    /// `dir/pids/simulator`.
    pub async fn start(dir: &Path, arguments: &[String]) -> Result<Self> {
        cluster::install_tls();
        for sub in ["logs", "pids"] {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join("logs").join("simulator.log"))?;
        let mut child = process::tethered_command(layout::program_path("simulator")?)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        std::fs::write(
            dir.join("pids").join("simulator"),
            child.id().unwrap_or_default().to_string(),
        )?;
        let mut lines =
            BufReader::new(child.stdout.take().context("the simulator's standard output")?).lines();
        let line = timeout(START_TIMEOUT, lines.next_line())
            .await
            .context("the simulator was not ready in time")??;
        let line = line.with_context(|| {
            format!("the simulator ended: {}", process::log_tail(&dir.join("logs/simulator.log")))
        })?;
        let account = serde_json::from_str(&line).context("the simulator's announcement")?;
        Ok(Self { account, http: reqwest::Client::new(), child })
    }

    /// Everything that exists, field names as in the API: `eips`, `forwardEntries`, `natGateways`,
    /// …
    pub async fn read_state(&self) -> Result<Value> {
        self.get("state").await
    }

    /// Returns one list of the simulator's state, such as `eips`.
    pub async fn list_resources(&self, what: &str) -> Result<Vec<Value>> {
        let mut state = self.read_state().await?;
        serde_json::from_value(state[what].take())
            .with_context(|| format!("the simulator's state has no list {what}"))
    }

    /// Counts the calls of each action, and its refusals by error code.
    pub async fn count_calls(&self) -> Result<Value> {
        self.get("calls").await
    }

    /// Counts the calls of one action.
    pub async fn count_calls_of(&self, action: &str) -> Result<u64> {
        Ok(self.count_calls().await?["calls"][action].as_u64().unwrap_or_default())
    }

    /// Sets a fault, such as `json!({"action": "AllocateEipAddress", "kind": "hold", "times": 1})`.
    pub async fn set_fault(&self, fault: Value) -> Result<FaultId> {
        #[derive(Deserialize)]
        struct Set {
            id: FaultId,
        }
        Ok(self.post::<Set>("faults", &fault).await?.id)
    }

    /// The faults in force, with how many calls each holds right now.
    pub async fn list_faults(&self) -> Result<Value> {
        self.get("faults").await
    }

    /// Counts the calls that one fault of kind `hold` holds right now.
    pub async fn count_held_calls(&self, fault: FaultId) -> Result<u64> {
        let faults = self.list_faults().await?;
        let found =
            faults["faults"].as_array().and_then(|all| all.iter().find(|one| one["id"] == fault.0));
        found.and_then(|one| one["held"].as_u64()).context("no such fault")
    }

    /// Lets the calls go that a fault of kind `hold` holds.
    pub async fn release_fault(&self, fault: FaultId) -> Result<()> {
        self.post::<Value>(&format!("faults/{}/release", fault.0), &json!({})).await.map(drop)
    }

    /// Removes all faults, which lets held calls go.
    pub async fn clear_faults(&self) -> Result<()> {
        self.http.delete(self.admin_url("faults")).send().await?.error_for_status()?;
        Ok(())
    }

    /// Changes the cloud as an operator at its console would, behind Waygate's back, such as
    /// `("release-eip", json!({"allocationId": …}))`.
    pub async fn change_at_console(&self, what: &str, body: Value) -> Result<Value> {
        self.post(&format!("console/{what}"), &body).await
    }

    /// Reports that the process has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Ends the simulator: SIGTERM, then SIGKILL.
    pub async fn stop(&mut self) -> Result<()> {
        process::end_child(&mut self.child, process::TERM_TIMEOUT).await.map(drop)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(self.http.get(self.admin_url(path)).send().await?.error_for_status()?.json().await?)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let answer = self.http.post(self.admin_url(path)).json(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        anyhow::ensure!(
            status.is_success(),
            "the simulator's admin answers {status} to {path}: {text}"
        );
        Ok(serde_json::from_str(&text)?)
    }

    fn admin_url(&self, path: &str) -> String {
        format!("{}/{path}", self.account.admin)
    }
}
