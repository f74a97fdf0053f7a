//! Benchmark: how long the store takes for an admitted pod, with a thousand leases and with a
//! million.
//!
//! ```text
//! 500 a second   announce the pod (webhook) ─▶ observe it (watch)      by the store's own functions
//! ```
//!
//! Slices alternate between two databases of one server, so that disturbances of the machine hit
//! both. Pods arrive by the clock, whether earlier ones are done or not, and a pod's time counts
//! from its arrival: a slow statement also costs those that wait behind it. Nothing is judged: the
//! ratio should be at most 1.2, but a busy machine shows in the slowest pods first.

#[expect(dead_code, reason = "the benchmark of allocations uses the rest")]
#[path = "../allocation/stage.rs"]
mod stage;

use anyhow::Result;
use stage::Stage;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;
use waygate_core::request::{EipRequest, EipSource, EipSpec, ReleaseStrategy, Request};
use waygate_store::{Cluster, PodAnnouncement, PodObservation, Store};

/// Leases in the two databases.
const LEASES: [i64; 2] = [1_000, 1_000_000];
/// Time between two pods: 500 a second.
const INTERVAL: Duration = Duration::from_millis(2);
/// Pods of a slice: two seconds.
const PODS: u32 = 1000;
/// Measured slices on each database.
const SLICES: usize = 15;
/// Slices before the measured ones, until caches are warm, and until most pages of the indexes are
/// in the log since the last checkpoint.
const WARM_UP: usize = 8;
/// Statements under way at a time: the connections of two webhooks.
const CONNECTIONS: usize = 16;

/// The times of a slice's pods, sorted, and the processor time of the server for one of them; none
/// if its processes cannot be seen.
struct Times {
    announced: Vec<Duration>,
    observed: Vec<Duration>,
    work: Option<f64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    // `cargo test --all-targets` starts benchmarks with this argument, to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    stage::in_databases(async |few: &Stage, many: &Stage| {
        few.fill_store(LEASES[0]).await?;
        many.fill_store(LEASES[1]).await?;
        let mut slices = Vec::new();
        for _ in 0..WARM_UP + SLICES {
            slices.push((run_slice(few).await?, run_slice(many).await?));
        }
        let slices = slices.split_off(WARM_UP);
        print_rows("announced", &slices, |times| &times.announced);
        print_rows("observed", &slices, |times| &times.observed);
        print_work(&slices);
        Ok(())
    })
    .await
}

/// Announces and observes the pods of one slice, and deletes their leases afterwards.
async fn run_slice(stage: &Stage) -> Result<Times> {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let (mut pods, before) = (JoinSet::new(), stage.processor_time().await?);
    let uids: Vec<_> = (0..PODS).map(|_| Uuid::new_v4()).collect();
    let began = Instant::now();
    let mut arrival = began;
    for uid in &uids {
        tokio::time::sleep_until(arrival).await;
        pods.spawn(admit_pod(stage.store.clone(), stage.cluster, *uid, Arc::clone(&free), arrival));
        arrival += INTERVAL;
    }
    let mut times = Times { announced: Vec::new(), observed: Vec::new(), work: None };
    while let Some(pod) = pods.join_next().await {
        let (announced, observed) = pod??;
        times.announced.push(announced);
        times.observed.push(observed);
    }
    let spent = stage.processor_time().await?.zip(before);
    times.work =
        spent.map(|(after, before)| after.saturating_sub(before).as_secs_f64() / f64::from(PODS));
    times.announced.sort_unstable();
    times.observed.sort_unstable();
    delete_leases(stage, &uids).await?;
    Ok(times)
}

/// Announces a pod and observes it: the time from its arrival until it is announced, and of the
/// observation.
async fn admit_pod(
    store: Store,
    cluster: Cluster,
    pod_uid: Uuid,
    free: Arc<Semaphore>,
    arrival: Instant,
) -> Result<(Duration, Duration)> {
    let pod_name = pod_uid.to_string();
    let request = Request::Eip(EipRequest {
        source: EipSource::Allocate(EipSpec::default()),
        release: ReleaseStrategy::Follow,
    });
    let (namespace, controller) = ("bench", Some("ReplicaSet/bench"));
    let announcement = PodAnnouncement {
        cluster_name: "bench",
        kind: request.kind(),
        namespace,
        pod_name: &pod_name,
        pod_uid,
        controller,
        request: &request,
    };
    let permit = free.acquire().await?;
    store.announce_pod(&announcement).await?;
    let announced = arrival.elapsed();
    drop(permit);
    let began = Instant::now();
    let _permit = free.acquire().await?;
    let observation = PodObservation {
        namespace,
        pod_name: &pod_name,
        pod_uid,
        controller,
        pod_created_at: None,
        request: &request,
    };
    store.observe_pod(cluster, &observation).await?;
    Ok((announced, began.elapsed()))
}

/// Deletes the leases of these pods, as found by index: reading all leases would disturb the next
/// slice.
async fn delete_leases(stage: &Stage, pods: &[Uuid]) -> Result<()> {
    let delete = "DELETE FROM lease WHERE cluster_id = (SELECT cluster_id FROM cluster) AND pod_uid = ANY($1)";
    sqlx::query(delete).bind(pods).execute(&stage.pool).await?;
    Ok(())
}

/// Prints medians over slices: of times, and of the ratios within each pair of slices.
fn print_rows(name: &str, slices: &[(Times, Times)], of: fn(&Times) -> &Vec<Duration>) {
    let percentile = |times: &Times, percent: usize| {
        let sorted = of(times);
        sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default().as_secs_f64()
    };
    for percent in [50, 99] {
        let few = median(slices.iter().map(|(few, _)| percentile(few, percent)));
        let many = median(slices.iter().map(|(_, many)| percentile(many, percent)));
        println!(
            "{name}, {percent} % within: {:.2} ms with {} leases, {:.2} ms with {}",
            few * 1e3,
            LEASES[0],
            many * 1e3,
            LEASES[1]
        );
    }
    let ratio = |percent: usize| {
        median(
            slices.iter().map(|(few, many)| percentile(many, percent) / percentile(few, percent)),
        )
    };
    println!(
        "{name}: ratio of the medians {:.2}, of the 99th percentiles {:.2}",
        ratio(50),
        ratio(99)
    );
}

/// Prints the processor time of the server for a pod, which a busy machine changes less.
fn print_work(slices: &[(Times, Times)]) {
    let work = |(few, many): &(Times, Times)| few.work.zip(many.work);
    let Some(work) = slices.iter().map(work).collect::<Option<Vec<_>>>() else { return };
    println!(
        "processor time of a pod: {:.2} ms with {} leases, {:.2} ms with {}; ratio {:.2}",
        median(work.iter().map(|(few, _)| *few)) * 1e3,
        LEASES[0],
        median(work.iter().map(|(_, many)| *many)) * 1e3,
        LEASES[1],
        median(work.iter().map(|(few, many)| many / few))
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
