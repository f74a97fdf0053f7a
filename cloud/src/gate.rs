//! Where changes of a gateway's DNAT entries take their turns, in the order they came.
//!
//! The gate sends nothing and resends nothing. It keeps a change back until its gateway is likely to take it, see [`Lane`].

use crate::error::{Class, Error};
use crate::lane::{End, Lane, Next, Pass};
use crate::sources::Scope;
use crate::transport::Read;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use waygate_core::facts::{ForwardEntry, ForwardEntryStatus};
use waygate_core::ids::{ForwardTableId, NatGatewayId};

/// The gates of all gateways, by DNAT table. There are as many as gateways, which are few.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<ForwardTableId, Arc<Gate>>>);

impl Gates {
    pub(crate) fn of(&self, table: &ForwardTableId) -> Arc<Gate> {
        Arc::clone(lock(&self.0).entry(table.clone()).or_insert_with(|| Arc::new(Gate::new(table.clone()))))
    }

    /// Every list of entries that passes by is news for the gates, whoever asked for it.
    pub(crate) fn seen(&self, scope: &Scope, entries: &Read<Vec<ForwardEntry>>) {
        for gate in lock(&self.0).values() {
            if gate.is_in(scope, &entries.value) {
                gate.seen(entries);
            }
        }
    }
}

/// One gateway's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    table: ForwardTableId,
    /// Known once a list of the gateway showed an entry of the table.
    gateway: OnceLock<NatGatewayId>,
    /// Held by the first in the queue; tokio's mutex is fair.
    turn: tokio::sync::Mutex<()>,
    lane: Mutex<Lane>,
    news: Notify,
}

impl Gate {
    fn new(table: ForwardTableId) -> Self {
        Self { table, gateway: OnceLock::new(), turn: tokio::sync::Mutex::default(), lane: Mutex::default(), news: Notify::new() }
    }

    /// Which list shows the table: the gateway's where it is known, so that gate and readers share it.
    pub(crate) fn scope(&self) -> Scope {
        self.gateway.get().map_or_else(|| Scope::Table(self.table.clone()), |gateway| Scope::Gateway(gateway.clone()))
    }

    /// Waits for a change's turn. `look` reads the list of [`Self::scope`] when that is what is needed to know; what it shows
    /// comes through [`Gates::seen`].
    pub(crate) async fn enter<T>(self: Arc<Self>, look: impl Fn() -> T) -> Entered
    where
        T: Future<Output = Result<(), Error>>,
    {
        let _turn = self.turn.lock().await;
        loop {
            let news = self.news.notified();
            let next = lock(&self.lane).next(Instant::now());
            match next {
                Next::Go(pass) => return Entered { gate: Arc::clone(&self), pass: Some(pass) },
                Next::Wait => news.await,
                Next::Until(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = news => {}
                },
                Next::Look => {
                    if let Err(error) = look().await {
                        tracing::warn!(cloud.reason = error.reason(), "a DNAT table could not be read before a change: {error}");
                        lock(&self.lane).unseen(Instant::now());
                    }
                }
            }
        }
    }

    fn is_in(&self, scope: &Scope, entries: &[ForwardEntry]) -> bool {
        match scope {
            Scope::Table(table) => *table == self.table,
            Scope::Gateway(gateway) => {
                if entries.iter().any(|entry| entry.table_id == self.table) {
                    self.gateway.get_or_init(|| gateway.clone());
                }
                self.gateway.get() == Some(gateway)
            }
        }
    }

    fn seen(&self, entries: &Read<Vec<ForwardEntry>>) {
        let moving = |entry: &ForwardEntry| matches!(entry.status, ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting);
        let at_rest = !entries.value.iter().any(|entry| entry.table_id == self.table && moving(entry));
        lock(&self.lane).seen(entries.began, at_rest, Instant::now());
        self.news.notify_waiters();
    }
}

/// A change under way. Dropped without a word, it counts as ended with nothing known.
#[derive(Debug)]
pub(crate) struct Entered {
    gate: Arc<Gate>,
    pass: Option<Pass>,
}

impl Entered {
    /// Tells the gate how the change ended.
    pub(crate) fn done<T>(mut self, result: &Result<T, Error>) {
        self.end(end_of(result));
    }

    fn end(&mut self, end: End) {
        if let Some(pass) = self.pass.take() {
            lock(&self.gate.lane).end(pass, end, Instant::now(), rand::random_range(0.5..1.5));
            self.gate.news.notify_waiters();
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.end(End::Other);
    }
}

fn end_of<T>(result: &Result<T, Error>) -> End {
    match result {
        Ok(_) => End::Taken,
        Err(Error::NotSent { .. }) => End::Unsent,
        Err(error) if error.class() == Class::Conflict => match error.code() {
            Some("IncorretForwardEntryStatus" | "IncorrectStatus.ForwardEntry") => End::Unsettled,
            Some("OperationConflict" | "TaskConflict" | "IncorrectStatus.NATGW") => End::Busy,
            _ => End::Other,
        },
        Err(_) => End::Other,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
