//! The namespaces this worker serves: those whose labels `serve.namespaceSelector` selects.

use crate::errors::Error;
use crate::objects::absence::none_if_absent;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use waygate_core::selector::LabelSelector;

/// The namespaces of the cluster, kept up to date by a watch.
pub(crate) struct Namespaces {
    selector: LabelSelector,
    known: Store<Namespace>,
    api: Api<Namespace>,
}

impl Namespaces {
    /// Returns the set and the writer that feeds it; pass the writer to [`watch_namespaces`].
    pub(crate) fn new(
        client: &Client,
        selector: LabelSelector,
    ) -> (Self, reflector::store::Writer<Namespace>) {
        let (known, writer) = reflector::store();
        (Self { selector, known, api: Api::all(client.clone()) }, writer)
    }

    /// True if the selector selects the namespace. A namespace that the watch has not shown yet is
    /// read from the API server.
    pub(crate) async fn serves_namespace(&self, name: &str) -> Result<bool, Error> {
        if let Some(namespace) = self.known.get(&ObjectRef::new(name)) {
            return Ok(self.selector.matches_labels(namespace.labels()));
        }
        let namespace = none_if_absent::<Namespace, _>(self.api.get(name).await, name)?;
        Ok(namespace.is_some_and(|namespace| self.selector.matches_labels(namespace.labels())))
    }
}

/// Watches all namespaces and feeds the reflector until `token` is cancelled.
pub(crate) async fn watch_namespaces(
    client: Client,
    writer: reflector::store::Writer<Namespace>,
    token: CancellationToken,
) -> Result<(), watcher::Error> {
    let watch = watcher(Api::<Namespace>::all(client), super::watch_config()).default_backoff();
    let slim = watch.modify(|namespace| namespace.managed_fields_mut().clear());
    let mut events = reflector::reflector(writer, slim).boxed();
    while let Some(event) = token.run_until_cancelled(events.next()).await.flatten() {
        if let Err(error) = event {
            tracing::warn!(
                error = crate::errors::error_chain(&error),
                "namespace watch interrupted; restarting"
            );
        }
    }
    drop(events.into_stream());
    Ok(())
}
