//! Supervision of tasks: if one dies, the process ends rather than run with a part missing.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Error type of supervised tasks.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Reason that the process ends.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// A task returned before the token was cancelled.
    #[error("task \"{0}\" ended unexpectedly")]
    EndedEarly(&'static str),
    /// A task returned an error.
    #[error("task \"{0}\" failed")]
    Failed(&'static str, #[source] BoxError),
    /// A task panicked; the error has the message.
    #[error("task \"{0}\" panicked")]
    Panicked(&'static str, #[source] JoinError),
    /// Tasks were still running when the time for draining was over.
    #[error("tasks still running after {} s of draining: {}", .0.as_secs(), .1.join(", "))]
    DrainTimeout(Duration, Vec<&'static str>),
}

/// Runs the tasks of a process until one ends or the token is cancelled.
#[derive(Debug)]
pub struct Supervisor {
    token: CancellationToken,
    tasks: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, &'static str>,
}

impl Supervisor {
    /// Supervises tasks that stop when `token` is cancelled.
    pub fn new(token: CancellationToken) -> Self {
        Self { token, tasks: JoinSet::new(), names: HashMap::new() }
    }

    /// Starts a task, which must return soon after the token is cancelled and not before.
    pub fn spawn<E: Into<BoxError>>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Waits for the end: the first task that dies cancels the token, and its error is returned
    /// after the others have drained.
    pub async fn run(mut self, drain: Duration) -> Result<(), Ended> {
        let token = self.token.clone();
        let outcome = match token.run_until_cancelled(self.next_ended()).await {
            // The token was cancelled, and the task's end was noticed first.
            Some(Some((_, None))) if token.is_cancelled() => Ok(()),
            Some(Some((name, failure))) => Err(failure.unwrap_or(Ended::EndedEarly(name))),
            Some(None) | None => Ok(()),
        };
        token.cancel();
        match tokio::time::timeout(drain, self.drain_tasks()).await {
            // The first error is the cause; later ones usually follow from it.
            Ok(Some(ended)) if outcome.is_ok() => Err(ended),
            Err(_) if outcome.is_ok() => {
                Err(Ended::DrainTimeout(drain, self.names.into_values().collect()))
            }
            _ => outcome,
        }
    }

    /// Waits for the remaining tasks, and returns the first failure.
    async fn drain_tasks(&mut self) -> Option<Ended> {
        let mut first = None;
        while let Some((_, ended)) = self.next_ended().await {
            first = first.or(ended);
        }
        first
    }

    /// The next task to end, and its failure if it failed.
    async fn next_ended(&mut self) -> Option<(&'static str, Option<Ended>)> {
        let joined = self.tasks.join_next_with_id().await?;
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let name = self.names.remove(&id).unwrap_or_default();
        let failure = match joined {
            Ok((_, Ok(()))) => None,
            Ok((_, Err(error))) => Some(Ended::Failed(name, error)),
            Err(panic) => Some(Ended::Panicked(name, panic)),
        };
        Some((name, failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const DRAIN: Duration = Duration::from_secs(5);

    fn supervised() -> (Supervisor, CancellationToken) {
        let token = CancellationToken::new();
        (Supervisor::new(token.clone()), token)
    }

    /// A task that drains as required.
    async fn obedient(token: CancellationToken) -> Result<(), Infallible> {
        token.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_dead_task_ends_the_others_and_is_named() {
        let (mut supervisor, token) = supervised();
        supervisor.spawn("good", obedient(token.clone()));
        supervisor.spawn("bad", async { Err("no such file") });
        let ended = supervisor.run(DRAIN).await.unwrap_err();
        assert!(matches!(ended, Ended::Failed("bad", _)), "{ended:?}");
        assert!(token.is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_returns_early_or_panics_is_dead_too() {
        let (mut supervisor, _token) = supervised();
        supervisor.spawn("early", async { Ok::<_, Infallible>(()) });
        assert!(matches!(supervisor.run(DRAIN).await, Err(Ended::EndedEarly("early"))));
        let (mut supervisor, _token) = supervised();
        supervisor.spawn::<Infallible>("panic", async { panic!("on purpose") });
        assert!(matches!(supervisor.run(DRAIN).await, Err(Ended::Panicked("panic", _))));
    }

    #[tokio::test]
    async fn a_cancelled_token_ends_in_peace() {
        let (mut supervisor, token) = supervised();
        supervisor.spawn("good", obedient(token.clone()));
        token.cancel();
        assert!(supervisor.run(DRAIN).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_drains_is_named_after_the_deadline() {
        let (mut supervisor, token) = supervised();
        supervisor.spawn::<Infallible>("deaf", std::future::pending());
        token.cancel();
        let ended = supervisor.run(DRAIN).await.unwrap_err();
        assert_eq!(ended.to_string(), "tasks still running after 5 s of draining: deaf");
    }
}
