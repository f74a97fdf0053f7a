//! Where changes of a gateway's DNAT entries take their turns.
//!
//! The gate sends nothing and resends nothing. It keeps a change back until its gateway is likely
//! to take it, see [`Lane`]; the last list of entries that passed by is kept for those who may do
//! with it.

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

/// The gates of all gateways. There are as many as gateways, which are few.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<NatGatewayId, Arc<Gate>>>);

impl Gates {
    pub(crate) fn of(&self, gateway: &NatGatewayId) -> Arc<Gate> {
        Arc::clone(self.0.lock().entry(gateway.clone()).or_default())
    }
}

/// One gateway's gate.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Held by the first in the queue; tokio's mutex is fair.
    turn: tokio::sync::Mutex<()>,
    lane: Mutex<Lane>,
    table: Mutex<Table>,
    news: Notify,
}

/// What must be read to know whether a table is at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// All entries: something else is under way than what we know of.
    List,
    /// Just the one we have changed: one call however long the list is, and nobody else waits for
    /// it.
    Entry(Moving),
}

impl Gate {
    /// Waits for a change's turn, on such `proof` that the gateway takes it. `look` reads what is
    /// needed to know; what it shows comes through [`Self::listed`] and [`Self::shown`].
    pub(crate) async fn enter<T>(self: Arc<Self>, proof: Proof, look: impl Fn(Look) -> T) -> Entered
    where
        T: Future<Output = Result<(), Error>>,
    {
        let _turn = self.turn.lock().await;
        loop {
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
                            "a DNAT table could not be read before a change"
                        );
                        self.lane.lock().unseen(Instant::now());
                    }
                }
            }
        }
    }

    /// Whether the next change waits until everything is at rest.
    pub(crate) fn is_calm(&self) -> bool {
        self.lane.lock().is_calm()
    }

    fn look(&self) -> Look {
        self.table.lock().moving().cloned().map_or(Look::List, Look::Entry)
    }

    /// What is known of the gateway's entries.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Every list of entries is news, whoever asked for it.
    pub(crate) fn listed(&self, entries: &Entries) {
        self.seen(entries.began, !entries.value.iter().any(is_moving));
        self.table().listed(entries);
    }

    /// What became of one entry: the only thing that was under way.
    pub(crate) fn shown(&self, moving: &Moving, entry: &Read<Option<ForwardEntry>>) {
        self.table().entered(moving, entry);
        self.seen(entry.began, moving.is_over(entry.value.as_ref()));
    }

    fn seen(&self, began: Instant, at_rest: bool) {
        self.lane.lock().seen(began, at_rest, Instant::now());
        self.news.notify_waiters();
    }
}

/// A change's turn. Dropped before it is sent, nothing has happened; dropped after, it counts as
/// ended with nothing known.
#[derive(Debug)]
pub(crate) struct Entered {
    gate: Arc<Gate>,
    pass: Option<Pass>,
    /// Since when it may have reached the gateway.
    sent: Option<Instant>,
}

impl Entered {
    /// Whether a read has just shown everything at rest.
    pub(crate) fn is_rested(&self) -> bool {
        self.pass.is_some_and(Pass::is_rested)
    }

    /// From here on the change may reach the gateway.
    pub(crate) fn sends(&mut self) {
        self.sent = Some(Instant::now());
    }

    /// Tells the gate how the change ended.
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
            // What moves is what is known to.
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
            // Nobody waits for the answer, and what it does to the table is not known.
            self.gate.table().forget();
        }
        self.end(if self.sent.is_some() { End::Other } else { End::Unsent });
    }
}

/// What an answer says of the gateway's capacity. Only a conflict does, and whose it is, its code
/// says.
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
            ("IncorrectStatus.Whatever", End::Other),
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
