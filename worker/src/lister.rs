//! The lister: reads whole lists of the cloud and compares them with the leases of all clusters.
//!
//! ```text
//! list (complete) ─▶ records of bound leases ─▶ drift ─▶ wake ─▶ each lease reads and decides
//! ```
//!
//! One process at a time compares the account's EIPs, and one a gateway's entries: the holder of the
//! lock on them. A comparison decides nothing.

use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::{ListKind, ListOutcome};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_core::ids::NatGatewayId;
use waygate_core::rules::drift::{Drift, DriftWakeups, find_eip_drift, find_entry_drift};
use waygate_store::{ListStart, WorkerLock};

/// Longest pause after a list that could not be read or compared.
const RETRY: Duration = Duration::from_secs(10);

/// Compares the account's EIPs with the leases, until `token` is cancelled.
pub(crate) async fn compare_eips(worker: Arc<Worker>, lock: WorkerLock, token: CancellationToken) {
    let mut lister = Lister::new(&worker, &lock, &token, ListKind::Eips);
    while !token.is_cancelled() {
        let began = Instant::now();
        let compared = lister.compare_eips_once().await;
        lister.finish_round(compared, began, worker.lists.eip_period).await;
    }
}

/// Compares a gateway's forward entries with the leases, until `token` is cancelled.
pub(crate) async fn compare_entries(
    worker: Arc<Worker>,
    lock: WorkerLock,
    gateway: NatGatewayId,
    token: CancellationToken,
) {
    let mut lister = Lister::new(&worker, &lock, &token, ListKind::Entries);
    while !token.is_cancelled() {
        let began = Instant::now();
        let compared = lister.compare_entries_once(&gateway).await;
        lister.finish_round(compared, began, worker.lists.entry_period).await;
    }
}

struct Lister<'a> {
    worker: &'a Worker,
    lock: &'a WorkerLock,
    token: &'a CancellationToken,
    list: ListKind,
    wakeups: DriftWakeups,
}

impl<'a> Lister<'a> {
    fn new(
        worker: &'a Worker,
        lock: &'a WorkerLock,
        token: &'a CancellationToken,
        list: ListKind,
    ) -> Self {
        Self { worker, lock, token, list, wakeups: DriftWakeups::default() }
    }

    async fn compare_eips_once(&mut self) -> Result<ListOutcome, Error> {
        let (store, apart) = (&self.worker.store, self.worker.lists.eip_pages_apart);
        let start = store.start_list().await?;
        let read = self.token.run_until_cancelled(self.worker.cloud.list_eips(apart)).await;
        let Some(list) = read.transpose()?.flatten() else { return Ok(ListOutcome::Incomplete) };
        let list: BTreeMap<_, _> =
            list.value.into_iter().map(|eip| (eip.allocation_id.clone(), eip)).collect();
        let (mut drifts, mut compared, mut after) = (Vec::new(), 0, None);
        loop {
            let page = store.eip_records(start, after.as_ref()).await?;
            compared += page.records.len();
            drifts.extend(find_eip_drift(&page.records, &list));
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        self.wake_drifted(start, drifts, compared).await
    }

    async fn compare_entries_once(&mut self, gateway: &NatGatewayId) -> Result<ListOutcome, Error> {
        let (store, apart) = (&self.worker.store, self.worker.lists.entry_pages_apart);
        let store_id = self.worker.cluster.owner.store;
        let start = store.start_list().await?;
        let read =
            self.token.run_until_cancelled(self.worker.cloud.list_entries(gateway, apart)).await;
        let Some(list) = read.transpose()?.flatten() else { return Ok(ListOutcome::Incomplete) };
        let (mut drifts, mut compared, mut after) = (Vec::new(), 0, None);
        loop {
            let page = store.entry_records(gateway, store_id, start, after).await?;
            compared += page.records.len();
            drifts.extend(find_entry_drift(&page.records, &list.value));
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        self.wake_drifted(start, drifts, compared).await
    }

    async fn wake_drifted(
        &mut self,
        start: ListStart,
        drifts: Vec<Drift>,
        compared: usize,
    ) -> Result<ListOutcome, Error> {
        let drifted = drifts.len();
        let leases = self.wakeups.choose_leases(drifts, compared);
        if leases.is_empty() {
            return Ok(ListOutcome::Compared);
        }
        let woken = self.worker.store.wake_drifted(self.lock, start, &leases).await?;
        self.worker.due.notify_one();
        self.worker.metrics.count_drift_wakeups(self.list, woken);
        tracing::info!(
            list = self.lock.work.name(),
            compared,
            drifted,
            woken,
            "the cloud's list differs from the leases; they read for themselves"
        );
        Ok(ListOutcome::Compared)
    }

    /// Counts the round, and waits until the next one.
    async fn finish_round(
        &self,
        compared: Result<ListOutcome, Error>,
        began: Instant,
        period: Duration,
    ) {
        if self.token.is_cancelled() {
            return;
        }
        let (outcome, pause) = match compared {
            Ok(outcome) => (outcome, period.saturating_sub(began.elapsed())),
            Err(error) => {
                tracing::warn!(
                    list = self.lock.work.name(),
                    error = error_chain(&error),
                    "comparing a list of the cloud with the leases failed"
                );
                (ListOutcome::Failed, RETRY.min(period))
            }
        };
        self.worker.metrics.count_list_comparison(self.list, outcome);
        self.token.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}
