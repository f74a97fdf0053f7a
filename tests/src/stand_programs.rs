//! Configuration, certificates, credentials and addresses that a stand's webhook and worker are
//! started with.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use kube::Client;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use waygate_certs::{Authority, Pair};

use crate::{
    cloud::{Cloud, NatGateway},
    cluster::ApiServer,
    database::Database,
    installation::{Installation, build_worker_kubeconfig, worker_user_in},
    layout,
    links::{Links, TcpLink, redirect_url},
    manifests::{NAMESPACE, Rendering, STAND_LABEL, WebhookAddress},
    options::Options,
    replicas::Replicas,
    service::{ProgramSpec, Service},
};

/// Inputs for a stand's programs.
pub(crate) struct StandPrograms<'a> {
    pub(crate) id: &'a str,
    pub(crate) dir: &'a Path,
    pub(crate) options: &'a Options,
    pub(crate) cloud: &'a Cloud,
    pub(crate) database: &'a Database,
    pub(crate) api_server: &'a ApiServer,
}

/// The webhooks' common address, with nothing that answers there yet.
pub(crate) struct WebhookEndpoint {
    pub(crate) address: WebhookAddress,
    /// The way to the webhooks, which spreads reviews over them; and all others, once they are open.
    pub(crate) links: Links,
    /// Where each webhook listens.
    listens: Vec<String>,
    certificate: Pair,
}

impl StandPrograms<'_> {
    fn config_file(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }

    /// Our namespace; a stand has one of its own.
    fn namespace(&self) -> String {
        if self.options.whole_cluster {
            NAMESPACE.to_owned()
        } else {
            format!("{NAMESPACE}-{}", self.id)
        }
    }

    /// Renders the installation, and writes the configuration file that webhook and worker share.
    pub(crate) async fn render_installation(
        &self,
        client: Client,
        renderer: &Path,
        webhook: &WebhookAddress,
    ) -> Result<Installation> {
        let values = self.chart_values(webhook);
        let objects = Rendering::render_chart(renderer, &self.namespace(), &values).await?;
        let stand = (!self.options.whole_cluster).then_some(self.id);
        let installation = Installation::new(client, stand, self.namespace(), objects);
        std::fs::write(self.config_file(), installation.configuration_file()?)?;
        Ok(installation)
    }

    /// The values of the chart by which a stand differs from an installation as it is shipped.
    fn chart_values(&self, webhook: &WebhookAddress) -> Value {
        let mut values = json!({
            "namespace": {"create": true},
            "config": self.configuration(),
            "webhook": {"replicas": self.options.webhooks, "url": webhook.url, "caBundle": webhook.ca_pem},
            "worker": {"replicas": self.options.workers},
        });
        if !self.options.whole_cluster {
            let narrow = json!({"nameSuffix": format!("-{}", self.id), "namespaceSelector": {"matchLabels": {STAND_LABEL: self.id}}});
            merge_json(&mut values, &narrow);
        }
        values
    }

    fn configuration(&self) -> Value {
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
        merge_json(&mut config, &self.options.config);
        config
    }

    /// Chooses where the webhooks listen, on ports that stay their own over restarts, and issues
    /// their certificate.
    pub(crate) async fn open_webhook_endpoint(&self) -> Result<WebhookEndpoint> {
        let now = Timestamp::now();
        let authority = Authority::new(now)?;
        let certificate =
            authority.issue_certificate(&["127.0.0.1".to_owned(), "localhost".to_owned()], now)?;
        std::fs::write(self.dir.join("ca.pem"), authority.ca_pem())?;
        let listens = find_free_addresses(self.options.webhooks)?;
        let links = Links::to_webhooks(listens.clone()).await?;
        let address = WebhookAddress {
            url: format!("https://{}", links.webhooks().address()),
            ca_pem: authority.ca_pem().to_owned(),
        };
        Ok(WebhookEndpoint { address, links, listens, certificate })
    }

    /// Opens the links of the programs, where the test asks for them.
    pub(crate) async fn open_program_links(&self, links: &mut Links) -> Result<()> {
        if !self.options.links {
            return Ok(());
        }
        let programs = (self.options.webhooks, self.options.workers);
        links.open_program_links(programs, self.api_server, self.database, self.cloud).await
    }

    /// The webhooks, all with one certificate.
    pub(crate) fn webhook_services(&self, endpoint: &WebhookEndpoint) -> Result<Program> {
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let file = self.dir.join(name);
            std::fs::write(&file, text)?;
            Ok(file)
        };
        let certificate = write("tls.crt", &endpoint.certificate.cert_pem)?;
        let key = write("tls.key", endpoint.certificate.key_pem.expose_secret())?;
        let arguments = |listen: &str, admin: &str| -> Vec<OsString> {
            vec![
                "--config".into(),
                self.config_file().into(),
                "--listen".into(),
                listen.into(),
                "--admin-listen".into(),
                admin.into(),
                "--tls-cert".into(),
                certificate.clone().into(),
                "--tls-key".into(),
                key.clone().into(),
                "--worker-user".into(),
                worker_user_in(&self.namespace()).into(),
            ]
        };
        let binary = layout::program_path("waygate-webhook")?;
        let admins = find_free_addresses(self.options.webhooks)?;
        let programs = endpoint.listens.iter().zip(&admins).enumerate();
        let specs = programs.map(|(number, (listen, admin))| {
            let database = self.database_url(endpoint.links.webhook_database(number).ok())?;
            Ok(ProgramSpec {
                name: replica_name("webhook", number),
                binary: binary.clone(),
                arguments: arguments(listen, admin),
                environment: vec![("DATABASE_URL", database.into())],
                dir: self.dir.to_path_buf(),
                ready_url: format!("http://{admin}/readyz"),
            })
        });
        Ok(Program::new(specs.collect::<Result<_>>()?, &admins))
    }

    /// The workers, as their service account, each with links of its own.
    pub(crate) async fn worker_services(
        &self,
        binary: PathBuf,
        installation: &Installation,
        links: &Links,
    ) -> Result<Program> {
        let token = installation.issue_worker_token().await.context("the worker's token")?;
        let admins = find_free_addresses(self.options.workers)?;
        let specs = admins.iter().enumerate().map(|(number, admin)| {
            let name = replica_name("worker", number);
            let addresses = self.worker_addresses(links, number)?;
            let kubeconfig = self.dir.join(format!("{name}.kubeconfig"));
            let content = build_worker_kubeconfig(&addresses.api_server, &token);
            std::fs::write(&kubeconfig, serde_json::to_vec_pretty(&content)?)?;
            Ok(ProgramSpec {
                name,
                binary: binary.clone(),
                arguments: self.worker_arguments(admin),
                environment: vec![
                    ("DATABASE_URL", addresses.database_url.into()),
                    ("KUBECONFIG", kubeconfig.into()),
                    ("CLOUD_ENDPOINT", addresses.cloud_url.into()),
                ],
                dir: self.dir.to_path_buf(),
                ready_url: format!("http://{admin}/readyz"),
            })
        });
        Ok(Program::new(specs.collect::<Result<_>>()?, &admins))
    }

    /// Addresses of what a worker calls: of its links, if it has any.
    fn worker_addresses(&self, links: &Links, number: usize) -> Result<WorkerAddresses> {
        let Ok(own) = links.worker(number) else {
            return Ok(WorkerAddresses {
                database_url: self.database_url(None)?,
                api_server: self.api_server.clone(),
                cloud_url: self.cloud.account.endpoint.clone(),
            });
        };
        Ok(WorkerAddresses {
            database_url: self.database_url(Some(own.database()))?,
            api_server: ApiServer {
                url: format!("https://{}", own.api_server().address()),
                ca_pem: links.ca_pem().into(),
            },
            cloud_url: format!("http://{}", own.cloud().address()),
        })
    }

    /// URL of the database, through a link if there is one.
    fn database_url(&self, link: Option<&TcpLink>) -> Result<String> {
        let direct = &self.database.direct_url;
        link.map_or_else(|| Ok(direct.clone()), |link| redirect_url(direct, link))
    }

    fn worker_arguments(&self, admin: &str) -> Vec<OsString> {
        let mut arguments = vec![
            "run".into(),
            "--config".into(),
            self.config_file().into(),
            "--admin-listen".into(),
            admin.into(),
        ];
        if !self.options.whole_cluster {
            // A stand for the whole cluster keeps the registrations' own names, and its worker
            // would replace their authority by its own.
            arguments.extend(["--certificates-namespace".into(), self.namespace().into()]);
        }
        arguments.extend(self.options.worker.iter().map(Into::into));
        arguments
    }
}

