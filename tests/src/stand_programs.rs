//! Configuration, certificates, credentials and addresses that a stand's webhook and worker are
//! started with.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use waygate_certs::Authority;

use crate::{
    cloud::{Cloud, NatGateway},
    installation::Installation,
    layout,
    manifests::{STAND_LABEL, WebhookAddress},
    options::Options,
    proxy::ProxyLink,
    replicas::Replicas,
    service::{ProgramSpec, Service},
};

/// Inputs for a stand's programs.
pub(crate) struct StandPrograms<'a> {
    pub(crate) id: &'a str,
    pub(crate) dir: &'a Path,
    pub(crate) options: &'a Options,
    pub(crate) cloud: &'a Cloud,
    pub(crate) database_url: &'a str,
    pub(crate) installation: &'a Installation,
}

impl StandPrograms<'_> {
    fn config_file(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }

    /// Writes the configuration file that webhook and worker share.
    pub(crate) fn write_config(&self) -> Result<()> {
        let account = &self.cloud.account;
        // The documents' own port range.
        let gateway = |it: &NatGateway| json!({"natgwId": it.nat_gateway_id, "zoneId": it.zone_id, "portRangeStart": 512, "portRangeEnd": 1024});
        let mut config = json!({
            "clusterID": self.id,
            "regionID": account.region_id,
            "vpcID": account.vpc_id,
            "enableControllers": ["natgw", "eip"],
            "networkController": {"natGwPool": account.nat_gateways.iter().map(gateway).collect::<Vec<_>>()},
            "credential": {"accessKey": account.access_key_id, "accessSecret": account.access_key_secret.expose_secret()},
        });
        if !self.options.whole_cluster {
            merge_json(
                &mut config,
                &json!({"serve": {"namespaceSelector": {"matchLabels": {STAND_LABEL: self.id}}}}),
            );
        }
        merge_json(&mut config, &self.options.config);
        // JSON is YAML.
        std::fs::write(self.config_file(), serde_json::to_vec_pretty(&config)?)?;
        Ok(())
    }

    /// The webhooks with one certificate, on ports that stay their own over restarts, and the link
    /// that spreads reviews over them.
    pub(crate) async fn webhook_services(&self) -> Result<(Program, ProxyLink, WebhookAddress)> {
        let now = Timestamp::now();
        let authority = Authority::new(now)?;
        let pair =
            authority.issue_certificate(&["127.0.0.1".to_owned(), "localhost".to_owned()], now)?;
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let file = self.dir.join(name);
            std::fs::write(&file, text)?;
            Ok(file)
        };
        write("ca.pem", authority.ca_pem())?;
        let (listen, admin) = (find_free_address()?, find_free_address()?);
        let program = ProgramSpec {
            name: "webhook".to_owned(),
            binary: layout::program_path("waygate-webhook")?,
            arguments: vec![
                "--config".into(),
                self.config_file().into(),
                "--listen".into(),
                listen.clone().into(),
                "--admin-listen".into(),
                admin.clone().into(),
                "--tls-cert".into(),
                write("tls.crt", &pair.cert_pem)?.into(),
                "--tls-key".into(),
                write("tls.key", pair.key_pem.expose_secret())?.into(),
                "--worker-user".into(),
                self.installation.worker_user().into(),
            ],
            environment: vec![("DATABASE_URL", self.database_url.into())],
            dir: self.dir.to_path_buf(),
            ready_url: format!("http://{admin}/readyz"),
        };
        let replicas = replicate(Service::new(program), [admin, listen], self.options.webhooks)?;
        let listens = replicas.addresses.iter().map(|[_, listen]| listen.clone()).collect();
        let link = ProxyLink::to_servers(listens).await?;
        let address = WebhookAddress {
            url: format!("https://{}", link.address()),
            ca_pem: authority.ca_pem().to_owned(),
        };
        Ok((replicas.into_program(), link, address))
    }

    /// The workers, as their service account.
    pub(crate) async fn worker_services(
        &self,
        binary: PathBuf,
        admin_kubeconfig: &Path,
    ) -> Result<Program> {
        let kubeconfig = self.dir.join("worker.kubeconfig");
        let content = self
            .installation
            .worker_kubeconfig(admin_kubeconfig)
            .await
            .context("the worker's kubeconfig")?;
        std::fs::write(&kubeconfig, serde_json::to_vec_pretty(&content)?)?;
        let admin = find_free_address()?;
        let mut arguments = vec![
            "run".into(),
            "--config".into(),
            self.config_file().into(),
            "--admin-listen".into(),
            admin.clone().into(),
        ];
        if !self.options.whole_cluster {
            // A stand for the whole cluster keeps the registrations' own names, and its worker
            // would replace their authority by its own.
            arguments
                .extend(["--certificates-namespace".into(), self.installation.namespace().into()]);
        }
        arguments.extend(self.options.worker.iter().map(Into::into));
        let program = ProgramSpec {
            name: "worker".to_owned(),
            binary,
            arguments,
            environment: vec![
                ("DATABASE_URL", self.database_url.into()),
                ("KUBECONFIG", kubeconfig.into()),
                ("CLOUD_ENDPOINT", self.cloud.account.endpoint.clone().into()),
            ],
            dir: self.dir.to_path_buf(),
            ready_url: format!("http://{admin}/readyz"),
        };
        Ok(replicate(Service::new(program), [admin], self.options.workers)?.into_program())
    }
}

