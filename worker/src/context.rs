//! What every task of the worker shares.

use crate::gateway::port_pool::Pool;
use crate::gateway::wakeups::Lanes;
use crate::metrics::Metrics;
use crate::objects::events::Events;
use crate::watch::namespaces::Namespaces;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;
use waygate_cloud::Cloud;
use waygate_core::config::Config;
use waygate_core::request::Kind;
use waygate_store::{Cluster, Store};

/// The parts of a running worker.
pub(crate) struct Worker {
    /// The configuration.
    pub config: Config,
    /// The lease store.
    pub store: Store,
    /// Which cluster this is.
    pub cluster: Cluster,
    /// Random per process start: the owner of our claims.
    pub owner: Uuid,
    /// The cluster's API.
    pub kube: Client,
    /// The cloud's API.
    pub cloud: Cloud,
    /// Which namespaces are served.
    pub namespaces: Namespaces,
    /// The gateways' EIPs.
    pub pool: Pool,
    /// The gateways' lanes that are served here.
    pub lanes: Lanes,
    /// What people are told.
    pub events: Events,
    /// What dashboards are told.
    pub metrics: Metrics,
    /// Something may be due before the next poll.
    pub due: Notify,
    /// How long a freed port stays unused.
    pub quiet: Duration,
}

impl Worker {
    /// The pods of a namespace.
    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.kube.clone(), namespace)
    }

    /// Whether the configuration switches a kind on.
    pub(crate) fn serves(&self, kind: Kind) -> bool {
        self.config.serves(kind)
    }
}