/// Addresses of what a worker calls.
struct WorkerAddresses {
    database_url: String,
    api_server: ApiServer,
    cloud_url: String,
}

/// The replicas of a program, and the base URLs of their `/livez`, `/readyz` and `/metrics`.
pub(crate) struct Program {
    pub(crate) replicas: Replicas,
    pub(crate) admins: Vec<String>,
}

impl Program {
    fn new(specs: Vec<ProgramSpec>, admins: &[String]) -> Self {
        Self {
            replicas: Replicas::new(specs.into_iter().map(Service::new).collect()),
            admins: admins.iter().map(|admin| format!("http://{admin}")).collect(),
        }
    }
}

/// Name of a replica, from number 0 on: `worker`, `worker-2`, `worker-3`.
fn replica_name(program: &str, number: usize) -> String {
    if number == 0 { program.to_owned() } else { format!("{program}-{}", number + 1) }
}

fn find_free_addresses(count: usize) -> Result<Vec<String>> {
    std::iter::repeat_with(find_free_address).take(count).collect()
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
        let addresses = find_free_addresses(2).unwrap();
        assert_ne!(addresses[0], addresses[1]);
    }

    #[test]
    fn the_first_replica_has_the_plain_name() {
        let names: Vec<_> = (0..3).map(|number| replica_name("worker", number)).collect();
        assert_eq!(names, ["worker", "worker-2", "worker-3"]);
    }
}