/// The replicas of a program, and the base URLs of their `/livez`, `/readyz` and `/metrics`.
pub(crate) struct Program {
    pub(crate) replicas: Replicas,
    pub(crate) admins: Vec<String>,
}

/// Services with the addresses that each has for itself, the administration's first.
struct Replicated<const ADDRESSES: usize> {
    services: Vec<Service>,
    addresses: Vec<[String; ADDRESSES]>,
}

impl<const ADDRESSES: usize> Replicated<ADDRESSES> {
    fn into_program(self) -> Program {
        let admins = self.addresses.iter().map(|own| format!("http://{}", own[0])).collect();
        Program { replicas: Replicas::new(self.services), admins }
    }
}

/// Makes `count` services of one, each with other addresses in place of the first one's.
fn replicate<const ADDRESSES: usize>(
    first: Service,
    addresses: [String; ADDRESSES],
    count: usize,
) -> Result<Replicated<ADDRESSES>> {
    let mut replicas = Replicated { services: vec![first], addresses: vec![addresses] };
    for number in 2..=count {
        let (first, listens) = (&replicas.services[0], &replicas.addresses[0]);
        let mut own = listens.clone();
        for address in &mut own {
            *address = find_free_address()?;
        }
        let name = format!("{}-{number}", first.name());
        let service = first.another_instance(name, listens.iter().zip(&own));
        replicas.services.push(service);
        replicas.addresses.push(own);
    }
    Ok(replicas)
}

/// Returns a loopback address that is free now and stays free: the kernel chooses higher ports for
/// programs that ask for any port.
pub(crate) fn find_free_address() -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time begin at different ones.
    let first = std::process::id().wrapping_mul(97);
    let ports = std::iter::repeat_with(|| {
        20_000 + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000
    });
    let mut addresses = ports.take(12_000).map(|port| format!("127.0.0.1:{port}"));
    addresses
        .find(|address| TcpListener::bind(address).is_ok())
        .context("no port between 20000 and 32000 is free")
}

/// Lays `over` over `base`: objects are merged, everything else is replaced.
pub(crate) fn merge_json(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge_json(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_json_keeps_unnamed_fields() {
        let mut base = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
        merge_json(&mut base, &json!({"a": {"c": [3]}, "e": {"f": true}}));
        assert_eq!(base, json!({"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": true}}));
    }

    #[test]
    fn free_addresses_differ() {
        assert_ne!(find_free_address().unwrap(), find_free_address().unwrap());
    }
}
