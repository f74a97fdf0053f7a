//! The gateway limiter: holds a change back until its gateway is likely to accept it.
//!
//! The limiter itself sends nothing and resends nothing. The concurrency window decides when a
//! change may go; the entry cache keeps the last list of entries for callers that accept a slightly
//! older one.

use super::entry_cache::{Entries, Moving, Table, is_moving};
use super::window::{End, Lane, Next, Pass, Proof};
use crate::error::{Class, Error, Scope};
use crate::transport::Read;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use waygate_core::change::{Answer, Change};
use waygate_core::error::chain;
use waygate_core::facts::ForwardEntry;
use waygate_core::ids::NatGatewayId;

/// The limiters of all gateways, created at first use and kept: gateways are few.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<NatGatewayId, Arc<Gate>>>);

impl Gates {
    pub(crate) fn of(&self, gateway: &NatGatewayId) -> Arc<Gate> {
        Arc::clone(self.0.lock().entry(gateway.clone()).or_default())
    }
}

/// The limiter of one gateway, shared by all clones of the client.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Locked by the first change in the queue. Tokio's mutex is fair, so the queue keeps its
    /// order.
    turn: tokio::sync::Mutex<()>,
    lane: Mutex<Lane>,
    table: Mutex<Table>,
    news: Notify,
}

/// The read that shows if a gateway's entries are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// All entries: a change that this process does not know of is under way.
    List,
    /// Only the entry this process changed last: one call however long the list is, and no batch to
    /// wait for.
    Entry(Moving),
}

impl Gate {
    /// Waits until a change may be sent; `proof` is the least evidence that the entries are
    /// settled. `look` sends a probe, and its result comes back as a recorded list or entry.
    pub(crate) async fn enter<T>(self: Arc<Self>, proof: Proof, look: impl Fn(Look) -> T) -> Entered
    where
        T: Future<Output = Result<(), Error>>,
    {
        let _turn = self.turn.lock().await;
        loop {
            // Registered before the window is asked, so that no change in between is missed.
            let news = self.news.notified();
            let next = self.lane.lock().next(Instant::now(), proof);
            match next {
                Next::Go(pass) => {
                    return Entered { gate: Arc::clone(&self), pass: Some(pass), sent: None };
                }
                Next::Wait => news.await,
                Next::Until(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = news => {}
                },
                Next::Look => {
                    if let Err(error) = look(self.look()).await {
                        tracing::warn!(
                            cloud.reason = error.reason(),
                            error = chain(&error),
                            "gateway entries could not be read before a change"
                        );
                        self.lane.lock().unseen(Instant::now());
                    }
                }
            }
        }
    }

    /// True if a change must wait until all entries are settled.
    pub(crate) fn is_calm(&self) -> bool {
        self.lane.lock().is_calm()
    }

    fn look(&self) -> Look {
        self.table.lock().moving().cloned().map_or(Look::List, Look::Entry)
    }

    /// Locks the gateway's entry cache.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Records a list of all entries, read for any caller.
    pub(crate) fn listed(&self, entries: &Entries) {
        self.seen(entries.began, !entries.value.iter().any(is_moving));
        self.table().listed(entries);
    }

    /// Records a probe of the last changed entry, the only one that was pending.
    pub(crate) fn shown(&self, moving: &Moving, entry: &Read<Option<ForwardEntry>>) {
        self.table().entered(moving, entry);
        self.seen(entry.began, moving.is_over(entry.value.as_ref()));
    }

    fn seen(&self, began: Instant, at_rest: bool) {
        self.lane.lock().seen(began, at_rest, Instant::now());
        self.news.notify_waiters();
    }
}

/// The limiter's slot for one change. Dropped before the send, it leaves no trace; dropped after,
/// it counts as a change with an unknown outcome.
#[derive(Debug)]
pub(crate) struct Entered {
    gate: Arc<Gate>,
    pass: Option<Pass>,
    /// The time from which the change may have reached the gateway.
    sent: Option<Instant>,
}

