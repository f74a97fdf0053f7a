//! Builds the worker from its arguments and runs its tasks until SIGTERM or SIGINT.

use crate::account::sender;
use crate::account::wakeups::AccountWakeups;
use crate::args::{CloudArgs, DatabaseArgs, MigrateArgs, ServeArgs};
use crate::certificates;
use crate::cloud_probe;
use crate::context::Worker;
use crate::gateway::port_pool::PortPool;
use crate::gateway::wakeups::QueueWakeups;
use crate::gateway::{discovery, leader};
use crate::metrics::Metrics;
use crate::objects::events::Events;
use crate::pins::{Matching, Pins, run_while_matching};
use crate::rates::AccountRates;
use crate::reconcile::claims::{self, ActiveLeases};
use crate::watch::namespaces::{self, Namespaces};
use crate::watch::watched_pods::WatchedPods;
use crate::watch::{READ_TIMEOUT, custom_resources, pods};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use prometheus_client::registry::Registry;
use secrecy::ExposeSecret as _;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waygate_cloud::{AccessKey, Cloud as Client, Credentials, Environment, Network, Settings};
use waygate_core::config::Config;
use waygate_core::request::Kind;
use waygate_core::resources::{PodDNAT, PodEIP};
use waygate_serving::{Readiness, Supervisor, admin, config, logs, signals, tls};
use waygate_store::{AccountQueue, Error as StoreError, MigrationError, Store};

/// Connections to Postgres; few suffice, as the database is a thousand times faster than the
/// cloud's quota.
const CONNECTIONS: u32 = 4;
/// Pause between two attempts to reach the lease store at startup.
const RETRY: Duration = Duration::from_secs(1);
/// Attempts to migrate while locks are held: two and a half minutes, then the Job's own backoff.
const MIGRATE_ATTEMPTS: u32 = 10;
/// Pause between two attempts, in which other statements catch up.
const MIGRATE_PAUSE: Duration = Duration::from_secs(12);
/// Deadline of one read of the cloud, its permit included.
const READ_DEADLINE: Duration = Duration::from_secs(20);
/// Longest time until a connection to the API server is made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that reconciled leases have to finish after the first signal: the longest call, and the
/// record of its answer.
const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

/// Brings the lease store's schema to this release's version.
pub(crate) async fn migrate_schema(args: MigrateArgs) -> anyhow::Result<()> {
    logs::init_logging(logs::Format::Text);
    let store = Store::connect_lazy(&args.database.database_url, 1, "waygate-migrate")?;
    migrate_when_unlocked(&store).await?;
    tracing::info!("lease store schema is up to date");
    Ok(())
}

/// Migrates the schema. While a lock is held, by `pg_dump` for example, tries again: other
/// statements pass in between.
async fn migrate_when_unlocked(store: &Store) -> Result<(), MigrationError> {
    for attempt in 1.. {
        match store.migrate().await {
            Err(error @ MigrationError::Locked { .. }) if attempt < MIGRATE_ATTEMPTS => {
                tracing::warn!(
                    error = crate::errors::error_chain(&error),
                    attempt,
                    "migration waits for a lock; retrying"
                );
                tokio::time::sleep(MIGRATE_PAUSE).await;
            }
            result => return result,
        }
    }
    Ok(())
}

