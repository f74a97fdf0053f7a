//! Records the events of a work queue: each by itself, so that one that fails delays no other.

use super::work_queue::{WorkItem, WorkQueue};
use crate::errors::{Error, error_chain};
use crate::set_aside::SetAside;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waygate_store::Transience;

/// Pause between two attempts to record an event while the store is unreachable.
const RETRY: Duration = Duration::from_millis(500);

/// What a loop does with the events of its work queue.
pub(super) trait EventRecorder<T> {
    /// Records an event of the object with this UID.
    async fn record_event(&self, object: Uuid, event: &T) -> Result<(), Error>;

    /// Tells the object's owner that it is set aside for this error, `first` of all or still.
    async fn report_set_aside(&self, object: Uuid, event: &T, error: &Error, first: bool);
}

/// Takes events from the queue and records them, until `token` is cancelled. While the store is
/// unreachable an event waits where it is, and the watch with it, so that none is lost. For other
/// reasons it waits aside.
pub(super) async fn record_events<T: Clone>(
    recorder: &impl EventRecorder<T>,
    queue: &WorkQueue<T>,
    aside: &SetAside<Uuid>,
    token: &CancellationToken,
) {
    while let Some(item) = token.run_until_cancelled(queue.take_item()).await {
        let result =
            retry_while_store_is_away(token, || recorder.record_event(item.pod, &item.event)).await;
        match result {
            // Changed: the object's next event is on the way.
            Ok(()) | Err(Error::Changed) => aside.forget(&item.pod),
            Err(error) => put_aside(recorder, aside, item, &error).await,
        }
    }
}

async fn put_aside<T: Clone>(
    recorder: &impl EventRecorder<T>,
    aside: &SetAside<Uuid>,
    item: WorkItem<'_, T>,
    error: &Error,
) {
    let failure = aside.record_failure(&item.pod, error);
    let set_aside = aside.is_set_aside(&item.pod);
    tracing::warn!(
        object.uid = %item.pod, retry_in = failure.retry_in.as_secs_f32(), set_aside, error = error_chain(error),
        "recording an event failed; it is tried again, and delays no other"
    );
    // Every time: the first report may have met a newer version of the object.
    if set_aside {
        let first = failure.newly_set_aside;
        recorder.report_set_aside(item.pod, &item.event, error, first).await;
    }
    item.put_back(failure.retry_in);
}

/// Repeats `write` while Postgres is away.
async fn retry_while_store_is_away<F: Future<Output = Result<(), Error>>>(
    token: &CancellationToken,
    mut write: impl FnMut() -> F,
) -> Result<(), Error> {
    loop {
        match write().await {
            Err(Error::Store(error)) if error.transience() == Transience::Outage => {
                tracing::warn!(
                    error = error_chain(&error),
                    "recording an event failed; retrying until the lease store answers"
                );
                if token.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    return Ok(());
                }
            }
            written => return written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, ObjectLoop};
    use kube::core::Status;
    use parking_lot::Mutex;
    use prometheus_client::registry::Registry;

    const RIGHT: Uuid = Uuid::from_u128(99);

    /// Refuses every event but those of `RIGHT` until `mended`.
    #[derive(Default)]
    struct Refusing {
        mended: Mutex<bool>,
        recorded: Mutex<Vec<Uuid>>,
        told: Mutex<Vec<Uuid>>,
    }

    impl EventRecorder<()> for Refusing {
        async fn record_event(&self, object: Uuid, (): &()) -> Result<(), Error> {
            if object != RIGHT && !*self.mended.lock() {
                let refused = Status::failure("a policy denies it", "Invalid").with_code(422);
                return Err(kube::Error::Api(refused.boxed()).into());
            }
            self.recorded.lock().push(object);
            Ok(())
        }

        async fn report_set_aside(&self, object: Uuid, (): &(), _: &Error, first: bool) {
            self.told.lock().extend(first.then_some(object));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn objects_that_fail_are_told_once_tried_again_and_delay_no_other() {
        let (queue, recorder, token) =
            (WorkQueue::default(), Refusing::default(), CancellationToken::new());
        let aside = SetAside::new(ObjectLoop::PodEvents, &Metrics::new(&mut Registry::default()));
        let failing: Vec<_> = (0..9).map(Uuid::from_u128).collect();
        for object in &failing {
            queue.put_event(*object, ()).await;
        }
        queue.put_event(RIGHT, ()).await;
        let test = async {
            queue.wait_until_empty().await;
            assert_eq!(*recorder.recorded.lock(), [RIGHT], "with a single writer");
            tokio::time::sleep(Duration::from_mins(20)).await;
            let mut told = recorder.told.lock().clone();
            told.sort_unstable();
            assert_eq!(told, failing);
            *recorder.mended.lock() = true;
            tokio::time::sleep(Duration::from_mins(7)).await;
            assert_eq!(recorder.recorded.lock().len(), 10);
            assert!(!failing.iter().any(|object| aside.is_set_aside(object)));
            token.cancel();
        };
        tokio::join!(record_events(&recorder, &queue, &aside, &token), test);
    }
}
