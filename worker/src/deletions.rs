//! Watches custom resources for their deletion: that of a kept one is how a person releases what it stands for. As with pods, an event only
//! wakes the lease.

use crate::errors::chain;
use crate::resource::Custom;
use crate::worker::Worker;
use futures::StreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt};
use std::convert::Infallible;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use waygate_core::ids::LeaseId;
use waygate_core::resources::LEASE_ANNOTATION;

/// Runs until `token` is cancelled.
pub(crate) async fn run<K: Custom>(worker: Arc<Worker>, token: CancellationToken) -> Result<(), Infallible> {
    let mut events = watch(Api::<K>::all(worker.kube.clone()), watcher::Config::default()).default_backoff().boxed();
    while let Some(Some(event)) = token.run_until_cancelled(events.next()).await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) if object.meta().deletion_timestamp.is_some() => {
                wake(&worker, &object).await;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = chain(&error), "the watch of custom resources is interrupted; it starts again"),
        }
    }
    Ok(())
}

/// A wake-up that is lost is made up for by the lease's next look.
async fn wake<K: Custom>(worker: &Worker, object: &K) {
    let Some(lease) = object.annotations().get(LEASE_ANNOTATION).and_then(|id| id.parse().ok()) else { return };
    match worker.store.wake_lease(LeaseId(lease)).await {
        Ok(()) => worker.due.notify_one(),
        Err(error) => {
            tracing::warn!(lease.id = %lease, error = chain(&error), "a custom resource's deletion waits for its lease's next look");
        }
    }
}
