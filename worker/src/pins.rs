//! Pins: compares account, region and VPC with those of the store, at the start and then
//! periodically; while they differ, all that works on leases or the cloud is stopped.
//!
//! ```text
//! compare ─┬▶ match ─▶ the tasks run
//!          └▶ differ ─▶ they drain, as at shutdown; readiness and one error say why
//! ```
//!
//! Every process compares for itself: it may be its own configuration or key that is wrong.

use crate::context::Worker;
use crate::errors::error_chain;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_core::ids::AccountId;
use waygate_core::rules::pins::{Mismatch, Pin, Place, find_mismatches};
use waygate_serving::{Check, Readiness};

/// Interval between two comparisons that match.
const PERIOD: Duration = Duration::from_secs(30);
/// Interval between two comparisons of which one differs, or has no answer.
const RETRY: Duration = Duration::from_secs(5);
/// Time for which a start waits until the cloud names the account. Longer silence is no mismatch: the
/// worker begins, and whatever else it asks of the cloud fails, too.
const WAIT_FOR_ACCOUNT: Duration = Duration::from_secs(30);

/// True while the pins match; false before the first comparison.
pub(crate) type Matching = watch::Receiver<bool>;

/// The comparison of the pins, and how it came out last.
pub(crate) struct Pins {
    worker: Arc<Worker>,
    matching: watch::Sender<bool>,
    checks: [(Pin, Check); 3],
    began: Instant,
    /// True once the cloud has named the account.
    answered: bool,
    reported: Vec<Mismatch>,
    /// True once it was said that the account is unknown.
    said_unknown: bool,
}

impl Pins {
    /// Registers a readiness check for each pin, and returns how the comparisons come out.
    pub(crate) fn new(worker: Arc<Worker>, readiness: &Readiness) -> (Self, Matching) {
        let (matching, receiver) = watch::channel(false);
        let checks = [
            (Pin::Account, readiness.register_check("account of the credentials as pinned")),
            (Pin::Region, readiness.register_check("regionID as pinned")),
            (Pin::Vpc, readiness.register_check("vpcID as pinned")),
        ];
        let pins = Self {
            worker,
            matching,
            checks,
            began: Instant::now(),
            answered: false,
            reported: Vec::new(),
            said_unknown: false,
        };
        (pins, receiver)
    }

    /// Compares the pins until `token` is cancelled.
    pub(crate) async fn compare_pins(mut self, token: CancellationToken) -> Result<(), Infallible> {
        while let Some(pause) = token.run_until_cancelled(self.compare_once()).await {
            token.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        Ok(())
    }

    /// Compares once, and returns the time until the next comparison.
    async fn compare_once(&mut self) -> Duration {
        let account = match self.worker.cloud.caller_identity().await {
            Ok(identity) => Some(AccountId::new(identity.value.account_id)),
            Err(error) => {
                // Said once: where STS is out of reach for good, the account stays unknown.
                if !std::mem::replace(&mut self.said_unknown, true) {
                    tracing::warn!(
                        error = error_chain(&error),
                        "the cloud did not name the account of the credentials; asking again"
                    );
                }
                None
            }
        };
        let unanswered = account.is_none();
        let config = &self.worker.config;
        let found = Place {
            account,
            region: Some(config.region_id.clone()),
            vpc: Some(config.vpc_id.clone()),
        };
        let pinned = match self.worker.store.pin_place(self.worker.cluster, &found).await {
            Ok(pinned) => pinned,
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "reading the pinned account, region and VPC failed; trying again"
                );
                return RETRY;
            }
        };
        self.answered |= !unanswered;
        self.apply(unanswered, find_mismatches(&pinned, &found));
        if unanswered || !self.reported.is_empty() { RETRY } else { PERIOD }
    }

    /// Starts or stops the tasks, sets the readiness checks, and logs what has changed.
    fn apply(&mut self, unanswered: bool, mut mismatches: Vec<Mismatch>) {
        if unanswered {
            // The last answer stands.
            mismatches.extend(self.reported.iter().find(|it| it.pin == Pin::Account).cloned());
        }
        let known = self.answered || self.began.elapsed() >= WAIT_FOR_ACCOUNT;
        for (pin, check) in &self.checks {
            let differs = mismatches.iter().any(|mismatch| mismatch.pin == *pin);
            check.set_passing(!differs && (known || *pin != Pin::Account));
        }
        let new = mismatches.iter().filter(|mismatch| !self.reported.contains(mismatch));
        for Mismatch { pin, expected, found } in new {
            tracing::error!(
                pin = %pin, expected, found,
                "the worker is set up for another place than its lease store is of; it changes \
                 nothing until they match: mend the key or the configuration, or name the store \
                 that belongs to them"
            );
        }
        if mismatches.is_empty() && !self.reported.is_empty() {
            tracing::info!("account, region and VPC match the lease store's again");
        }
        let matches = mismatches.is_empty() && known;
        self.reported = mismatches;
        self.matching.send_if_modified(|shown| std::mem::replace(shown, matches) != matches);
    }
}

/// Runs a task while the pins match: it is told to drain when they differ, and started anew once
/// they match again. Returns when the task ends by itself, or `token` is cancelled.
pub(crate) async fn run_while_matching<E, T>(
    mut matching: Matching,
    token: CancellationToken,
    start: impl Fn(CancellationToken) -> T,
) -> Result<(), E>
where
    T: Future<Output = Result<(), E>>,
{
    while token.run_until_cancelled(wait_until(&mut matching, true)).await == Some(true) {
        let until_differing = token.child_token();
        let mut task = std::pin::pin!(start(until_differing.clone()));
        tokio::select! {
            ended = &mut task => return ended,
            _ = wait_until(&mut matching, false) => until_differing.cancel(),
        }
        task.await?;
    }
    Ok(())
}

/// Waits until the pins match, or do not. False once nothing compares them any more.
async fn wait_until(matching: &mut Matching, wanted: bool) -> bool {
    matching.wait_for(|shown| *shown == wanted).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Lets the other tasks do what they can.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_task_runs_only_while_the_pins_match() {
        let (sender, matching) = watch::channel(false);
        let token = CancellationToken::new();
        let (started, running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = || (started.load(Ordering::SeqCst), running.load(Ordering::SeqCst));
        let (all, now) = (Arc::clone(&started), Arc::clone(&running));
        let task = move |token: CancellationToken| {
            let (all, now) = (Arc::clone(&all), Arc::clone(&now));
            async move {
                all.fetch_add(1, Ordering::SeqCst);
                now.fetch_add(1, Ordering::SeqCst);
                token.cancelled().await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Infallible>(())
            }
        };
        let supervised = tokio::spawn(run_while_matching(matching, token.clone(), task));
        settle().await;
        assert_eq!(counts(), (0, 0), "nothing begins before the first comparison");
        for (matches, expected) in [(true, (1, 1)), (false, (1, 0)), (true, (2, 1))] {
            sender.send(matches).unwrap();
            settle().await;
            assert_eq!(counts(), expected);
        }
        token.cancel();
        supervised.await.unwrap().unwrap();
        assert_eq!(counts(), (2, 0));
    }

    #[tokio::test]
    async fn a_task_that_dies_is_not_hidden() {
        let (_sender, matching) = watch::channel(true);
        let dies = |_: CancellationToken| async { Err("no such file") };
        let ended = run_while_matching(matching, CancellationToken::new(), dies).await;
        assert_eq!(ended, Err("no such file"));
    }
}
