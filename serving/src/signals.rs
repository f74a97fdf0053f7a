//! Signal handling: the first SIGTERM or SIGINT drains the process, the second exits at once.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status after a second signal: 128 + SIGTERM, as shells count.
const SECOND_SIGNAL_STATUS: i32 = 143;

/// A token that the first signal cancels. The second signal exits the process at once.
pub fn drain_on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let draining = token.clone();
    tokio::spawn(async move {
        wait_for_either(&mut terminate, &mut interrupt).await;
        tracing::info!("stop signal received; draining, a second signal exits at once");
        draining.cancel();
        wait_for_either(&mut terminate, &mut interrupt).await;
        tracing::warn!("second stop signal received; exiting at once");
        std::process::exit(SECOND_SIGNAL_STATUS);
    });
    Ok(token)
}

async fn wait_for_either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
