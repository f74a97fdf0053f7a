//! A Waygate of a test's own: cloud, database, registrations, rights, webhook and worker, in
//! namespaces of its own in the shared cluster.
//!
//! Dropping a stand ends its processes. Objects in the cluster stay: selectors keep them away from
//! other stands, and the control plane ends with the test run.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    cloud::Cloud,
    cluster::{self, ApiServer},
    database::Database,
    environment::Environment,
    installation::Installation,
    layout,
    links::Links,
    manifests::WebhookAddress,
    pods, process,
    replicas::Replicas,
    service::Service,
    stand_programs::{self, StandPrograms},
    wait,
};

pub use crate::options::Options;

/// A running Waygate with its cloud and database.
pub struct Stand {
    /// Suffix of names and value of labels that separate this stand from others.
    pub id: String,
    /// Client with an administrator's rights.
    pub client: Client,
    /// The namespace for pods.
    pub namespace: String,
    /// The stand's simulated cloud.
    pub cloud: Cloud,
    /// The test's own way to the database.
    pub database: PgPool,
    /// The way to the webhooks; and where `Options::links` asks for them, the ways of webhooks and
    /// workers to API server, Postgres and cloud, and their faults.
    pub links: Links,
    /// Processes of the admission server.
    pub webhook: Replicas,
    /// Processes of the worker.
    pub worker: Replicas,
    /// Objects of Waygate in the cluster.
    pub installation: Installation,
    /// URL and certificate authority of the webhook.
    pub webhook_address: WebhookAddress,
    /// Logs, process IDs, configuration.
    pub dir: PathBuf,
    /// The test's own way to the database, as a URL.
    pub direct_database_url: String,
    /// Base URLs of the workers' `/livez`, `/readyz` and `/metrics`.
    pub worker_admins: Vec<String>,
    /// Base URLs of the webhooks' `/livez`, `/readyz` and `/metrics`.
    pub webhook_admins: Vec<String>,
    /// True after an end in order.
    stopped: bool,
}

impl Stand {
    /// Starts the usual stand in the testbed this test runs in.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts the usual stand with links that the test can disturb.
    pub async fn start_with_links() -> Result<Self> {
        Self::start_with(Options { links: true, ..Options::default() }).await
    }

    /// Starts another stand in the testbed this test runs in.
    pub async fn start_with(options: Options) -> Result<Self> {
        // A letter first: YAML reads `3235e719` as a number.
        let id = format!("s{}", &uuid::Uuid::new_v4().simple().to_string()[..7]);
        let test = std::thread::current().name().unwrap_or("main").replace("::", ".");
        let dir = layout::scratch_folder().join("logs").join(test).join(&id);
        Self::start_in(&Environment::from_variables()?, &id, dir, options).await
    }

    /// Starts a stand: first what it needs, then the webhook, then the registrations, then the
    /// worker.
    pub async fn start_in(
        environment: &Environment,
        id: &str,
        dir: PathBuf,
        options: Options,
    ) -> Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let client = cluster::connect_cluster(&environment.kubeconfig).await?;
        let worker_binary = layout::program_path("waygate-worker")?;
        let cloud = Cloud::start(&dir, &options.simulator).await?;
        let database = Database::create_database(
            &environment.database_url,
            &format!("waygate_{id}"),
            &worker_binary,
        )
        .await?;