impl Entered {
    /// True if a read has just shown all entries settled.
    pub(crate) fn is_rested(&self) -> bool {
        self.pass.is_some_and(Pass::is_rested)
    }

    /// Marks the change as sent: from now on it may reach the gateway.
    pub(crate) fn sends(&mut self) {
        self.sent = Some(Instant::now());
    }

    /// Records the outcome of the change in entry cache and window.
    pub(crate) fn done(mut self, change: &Change, result: &Result<Answer, Error>) {
        let end = end_of(result);
        let trusted = self.pass.is_some_and(Pass::is_trusted);
        let answered = Instant::now();
        match result {
            Ok(answer) => self.gate.table().taken(
                Moving::by(change, answer),
                self.sent.unwrap_or(answered),
                answered,
            ),
            // The same entry is still pending: nothing was sent, or the estimate was too short.
            Err(_) if end == End::Unsent || (end == End::Unsettled && trusted) => {}
            Err(error) if error.is_definite() => self.gate.table().refused(),
            Err(_) => self.gate.table().forget(),
        }
        self.end(end);
    }

    fn end(&mut self, end: End) {
        if let Some(pass) = self.pass.take() {
            self.gate.lane.lock().end(pass, end, Instant::now(), rand::random_range(0.5..1.5));
            self.gate.news.notify_waiters();
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.pass.is_some() && self.sent.is_some() {
            // The caller gave up on the answer, so the change may or may not have taken effect.
            self.gate.table().forget();
        }
        self.end(if self.sent.is_some() { End::Other } else { End::Unsent });
    }
}

/// The outcome of a change for the gateway's capacity. Only a conflict limits the capacity; its
/// code says if an entry or the gateway causes it.
fn end_of<T>(result: &Result<T, Error>) -> End {
    let error = match result {
        Ok(_) => return End::Taken,
        Err(Error::NotSent { .. }) => return End::Unsent,
        Err(error) => error,
    };
    match (error.class(), error.scope()) {
        (Class::Conflict, Some(Scope::Entry)) => End::Unsettled,
        (Class::Conflict, Some(Scope::Gateway)) => End::Busy,
        _ => End::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Refusal, Waiting};

    const ACTION: &str = "CreateForwardEntry";

    fn refused(code: &str, message: &str) -> Result<(), Error> {
        let refusal = Refusal {
            action: ACTION,
            status: 400,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: String::new(),
            denied_action: None,
            retry_after: None,
        };
        Err(Error::Refused(Arc::new(refusal)))
    }

    #[test]
    fn only_a_conflict_at_the_gateway_says_how_much_it_takes() {
        for (code, end) in [
            ("OperationConflict", End::Busy),
            ("TaskConflict", End::Busy),
            ("IncorrectStatus.NATGW", End::Busy),
            ("IncorretForwardEntryStatus", End::Unsettled),
            ("IncorrectStatus.ForwardEntry", End::Unsettled),
            ("InvalidExternalIp.NotFound", End::Other),
            ("OperationUnsupported.EipInBinding", End::Other),
            ("QuotaExceeded", End::Other),
            ("InvalidForwardTableId.NotFound", End::Other),
            ("Forbidden.FinancialLocked", End::Other),
            ("Throttling.User", End::Other),
            ("IncorrectStatus.Unlisted", End::Other),
        ] {
            assert_eq!(end_of(&refused(code, "")), end, "{code}");
        }
    }

    #[test]
    fn an_entry_that_is_gone_is_not_one_that_is_not_at_rest() {
        assert_eq!(
            end_of(&refused(
                "IncorretForwardEntryStatus",
                "The Specified forwardEntry is not exist"
            )),
            End::Other
        );
    }

    #[test]
    fn what_was_not_sent_or_not_answered_is_told_apart() {
        assert_eq!(end_of(&Ok(())), End::Taken);
        assert_eq!(
            end_of::<()>(&Err(Error::NotSent {
                action: ACTION,
                waiting: Waiting::Permit { retry_after: None }
            })),
            End::Unsent
        );
        assert_eq!(end_of::<()>(&Err(Error::Deadline { action: ACTION })), End::Other);
    }
}
