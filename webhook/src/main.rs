//! Entry point of the admission server.

use clap::Parser;
use waygate_serving::{logs, signals};
use waygate_webhook::args::Args;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    logs::init_logging(args.log_format);
    let token = signals::drain_on_signal()?;
    waygate_webhook::run(args, token).await
}