/// Serves a cluster until the first signal, then drains.
pub(crate) async fn serve_cluster(args: Box<ServeArgs>) -> anyhow::Result<()> {
    logs::init_logging(logs::Format::Text);
    tls::install_provider();
    let token = signals::drain_on_signal()?;
    let config = config::load(&args.config)?;
    let store = connect_store(&args.database).await?;
    let kube = kube_client(&args).await?;
    let cluster_uid = cluster_uid(&kube).await?;
    let cluster = store.register_cluster(cluster_uid, &config.cluster_id).await?;
    let rates = AccountRates::new(store.clone(), &args.rates);
    let queues = rates.account_queues();
    let lists = rates.list_times(
        Duration::from_secs(args.eip_list_seconds),
        Duration::from_secs(args.entry_list_seconds),
        config.gateways.len(),
    );
    let cloud = cloud_client(args.cloud, &config, rates)?;
    let mut registry = Registry::default();
    let (namespaces, writer) = Namespaces::new(&kube, config.namespace_selector.clone());
    let worker = Arc::new(Worker {
        config,
        store,
        cluster,
        owner: Uuid::new_v4(),
        events: Events::new(kube.clone()),
        kube: kube.clone(),
        cloud,
        namespaces,
        watched_pods: WatchedPods::default(),
        port_pool: PortPool::default(),
        account_wakeups: AccountWakeups::default(),
        queue_wakeups: QueueWakeups::default(),
        metrics: Metrics::new(&mut registry),
        due: Notify::new(),
        cooldown: Duration::from_secs(args.cooldown_seconds),
        resync_period: Duration::from_secs(args.resync_seconds),
        lists,
    });
    let listener = TcpListener::bind(args.admin_listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.admin_listen))?;
    tracing::info!(
        cluster.name = worker.config.cluster_id, cluster.uid = %cluster_uid,
        admin = %args.admin_listen, "worker started"
    );
    let readiness = Readiness::default();
    let mut tasks = Supervisor::new(token.clone());
    let (pins, matching) = Pins::new(Arc::clone(&worker), &readiness);
    tasks.spawn("pins", pins.compare_pins(token.clone()));
    tasks.spawn("namespaces", namespaces::watch_namespaces(kube, writer, token.clone()));
    let mut pinned = PinnedTasks { tasks: &mut tasks, matching, token: &token };
    spawn_watches(&mut pinned, &worker, args.discovery_seconds, &readiness);
    spawn_reconcile(&mut pinned, &worker, args.concurrency, &readiness);
    spawn_account_sender(&mut pinned, &worker, queues);
    tasks.spawn(
        "pod watch",
        pods::watch_pods(Arc::clone(&worker), readiness.register_check("pods seen"), token.clone()),
    );
    tasks.spawn("cloud probe", cloud_probe::probe_silent_cloud(Arc::clone(&worker), token.clone()));
    if let Some(namespace) = args.certificates_namespace {
        tasks.spawn(
            "certificates",
            certificates::maintain_certificates(
                worker.kube.clone(),
                namespace,
                worker.metrics.clone(),
                token.clone(),
            ),
        );
    }
    tasks
        .spawn("admin", admin::serve_admin(listener, Arc::new(registry), readiness, token.clone()));
    tasks.run(DRAIN_DEADLINE).await?;
    tracing::info!("worker stopped");
    Ok(())
}

/// Spawns tasks that run only while account, region and VPC are those of the lease store.
struct PinnedTasks<'a> {
    tasks: &'a mut Supervisor,
    matching: Matching,
    token: &'a CancellationToken,
}

impl PinnedTasks<'_> {
    fn spawn<T>(
        &mut self,
        name: &'static str,
        start: impl Fn(CancellationToken) -> T + Send + 'static,
    ) where
        T: Future<Output = Result<(), Infallible>> + Send + 'static,
    {
        let task = run_while_matching(self.matching.clone(), self.token.clone(), start);
        self.tasks.spawn(name, task);
    }
}

/// Spawns the tasks that learn what has changed in the cluster and at the gateways. `discovery`
/// is the time between two looks at the gateways, in seconds.
fn spawn_watches(
    tasks: &mut PinnedTasks<'_>,
    worker: &Arc<Worker>,
    discovery: u64,
    readiness: &Readiness,
) {
    let known = readiness.register_check("NAT gateways read");
    let context = Arc::clone(worker);
    tasks.spawn("gateway discovery", move |token| {
        let period = Duration::from_secs(discovery);
        discovery::discover_gateways(Arc::clone(&context), period, known.clone(), token)
    });
    let context = Arc::clone(worker);
    tasks.spawn("PodEIP watch", move |token| {
        custom_resources::watch_custom_resources::<PodEIP>(Arc::clone(&context), token)
    });
    let context = Arc::clone(worker);
    tasks.spawn("PodDNAT watch", move |token| {
        custom_resources::watch_custom_resources::<PodDNAT>(Arc::clone(&context), token)
    });
}

/// Spawns the tasks that work on leases: the claims, and the work under worker locks.
fn spawn_reconcile(
    tasks: &mut PinnedTasks<'_>,
    worker: &Arc<Worker>,
    concurrency: usize,
    readiness: &Readiness,
) {
    let context = Arc::clone(worker);
    tasks
        .spawn("worker locks", move |token| leader::hold_worker_locks(Arc::clone(&context), token));
    let active = ActiveLeases::default();
    let (context, renewed) = (Arc::clone(worker), active.clone());
    tasks.spawn("claim renewal", move |token| {
        claims::renew_claims(Arc::clone(&context), renewed.clone(), token)
    });
    let reached = readiness.register_check("lease store reached");
    let context = Arc::clone(worker);
    tasks.spawn("claims", move |token| {
        let (active, reached) = (active.clone(), reached.clone());
        claims::claim_due_leases(Arc::clone(&context), active, concurrency, reached, token)
    });
}

/// Spawns the sender of changes of EIPs. Those queued before EIPs were switched off in the
/// configuration stay queued.
fn spawn_account_sender(
    tasks: &mut PinnedTasks<'_>,
    worker: &Arc<Worker>,
    queues: Vec<AccountQueue>,
) {
    if !worker.serves_kind(Kind::Eip) {
        return;
    }
    let context = Arc::clone(worker);
    tasks.spawn("account queues", move |token| {
        sender::send_eip_changes(Arc::clone(&context), queues.clone(), token)
    });
}

