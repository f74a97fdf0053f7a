//! The simulator's process: arguments in, one JSON line out, then serving until a signal ends it.

use std::io::Write;

use clap::Parser;
use simulator::{args::Args, server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let args = Args::parse();
    let mut out = std::io::stdout();
    if args.print_topology {
        writeln!(out, "{}", serde_json::to_string(&args.load_topology()?)?)?;
        return Ok(());
    }
    let serving = server::RunningSimulator::start(&args).await?;
    writeln!(out, "{}", serving.ready_line())?;
    out.flush()?;
    serving.serve_until_signal(args.exit_with_stdin).await;
    Ok(())
}
