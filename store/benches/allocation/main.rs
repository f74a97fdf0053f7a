//! Benchmark: how fast ports are allocated and freed, from an empty pool to a nearly full one, and
//! from a thousand leases to a million.
//!
//! ```text
//! a cycle   reserve ports ─▶ load ─▶ release ports, twice ─▶ end cooldowns     two ports, by the store's own functions
//! ```
//!
//! 64 clients run such cycles on the stage, whose pool and store grow fuller, and alternately in
//! another database of the same server, with an empty pool and a thousand leases: disturbances of
//! the machine hit both. (A plain insert and delete to compare with would wait for the disk where a
//! cycle waits for processors.) Two figures are judged, each by its median over slices: the ratio
//! of the two rates, and the processor time of the server for a cycle, which shows more where the
//! machine is busy. The benchmark fails if those medians differ by more than a factor of 1.5, if
//! Postgres has seen a deadlock, or if a free port is not found.

mod race;
mod stage;

use anyhow::{Result, ensure};
use race::Race;
use stage::Stage;

/// Leases in the store, and percentage of the pool that is held; in an order in which little has to
/// be changed between steps.
const LEASES: [i64; 2] = [1_000, 1_000_000];
const FILLS: [i32; 3] = [0, 50, 98];

/// Upper limit of the largest median ratio, as a multiple of the smallest.
const BOUND: f64 = 1.5;

// A thread for each client: fewer would have to wait for a processor on a busy machine, and the
// server would look only as fast as they are.
#[tokio::main(worker_threads = 64)]
async fn main() -> Result<()> {
    // `cargo test --all-targets` starts benchmarks with this argument, to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    stage::in_databases(async |stage: &Stage, other: &Stage| {
        other.fill_store(LEASES[0]).await?;
        println!("| leases in the store | held ports of the pool | cycles a second | beside, with 1,000 leases and an empty pool | ratio | ratio in the slices | work |");
        println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        let before = deadlocks(stage, other).await?;
        let mut races = Vec::new();
        for (turn, leases) in LEASES.into_iter().enumerate() {
            stage.fill_store(leases).await?;
            let mut fills = FILLS;
            if turn % 2 == 1 {
                fills.reverse();
            }
            for fill in fills {
                stage.fill_pool(fill).await?;
                let race = Race::run(stage, other).await?;
                println!("| {leases} | {fill} % | {race} |");
                races.push(race);
            }
        }
        judge(&races, deadlocks(stage, other).await? - before)
    })
    .await
}

async fn deadlocks(stage: &Stage, other: &Stage) -> Result<i64> {
    Ok(stage.deadlocks().await? + other.deadlocks().await?)
}

fn judge(races: &[Race], deadlocks: i64) -> Result<()> {
    let ratios: Vec<_> = races.iter().map(Race::ratio).collect();
    let works: Vec<_> = races.iter().filter_map(Race::work).collect();
    println!(
        "\nThe largest ratio is {:.2} times the smallest, the most work {:.2} times the least. Deadlocks: {deadlocks}.",
        spread(&ratios),
        spread(&works)
    );
    ensure!(
        spread(&ratios) <= BOUND && spread(&works) <= BOUND,
        "more than {BOUND}: the cost depends on how full the pool or the store is"
    );
    ensure!(deadlocks == 0, "Postgres has seen deadlocks");
    Ok(())
}

/// The largest value as a multiple of the smallest.
fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    if values.is_empty() { 1.0 } else { most / least }
}