/// Waits until Postgres is reachable. Fails at once where only an operator can help: a schema that
/// is too old, or a server that may lose committed leases.
async fn connect_store(database: &DatabaseArgs) -> anyhow::Result<Store> {
    let store = Store::connect_lazy(&database.database_url, CONNECTIONS, "waygate-worker")?;
    loop {
        match store.check_schema().await {
            Ok(()) => return Ok(store),
            Err(error @ StoreError::Database(_)) => {
                tracing::warn!(
                    error = crate::errors::error_chain(&error),
                    "lease store unreachable; retrying"
                );
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn kube_client(args: &ServeArgs) -> anyhow::Result<kube::Client> {
    let config = match &args.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => kube::Config::infer().await.context(
            "cannot reach the cluster: found neither a service account nor a kubeconfig; \
                 name one with --kubeconfig",
        )?,
    };
    client_with_deadlines(config)
}

/// A client whose requests end, if the API server falls silent, within half a minute. It has no
/// retries of its own, which would take minutes: a busy API server makes the lease pause, show the
/// reason on its pod, and leave its place to other leases.
pub(crate) fn client_with_deadlines(mut config: kube::Config) -> anyhow::Result<kube::Client> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = Some(READ_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // Counted from the request, not from the time since when its connection was idle.
    config.reset_reader_on_write = true;
    Ok(kube::Client::try_from(config)?)
}

/// Reads the UID of the kube-system namespace, which identifies a cluster; a configured ID can be
/// copied.
async fn cluster_uid(kube: &kube::Client) -> anyhow::Result<Uuid> {
    let namespace = Api::<Namespace>::all(kube.clone())
        .get("kube-system")
        .await
        .context("cannot read namespace kube-system")?;
    let uid = namespace.metadata.uid.context("namespace kube-system has no UID")?;
    uid.parse()
        .with_context(|| format!("the UID of namespace kube-system is not a UUID: \"{uid}\""))
}

fn cloud_client(args: CloudArgs, config: &Config, rates: AccountRates) -> anyhow::Result<Client> {
    let settings = Settings {
        region: config.region_id.clone(),
        vpc: config.vpc_id.clone(),
        endpoint: args.endpoint,
        network: if args.vpc_endpoints { Network::Vpc } else { Network::Public },
        call_deadline: READ_DEADLINE,
        user_agent_suffix: String::new(),
    };
    let configured = config.credential.as_ref().map(|pair| AccessKey {
        id: pair.access_key.expose_secret().to_owned(),
        secret: pair.access_secret.clone(),
        token: None,
    });
    let environment = Environment {
        access_key_id: args.access_key_id,
        access_key_secret: args.access_key_secret,
        security_token: args.security_token,
        role_arn: args.role_arn,
        oidc_provider_arn: args.oidc_provider_arn,
        oidc_token_file: args.oidc_token_file,
        role_session_name: args.role_session_name,
        ecs_metadata: args.ecs_metadata,
        ecs_metadata_disabled: args.ecs_metadata_disabled,
        imdsv1_disabled: args.imdsv1_disabled,
        metadata_endpoint: None,
    };
    let credentials = Credentials::from_first_source(configured, environment, &settings)?;
    Ok(Client::new(settings, credentials, Arc::new(rates))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Answers every request with 429 Too Many Requests.
    async fn busy(listener: TcpListener) -> std::io::Result<()> {
        loop {
            let (mut connection, _) = listener.accept().await?;
            let mut request = [0; 4096];
            _ = connection.read(&mut request).await?;
            connection
                .write_all(
                    b"HTTP/1.1 429 Too Many Requests\r\n\
                      content-length: 0\r\nconnection: close\r\n\r\n",
                )
                .await?;
        }
    }

    /// On a paused clock, which goes on to the next deadline while all wait.
    #[tokio::test(start_paused = true)]
    async fn a_silent_api_server_fails_each_request_within_half_a_minute() {
        tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = client_with_deadlines(kube::Config::new(url.parse().unwrap())).unwrap();
        let begun = tokio::time::Instant::now();
        let pods = Api::<Pod>::default_namespaced(client);
        let asked = tokio::time::timeout(Duration::from_mins(5), pods.get("pod")).await;
        assert!(matches!(asked, Ok(Err(_))), "{asked:?}");
        assert!(begun.elapsed() <= Duration::from_secs(31), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_busy_api_server_is_reported_at_once() {
        tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(busy(listener));
        let client = client_with_deadlines(kube::Config::new(url.parse().unwrap())).unwrap();
        let asked = tokio::time::timeout(
            Duration::from_secs(5),
            Api::<Pod>::default_namespaced(client).get("pod"),
        )
        .await;
        assert!(matches!(asked, Ok(Err(kube::Error::Api(status))) if status.code == 429));
        server.abort();
    }
}
