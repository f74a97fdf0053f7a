//! Crowds of EIP pods at the published rates: how long the last one waits, compared with the account's
//! rate alone, and what the others feel of it.
//!
//! Then a crowd of DNAT pods on gateways that take one entry after the other, compared with what the
//! gateways need.
//!
//! Prints the tables of `docs/performance.md`. Calls are asserted; times are printed, since they
//! depend on what else the machine does. Run by `make bench`.

mod crowd;

use anyhow::{Result, ensure};
use crowd::{Bystanders, Crowd};
use std::time::Duration;
use testbed::strict_gateways::serve_crowd;

/// Calls a minute of each action that an EIP needs, as the cloud publishes them.
const RATE: u32 = 120;

/// One line of the table.
struct Row {
    what: String,
    took: f64,
    bound: f64,
}

impl Row {
    fn print(&self) {
        println!(
            "| {} | {:.1} s | {:.1} s | {:.2} |",
            self.what,
            self.took,
            self.bound,
            self.took / self.bound
        );
    }
}

/// What the rate alone takes for the last of so many pods: a minute for each full round before its
/// own, and what one pod takes by itself.
fn bound(pods: u32, alone: f64) -> f64 {
    f64::from((pods - 1) / RATE) * 60.0 + alone
}

fn main() -> Result<()> {
    // `cargo bench` passes --bench, and `cargo test --benches` nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run_all())
}

async fn run_all() -> Result<()> {
    let mut rows = Vec::new();
    for (pods, workers) in [(400, 2), (200, 1), (200, 4)] {
        let name = format!("{pods} EIP pods, {workers} workers");
        eprintln!("{name}: up and down, some {} minutes", pods / RATE * 2 + 1);
        let mut crowd = Crowd::start(pods, workers).await?;
        let alone = crowd.measure_one().await?;
        let bystanders = if pods > 200 { Some(crowd.measure_bystanders().await?) } else { None };
        let up = crowd.scale_up().await?;
        let beside =
            if bystanders.is_some() { Some(crowd.measure_bystanders().await?) } else { None };
        let up = crowd.wait_until_ready(up).await?;
        let down = crowd.scale_down().await?;
        let calls = crowd.count_changes().await?;
        rows.push(Row {
            what: format!("{name}: last Ready"),
            took: up,
            bound: bound(pods, alone.up),
        });
        rows.push(Row {
            what: format!("{name}: last EIP given back"),
            took: down,
            bound: bound(pods, alone.down),
        });
        if let Some((alone, beside)) = bystanders.zip(beside) {
            rows.extend(compare_bystanders(alone, beside));
        }
        println!("{name}: {calls:.3} changes a pod");
        ensure!(calls.up <= 2.1 && calls.down <= 2.0, "{name}: {calls:.3} changes a pod");
        crowd.stop().await?;
    }
    rows.extend(run_strict_gateways().await?);
    println!("\n| what | took | bound | ratio |\n| --- | ---: | ---: | ---: |");
    rows.iter().for_each(Row::print);
    Ok(())
}

/// A crowd of DNAT pods on four strict gateways.
async fn run_strict_gateways() -> Result<[Row; 2]> {
    const PODS: usize = 200;
    eprintln!("{PODS} DNAT pods on four strict gateways: two minutes");
    let run = serve_crowd(PODS).await?;
    println!(
        "{PODS} DNAT pods: {} calls for {} entries; seconds an entry {:.3?}",
        run.calls, run.entries, run.paces
    );
    ensure!(run.calls * 10 <= run.entries * 11, "{run:?}");
    let row = |what: &str, took: Duration| Row {
        what: format!("{PODS} DNAT pods on four strict gateways: {what}"),
        took: took.as_secs_f64(),
        bound: run.bound.as_secs_f64(),
    };
    Ok([row("first entry to last", run.sending), row("first pod created to last Ready", run.took)])
}

/// Another namespace's pod and deletion, in the middle of the crowd and without it.
fn compare_bystanders(alone: Bystanders, beside: Bystanders) -> [Row; 2] {
    let row = |what: &str, took, bound| Row { what: what.to_owned(), took, bound };
    [
        row("a DNAT pod of another namespace meanwhile: Ready", beside.up, alone.up),
        row("an EIP pod's deletion there: EIP given back", beside.down, alone.down),
    ]
}
