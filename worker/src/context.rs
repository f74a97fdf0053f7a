//! The context that every task of the worker shares.

use crate::account::wakeups::AccountWakeups;
use crate::gateway::port_pool::PortPool;
use crate::gateway::wakeups::QueueWakeups;
use crate::metrics::Metrics;
use crate::objects::events::Events;
use crate::rates::ListTimes;
use crate::watch::namespaces::Namespaces;
use crate::watch::watched_pods::WatchedPods;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;
use waygate_cloud::Cloud;
use waygate_core::config::Config;
use waygate_core::request::Kind;
use waygate_store::{Cluster, Store};

/// Configuration, clients and shared state of a running worker.
pub(crate) struct Worker {
    /// Configuration as read at startup; a change needs a restart.
    pub config: Config,
    /// Client of the lease store, which all workers share.
    pub store: Store,
    /// The served cluster as registered in the lease store.
    pub cluster: Cluster,
    /// Owner of this process' claims and worker locks; random, new at every start.
    pub owner: Uuid,
    /// Client of the cluster's API, without retries of its own.
    pub kube: Client,
    /// Client of the cloud's API, paced by the account's rates.
    pub cloud: Cloud,
    /// Namespaces that the configured selector selects.
    pub namespaces: Namespaces,
    /// The cluster's pods with Waygate's label, as the watch saw them last.
    pub watched_pods: WatchedPods,
    /// EIPs of the usable NAT gateways, on which ports are reserved.
    pub port_pool: PortPool,
    /// Wake-ups of the account sender of this process.
    pub account_wakeups: AccountWakeups,
    /// Wake-ups of the gateway senders of this process.
    pub queue_wakeups: QueueWakeups,
    /// Writer of Kubernetes events on pods.
    pub events: Events,
    /// Prometheus metrics, served at `/metrics`.
    pub metrics: Metrics,
    /// Notified when a lease may be due before the claim loop's next poll.
    pub due: Notify,
    /// Cooldown: time for which a freed port stays unused (`--cooldown-seconds`).
    pub cooldown: Duration,
    /// Interval between two searches for pods that missed the webhook (`--resync-seconds`).
    pub resync_period: Duration,
    /// How often the cloud's lists are read, and how fast.
    pub lists: ListTimes,
}

impl Worker {
    /// Client of the pods of a namespace.
    pub(crate) fn pod_api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.kube.clone(), namespace)
    }

    /// True while this process gets no answers from the cloud: it takes no further work that waits for
    /// one. The cloud's answers take fractions of a second; to wait for a slow one does no harm.
    pub(crate) fn is_cloud_silent(&self) -> bool {
        self.cloud.is_silent_for(Duration::from_secs(1))
    }

    /// True if the configuration switches this kind of address on.
    pub(crate) fn serves_kind(&self, kind: Kind) -> bool {
        self.config.enables_kind(kind)
    }
}
