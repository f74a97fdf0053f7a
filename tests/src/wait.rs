//! Waiting for a condition with a deadline, used by tests instead of sleeping.

use std::{future::Future, time::Duration};

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// Time limit for a pod, a lease or the cloud: some seconds are enough, and a busy machine takes
/// longer.
pub const TIMEOUT: Duration = Duration::from_mins(3);

/// Interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Asks until the answer is `Some`, and says what was awaited and what went wrong last if it is not
/// in time.
///
/// An error of the probe is no end: things that are awaited are often not there yet.
pub async fn eventually<T, Probe, Answer>(
    mut probe: Probe,
    awaited: &str,
    timeout: Duration,
) -> Result<T>
where
    Probe: FnMut() -> Answer,
    Answer: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + timeout;
    let mut last = String::new();
    loop {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(Some(answer))) => return Ok(answer),
            Ok(Ok(None)) => last.clear(),
            Ok(Err(error)) => last = format!(", lastly: {error:#}"),
            // Cut off by the deadline: the last error says more.
            Err(_) if !last.is_empty() => {}
            Err(_) => ", lastly: no answer in time".clone_into(&mut last),
        }
        if Instant::now() >= deadline {
            return Err(anyhow!(
                "within {} s there was not: {awaited}{last}",
                timeout.as_secs_f32()
            ));
        }
        sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_answer_ends_the_wait() {
        let mut asked = 0;
        let probe = || {
            asked += 1;
            let answer = (asked == 3).then_some(asked);
            async move { Ok(answer) }
        };
        assert_eq!(eventually(probe, "the third time", Duration::from_secs(5)).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_wait_that_times_out_names_what_was_awaited_and_the_last_error() {
        let probe = || async { Err::<Option<()>, _>(anyhow!("no such pod")) };
        let error =
            eventually(probe, "pod a is ready", Duration::from_millis(60)).await.unwrap_err();
        assert!(error.to_string().contains("pod a is ready, lastly: no such pod"), "{error}");
    }

    #[tokio::test]
    async fn a_hanging_probe_does_not_prolong_the_wait() {
        let probe = std::future::pending::<Result<Option<()>>>;
        assert!(eventually(probe, "anything", Duration::from_millis(60)).await.is_err());
    }
}
