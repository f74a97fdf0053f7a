//! Signal handling: the first SIGTERM or SIGINT drains the process, the second exits at once.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status after a second signal: 128 + SIGTERM, as shells count.
const TOLD_TWICE: i32 = 143;

/// A token that the first signal cancels. The second signal exits the process at once.
pub fn drain() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let draining = token.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("stop signal received; draining, a second signal exits at once");
        draining.cancel();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("second stop signal received; exiting at once");
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