        let namespace =
            if options.whole_cluster { "default".to_owned() } else { format!("stand-{id}") };
        let api_server = ApiServer::from_kubeconfig(&environment.kubeconfig)?;
        let parts = StandPrograms {
            id,
            dir: &dir,
            options: &options,
            cloud: &cloud,
            database: &database,
            api_server: &api_server,
        };
        let mut endpoint = parts.open_webhook_endpoint().await?;
        parts.open_program_links(&mut endpoint.links).await?;
        let installation = parts
            .render_installation(client.clone(), &environment.chart_renderer, &endpoint.address)
            .await?;
        installation.apply_prerequisites().await?;
        installation.serve_namespace(&namespace).await?;
        let webhook = parts.webhook_services(&endpoint)?;
        let worker = parts.worker_services(worker_binary, &installation, &endpoint.links).await?;
        webhook.replicas.start().await?;
        installation.apply_registrations(&namespace).await?;
        worker.replicas.start().await?;
        Ok(Self {
            id: id.to_owned(),
            client,
            namespace,
            cloud,
            database: database.pool,
            links: endpoint.links,
            webhook: webhook.replicas,
            worker: worker.replicas,
            installation,
            webhook_address: endpoint.address,
            dir,
            direct_database_url: database.direct_url,
            worker_admins: worker.admins,
            webhook_admins: webhook.admins,
            stopped: false,
        })
    }

    /// Ends its processes in order. Dropping a stand kills them.
    pub async fn stop(&mut self) -> Result<()> {
        self.worker.stop().await?;
        self.webhook.stop().await?;
        self.cloud.stop().await?;
        self.stopped = true;
        Ok(())
    }

    /// Changes the configuration file. Running processes do not read it again.
    pub fn reconfigure(&self, over: &Value) -> Result<()> {
        let file = self.dir.join("config.yaml");
        let mut config = serde_saphyr::from_str(&std::fs::read_to_string(&file)?)?;
        stand_programs::merge_json(&mut config, over);
        // JSON is YAML.
        Ok(std::fs::write(&file, serde_json::to_vec_pretty(&config)?)?)
    }

    /// The pods of the stand's namespace.
    #[must_use]
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a pod in the stand's namespace.
    pub async fn create_pod(&self, pod: &Pod) -> Result<Pod> {
        Ok(self.pods().create(&PostParams::default(), pod).await?)
    }

    /// Asks for a pod's deletion, with its grace period.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        self.pods().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Sets annotations of a pod; `null` removes one.
    pub async fn annotate_pod(&self, name: &str, annotations: Value) -> Result<Pod> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        Ok(self.pods().patch(name, &PatchParams::default(), &patch).await?)
    }

    /// Waits until the answer is `Some`.
    pub async fn eventually<T, Probe, Answer>(
        &self,
        probe: Probe,
        awaited: &str,
        timeout: Duration,
    ) -> Result<T>
    where
        Probe: FnMut() -> Answer,
        Answer: Future<Output = Result<Option<T>>>,
    {
        wait::eventually(probe, awaited, timeout).await
    }

    /// Waits until a pod's condition has this status, and returns the pod.
    pub async fn wait_for_condition(
        &self,
        pod: &str,
        kind: &str,
        status: &str,
        timeout: Duration,
    ) -> Result<Pod> {
        let pods = self.pods();
        let probe = || async {
            let found = pods.get(pod).await?;
            anyhow::ensure!(
                pods::condition_status(&found, kind) == Some(status),
                pods::describe_pod(&found, kind)
            );
            Ok(Some(found))
        };
        wait::eventually(probe, &format!("condition {kind} {status} of pod {pod}"), timeout).await
    }

    /// Waits until no lease was looked at for some seconds: no event is on its way any more that would
    /// make one look.
    pub async fn wait_until_leases_rest(&self) -> Result<()> {
        let resting =
            "SELECT coalesce(bool_and(owner IS NULL AND looked_at < now() - interval '5 s'
            AND due_at > now() + interval '2 minutes'), false) FROM lease";
        let probe = || async {
            let rests: bool = sqlx::query_scalar(resting).fetch_one(&self.database).await?;
            Ok(rests.then_some(()))
        };
        wait::eventually(probe, "leases that rest", wait::TIMEOUT).await
    }

    /// Waits until an event warns of this about a pod.
    pub async fn wait_for_warning(&self, pod: &str, reason: &str, timeout: Duration) -> Result<()> {
        let events = Api::<Event>::namespaced(self.client.clone(), &self.namespace);
        let probe = || async {
            let events = events.list(&ListParams::default()).await?.into_iter();
            let warnings = events.filter(|event| {
                event.type_.as_deref() == Some("Warning")
                    && event.involved_object.name.as_deref() == Some(pod)
            });
            let reasons: Vec<_> = warnings.filter_map(|event| event.reason).collect();
            anyhow::ensure!(
                reasons.iter().any(|known| known == reason),
                "it is warned of {reasons:?}"
            );
            Ok(Some(()))
        };
        wait::eventually(probe, &format!("a warning {reason} about pod {pod}"), timeout).await
    }

    /// Waits until a pod has an annotation, and returns its value.
    pub async fn wait_for_annotation(
        &self,
        pod: &str,
        key: &str,
        timeout: Duration,
    ) -> Result<String> {
        let pods = self.pods();
        let probe =
            || async { Ok(pods::annotation_value(&pods.get(pod).await?, key).map(str::to_owned)) };
        wait::eventually(probe, &format!("annotation {key} of pod {pod}"), timeout).await
    }

    /// Wakes every lease, as news of its pod would.
    pub async fn wake_leases(&self) -> Result<()> {
        let wake = "UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END";
        sqlx::query(wake).execute(&self.database).await?;
        Ok(())
    }

    /// Waits until no pod has this name.
    pub async fn wait_until_gone(&self, pod: &str, timeout: Duration) -> Result<()> {
        let pods = self.pods();
        let probe = || async { Ok(pods.get_opt(pod).await?.is_none().then_some(())) };
        wait::eventually(probe, &format!("pod {pod} is gone"), timeout).await
    }

    /// Waits until a Service has exactly this number of ready endpoints.
    pub async fn wait_for_ready_endpoints(
        &self,
        service: &str,
        count: usize,
        timeout: Duration,
    ) -> Result<()> {
        use k8s_openapi::api::discovery::v1::EndpointSlice;
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        let of_service = kube::api::ListParams::default()
            .labels(&format!("kubernetes.io/service-name={service}"));
        let is_ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
            endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(false)
        };
        let probe = || async {
            let slices = slices.list(&of_service).await?;
            let ready = slices
                .iter()
                .flat_map(|slice| &slice.endpoints)
                .filter(|endpoint| is_ready(endpoint))
                .count();
            anyhow::ensure!(ready == count, "{ready} are ready");
            Ok(Some(()))
        };
        wait::eventually(probe, &format!("{count} ready endpoints of service {service}"), timeout)
            .await
    }
}

impl Drop for Stand {
    /// The test harness shows this for tests that failed and swallows it for those that passed; a
    /// stand that was stopped went well.
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        let simulator = self.dir.join("logs").join("simulator.log");
        let services = self.webhook.iter().chain(self.worker.iter()).map(Service::log_path);
        for log in services.chain([simulator]) {
            eprintln!("the end of {}:\n{}", log.display(), process::log_tail(&log));
        }
    }
}
