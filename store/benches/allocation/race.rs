//! Runs 64 clients on one stage and 64 on another, alternately.

use crate::stage::{CLIENTS, Stage};
use anyhow::{Result, ensure};
use rand::seq::SliceRandom as _;
use std::fmt;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;
use waygate_core::ids::AllocationId;
use waygate_core::lease::{PortKey, PortReservation};
use waygate_core::request::{DnatRequest, ExposedPort, Protocol, Request};
use waygate_store::{Claim, PodObservation, Store};

/// Long enough for a few cycles of each client, short enough that the machine's state is the same
/// for both stages.
const SLICE: Duration = Duration::from_millis(500);

/// Measured slices on each stage.
const SLICES: usize = 11;

/// Slices before the measured ones, until caches are warm, and until pages written by a checkpoint
/// are in the log again.
const WARM_UP: usize = 4;

/// Longer than the whole benchmark.
const CLAIM: Duration = Duration::from_hours(2);

/// Interval at which cooldowns are ended, so that few ports are in cooldown at a time.
const SWEEP: Duration = Duration::from_millis(50);

/// Measurements of a stage and of the one it is compared with, alternately.
pub(crate) struct Race(Vec<(Slice, Slice)>);

/// The measurement of one slice.
struct Slice {
    /// Cycles a second.
    rate: f64,
    /// Processor time of the server for one cycle; none if its processes cannot be seen.
    work: Option<f64>,
}

impl Race {
    pub(crate) async fn run(stage: &Stage, other: &Stage) -> Result<Self> {
        let (here, there) = (claims(stage).await?, claims(other).await?);
        let mut slices = Vec::new();
        for _ in 0..WARM_UP + SLICES {
            slices.push((slice(stage, &here).await?, slice(other, &there).await?));
        }
        Ok(Self(slices.split_off(WARM_UP)))
    }

    /// The rate on the stage as a fraction of the other's.
    pub(crate) fn ratio(&self) -> f64 {
        median(self.ratios())
    }

    fn ratios(&self) -> Vec<f64> {
        self.0.iter().map(|(here, there)| here.rate / there.rate).collect()
    }

    /// Processor time of a cycle on the stage, in seconds.
    pub(crate) fn work(&self) -> Option<f64> {
        self.0.iter().map(|(here, _)| here.work).collect::<Option<Vec<_>>>().map(median)
    }
}

impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = median(self.0.iter().map(|(here, _)| here.rate).collect());
        let there = median(self.0.iter().map(|(_, there)| there.rate).collect());
        let (least, most) = self
            .ratios()
            .into_iter()
            .fold((f64::MAX, f64::MIN), |(least, most), it| (least.min(it), most.max(it)));
        let work =
            self.work().map_or_else(|| "–".to_owned(), |work| format!("{:.2} ms", work * 1e3));
        write!(f, "{here:.0} | {there:.0} | {:.2} | {least:.2}–{most:.2} | {work}", self.ratio())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The request of each client's pod.
fn asked() -> DnatRequest {
    let ports = [80, 443].map(|port| ExposedPort { port, protocol: Protocol::Tcp });
    DnatRequest { ports: ports.to_vec(), fixed: false, same_port: false }
}

/// Makes and claims a lease for each client.
async fn claims(stage: &Stage) -> Result<Vec<Claim>> {
    let request = Request::Dnat(asked());
    for _ in 0..CLIENTS {
        let pod_uid = Uuid::new_v4();
        let pod_name = pod_uid.to_string();
        let pod = PodObservation {
            namespace: "bench",
            pod_name: &pod_name,
            pod_uid,
            controller: None,
            request: &request,
            pod_created_at: None,
        };
        stage.store.observe_pod(stage.cluster, &pod).await?;
    }
    let claims = stage
        .store
        .claim_due_leases(stage.cluster, Uuid::new_v4(), CLIENTS.into(), Duration::ZERO, CLAIM)
        .await?;
    ensure!(claims.len() == CLIENTS as usize, "{} leases are due", claims.len());
    Ok(claims)
}

/// Runs cycles on a stage for a slice, by all clients.
async fn slice(stage: &Stage, claims: &[Claim]) -> Result<Slice> {
    let (began, before) = (Instant::now(), stage.processor_time().await?);
    let mut clients = JoinSet::new();
    for claim in claims {
        let (store, claim, eips) = (stage.store.clone(), *claim, stage.eips.clone());
        clients.spawn(async move {
            let mut lives = 0;
            while began.elapsed() < SLICE {
                life(&store, &claim, eips.clone()).await?;
                lives += 1;
            }
            anyhow::Ok(lives)
        });
    }
    let store = stage.store.clone();
    let sweeper = tokio::spawn(async move {
        let mut turns = tokio::time::interval(SWEEP);
        while began.elapsed() < SLICE {
            turns.tick().await;
            store.end_cooldowns().await?;
        }
        anyhow::Ok(())
    });
    let mut lives = 0;
    while let Some(client) = clients.join_next().await {
        lives += client??;
    }
    let rate = f64::from(lives) / began.elapsed().as_secs_f64();
    sweeper.await??;
    let after = stage.processor_time().await?;
    let work = after
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before).as_secs_f64() / f64::from(lives));
    Ok(Slice { rate, work })
}

/// One cycle: two ports, allocated and freed.
async fn life(store: &Store, claim: &Claim, mut eips: Vec<AllocationId>) -> Result<()> {
    eips.shuffle(&mut rand::rng());
    let reserved = store.under_claim(claim).reserve_ports(&asked(), &[eips]).await?;
    ensure!(reserved == PortReservation::Reserved, "free ports were not found: {reserved:?}");
    let lease = store.under_claim(claim).load(CLAIM).await?.lease;
    for range in lease.port_ranges() {
        let range_start = range.first;
        let key = PortKey {
            allocation_id: range_start.allocation_id.clone(),
            protocol: range_start.protocol(),
            port: range_start.external_port,
        };
        store.under_claim(claim).start_cooldown(&key, Duration::ZERO).await?;
    }
    Ok(())
}
