//! The first SIGTERM or SIGINT drains, the second ends.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status of a process that was told twice: 128 + SIGTERM, as shells count.
const TOLD_TWICE: i32 = 143;

/// A token that the first signal cancels. The second ends the process there and then.
pub fn drain() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let draining = token.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("told to stop: draining; a second signal ends at once");
        draining.cancel();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("told to stop again: ending at once");
        std::process::exit(TOLD_TWICE);
    });
    Ok(token)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
